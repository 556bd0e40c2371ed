"""What people read: statuses in words, tables, and failures with every detail."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from rich.console import Console

from foundation.errors import FieldViolation, MarketError, status_of
from gem.charging.v1 import evse_pb2, evse_search_service_pb2, tariff_pb2
from gem.common.v1 import money_pb2
from gem.marketplace.v1 import transaction_pb2
from gem.mesh.v1 import error_reason_pb2
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket import demonstration
from gemarket.console import (
    STATUS_KEY,
    answers_table,
    details,
    errors,
    output,
    reason_name,
    rich_status,
    show_failure,
    status_name,
    table,
)
from gemarket.demonstration import StepFailedError


def failed(error: MarketError) -> AioRpcError:
    """Give what a caller's stub raises for an error of the market."""
    status = status_of(error)
    codes = {code.value[0]: code for code in StatusCode}
    trailers = Metadata((STATUS_KEY, status.SerializeToString()))
    return AioRpcError(codes[status.code], Metadata(), trailers, status.message)


def shown(error: MarketError) -> str:
    """Give what the command line says about an error."""
    with errors.capture() as capture:
        show_failure(failed(error))
    return capture.get()


def test_a_failure_without_details_still_says_its_code_and_text() -> None:
    bare = AioRpcError(StatusCode.UNAVAILABLE, Metadata(), Metadata(), "nobody there")
    assert rich_status(bare).code == 14
    assert details(rich_status(bare)) == []
    with errors.capture() as capture:
        show_failure(bare)
    assert "UNAVAILABLE nobody there" in capture.get()


def test_an_id_that_does_not_fit_goes_on_in_the_next_line() -> None:
    rows = [(f"{number}" * 36, "word " * 10, f"{number}" * 36) for number in range(3)]
    made = table("Things", ("id", "text", "other id"), rows)
    narrow, wide = (Console(width=width) for width in (80, 240))
    with narrow.capture() as folded, wide.capture() as whole:
        narrow.print(made)
        wide.print(made)
    assert "…" not in folded.get()
    assert [folded.get().count(str(number)) for number in range(3)] == [72, 72, 72]
    assert all(row[0] in whole.get() for row in rows)


def test_each_broken_field_is_named() -> None:
    violation = FieldViolation("limit", "must be at least 0", "int32.gte")
    reason = error_reason_pb2.ERROR_REASON_REQUEST_INVALID
    text = shown(MarketError(reason, "The request is wrong.", violations=(violation,)))
    assert "INVALID_ARGUMENT The request is wrong." in text
    assert "reason REQUEST_INVALID" in text
    assert "field limit: must be at least 0" in text


def test_the_time_to_wait_is_told() -> None:
    reason = error_reason_pb2.ERROR_REASON_RATE_EXCEEDED
    assert "try again in 250 ms" in shown(MarketError(reason, "Too fast.", retry_after_s=0.25))


def test_the_choices_are_listed_as_they_are_to_be_given() -> None:
    choices = mesh.ProviderChoices()
    choices.choices.add(provider_id="volt", contract_id="c-1")
    reason = error_reason_pb2.ERROR_REASON_PROVIDER_AMBIGUOUS
    text = shown(MarketError(reason, "Name one.", details=(choices,)))
    assert "gem-provider volt (contract c-1)" in text


def test_what_became_of_each_provider_is_a_table() -> None:
    answers = mesh.ProviderAnswers()
    answers.provider_answers.add(
        provider_id="volt",
        status=mesh.ANSWER_STATUS_TIMED_OUT,
        reason=error_reason_pb2.ERROR_REASON_PROVIDER_TIMED_OUT,
        latency_us=1_234_500,
    )
    reason = error_reason_pb2.ERROR_REASON_PROVIDER_TIMED_OUT
    text = shown(MarketError(reason, "Nobody answered.", details=(answers,)))
    (line,) = [line for line in text.splitlines() if "volt" in line]
    assert "timed out" in line
    assert "1234.5" in line


def test_details_come_out_in_order_and_typed() -> None:
    violation = FieldViolation("a", "b")
    reason = error_reason_pb2.ERROR_REASON_REQUEST_INVALID
    found = details(status_of(MarketError(reason, "x", violations=(violation,))))
    kinds = [error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]
    assert [type(each) for each in found] == kinds


def test_statuses_and_reasons_are_words() -> None:
    assert status_name(mesh.ANSWER_STATUS_INVALID_ANSWER) == "invalid answer"
    assert reason_name(error_reason_pb2.ERROR_REASON_PROVIDER_EJECTED) == "provider ejected"
    assert reason_name(error_reason_pb2.ERROR_REASON_UNSPECIFIED) == ""


def test_an_answered_provider_has_no_reason() -> None:
    answer = mesh.ProviderAnswer(provider_id="volt", status=mesh.ANSWER_STATUS_OK, item_count=7)
    with output.capture() as capture:
        output.print(answers_table([answer]))
    (line,) = [line for line in capture.get().splitlines() if "volt" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["volt", "ok", "", "7", "0.0"]


def test_a_step_that_does_not_hold_ends_the_demonstration() -> None:
    with pytest.raises(StepFailedError, match="everybody answers"):
        demonstration._must(False, "everybody answers")
    demonstration._must(True, "everybody answers")


@pytest.mark.parametrize(
    ("evse", "price"),
    [
        (evse_pb2.Evse(), "not known"),
        (evse_pb2.Evse(tariffs=[tariff_pb2.Tariff(currency_code="EUR")]), "free"),
        (
            evse_pb2.Evse(
                tariffs=[tariff_pb2.Tariff(currency_code="EUR")],
                reference_price=money_pb2.Money(amount_micros=9_800_000, currency_code="EUR"),
            ),
            "9.80 EUR for 20 kWh",
        ),
    ],
    ids=["no tariff", "free", "priced"],
)
def test_a_price_that_is_not_known_is_not_called_free(evse: evse_pb2.Evse, price: str) -> None:
    assert demonstration._price(evse) == price


def test_a_long_answer_is_cut_and_says_so() -> None:
    evses = [evse_pb2.Evse(provider_id="volt", name=f"point {n}") for n in range(15)]
    response = evse_search_service_pb2.SearchEvsesResponse(evses=evses)
    with output.capture() as capture:
        demonstration._show_evses(response)
    text = capture.get()
    assert "point 11" in text
    assert "point 12" not in text
    assert "and 3 more" in text
    assert "OpenStreetMap contributors" in text


def test_entries_and_sums_show_money_with_its_currency() -> None:
    money = money_pb2.Money(amount_micros=2_000, currency_code="EUR")
    entry = transaction_pb2.ServiceTransaction(
        call_id="01234567-89ab", provider_id="volt", status=mesh.ANSWER_STATUS_OK, value=money
    )
    total = transaction_pb2.TransactionTotal(
        provider_id="volt", status=mesh.ANSWER_STATUS_OK, transaction_count=3, value=money
    )
    with output.capture() as capture:
        output.print(demonstration._entries_table([entry]))
        output.print(demonstration._totals_table([total]))
    text = capture.get()
    assert "01234567" in text
    assert "89ab" not in text
    assert text.count("0.002 EUR") == 2
