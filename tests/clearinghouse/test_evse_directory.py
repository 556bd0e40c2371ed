"""Records are held against where and what operators have published their EVSEs to be (1511)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from clearinghouse import evse_directory
from clearinghouse.evse_directory import SEARCH_INTERFACE, EvseDirectory
from gem.charging.v1.evse_pb2 import Evse
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1 import cdr_clearing_pb2 as cdrs
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import AUTHORIZATION_COLUMNS, authorization_row, numbered
from tests.clearinghouse.house import HOUSE, OPERATOR, PATIENCE_S, House
from tests.clearinghouse_records import START

pytestmark = pytest.mark.usecase(1511)
EVSE = "DE*ABC*E1"
HERE = GeoPoint(latitude_e7=520_001_000, longitude_e7=130_001_000)
FAR = GeoPoint(latitude_e7=521_000_000, longitude_e7=130_000_000)


async def findings(house: House, number: int) -> set[str]:
    """Hand in a record of another day at the EVSE; give why it is returned."""
    record: ChargeDetailRecord = numbered(number, START + timedelta(days=number))
    record.location.evse_id = EVSE
    row = authorization_row(record, operator_id=OPERATOR)
    await house.pool.copy_records_to_table(
        "authorization", schema_name="clearinghouse", columns=AUTHORIZATION_COLUMNS, records=[row]
    )
    await house.ask(OPERATOR, "SubmitChargeDetailRecord", record=record)
    key = cdrs.CdrKey(operator_id="DE*ABC", cdr_id=record.cdr_id)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await house.ask(OPERATOR, "GetChargeDetailRecord", key=key)).record
            if found.state != cdrs.CDR_STATE_RECEIVED:
                break
            await asyncio.sleep(0.01)
    names = {cdrs.PlausibilityReason.Name(each.reason) for each in found.findings}
    return {name.removeprefix("PLAUSIBILITY_REASON_") for name in names}


async def told(house: House) -> None:
    """Wait until the operator was asked and what it said is stored."""
    query = "SELECT count(*) FROM clearinghouse.published_evse WHERE told_at IS NOT NULL"
    async with asyncio.timeout(PATIENCE_S):
        while not await house.pool.fetchval(query):  # noqa: ASYNC110  # another task asks
            await asyncio.sleep(0.02)


async def contracted(house: House) -> None:
    """Let the clearing house contract the operator's search for EVSEs."""
    house.stand.tell("c-evses", HOUSE, OPERATOR, interface_names=[SEARCH_INTERFACE])
    await house.follow()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for EVSEs often."""
    monkeypatch.setattr(evse_directory, "_LOOK_EVERY_S", 0.02)


async def test_a_record_far_from_the_published_place_is_returned(house: House) -> None:
    await contracted(house)
    house.stand.evses[EVSE] = Evse(evse_id=EVSE, location=FAR)
    assert await findings(house, 1) == set(), "no check waits for an operator"
    await told(house)
    assert await findings(house, 2) == {"LOCATION"}


async def test_a_record_of_more_than_the_published_power_is_returned(house: House) -> None:
    await contracted(house)
    house.stand.evses[EVSE] = Evse(evse_id=EVSE, location=HERE, max_power_w=3_700)
    assert await findings(house, 1) == set()
    await told(house)
    assert await findings(house, 2) == {"POWER"}
    house.stand.evses[EVSE].max_power_w = 22_000
    await house.pool.execute("UPDATE clearinghouse.published_evse SET ask_at = now()")
    await house.pool.execute("UPDATE clearinghouse.published_evse SET told_at = NULL")
    await told(house)
    assert await findings(house, 3) == set(), "what is published anew counts"


async def test_an_evse_that_its_operator_does_not_know_is_not_held_against_anything(
    house: House,
) -> None:
    await contracted(house)
    assert await findings(house, 1) == set()
    await told(house)
    assert await findings(house, 2) == set()
    assert house.stand.sought == [EVSE]


@pytest.mark.fault
async def test_without_a_contract_or_an_answer_nobody_is_held_up(house: House) -> None:
    assert await findings(house, 1) == set()
    directory = EvseDirectory(house.pool, house.provider.parts.market, HOUSE)
    assert await directory.ask_some() == 0
    assert house.stand.sought == []
    house.stand.tell("c-evses", HOUSE, OPERATOR, interface_names=[SEARCH_INTERFACE])
    await house.follow()
    await house.stand.stop()
    query = "SELECT ask_at > now() FROM clearinghouse.published_evse"
    async with asyncio.timeout(PATIENCE_S):
        while not await house.pool.fetchval(query):  # noqa: ASYNC110  # another task asks
            await asyncio.sleep(0.02)
    assert await findings(house, 2) == set()
