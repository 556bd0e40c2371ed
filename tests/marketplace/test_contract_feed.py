"""A clearing house's feed of contracts: who sees what, in the order of commits, without a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1.contract_watch_pb2 import (
    WatchContractEventsRequest,
    WatchContractEventsResponse,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole, PartnerRole
from interceptors.call import Caller
from marketplace.contract_servicer import ContractServicer
from marketplace.storage_command import Commands
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, INTERFACE, ControlPlane
from tests.interceptors.support import make_call

pytestmark = pytest.mark.usecase(1497, 1500, 1513)

_ROLE = frozenset({int(AccessRole.ACCESS_ROLE_PARTNER)})
_HOUSE = int(PartnerRole.PARTNER_ROLE_CLEARING_HOUSE)
_ROLES_OF_VOLT = {"partner_id": "volt", "roles": [EVSE_OPERATOR, EVSP]}
_SLOWLY = text(
    "INSERT INTO marketplace.contract_event (contract_id, kind, state, actor, occurred_at)"
    " VALUES (:contract_id, 'REMINDED', 'ACTIVE', '', now())"
)


class Market:
    """Two partners with a contract, and clearing houses that they may contract."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.clearing: dict[str, Any] = {}
        self.service: Any = None

    async def open(self, *houses: str) -> None:
        """Bring in the parties and their services."""
        (self.service,) = await self.plane.market("volt")
        for house in houses:
            await self.plane.partner(house, _HOUSE, EVSE_OPERATOR)
            self.clearing[house] = await self.plane.service(house)
        await self.plane.partner("third", EVSP)

    async def join(self, requester: str, house: str = "house") -> str:
        """Let a partner contract a clearing house; gives the contract's id."""
        made = await self.plane.contract(requester, self.clearing[house])
        return str(made.contract_id)

    async def step(self, what: str, requester: str, contract_id: str) -> None:
        await self.plane.ask(requester, f"ContractService/{what}Contract", contract_id=contract_id)


@asynccontextmanager
async def watching(plane: ControlPlane, who: str, after: int = 0) -> AsyncIterator[Any]:
    """Follow a feed; gives a function that waits for so many events more."""
    servicer = ContractServicer(Commands(plane.engine), notices=plane.notices)
    stream: Any = servicer.WatchContractEvents(
        WatchContractEventsRequest(after_sequence=after),
        make_call(b"", caller=Caller(who, _ROLE, who.encode())),
    )

    async def read(count: int) -> list[WatchContractEventsResponse]:
        async with asyncio.timeout(10):
            return [await anext(stream) for _ in range(count)]

    try:
        yield read
    finally:
        await stream.aclose()


def told(event: WatchContractEventsResponse) -> tuple[str, str, str]:
    """Give what happened, the state since then, and between whom."""
    kind = "SEEN"
    if event.HasField("event"):
        kind = contract_pb2.ContractEventKind.Name(event.event.kind)[20:]
    state = contract_pb2.ContractState.Name(event.state)[15:]
    return kind, state, f"{event.requester_id}>{event.provider_id}"


async def test_nobody_but_a_clearing_house_follows_contracts(plane: ControlPlane) -> None:
    await Market(plane).open("house")
    for who in ("volt", "evsp", "third"):
        async with watching(plane, who) as read:
            with pytest.raises(MarketError) as caught:
                await read(1)
            assert caught.value.reason == ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED


async def test_a_contract_shows_while_both_its_parties_have_one_with_the_clearing_house(
    plane: ControlPlane,
) -> None:
    market = Market(plane)
    await market.open("house", "other-house")
    async with watching(plane, "house") as read, watching(plane, "other-house") as other:
        made = await plane.contract("evsp", market.service)
        first = await market.join("evsp")
        assert list(map(told, await read(1))) == [("CREATED", "ACTIVE", "evsp>house")]
        # Volt calls nobody: who is called is no member by that.
        await plane.ask(BUSINESS, "PartnerService/SetPartnerRoles", **_ROLES_OF_VOLT)
        second = await market.join("volt")
        found = await read(2)
        assert list(map(told, found)) == [
            ("CREATED", "ACTIVE", "volt>house"),
            ("SEEN", "ACTIVE", "evsp>volt"),
        ]
        assert found[1].interface_names == [INTERFACE]
        assert (found[1].contract_id, found[1].currency_code) == (made.contract_id, "EUR")
        await market.step("Suspend", "evsp", made.contract_id)
        await market.step("Suspend", "volt", second)
        await market.step("Terminate", "evsp", made.contract_id)
        await market.step("Resume", "volt", second)
        await market.step("Terminate", "evsp", first)
        events = await read(5)
        assert list(map(told, events)) == [
            ("SUSPENDED", "SUSPENDED", "evsp>volt"),
            ("SUSPENDED", "SUSPENDED", "volt>house"),
            ("RESUMED", "ACTIVE", "volt>house"),
            ("SEEN", "TERMINATED", "evsp>volt"),
            ("TERMINATED", "TERMINATED", "evsp>house"),
        ]
        assert [event.sequence for event in events] == list(range(4, 9))
        await market.join("evsp", "other-house")
        (only,) = await other(1)
        assert told(only) == ("CREATED", "ACTIVE", "evsp>other-house")
        assert only.sequence == 1


async def test_a_feed_resumes_behind_what_was_seen(plane: ControlPlane) -> None:
    market = Market(plane)
    await market.open("house")
    contract_id = await market.join("evsp")
    for what in ("Suspend", "Resume", "Suspend"):
        await market.step(what, "evsp", contract_id)
    async with watching(plane, "house", after=2) as read:
        assert [event.sequence for event in await read(2)] == [3, 4]


@pytest.mark.fault
async def test_events_have_the_order_of_their_commits_without_a_gap(plane: ControlPlane) -> None:
    """Transactions begin, write and end in any order, and some are taken back."""
    market = Market(plane)
    await market.open("house")
    contract_id = await market.join("evsp")
    chance = random.Random(7)

    async def write(keep: bool) -> None:
        async with plane.engine.connect() as connection:
            await connection.execute(_SLOWLY, {"contract_id": contract_id})
            await asyncio.sleep(chance.uniform(0, 0.05))
            await (connection.commit() if keep else connection.rollback())

    async with watching(plane, "house") as read:
        chosen = [number % 4 > 0 for number in range(24)]
        reading = asyncio.create_task(read(1 + sum(chosen)))
        for start in range(0, len(chosen), 4):
            await asyncio.gather(*(write(keep) for keep in chosen[start : start + 4]))
        events = await reading
    assert [event.sequence for event in events] == list(range(1, 2 + sum(chosen)))


@pytest.mark.fault
async def test_of_two_that_together_show_a_contract_the_later_commit_shows_it(
    plane: ControlPlane,
) -> None:
    """Neither transaction sees the other's contract; the clearing house must see both."""
    market = Market(plane)
    await market.open("house")
    await plane.ask(BUSINESS, "PartnerService/SetPartnerRoles", **_ROLES_OF_VOLT)
    await market.join("evsp")
    async with watching(plane, "house", after=1) as read:
        await asyncio.gather(plane.contract("evsp", market.service), market.join("volt"))
        found = {told(event)[2] for event in await read(2)}
        assert found == {"volt>house", "evsp>volt"}


async def test_a_stream_ends_when_its_worker_does(plane: ControlPlane) -> None:
    await Market(plane).open("house")
    async with watching(plane, "house") as read:
        waiting = asyncio.create_task(read(1))
        await asyncio.sleep(0.1)
        plane.notices.enter_drain()
        with pytest.raises(MarketError) as caught:
            await waiting
        assert caught.value.reason == ErrorReason.ERROR_REASON_DRAINING
