"""How the command line talks to people: tables, statuses, and errors that name their reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1 import error_reason_pb2, provider_answer_pb2

STATUS_KEY = "grpc-status-details-bin"

_HEADING_COLUMNS = 100

output = Console()
errors = Console(stderr=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Make a table; a column whose name ends in a unit is set to the right."""
    made = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        right = column.rpartition(" ")[2] in {"m", "km", "kW", "ms", "EUR", "calls", "results"}
        # An id that is cut is of no use: what does not fit goes on in the next line.
        made.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def heading(text: str) -> None:
    """Print a rule with a text in it."""
    output.print(Rule(text), width=min(output.width, _HEADING_COLUMNS))


def status_name(status: int) -> str:
    """Give an AnswerStatus in lower case words."""
    name = provider_answer_pb2.AnswerStatus.Name(status)  # type: ignore[arg-type]  # an enum value
    return name.removeprefix("ANSWER_STATUS_").lower().replace("_", " ")


def reason_name(reason: int) -> str:
    """Give an ErrorReason in lower case words; empty for none."""
    if reason == error_reason_pb2.ERROR_REASON_UNSPECIFIED:
        return ""
    name = error_reason_pb2.ErrorReason.Name(reason)  # type: ignore[arg-type]  # an enum value
    return name.removeprefix("ERROR_REASON_").lower().replace("_", " ")


def answers_table(answers: Iterable[provider_answer_pb2.ProviderAnswer]) -> Table:
    """Show what became of each provider that was asked."""
    rows = (
        (
            answer.provider_id,
            status_name(answer.status),
            reason_name(answer.reason),
            str(answer.item_count),
            f"{answer.latency_us / 1000:.1f}",
        )
        for answer in answers
    )
    return table("Providers asked", ("provider", "status", "reason", "results", "ms"), rows)


def rich_status(error: aio.AioRpcError) -> status_pb2.Status:
    """Give the `google.rpc.Status` of a failed call; one without details where it has none."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_KEY and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return status_pb2.Status(code=error.code().value[0], message=error.details() or "")


def details(status: status_pb2.Status) -> list[object]:
    """Unpack the details that the marketplace uses, in order."""
    known = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.ResourceInfo,
        provider_answer_pb2.ProviderAnswers,
        provider_answer_pb2.ProviderChoices,
        BlockingContracts,
    )
    found: list[object] = []
    for packed in status.details:
        for kind in known:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.append(message)
    return found


def show_failure(error: aio.AioRpcError) -> None:
    """Say why a call failed: code, reason, and each detail in words."""
    status = rich_status(error)
    errors.print(f"[red bold]{error.code().name}[/] {status.message}", highlight=False)
    for detail in details(status):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            extra = ", ".join(f"{key} {value}" for key, value in sorted(detail.metadata.items()))
            errors.print(f"  reason {detail.reason}" + (f" ({extra})" if extra else ""))
        elif isinstance(detail, error_details_pb2.BadRequest):
            for violation in detail.field_violations:
                errors.print(f"  field [bold]{violation.field}[/]: {violation.description}")
        elif isinstance(detail, error_details_pb2.RetryInfo):
            errors.print(f"  try again in {detail.retry_delay.ToMilliseconds()} ms")
        elif isinstance(detail, provider_answer_pb2.ProviderAnswers):
            errors.print(answers_table(detail.provider_answers))
        elif isinstance(detail, provider_answer_pb2.ProviderChoices):
            for choice in detail.choices:
                errors.print(f"  gem-provider {choice.provider_id} (contract {choice.contract_id})")
        elif isinstance(detail, BlockingContracts):
            for contract_id in detail.contract_ids:
                errors.print(f"  contract {contract_id} is in the way", highlight=False)
