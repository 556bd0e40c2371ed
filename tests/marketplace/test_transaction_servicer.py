"""TransactionService: who sees what, pages that lose nothing, and sums that equal the log."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from foundation.errors import MarketError
from foundation.validation import violations
from gem.common.v1.paging_pb2 import PageRequest
from gem.common.v1.time_range_pb2 import TimeRange
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_pb2 import ServiceTransaction
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.target import TransactionEntry
from tests.transaction_desk import OPERATORS, T0_NS, TIMED_OUT, Desk, Reader, opened_desk
from tests.transaction_log_support import OK, entry_of, failed_of


@pytest.fixture
async def desk(log_url: str) -> AsyncIterator[Desk]:
    async with opened_desk(log_url) as opened:
        yield opened


def ids_of(found: list[ServiceTransaction]) -> list[str]:
    return [entry.transaction_id for entry in found]


async def test_an_entry_of_others_is_not_found_like_one_that_does_not_exist(desk: Desk) -> None:
    entry = entry_of(requester_id="evsp", provider_id="operator")
    await desk.keep(entry)
    texts = set()
    for reader, transaction_id in (
        (desk.partner("stranger"), entry.transaction_id),
        (desk.partner("evsp"), uuid4()),
    ):
        request = wire.GetTransactionRequest(transaction_id=str(transaction_id))
        with pytest.raises(MarketError) as refused:
            await reader.ask("GetTransaction", request)
        assert refused.value.reason == ErrorReason.ERROR_REASON_NOT_FOUND
        texts.add(refused.value.message)
    assert len(texts) == 1


@pytest.mark.parametrize("token", ["", "!", "MTIz", "OTk5OTk5OTk5OTk5OTk5OTk5LjAw", "fA=="])
@pytest.mark.parametrize("method", ["listed", "failed", "totals"])
async def test_a_page_token_that_no_list_gave_is_refused(
    desk: Desk, token: str, method: str
) -> None:
    if not token:  # the first page
        assert await getattr(desk.partner("evsp"), method)() == []
        return
    page = PageRequest(page_token=token)
    requests: dict[str, tuple[str, Message]] = {
        "listed": ("ListTransactions", wire.ListTransactionsRequest(page=page)),
        "failed": ("ListFailedCalls", wire.ListFailedCallsRequest(page=page)),
        "totals": ("SummarizeTransactions", wire.SummarizeTransactionsRequest(page=page)),
    }
    with pytest.raises(MarketError) as refused:
        await desk.partner("evsp").ask(*requests[method])
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


async def test_a_period_beyond_the_calendar_is_refused(desk: Desk) -> None:
    period = TimeRange(end_time=Timestamp(seconds=2**62))
    request = wire.ListFailedCallsRequest(period=period)
    with pytest.raises(MarketError) as refused:
        await desk.partner("evsp").ask("ListFailedCalls", request)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


@pytest.mark.parametrize(
    "which",
    [
        {"requester_id": "a\0"},
        {"contract_id": "x" * 65},
        {"call_id": "no id"},
        {"statuses": [0]},
        {"statuses": [99]},
        {"statuses": [1, 1]},
    ],
)
def test_a_filter_that_makes_no_sense_breaks_a_rule_of_the_catalogue(which: Any) -> None:
    assert violations(wire.ListTransactionsRequest(filter=wire.TransactionFilter(**which)))


@pytest.mark.usecase(1242)
async def test_a_partner_sees_what_it_called_and_what_it_was_asked_and_nothing_else(
    desk: Desk,
) -> None:
    pairs = [("a", "b"), ("b", "a"), ("b", "c"), ("a", "a"), ("c", "b")]
    entries = [entry_of(requester_id=one, provider_id=other) for one, other in pairs]
    await desk.keep(*entries)
    by_partner = {name: await desk.partner(name).listed() for name in ("a", "b", "c", "d")}
    assert {name: len(found) for name, found in by_partner.items()} == {
        name: sum(name in pair for pair in pairs) for name in ("a", "b", "c", "d")
    }
    for name, found in by_partner.items():
        assert all(name in (entry.requester_id, entry.provider_id) for entry in found)
    for role in OPERATORS:
        assert len(await desk.operator(role).listed()) == len(pairs)
    assert len(await desk.partner("a").listed(requester_id="b")) == 1
    assert await desk.partner("a").listed(requester_id="b", provider_id="c") == []


@pytest.mark.usecase(1471)
async def test_the_details_of_an_entry_are_what_was_recorded(desk: Desk) -> None:
    entry = entry_of(status=TIMED_OUT, reason=81, code=4, value_micros=0)
    await desk.keep(entry)
    request = wire.GetTransactionRequest(transaction_id=str(entry.transaction_id))
    for reader in (desk.partner("evsp"), desk.partner("operator"), desk.operator()):
        shown = (await reader.ask("GetTransaction", request)).transaction
        assert shown.start_time.ToNanoseconds() == entry.started_ns // 1000 * 1000
        assert shown.value.currency_code == "EUR"
        assert shown.value.amount_micros == 0
        for name in ("method", "status", "reason", "code", "answer_digest", "item_count"):
            assert getattr(shown, name) == getattr(entry, name)


@pytest.mark.usecase(1242)
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ({"contract_id": "contract-2"}, {2, 5}),
        ({"service_id": "service-2"}, {3}),
        ({"method": "/other.Service/Method"}, {4}),
        ({"statuses": [TIMED_OUT]}, {5}),
        ({"statuses": [OK, TIMED_OUT], "contract_id": "contract-2"}, {2, 5}),
        (
            {
                "period": TimeRange(
                    start_time=Timestamp(seconds=T0_NS // 10**9 + 1),
                    end_time=Timestamp(seconds=T0_NS // 10**9 + 3),
                )
            },
            {1, 2},
        ),
        ({"period": TimeRange(start_time=Timestamp(seconds=T0_NS // 10**9 + 4, nanos=1))}, {5}),
    ],
)
async def test_each_condition_narrows_the_list(
    desk: Desk, which: dict[str, Any], expected: set[int]
) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {},
        {"contract_id": "contract-2"},
        {"service_id": "service-2"},
        {"method": "/other.Service/Method"},
        {"contract_id": "contract-2", "status": TIMED_OUT},
    ]
    entries = [
        entry_of(started_ns=T0_NS + number * 10**9, **change)
        for number, change in enumerate(changes)
    ]
    await desk.keep(*entries)
    wanted = [str(entries[number].transaction_id) for number in sorted(expected, reverse=True)]
    for reader in (desk.partner("evsp"), desk.operator()):
        assert ids_of(await reader.listed(**which)) == wanted


async def test_the_entries_of_one_call_are_found_by_it(desk: Desk) -> None:
    call_id = uuid4()
    asked = [entry_of(call_id=call_id, provider_id=name) for name in ("x", "y", "z")]
    await desk.keep(*asked, entry_of())
    found = await desk.partner("evsp").listed(call_id=str(call_id))
    assert {entry.provider_id for entry in found} == {"x", "y", "z"}


async def test_pages_of_any_size_together_are_the_whole_list_in_order(desk: Desk) -> None:
    """Many entries share a start; both of a partner's sides are in one order."""
    dice = random.Random(7)
    entries = [
        entry_of(
            started_ns=T0_NS + dice.randrange(5) * 1000,
            requester_id=dice.choice("ab"),
            provider_id=dice.choice("ab"),
        )
        for _ in range(60)
    ]
    await desk.keep(*entries)
    ordered = sorted(entries, key=lambda entry: (entry.started_ns, entry.transaction_id))
    wanted = [str(entry.transaction_id) for entry in reversed(ordered)]
    for reader in (desk.operator(), desk.partner("a")):
        whole = ids_of(await reader.listed())
        assert whole == [key for key in wanted if key in set(whole)]
        for page_size in (1, 7, 60):
            assert ids_of(await reader.listed(page_size)) == whole
    assert ids_of(await desk.operator().listed()) == wanted


@pytest.mark.usecase(1242)
async def test_sums_equal_the_log_exactly(desk: Desk) -> None:
    dice = random.Random(11)
    entries = [
        entry_of(
            requester_id=dice.choice(("a", "b")),
            provider_id=dice.choice(("x", "y", "b")),
            status=dice.choice((OK, TIMED_OUT)),
            currency_code=dice.choice(("EUR", "SEK")),
            value_micros=dice.randrange(10**12),
        )
        for _ in range(80)
    ]
    await desk.keep(*entries)
    seen_by: list[tuple[Reader, list[TransactionEntry]]] = [
        (desk.operator(), entries),
        (desk.partner("b"), [e for e in entries if "b" in (e.requester_id, e.provider_id)]),
    ]
    for reader, visible in seen_by:
        counts: Counter[tuple[str, int, str]] = Counter()
        values: Counter[tuple[str, int, str]] = Counter()
        for entry in visible:
            key = (entry.provider_id, entry.status, entry.currency_code)
            counts[key] += 1
            values[key] += entry.value_micros
        for page_size in (1000, 2):
            totals = await reader.totals(page_size)
            keys = [(t.provider_id, t.status, t.value.currency_code) for t in totals]
            assert keys == sorted(counts)
            assert [t.transaction_count for t in totals] == [counts[key] for key in keys]
            assert [t.value.amount_micros for t in totals] == [values[key] for key in keys]


async def test_a_sum_never_leaves_the_range_of_money(desk: Desk) -> None:
    await desk.keep(*(entry_of(value_micros=2**62) for _ in range(3)))
    (total,) = await desk.operator().totals()
    assert total.value.amount_micros == 10**18


@pytest.mark.usecase(1241)
async def test_a_partner_sees_its_own_failed_calls_and_an_operator_all(desk: Desk) -> None:
    no_contract = failed_of(requester_id="a", started_ns=T0_NS)
    invalid = failed_of(
        requester_id="a",
        started_ns=T0_NS + 10**9,
        reason=ErrorReason.ERROR_REASON_REQUEST_INVALID,
        code=3,
    )
    other = replace(failed_of(requester_id="b"), started_ns=T0_NS + 2 * 10**9)
    await desk.keep(no_contract, invalid, other)
    mine = [str(failed.call_id) for failed in (invalid, no_contract)]
    assert [failed.call_id for failed in await desk.partner("a").failed()] == mine
    assert [failed.call_id for failed in await desk.partner("a").failed(page_size=1)] == mine
    assert await desk.partner("a").failed(requester_id="b") == []
    assert len(await desk.operator().failed(page_size=2)) == 3
    reasons = [ErrorReason.ERROR_REASON_REQUEST_INVALID]
    (found,) = await desk.operator().failed(reasons=reasons)
    assert (found.call_id, found.code, found.request_bytes) == (str(invalid.call_id), 3, 40)
    until = TimeRange(end_time=Timestamp(seconds=T0_NS // 10**9 + 1))
    assert [f.call_id for f in await desk.operator().failed(period=until)] == mine[1:]
