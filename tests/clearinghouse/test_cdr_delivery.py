"""Records on their way to EVSPs: at least once, in order per session, nothing given up for lost."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from clearinghouse.cdr_delivery import DeliveryLimits, wait_after
from clearinghouse.dead_letters import give_back, release_letter
from clearinghouse.storage_delivery import DeadLetter, claim, dead_letters
from foundation.errors import MarketError
from tests.clearinghouse.clearing import EVSP, LIMITS, Clearing, accounts, numbered
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, Mode

pytestmark = pytest.mark.usecase(1511)


async def accepted(clearing: Clearing, count: int, first: int = 0, evsp: str = EVSP) -> list[str]:
    """Bring records so far that they wait for their EVSP; gives their ids."""
    records = [numbered(first + number) for number in range(count)]
    await clearing.authorize(*records, evsp_id=evsp)
    await clearing.submit(*records)
    await clearing.check()
    return [record.cdr_id for record in records]


def test_waits_double_are_spread_and_end() -> None:
    limits = DeliveryLimits()
    longest = [wait_after(failures, limits, 1.0).total_seconds() for failures in (1, 2, 3, 9, 99)]
    assert longest == [1, 2, 4, 256, 300]
    assert wait_after(3, limits, 0.0) == timedelta(seconds=2)


@pytest.mark.fault
async def test_a_receiver_that_is_down_for_a_day_loses_nothing(
    clearing: Clearing, holder: ContractHolder
) -> None:
    holder.mode = Mode.DOWN
    ids = await accepted(clearing, 30)
    for _ in range(15):
        await clearing.deliver(rounds=2)
    assert holder.calls >= 10 * LIMITS.strikes_max
    assert await _letters(clearing) == []
    assert await clearing.bookings() == {}
    holder.mode = Mode.APPROVE
    await clearing.deliver()
    assert sorted(name[1] for name in holder.kept) == sorted(ids)
    assert await accounts(clearing.pool, ids) == {"APPROVED": 30}


@pytest.mark.fault
async def test_a_receiver_that_acknowledges_then_dies_is_billed_once(
    clearing: Clearing, holder: ContractHolder
) -> None:
    holder.mode = Mode.ACKNOWLEDGE_THEN_DIE
    ids = await accepted(clearing, 12)
    await clearing.delivery.deliver_batch()
    assert len(holder.kept) == 12
    assert await clearing.bookings() == {}
    holder.mode = Mode.APPROVE
    await clearing.deliver()
    assert holder.taken > len(holder.kept) == 12
    assert await accounts(clearing.pool, ids) == {"APPROVED": 12}


@pytest.mark.fault
async def test_a_slow_receiver_holds_up_nobody_else(
    clearing: Clearing, holder: ContractHolder, holders_market: HolderMarket
) -> None:
    holder.mode = Mode.SLOW
    quick = holders_market.holders["quick"] = ContractHolder()
    await accepted(clearing, 3)
    ids = await accepted(clearing, 3, first=10, evsp="quick")
    both = [asyncio.create_task(clearing.delivery.deliver_batch()) for _ in range(2)]
    _, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    assert len(waiting) == 1
    assert sorted(name[1] for name in quick.kept) == sorted(ids)
    waiting.pop().cancel()
    await asyncio.wait(both)


async def test_a_record_that_is_refused_becomes_a_dead_letter_and_the_others_pass(
    clearing: Clearing, holder: ContractHolder
) -> None:
    holder.mode, holder.dislikes = Mode.REFUSE, lambda record: record.record.cdr_id == "CDR-3"
    await accepted(clearing, 6)
    await clearing.deliver()
    states = await clearing.states()
    assert [name for name, state in states.items() if state != "APPROVED"] == ["cdr-3"]
    (letter,) = await _letters(clearing)
    assert (letter.cdr_key, letter.failure) == ("cdr-3", "INVALID_ARGUMENT")
    assert letter.attempt_count <= LIMITS.strikes_max + 1
    holder.mode = Mode.APPROVE
    assert await clearing.deliver() == 0
    assert await release_letter(clearing.pool, letter.delivery_ref)
    await clearing.deliver()
    assert (await clearing.states())["cdr-3"] == "APPROVED"
    assert not await release_letter(clearing.pool, letter.delivery_ref)


async def test_an_answer_about_another_record_is_none(
    clearing: Clearing, holder: ContractHolder
) -> None:
    holder.mode = Mode.NONSENSE
    await accepted(clearing, 2)
    await clearing.deliver()
    assert set((await clearing.states()).values()) == {"ACCEPTED"}
    assert {letter.failure for letter in await _letters(clearing)} == {"ANSWER_INVALID"}


async def test_a_dead_letter_is_given_back_to_its_operator_who_may_send_it_again(
    clearing: Clearing, holder: ContractHolder
) -> None:
    holder.mode = Mode.REFUSE
    await accepted(clearing, 1)
    await clearing.deliver()
    (letter,) = await _letters(clearing)
    assert await give_back(clearing.pool, letter.delivery_ref)
    assert await clearing.states() == {"cdr-0": "RETURNED"}
    assert await clearing.reasons() == {"cdr-0": {29}}
    assert not await give_back(clearing.pool, letter.delivery_ref)
    assert await clearing.deliver() == 0


async def test_a_credit_is_not_given_back(clearing: Clearing, holder: ContractHolder) -> None:
    await accepted(clearing, 1)
    await clearing.deliver()
    await clearing.credit("CDR-0", "CREDIT-0")
    holder.mode = Mode.REFUSE
    await clearing.deliver()
    (letter,) = await _letters(clearing)
    with pytest.raises(MarketError):
        await give_back(clearing.pool, letter.delivery_ref)
    assert (await clearing.states())["credit-0"] == "ACCEPTED"
    holder.mode = Mode.APPROVE
    assert await release_letter(clearing.pool, letter.delivery_ref)
    await clearing.deliver()
    assert await clearing.bookings() == {"cdr-0": 7_200_000, "credit-0": -7_200_000}


async def test_records_of_a_session_are_delivered_in_their_order(
    clearing: Clearing, holder: ContractHolder
) -> None:
    """A credit that is stuck holds up the fresh record of its session, and no other session."""
    await accepted(clearing, 1)
    await clearing.deliver()
    await clearing.credit("CDR-0", "CREDIT-0")
    holder.mode, holder.dislikes = Mode.REFUSE, lambda record: bool(record.record.credited_cdr_id)
    fresh, other = numbered(0), numbered(1)
    fresh.cdr_id = "FRESH"
    await clearing.authorize(other)
    await clearing.submit(fresh, other)
    await clearing.clear()
    states = await clearing.states()
    assert (states["fresh"], states["cdr-1"]) == ("ACCEPTED", "APPROVED")
    holder.mode = Mode.APPROVE
    for letter in await _letters(clearing):
        await release_letter(clearing.pool, letter.delivery_ref)
    await clearing.deliver()
    assert holder.order == ["CDR-0", "CDR-1", "CREDIT-0", "FRESH"]
    assert await accounts(clearing.pool, states) == {"APPROVED": 3, "CREDITED": 1}


async def test_what_one_process_claimed_no_other_does_until_the_claim_ends(
    clearing: Clearing,
) -> None:
    await accepted(clearing, 5)
    lease = timedelta(minutes=1)
    found = await claim(clearing.pool, 3, lease)
    other = await claim(clearing.pool, 3, lease)
    assert found is not None
    assert other is not None
    assert [len(each.deliveries) for each in (found, other)] == [3, 2]
    assert await claim(clearing.pool, 3, lease) is None
    await clearing.pool.execute("UPDATE clearinghouse.delivery SET next_at = now()")
    again = await claim(clearing.pool, 9, lease)
    assert again is not None
    assert len(again.deliveries) == 5


async def test_large_records_are_sent_in_messages_that_fit(
    clearing: Clearing, holder: ContractHolder
) -> None:
    records = [numbered(number) for number in range(6)]
    for record in records:
        for _ in range(64):
            record.signed_meter_data.readings.add(signed_data="x" * 3000)
    await clearing.authorize(*records)
    await clearing.submit(*records)
    await clearing.clear()
    assert holder.calls == 3
    assert set((await clearing.states()).values()) == {"APPROVED"}


async def _letters(clearing: Clearing) -> list[DeadLetter]:
    async with clearing.pool.acquire() as connection:
        return await dead_letters(connection, 0, 100)
