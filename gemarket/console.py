"""How the command line talks to people: tables, statuses, and errors that name their reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from rich.console import Console
from rich.markup import escape
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1 import error_reason_pb2, provider_answer_pb2

STATUS_KEY = "grpc-status-details-bin"

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
#: Those that JSON itself lets through, as they are escaped in it.
_CONTROL_IN_JSON = re.compile(r"\\u00(?:7f|[89][0-9a-f])")


class SafeConsole(Console):
    """A console that nobody's text can drive: control characters do not reach the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text with its control characters replaced."""
        return super().render_str(_visible(text), **options)

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """Print JSON of ASCII; other letters are shown as such unless one is a control."""
        ascii_only = _CONTROL_IN_JSON.search(json or "") is not None
        super().print_json(json, ensure_ascii=ascii_only, **options)


_HEADING_COLUMNS = 100

# Names of others may have colons between words: they are no pictures.
output = SafeConsole(emoji=False)
errors = SafeConsole(emoji=False, stderr=True)


def shown(text: str) -> str:
    """Give a text of others as a terminal may show it: no markup, no control characters."""
    return escape(_visible(text))


def _visible(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Make a table of anybody's texts; a column whose name ends in a unit is set to the right."""
    made = Table(title=shown(title), title_justify="left", header_style="bold")
    for column in columns:
        right = column.rpartition(" ")[2] in {"m", "km", "kW", "ms", "EUR", "calls", "results"}
        # An id that is cut is of no use: what does not fit goes on in the next line.
        made.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(shown, row))
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


def reason_of(error: aio.AioRpcError) -> str:
    """Give why a call failed in one line: its reason, or else its code, and the text."""
    status = rich_status(error)
    reasons = [d.reason for d in details(status) if isinstance(d, error_details_pb2.ErrorInfo)]
    name = reasons[0] if reasons else error.code().name
    return f"{name.lower().replace('_', ' ')}: {status.message}"


def show_failure(error: aio.AioRpcError) -> None:
    """Say why a call failed: code, reason, and each detail in words."""
    status = rich_status(error)
    errors.print(f"[red bold]{error.code().name}[/] {shown(status.message)}", highlight=False)
    for detail in details(status):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            extra = ", ".join(f"{key} {value}" for key, value in sorted(detail.metadata.items()))
            _tell(f"reason {detail.reason}" + (f" ({extra})" if extra else ""))
        elif isinstance(detail, error_details_pb2.BadRequest):
            for violation in detail.field_violations:
                _tell(f"field {violation.field}: {violation.description}")
        elif isinstance(detail, error_details_pb2.RetryInfo):
            _tell(f"try again in {detail.retry_delay.ToMilliseconds()} ms")
        elif isinstance(detail, provider_answer_pb2.ProviderAnswers):
            errors.print(answers_table(detail.provider_answers))
        elif isinstance(detail, provider_answer_pb2.ProviderChoices):
            for choice in detail.choices:
                _tell(f"gem-provider {choice.provider_id} (contract {choice.contract_id})")
        elif isinstance(detail, BlockingContracts):
            for contract_id in detail.contract_ids:
                _tell(f"contract {contract_id} is in the way")


def _tell(text: str) -> None:
    errors.print(f"  {shown(text)}", highlight=False)
