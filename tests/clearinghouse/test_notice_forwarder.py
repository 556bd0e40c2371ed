"""Session notices on their way: several forwarders at once, and one that died (use case 1512)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from clearinghouse.notice_forwarder import NoticeForwarder
from clearinghouse.storage_session import SessionStorage
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from tests.clearinghouse.house import EVSP, PATIENCE_S, House, contract, shows
from tests.clearinghouse.market_stand import hangs
from tests.clearinghouse.test_sessions import heard, notice, tell

pytestmark = pytest.mark.usecase(1512)


async def told(house: House, sessions: int, notices: int) -> None:
    """Let an operator tell of some sessions of a customer; the EVSP can be reached."""
    await house.agree()
    await house.hold(contract())
    house.stand.holders[EVSP] = hangs
    for number in range(sessions):
        decision = await house.authorize(shows())
        for sequence in range(1, notices + 1):
            made = notice(decision, sequence, operator_session_id=f"s-{number}")
            await tell(house, made)


@contextmanager
def more_forwarders(house: House, count: int) -> Iterator[None]:
    """Forward by more than the clearing house's own, as further processes do."""
    parts = house.provider.parts
    forwarders = [NoticeForwarder(parts.pool, parts.market, timedelta(1)) for _ in range(count)]
    tasks = [asyncio.create_task(forwarder.run()) for forwarder in forwarders]
    yield
    for task in tasks:
        task.cancel()


def by_session(found: list[tuple[str, SessionNotice]]) -> dict[str, list[int]]:
    """Give the numbers of what an EVSP heard, by session."""
    heard_of = defaultdict(list)
    for _, each in found:
        heard_of[each.operator_session_id].append(each.sequence_number)
    return heard_of


async def test_each_session_is_heard_of_once_and_in_order_whoever_forwards(house: House) -> None:
    with more_forwarders(house, 3):
        await told(house, sessions=20, notices=3)
        await heard(house, 60)
        await asyncio.sleep(0.1)
    expected = {f"s-{number}": [1, 2, 3] for number in range(20)}
    assert by_session(house.stand.notices) == expected
    text = "SELECT count(*) FROM clearinghouse.session_notice WHERE delivered_at IS NOT NULL"
    assert await house.pool.fetchval(text + " AND attempt_count = 1") == 60


@pytest.mark.fault
async def test_what_a_process_that_died_had_claimed_is_heard_of_later(house: House) -> None:
    await house.agree()
    await house.hold(contract())
    decision = await house.authorize(shows())
    storage = SessionStorage(house.pool)
    async with asyncio.timeout(PATIENCE_S):
        await tell(house, notice(decision))
        text = "SELECT max(attempt_count) FROM clearinghouse.session_notice"
        while not await house.pool.fetchval(text):  # noqa: ASYNC110  # the house tries in vain
            await asyncio.sleep(0.02)
        due = "UPDATE clearinghouse.session_notice SET due_at = now()"
        while not await storage.claim(10, timedelta(seconds=1)):
            await house.pool.execute(due)
    house.stand.holders[EVSP] = hangs
    await tell(house, notice(decision, 2))
    assert await storage.claim(10, timedelta(hours=1)) == [], "not before the one that is claimed"
    assert house.stand.notices == []
    assert await heard(house, 2) == [1, 2]
