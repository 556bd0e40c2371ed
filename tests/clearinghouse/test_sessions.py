"""Session notices: whose they are, which count; EVSPs hear of them in their order (1512)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from clearinghouse.notice_forwarder import wait_before
from gem.roaming.v1.authorization_pb2 import AuthorizationDecision
from gem.roaming.v1.session_notice_pb2 import SessionNotice, SessionNoticeKind
from tests.clearinghouse.house import (
    EVSE,
    EVSP,
    OPERATOR,
    PATIENCE_S,
    House,
    contract,
    new_request_id,
    refused,
    shows,
)
from tests.clearinghouse.market_stand import hangs

pytestmark = pytest.mark.usecase(1512)


def notice(
    decision: AuthorizationDecision, sequence: int = 1, kind: str = "UPDATE", **fields: Any
) -> SessionNotice:
    """Give a notice of the session that an authorization allows."""
    values: dict[str, Any] = {
        "operator_session_id": "s-1",
        "authorization_reference": decision.authorization_reference,
        "kind": SessionNoticeKind.Value(f"SESSION_NOTICE_KIND_{kind}"),
        "sequence_number": sequence,
        "notice_time": Timestamp(seconds=1_800_000_000 + sequence),
        "evse_id": EVSE,
        "start_time": Timestamp(seconds=1_800_000_000),
        "energy_milli_wh": sequence * 1000,
    }
    return SessionNotice(**{**values, **fields})


async def authorized(house: House) -> AuthorizationDecision:
    """Give a decision by which a session may be."""
    await house.agree()
    await house.hold(contract())
    return await house.authorize(shows())


async def tell(house: House, told: SessionNotice, who: str = OPERATOR, **fields: Any) -> str:
    answer = await house.ask(who, "NotifySession", notice=told, **fields)
    return str(answer.session_id)


async def heard(house: House, count: int) -> list[int]:
    """Wait until the EVSP heard of so many notices; give their sequence numbers."""
    async with asyncio.timeout(PATIENCE_S):
        while len(house.stand.notices) < count:  # noqa: ASYNC110  # another task forwards
            await asyncio.sleep(0.02)
    return [told.sequence_number for _, told in house.stand.notices]


async def test_a_notice_without_the_callers_authorization_is_refused(house: House) -> None:
    decision = await authorized(house)
    denied = await house.authorize(shows("FFFFFFFF"))
    for who, told in (
        ("other-operator", notice(decision)),
        (EVSP, notice(decision)),
        (OPERATOR, notice(decision, authorization_reference="nobody's")),
        (OPERATOR, notice(denied)),
        (OPERATOR, notice(decision, session_id="another")),
    ):
        assert await refused(tell(house, told, who)) == "NOT_FOUND"
    for told in (
        notice(decision, evse_id="DE*ABC*E2"),
        notice(decision, evse_id="no EVSE"),
        notice(decision, sequence=0),
    ):
        assert await refused(tell(house, told)) == "REQUEST_INVALID"
    assert await house.pool.fetchval("SELECT count(*) FROM clearinghouse.session") == 0


async def test_the_reference_reappears_in_the_session_and_its_evsp_hears_in_order(
    house: House,
) -> None:
    house.stand.holders[EVSP] = hangs
    decision = await authorized(house)
    for sequence, kind in ((1, "START"), (2, "UPDATE"), (3, "END")):
        told = notice(decision, sequence, kind)
        assert await tell(house, told) == decision.session_id
    assert await heard(house, 3) == [1, 2, 3]
    evsp_id, first = house.stand.notices[0]
    assert (evsp_id, first.session_id) == (EVSP, decision.session_id)
    assert first.authorization_reference == decision.authorization_reference


async def test_what_comes_late_twice_or_after_the_end_changes_nothing(house: House) -> None:
    house.stand.holders[EVSP] = hangs
    decision = await authorized(house)
    request_id = new_request_id()
    for sequence, kind in ((2, "UPDATE"), (1, "START"), (2, "UPDATE"), (4, "END"), (5, "UPDATE")):
        assert await tell(house, notice(decision, sequence, kind)) == decision.session_id
    again = notice(decision, 9)
    for _ in range(2):
        await tell(house, again, request_id=request_id)
    assert await heard(house, 2) == [2, 4]
    other = tell(house, notice(decision, 10), request_id=request_id)
    assert await refused(other) == "REQUEST_ID_REUSED"
    session = notice(decision, 6, operator_session_id="s-2")
    assert await refused(tell(house, session)) == "REQUEST_INVALID", "one session"


@pytest.mark.fault
async def test_an_evsp_that_was_away_hears_of_everything_in_order(house: House) -> None:
    decision = await authorized(house)
    for sequence in (1, 2):
        await tell(house, notice(decision, sequence))
    text = "SELECT max(attempt_count) FROM clearinghouse.session_notice"
    async with asyncio.timeout(PATIENCE_S):
        while not await house.pool.fetchval(text):  # noqa: ASYNC110  # another task tries
            await asyncio.sleep(0.02)
    house.stand.holders[EVSP] = hangs
    await house.pool.execute("UPDATE clearinghouse.session_notice SET due_at = now()")
    assert await heard(house, 2) == [1, 2]


async def test_a_notice_is_given_up_when_it_is_old(house: House) -> None:
    decision = await authorized(house)
    await tell(house, notice(decision))
    text = "UPDATE clearinghouse.session_notice SET recorded_at = now() - interval '9 days'"
    await house.pool.execute(text + ", due_at = now()")
    text = "SELECT due_at = 'infinity' AND delivered_at IS NULL FROM clearinghouse.session_notice"
    async with asyncio.timeout(PATIENCE_S):
        while not await house.pool.fetchval(text):  # another task tries
            await house.pool.execute(
                "UPDATE clearinghouse.session_notice SET due_at = now() WHERE due_at < 'infinity'"
            )
            await asyncio.sleep(0.05)


def test_waits_grow_and_have_an_end() -> None:
    waits = [wait_before(attempt).total_seconds() for attempt in range(40)]
    assert waits[:3] == [1, 2, 4]
    assert waits == sorted(waits)
    assert waits[-1] == 600
