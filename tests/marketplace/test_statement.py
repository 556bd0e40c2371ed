"""Monthly statements, whose sums equal the log exactly: against plain Python (process 1495)."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.database import open_engine
from foundation.errors import MarketError
from foundation.validation import violations
from gem.marketplace.v1 import statement_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace import transaction_rendering
from marketplace.router.target import TransactionEntry
from marketplace.statement import (
    ServiceLevel,
    Statement,
    StatementLine,
    month_bounds,
    promised_service_level,
)
from marketplace.storage_statement import statement_of
from marketplace.storage_transaction_filter import Period
from tests.transaction_desk import TIMED_OUT, Desk, opened_desk
from tests.transaction_log_support import OK, connected, empty_log, entry_of

pytestmark = pytest.mark.usecase(1471)

CANCELLED = AnswerStatus.ANSWER_STATUS_CANCELLED
MONTH = month_bounds("2026-02")
_CONTRACT = """
INSERT INTO marketplace.contract (contract_id, requester_id, provider_id, service_id, offering_id,
  state, terms, price_per_call_micros, currency_code, created_at, terminated_at)
VALUES ($1, 'evsp', 'operator', 'service-1', 'offering-1', 'TERMINATED', ''::bytea, 1, 'EUR', now(),
  now())
"""


@pytest.fixture
async def desk(control_plane_url: str) -> AsyncIterator[Desk]:
    """Open an empty log and two contracts between the same partners."""
    await empty_log(control_plane_url)
    async with connected(control_plane_url) as connection:
        await connection.execute("SET session_replication_role = replica")
        for contract_id in ("contract-1", "contract-2"):
            await connection.execute(_CONTRACT, contract_id)
    async with opened_desk(control_plane_url) as opened:
        yield opened


def instant_ns(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9  # type: ignore[arg-type, misc]  # date and time


async def statement(reader: Any, contract_id: str = "contract-1") -> statement_pb2.MonthlyStatement:
    request = wire.GetMonthlyStatementRequest(contract_id=contract_id, month="2026-02")
    answer: wire.GetMonthlyStatementResponse = await reader.ask("GetMonthlyStatement", request)
    return answer.statement


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"month": text}
            for text in ("", "2026-00", "2026-13", "1999-12", "2026-2", "2026-02-01")
        ),
        {"contract_id": ""},
    ],
)
def test_a_month_that_does_not_exist_breaks_a_rule_of_the_catalogue(wrong: Any) -> None:
    right: dict[str, Any] = {"contract_id": "c", "month": "2026-02"}
    assert violations(wire.GetMonthlyStatementRequest(**right)) == ()
    assert violations(wire.GetMonthlyStatementRequest(**{**right, **wrong}))


async def test_a_contract_of_others_is_not_found_like_one_that_does_not_exist(desk: Desk) -> None:
    texts = set()
    for name, contract_id in (("stranger", "contract-1"), ("evsp", "contract-9")):
        with pytest.raises(MarketError) as refused:
            await statement(desk.partner(name), contract_id)
        assert refused.value.reason == ErrorReason.ERROR_REASON_NOT_FOUND
        texts.add(refused.value.message)
    assert len(texts) == 1


async def test_a_sum_beyond_money_is_refused_and_not_rounded(desk: Desk) -> None:
    start_ns = instant_ns(2026, 2, 3)
    await desk.keep(*(entry_of(started_ns=start_ns, value_micros=2**62) for _ in range(3)))
    with pytest.raises(MarketError) as refused:
        await statement(desk.operator())
    assert refused.value.reason == ErrorReason.ERROR_REASON_INTERNAL


async def test_a_month_without_calls_is_an_empty_statement(desk: Desk) -> None:
    made = await statement(desk.partner("evsp"))
    assert (made.transaction_count, made.failed_count, list(made.values)) == (0, 0, [])
    assert not made.service_level.HasField("ok_share_ppm")
    assert not made.service_level.HasField("median_us")


def log_of(dice: random.Random, size: int) -> list[TransactionEntry]:
    """Give entries around the month, under two contracts."""
    moments = (
        instant_ns(2026, 2, 1) - 1000,
        instant_ns(2026, 2, 1),
        instant_ns(2026, 2, 28, 23, 59, 59) + 999_999_000,
        instant_ns(2026, 3, 1),
    )
    return [
        entry_of(
            contract_id=dice.choice(("contract-1", "contract-1", "contract-2")),
            started_ns=dice.choice((*moments, moments[1] + dice.randrange(28 * 86_400 * 10**9))),
            status=dice.choice((OK, OK, OK, TIMED_OUT, CANCELLED)),
            currency_code=dice.choice(("EUR", "SEK")),
            value_micros=dice.choice((0, 1, -7, dice.randrange(10**12))),
            duration_us=dice.randrange(1, 10**6),
        )
        for _ in range(size)
    ]


def nearest_rank(values: list[int], share: float) -> int:
    return sorted(values)[math.ceil(share * len(values)) - 1]


@pytest.mark.parametrize("size", [1, 2, 19, 20, 300])
async def test_a_statement_is_what_plain_python_adds_up(desk: Desk, size: int) -> None:
    entries = log_of(random.Random(size), size)
    await desk.keep(*entries)
    first_ns, last_ns = instant_ns(2026, 2, 1), instant_ns(2026, 3, 1)
    for contract_id in ("contract-1", "contract-2"):
        mine = [
            entry
            for entry in entries
            if entry.contract_id == contract_id and first_ns <= entry.started_ns < last_ns
        ]
        counts = Counter((entry.status, entry.currency_code) for entry in mine)
        values: Counter[tuple[int, str]] = Counter()
        by_currency: Counter[str] = Counter()
        for entry in mine:
            values[entry.status, entry.currency_code] += entry.value_micros
            by_currency[entry.currency_code] += entry.value_micros
        times = [entry.duration_us for entry in mine if entry.status == OK]
        counted = [entry for entry in mine if entry.status != CANCELLED]
        for reader in (desk.partner("evsp"), desk.partner("operator"), desk.operator()):
            made = await statement(reader, contract_id)
            assert [
                (
                    line.status,
                    line.value.currency_code,
                    line.transaction_count,
                    line.value.amount_micros,
                )
                for line in made.lines
            ] == [(*key, counts[key], values[key]) for key in sorted(counts)]
            assert [(v.currency_code, v.amount_micros) for v in made.values] == sorted(
                by_currency.items()
            )
            assert made.transaction_count == len(mine)
            assert made.failed_count == len(mine) - len(times)
            level = made.service_level
            assert (level.counted_count, level.ok_count) == (len(counted), len(times))
            assert not made.HasField("promise")
            if counted:
                assert level.availability_permille == len(times) * 1000 // len(counted)
                assert level.ok_share_ppm == len(times) * 10**6 // len(counted)
            if times:
                assert level.median_us == nearest_rank(times, 0.5)
                assert level.percentile_95_us == nearest_rank(times, 0.95)
                assert level.percentile_99_us == nearest_rank(times, 0.99)


async def test_a_statement_says_whom_it_is_about_and_whether_the_month_is_over(desk: Desk) -> None:
    made = await statement(desk.partner("evsp"))
    assert (made.requester_id, made.provider_id) == ("evsp", "operator")
    assert made.service_id == "service-1"
    assert made.period.start_time.seconds * 10**9 == instant_ns(2026, 2, 1)
    assert made.period.end_time.seconds * 10**9 == instant_ns(2026, 3, 1)
    assert made.month_ended
    request = wire.GetMonthlyStatementRequest(contract_id="contract-1", month="2999-12")
    future = (await desk.partner("evsp").ask("GetMonthlyStatement", request)).statement
    assert not future.month_ended


async def test_the_statements_of_all_months_add_up_to_the_summary(desk: Desk) -> None:
    """What is billed month by month is what the log as a whole holds: nothing lost at an edge."""
    entries = log_of(random.Random(3), 200)
    await desk.keep(*entries)
    reader, billed = desk.partner("operator"), Counter[str]()
    for month in (1, 2, 3):
        for contract_id in ("contract-1", "contract-2"):
            request = wire.GetMonthlyStatementRequest(
                contract_id=contract_id, month=f"2026-{month:02d}"
            )
            made = (await reader.ask("GetMonthlyStatement", request)).statement
            for value in made.values:
                billed[value.currency_code] += value.amount_micros
    summed: Counter[str] = Counter()
    for total in await reader.totals():
        summed[total.value.currency_code] += total.value.amount_micros
    assert billed == summed


LINES = st.lists(
    st.builds(
        StatementLine,
        status=st.integers(1, 8),
        currency_code=st.sampled_from(("EUR", "SEK")),
        transaction_count=st.integers(1, 10**9),
        value_micros=st.integers(-(10**15), 10**15),
    ),
    max_size=16,
    unique_by=lambda line: (line.status, line.currency_code),
)


@given(lines=LINES)
def test_counts_and_shares_are_those_of_the_lines(lines: list[StatementLine]) -> None:
    made = Statement(lines, None)
    assert made.count() == sum(made.count(status) for status in range(9))
    assert sum(made.values().values()) == sum(line.value_micros for line in lines)
    share = made.ok_share_ppm
    if share is None:
        assert made.counted_count == 0
    else:
        assert 0 <= share * made.counted_count <= made.ok_count * 10**6
        assert made.ok_count * 10**6 < (share + 1) * made.counted_count


@given(lines=LINES, promised=st.integers(1, 1000))
def test_an_availability_is_kept_by_the_exact_share_and_not_by_a_rounded_one(
    lines: list[StatementLine], promised: int
) -> None:
    made = Statement(lines, None)
    kept = made.keeps_availability(ServiceLevel(availability_permille=promised))
    if made.counted_count:
        assert kept == (Fraction(made.ok_count, made.counted_count) >= Fraction(promised, 1000))
        assert made.availability_permille == made.ok_count * 1000 // made.counted_count
    else:
        assert kept is None


def test_what_is_not_promised_or_not_measured_is_neither_kept_nor_broken() -> None:
    line = StatementLine(OK, "EUR", 3, 0)
    nothing, all_ok = Statement([], None), Statement([line], (1000, 2000, 3000))
    promise = ServiceLevel(availability_permille=999, percentile_95_ms=2)
    for made, wanted in ((nothing, promise), (all_ok, ServiceLevel())):
        assert made.keeps_availability(wanted) is None
        assert made.keeps_percentile_95(wanted) is None
    assert all_ok.keeps_percentile_95(promise) is True
    assert Statement([line], (1000, 2001, 3000)).keeps_percentile_95(promise) is False
    assert promised_service_level(ContractTerms()) is None


async def test_a_statement_says_whether_the_contracts_promise_was_kept(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_ns = instant_ns(2026, 2, 3)
    await desk.keep(
        *(entry_of(started_ns=start_ns, duration_us=5001) for _ in range(3)),
        entry_of(started_ns=start_ns, status=TIMED_OUT),
        entry_of(started_ns=start_ns, status=CANCELLED),
    )
    for permille, time_ms, kept in ((750, 6, True), (751, 5, False)):
        promise = ServiceLevel(permille, time_ms)
        monkeypatch.setattr(
            transaction_rendering, "promised_service_level", lambda _, promise=promise: promise
        )
        told = (await statement(desk.partner("evsp"))).promise
        assert (told.availability_permille, told.percentile_95_ms) == (permille, time_ms)
        assert (told.is_availability_kept, told.is_percentile_95_kept) == (kept, kept)


@given(year=st.integers(2000, 2999), number=st.integers(1, 12))
def test_months_follow_each_other_without_gap_or_overlap(year: int, number: int) -> None:
    start, end = month_bounds(f"{year}-{number:02d}")
    assert (start.year, start.month, start.day) == (year, number, 1)
    following = (year, number + 1) if number < 12 else (year + 1, 1)
    assert month_bounds("{}-{:02d}".format(*following))[0] == end


async def test_a_period_of_nothing_gives_no_percentile(control_plane_url: str) -> None:
    engine = open_engine(control_plane_url, 1)
    try:
        async with engine.connect() as connection:
            made = await statement_of(connection, "none", Period(*MONTH))
    finally:
        await engine.dispose()
    assert made == Statement([], None)
