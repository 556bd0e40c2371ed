"""Operators and EVSEs are written once, over each other, and never into another's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gem.charging.v1 import evse_pb2
from mobility.evse_row import evse_key, locality, mask, row_of
from mobility.storage import EvseStorage

NOW = datetime(2025, 10, 9, 12, tzinfo=UTC)


def an_evse(number: int = 1, name: str = "") -> evse_pb2.Evse:
    evse = evse_pb2.Evse(
        evse_id=f"DE*ABC*E{number}", name=name, status=evse_pb2.EVSE_STATUS_AVAILABLE
    )
    evse.location.latitude_e7, evse.location.longitude_e7 = 500_000_000, 100_000_000
    evse.status_time.FromDatetime(NOW)
    return evse


async def _operator(storage: EvseStorage) -> int:
    await storage.register([("abc", "ABC", "abc", ["DE*ABC"])])
    operator = await storage.operator("abc", None)
    assert operator is not None
    return operator.operator_ref


async def test_an_older_status_never_replaces_a_newer_one(storage: EvseStorage) -> None:
    operator_ref = await _operator(storage)
    await storage.upsert([(operator_ref, row_of(an_evse()))])
    assert not await storage.set_status(operator_ref, "DEABCE1", 2, NOW - timedelta(seconds=1))
    assert not await storage.set_status(operator_ref, "DEABCE9", 2, NOW)
    assert await storage.set_status(operator_ref, "DEABCE1", 4, NOW + timedelta(seconds=1))
    row = await storage.get(operator_ref, "DEABCE1")
    assert row is not None
    assert (row["status"], row["status_time"]) == (4, NOW + timedelta(seconds=1))


async def test_a_second_write_of_an_evse_replaces_the_first(storage: EvseStorage) -> None:
    operator_ref = await _operator(storage)
    assert await storage.upsert([(operator_ref, row_of(an_evse(1, "old")))]) == 1
    rows = [row_of(an_evse(1, "new")), row_of(an_evse(2))]
    assert await storage.upsert([(operator_ref, row) for row in rows]) == 1
    row = await storage.get(operator_ref, "DEABCE1")
    assert row is not None
    assert evse_pb2.Evse.FromString(row["message"]).name == "new"


async def test_an_operator_gains_ids_and_keeps_its_name(storage: EvseStorage) -> None:
    await storage.register([("eon", "E.ON", "e-on", ["DE*AAA"])])
    await storage.register([("eon", "e-on", "other", ["NL*BBB", "DE*AAA"])])
    (operator,) = await storage.operators()
    assert (operator.operator_name, operator.partner_id) == ("E.ON", "e-on")
    assert operator.operator_ids == ("DE*AAA", "NL*BBB")
    assert await storage.operator(None, "e-on") == operator
    assert await storage.operator(None, None) is None


def test_a_row_keeps_nothing_in_the_message_that_changes_or_is_stamped() -> None:
    evse = an_evse()
    evse.provider_id, evse.contract_id, evse.distance_m = "forged", "forged", 7
    evse.reference_price.amount_micros = 1
    evse.max_power_w = 99
    stored = evse_pb2.Evse.FromString(row_of(evse).message)
    assert stored == evse_pb2.Evse(evse_id=evse.evse_id, location=evse.location)


def test_masks_have_a_bit_for_each_known_value_and_none_for_unknown_ones() -> None:
    assert mask([0, 2, 2, 6]) == 0b1000100
    assert mask([]) == 0


def test_ids_are_compared_without_separators_and_case() -> None:
    assert evse_key("de*abc*E12*3") == evse_key("DEABCE123") == "DEABCE123"


def test_neighbours_are_closer_in_locality_than_strangers() -> None:
    here, near = locality(500_000_000, 100_000_000), locality(500_010_000, 100_010_000)
    far = locality(-300_000_000, -1_000_000_000)
    assert abs(here - near) < abs(here - far) / 1_000_000


@pytest.mark.parametrize("corner", [(-900_000_000, -1_800_000_000), (900_000_000, 1_800_000_000)])
def test_locality_is_a_number_of_62_bits_everywhere(corner: tuple[int, int]) -> None:
    assert 0 <= locality(*corner) < 2**62
