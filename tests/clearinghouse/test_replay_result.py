"""The closing of a replay: every record once, every party's sums, and what does not agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.replay_plan import Amount, total_of
from clearinghouse.replay_result import NOT_TOLD, SENT, ReplayResult, word_of
from clearinghouse.replay_session import RecordedSession, SessionClass, first_of
from gem.roaming.v1.cdr_clearing_pb2 import CdrState
from tests.clearinghouse.test_replay_plan import cast_of, recorded, sessions

pytestmark = pytest.mark.usecase(1502)


@settings(max_examples=20)
@given(st.lists(st.tuples(sessions(), st.sampled_from(["approved", "returned"])), max_size=8))
def test_operators_and_evsps_have_the_same_sums(told: list[tuple[RecordedSession, str]]) -> None:
    result, cast = ReplayResult(), cast_of(*(session for session, _ in told))
    for session, outcome in told:
        result.count(session, cast, outcome)
    operators = {each.partner_id for each in cast.operators.values()}
    of_operators = [amount for name, amount in result.told.items() if name in operators]
    of_evsps = [amount for name, amount in result.told.items() if name not in operators]
    whole = total_of((session for session, _ in told), cast)
    assert sum(of_operators, Amount()) == sum(of_evsps, Amount()) == whole
    approved = total_of((session for session, outcome in told if outcome == "approved"), cast)
    assert sum((result.approved.get(name, Amount()) for name in operators), Amount()) == approved
    assert sum(result.totals.values()) == len(told)


def test_what_is_no_session_is_counted_and_has_no_amount() -> None:
    result, cast = ReplayResult(), cast_of(recorded())
    classes = frozenset({SessionClass.START_MISSING})
    result.count(recorded(start=None, classes=classes), cast, "approved")
    assert result.totals == {"not told: no session": 1}
    assert result.classes == {"start missing": 1}
    assert result.told == {}


def test_balances_have_to_add_up_to_zero_and_to_our_own_sums() -> None:
    result, cast = ReplayResult(), cast_of(recorded())
    result.count(recorded(), cast, "approved")
    (operator,) = cast.operators.values()
    evsp = cast.customer_of(recorded()).evsp_partner_id
    owed = result.approved[operator.partner_id].with_tax_micros
    per_kwh, flat, _ = operator.prices
    micros = Decimal("22.287") * per_kwh + flat
    assert owed == (micros * 12 / 10).quantize(Decimal("1e4"), ROUND_HALF_UP), "with a fifth of tax"
    assert result.disagreements(cast) == {operator.partner_id: -owed}
    result.balances[operator.partner_id, "GBP"] = owed
    assert result.imbalance() == {"GBP": owed}
    result.balances[evsp, "GBP"] = -owed
    assert result.imbalance() == {"GBP": 0}
    assert result.disagreements(cast) == {}


def test_a_limit_takes_the_first_records_of_a_source() -> None:
    start = datetime(2018, 6, 4, tzinfo=UTC)
    source = [recorded(number, start=start + timedelta(hours=number)) for number in range(1, 6)]
    assert [each.number for each in first_of(iter(source), 3)] == [1, 2, 3]
    assert len(list(first_of(iter(source), 0))) == 5


SETTLED = {"returned", "approved", "declined", "rejected", "credited"}


@pytest.mark.parametrize("state", sorted(set(CdrState.values()) - {CdrState.CDR_STATE_UNSPECIFIED}))
def test_a_record_in_any_state_is_on_its_way_or_has_come_to_an_end(
    state: CdrState.ValueType,
) -> None:
    outcome = word_of(CdrState.Name(state))
    result, cast = ReplayResult(), cast_of(recorded())
    result.count(recorded(), cast, outcome)
    assert result.unexplained == (outcome not in SETTLED)


def test_what_nobody_knows_the_end_of_is_counted_apart() -> None:
    result, cast = ReplayResult(), cast_of(recorded())
    known = ("approved", "returned: negative", "not authorized: unknown")
    for outcome in (*known, NOT_TOLD, SENT):
        result.count(recorded(), cast, outcome)
    assert result.unexplained == 2
