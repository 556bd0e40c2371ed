"""Nothing of the marketplace's contracts is missed or comes twice, whoever is killed when."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clearinghouse.contract_follower import ContractFollower
from gem.marketplace.v1 import contract_pb2
from gem.roaming.v1 import clearing_contract_pb2 as wire
from tests.clearinghouse.house import (
    EVSP,
    HOUSE,
    OPERATOR,
    OTHER_EVSP,
    PATIENCE_S,
    House,
    contract,
    house_settings,
    running_house,
    shows,
)
from tests.clearinghouse.market_stand import CLEARING, MarketStand
from tests.conftest import MigratedDatabase
from tests.identities import Identity, MakeIdentity

pytestmark = pytest.mark.usecase(1497, 1500, 1513)

ALLOWED = ("ALLOWED", "CLEARING_HOUSE_LIST")
UNKNOWN = ("UNKNOWN", "CLEARING_HOUSE_LIST")
ACTIVE = contract_pb2.CONTRACT_STATE_ACTIVE
SUSPENDED = contract_pb2.CONTRACT_STATE_SUSPENDED
TERMINATED = contract_pb2.CONTRACT_STATE_TERMINATED


async def versions(house: House) -> list[tuple[str, int, bool, bool]]:
    """Give every version of every agreement: contract, number, in force, by the marketplace."""
    rows = await house.pool.fetch(
        "SELECT market_contract_id, version_number, active, market_active"
        " FROM clearinghouse.agreement ORDER BY market_contract_id, version_number"
    )
    return [tuple(row) for row in rows]


def members(stand: MarketStand, *partner_ids: str) -> None:
    """Let partners contract the clearing house."""
    for partner_id in partner_ids:
        stand.tell(f"m-{partner_id}", partner_id, HOUSE, interface_names=[CLEARING])


async def test_contracts_of_other_interfaces_and_with_the_clearing_house_are_no_agreements(
    house: House,
) -> None:
    members(house.stand, OPERATOR, EVSP)
    house.stand.tell("c-1", OPERATOR, EVSP, interface_names=["gem.charging.v1.EvseSearchService"])
    house.stand.tell("c-2", HOUSE, EVSP)
    await house.follow()
    assert await versions(house) == []


async def test_an_agreement_needs_both_parties_in_the_clearing_house(house: House) -> None:
    house.stand.tell("c-1", OPERATOR, EVSP)
    members(house.stand, OPERATOR)
    await house.follow()
    assert await versions(house) == []
    members(house.stand, EVSP)
    await house.follow()
    await house.hold(contract())
    assert await house.decided(shows()) == ALLOWED
    house.stand.tell(f"m-{EVSP}", EVSP, HOUSE, interface_names=[CLEARING], state=SUSPENDED)
    await house.follow()
    assert await house.decided(shows()) == UNKNOWN
    members(house.stand, EVSP)
    await house.follow()
    assert await house.decided(shows()) == ALLOWED
    history = [("c-1", 1, True, True), ("c-1", 2, True, False), ("c-1", 3, True, True)]
    assert await versions(house) == history


async def test_a_new_contract_of_the_same_two_is_a_new_agreement(house: House) -> None:
    members(house.stand, OPERATOR, EVSP)
    house.stand.tell("c-1", OPERATOR, EVSP)
    house.stand.tell("c-1", OPERATOR, EVSP, state=TERMINATED)
    house.stand.tell("c-2", OPERATOR, EVSP, currency_code="SEK")
    await house.follow()
    assert await versions(house) == [
        ("c-1", 1, True, True),
        ("c-1", 2, False, False),
        ("c-2", 1, True, True),
    ]
    old, new = (await house.ask(EVSP, "ListRoamingAgreements")).agreements
    assert (old.state, new.currency_code) == (wire.CLEARING_CONTRACT_STATE_DISABLED, "SEK")


async def test_an_event_out_of_its_turn_is_not_taken(house: House) -> None:
    follower = ContractFollower(house.provider.parts)
    members(house.stand, OPERATOR, EVSP)
    house.stand.tell("c-1", OPERATOR, EVSP)
    await house.follow()
    first, _, third = house.stand.events
    assert not await follower.take(first)
    assert not await follower.take(third)
    later = type(third)()
    later.CopyFrom(third)
    later.sequence = 5
    assert not await follower.take(later), "one in between is missing"
    assert await house.cursor() == 3


@pytest.mark.fault
async def test_a_killed_follower_and_several_at_once_take_each_event_once(
    migrated_database: MigratedDatabase,
    tmp_path: Path,
    make_identity: MakeIdentity,
    stand: MarketStand,
    marketplace_identity: Identity,
) -> None:
    """Processes come and go while events come; the copy is what the events say."""
    url = await migrated_database("clearinghouse")
    values = {"database_url": url, "market_address": f"localhost:{stand.port}"}
    made = house_settings(tmp_path, make_identity(HOUSE), **values)
    members(stand, OPERATOR, EVSP, OTHER_EVSP)
    states = (ACTIVE, SUSPENDED, ACTIVE, TERMINATED)

    async def tell() -> None:
        for number in range(60):
            evsp_id = (EVSP, OTHER_EVSP)[number // 4 % 2]
            stand.tell(f"c-{number // 4:02d}", OPERATOR, evsp_id, state=states[number % 4])
            await asyncio.sleep(0.01)

    telling = asyncio.create_task(tell())
    for _ in range(3):
        async with (
            running_house(made, stand, marketplace_identity) as one,
            running_house(made, stand, marketplace_identity) as other,
        ):
            await asyncio.sleep(0.15)
            for house in (one, other):
                # Cancelled wherever it is, as by a kill.
                house.provider._tasks[0].cancel()
    await telling
    async with running_house(made, stand, marketplace_identity) as house:
        await house.follow()
        kept = await house.pool.fetch(
            "SELECT event_id, contract_id FROM clearinghouse.market_event ORDER BY event_id"
        )
        expected = [(event.sequence, event.contract_id) for event in stand.events]
        assert [tuple(row) for row in kept] == expected
        assert await versions(house) == [
            (f"c-{number:02d}", version, version < 4, version in {1, 3})
            for number in range(15)
            for version in (1, 2, 3, 4)
        ]


@pytest.mark.fault
async def test_a_marketplace_that_was_away_is_followed_again(
    house: House, marketplace_identity: Identity
) -> None:
    members(house.stand, OPERATOR, EVSP)
    await house.follow()
    await house.stand.stop()
    house.stand.tell("c-1", OPERATOR, EVSP)
    await asyncio.sleep(0.3)
    await house.stand.start(marketplace_identity)
    async with asyncio.timeout(PATIENCE_S):
        await house.follow()
    assert await versions(house) == [("c-1", 1, True, True)]
