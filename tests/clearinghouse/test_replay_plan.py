"""Recorded sessions as parties and calls: the same every time, plausible, and paid to the cent."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.plausibility import check_record
from clearinghouse.plausibility_context import KnownAuthorization, PlausibilityContext, Validity
from clearinghouse.rateable import read_session
from clearinghouse.rating import rate
from clearinghouse.replay_acn import read_acn
from clearinghouse.replay_cast import ACN, DUNDEE, PRICES, Cast, evse_id_of, make_cast
from clearinghouse.replay_dundee import read_dundee
from clearinghouse.replay_plan import (
    Amount,
    Granted,
    amount_of,
    authorize_request,
    notices,
    record_id,
    record_of,
    total_of,
)
from clearinghouse.replay_session import RecordedSession, SessionClass
from foundation.identifiers import ContractId, EvseId, owner_key
from foundation.validation import violations
from gem.roaming.v1.authorization_pb2 import DecidingLayer
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.session_notice_pb2 import SessionNoticeKind
from tests.external_data import FOLDER, needs

pytestmark = pytest.mark.usecase(1511)
START = datetime(2018, 6, 4, 9, 0, tzinfo=UTC)
GRANTED = Granted("A-1", "CH-1")


def recorded(number: int = 1, **changes: Any) -> RecordedSession:
    made = RecordedSession(
        number=number,
        source_id=f"77{number}",
        group="APT; CYC",
        site="Lochee",
        station="50914",
        connector="1",
        user_id="601838",
        start=START,
        end=START + timedelta(minutes=90),
        charging_end=None,
        energy_milli_wh=22_287_000,
        time_zone="Europe/London",
        classes=frozenset({SessionClass.CLEAN}),
    )
    return replace(made, **changes)


def cast_of(*sessions: RecordedSession) -> Cast:
    return make_cast(sessions, DUNDEE)


@st.composite
def sessions(draw: st.DrawFn) -> RecordedSession:
    length_s = draw(st.integers(0, 200_000))
    charged_s = draw(st.none() | st.integers(0, length_s + 60))
    end = START + timedelta(seconds=length_s)
    most = min(20_000 * (length_s + 30), 10**9)
    return recorded(
        number=draw(st.integers(1, 10**6)),
        group=draw(st.sampled_from(["A", "B", "C", "APT; CYC"])),
        user_id=draw(st.none() | st.text(max_size=9).filter(bool)),
        station=draw(st.text("AB-12", min_size=1, max_size=12)),
        connector=draw(st.sampled_from(["1", "2"])),
        end=end,
        charging_end=None if charged_s is None else START + timedelta(seconds=charged_s),
        energy_milli_wh=draw(st.integers(0, most) | st.just(0)),
    )


def context(session: RecordedSession, cast: Cast) -> PlausibilityContext:
    """Give what a clearing house knows that was told of the session."""
    assert session.start is not None
    operator = owner_key(cast.operator_of(session).owner_id)
    evse = EvseId.parse(evse_id_of(session, cast.operator_of(session))).key
    authorization = KnownAuthorization(
        True, operator, evse, "it", GRANTED.session_id, session.start, session.start
    )
    published = cast.tariff_of(cast.operator_of(session)).tariff
    return PlausibilityContext(
        now=datetime(2030, 1, 1, tzinfo=UTC),
        operator_keys=frozenset({operator}),
        authorization=authorization,
        identity_key="it",
        contract=Validity(),
        tariffs={published.tariff_id: published},
    )


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"end": None}, {"FIELD_MISSING"}),
        ({"end": START - timedelta(minutes=1)}, {"END_BEFORE_START", "PERIOD_OUTSIDE_SESSION"}),
        ({"energy_milli_wh": -5_000_000}, {"NEGATIVE"}),
        ({"energy_milli_wh": 900_000_000_000}, {"POWER"}),
    ],
)
def test_a_session_that_cannot_be_is_handed_in_and_returned_with_the_reason(
    changes: dict[str, Any], reasons: set[str]
) -> None:
    session = recorded(**changes)
    cast = cast_of(session)
    record = record_of(session, cast, GRANTED, listed=True)
    assert not violations(record)
    found = {
        PlausibilityReason.Name(finding.reason).removeprefix("PLAUSIBILITY_REASON_")
        for finding in check_record(record, context(session, cast)).findings
    }
    assert reasons <= found


@settings(max_examples=30)
@given(sessions())
def test_a_record_is_plausible_and_costs_what_rating_gives(session: RecordedSession) -> None:
    cast = cast_of(recorded(group="A"), recorded(group="B"), session)
    record = record_of(session, cast, GRANTED, listed=True)
    assert not violations(record)
    rating = rate(read_session(record))
    amount = amount_of(session, cast)
    assert (rating.without_tax_micros, rating.with_tax_micros) == (
        amount.without_tax_micros,
        amount.with_tax_micros,
    )
    assert check_record(record, context(session, cast)).findings == ()


@settings(max_examples=12)
@given(st.lists(sessions(), max_size=8))
def test_the_cast_is_the_same_in_any_order_and_everybody_has_an_id_of_his_own(
    given_sessions: list[RecordedSession],
) -> None:
    cast = cast_of(*given_sessions)
    again = cast_of(*reversed(given_sessions))
    assert (cast.operators, cast.evsps, cast.users) == (again.operators, again.evsps, again.users)
    owners = [each.owner_id for each in (*cast.operators.values(), *cast.evsps)]
    assert len(set(owners)) == len(owners)
    contracts = [each for evsp in cast.evsps for each in cast.contracts(evsp)]
    assert len({each.contract_id for each in contracts}) == len(cast.users)
    assert not any(violations(each) for each in contracts)
    known = {each.contract_id: each.tokens[0].token_uid for each in contracts}
    for session in given_sessions:
        who = cast.customer_of(session).identification
        assert known[who.contract_id] == who.token_uid
        assert ContractId.parse(who.contract_id).is_check_right
        assert EvseId.parse(evse_id_of(session, cast.operator_of(session)))


@settings(max_examples=12)
@given(st.lists(sessions(), max_size=8))
def test_totals_add_up_over_any_parting(given_sessions: list[RecordedSession]) -> None:
    cast = cast_of(*given_sessions)
    whole = total_of(given_sessions, cast)
    assert whole == total_of(given_sessions[:3], cast) + total_of(given_sessions[3:], cast)
    assert whole.sessions == len(given_sessions)
    assert whole.energy_milli_wh == sum(each.energy_milli_wh or 0 for each in given_sessions)


def test_operators_are_the_same_in_every_recording_and_agree_with_every_evsp() -> None:
    cast = cast_of(*(recorded(group=name) for name in "ABCD"))
    assert {each.prices for each in cast.operators.values()} <= set(PRICES)
    other = cast_of(*(recorded(group=name) for name in "BDE"))
    assert [other.operators[name] for name in "BD"] == [cast.operators[name] for name in "BD"]
    agreements = list(cast.agreements())
    pairs = {(each.operator_partner_id, each.evsp_partner_id) for each in agreements}
    assert len(pairs) == 16
    assert not any(violations(each) for each in agreements)
    version = cast.tariff_of(cast.operators["A"])
    assert not violations(version)
    assert version.validity.start_time.ToDatetime(UTC) < START


def test_calls_of_a_session_come_in_their_order_with_what_was_granted() -> None:
    session = recorded()
    cast = cast_of(session)
    asked = authorize_request(session, cast, listed=True)
    assert not violations(asked)
    assert asked.decided_by == DecidingLayer.DECIDING_LAYER_OPERATOR_LIST
    start, end = notices(session, cast, GRANTED)
    assert not violations(start)
    assert not violations(end)
    kinds = SessionNoticeKind
    assert (start.notice.kind, end.notice.kind) == (
        kinds.SESSION_NOTICE_KIND_START,
        kinds.SESSION_NOTICE_KIND_END,
    )
    assert (start.notice.sequence_number, end.notice.sequence_number) == (1, 2)
    assert end.notice.energy_milli_wh == 22_287_000
    record = record_of(session, cast, GRANTED, listed=True)
    assert record.authorization_reference == end.notice.authorization_reference == "A-1"
    assert record.operator_session_id == end.notice.operator_session_id
    assert record.session_id == "CH-1"
    asked_live = authorize_request(session, cast, listed=False)
    assert asked_live.decided_by == DecidingLayer.DECIDING_LAYER_UNSPECIFIED


def test_a_session_without_an_end_has_no_notice_of_it() -> None:
    session = recorded(end=None, energy_milli_wh=None)
    cast = cast_of(session)
    assert len(list(notices(session, cast, GRANTED))) == 1
    assert amount_of(session, cast) == Amount(1)


def test_an_id_that_could_be_anything_is_digested() -> None:
    assert record_id(recorded()) == "771"
    odd = record_id(recorded(source_id="a b\n" * 40))
    assert len(odd) == 30
    assert odd.isalnum()


@pytest.mark.external_data
@needs("charging-sessions")
def test_real_sessions_come_to_what_rating_gives() -> None:
    with (FOLDER / "charging-sessions" / "acn-office-1.json").open() as file:
        real = list(read_acn(file))[::8]
    cast = make_cast(real, ACN)
    rated = [rate(read_session(record_of(each, cast, GRANTED, listed=True))) for each in real]
    total = total_of(real, cast)
    assert total.without_tax_micros == sum(each.without_tax_micros for each in rated)
    assert total.with_tax_micros == sum(each.with_tax_micros for each in rated)
    assert total.energy_milli_wh > 10**7


@pytest.mark.external_data
@needs("charging-sessions")
def test_a_city_has_its_operators_and_customers() -> None:
    with (FOLDER / "charging-sessions" / "dundee-2018-06-to-09.csv").open(newline="") as file:
        real = list(read_dundee(file))
    cast = make_cast(real, DUNDEE)
    assert (len(cast.operators), len(cast.evsps)) == (5, 4)
    shares = Counter(cast.users.values())
    assert min(shares.values()) > len(cast.users) / 8
    assert len({record_id(each) for each in real}) == 19_227
