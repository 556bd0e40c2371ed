"""One EVSE as a row of `mobility.evse`, and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from gem.charging.v1 import evse_pb2
from mobility.tariff_price import compared_price

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def evse_key(evse_id: str) -> str:
    """Give an EVSE id as the database compares it: in capitals, without separators."""
    return re.sub(r"[^A-Z0-9]", "", evse_id.upper())


@dataclass(frozen=True, slots=True)
class EvseRow:
    """The columns of one EVSE except its operator, in the order of `COLUMNS`."""

    evse_key: str
    latitude_e7: int
    longitude_e7: int
    status: int
    status_time: datetime | None
    kind_mask: int
    plug_mask: int
    phases_mask: int
    max_power_w: int
    connector_kinds: list[int]
    connector_plugs: list[int]
    connector_powers_w: list[int]
    connector_phases: list[int]
    access: int
    memberships: list[str]
    green: bool
    energy_mask: int
    currency_code: str | None
    reference_price_micros: int | None
    energy_price_micros: int | None
    always_open: bool
    reservable: bool
    message: bytes

    def record(self, operator_ref: int) -> tuple[Any, ...]:
        """Give the row of that operator for COPY."""
        return (operator_ref, *(getattr(self, column) for column in COLUMNS[1:]))


#: Columns of `EvseRow.record`.
COLUMNS = ("operator_ref", *(column.name for column in fields(EvseRow)))


def row_of(evse: evse_pb2.Evse) -> EvseRow:
    """Derive what a search compares from an EVSE that keeps the rules of the interface.

    `max_power_w` and `reference_price` are set here, whatever the message says.
    """
    stored = evse_pb2.Evse()
    stored.CopyFrom(evse)
    for volatile in ("distance_m", "status", "status_time", "provider_id", "contract_id"):
        stored.ClearField(volatile)
    connectors = evse.connectors
    stored.max_power_w = max((connector.power_w for connector in connectors), default=0)
    price = compared_price(evse.tariffs)
    stored.ClearField("reference_price")
    if price is not None:
        stored.reference_price.amount_micros = price.reference_price_micros
        stored.reference_price.currency_code = price.currency_code
    has_time = evse.HasField("status_time")
    return EvseRow(
        evse_key=evse_key(evse.evse_id),
        latitude_e7=evse.location.latitude_e7,
        longitude_e7=evse.location.longitude_e7,
        status=evse.status,
        status_time=evse.status_time.ToDatetime(UTC) if has_time else None,
        kind_mask=mask(connector.kind for connector in connectors),
        plug_mask=mask(connector.plug for connector in connectors),
        phases_mask=mask(connector.phases for connector in connectors),
        max_power_w=stored.max_power_w,
        connector_kinds=[connector.kind for connector in connectors],
        connector_plugs=[connector.plug for connector in connectors],
        connector_powers_w=[connector.power_w for connector in connectors],
        connector_phases=[connector.phases for connector in connectors],
        access=evse.access,
        memberships=[name.casefold() for name in evse.memberships],
        green=evse.energy_mix.green,
        energy_mask=_energy_mask(evse.energy_mix),
        currency_code=price.currency_code if price else None,
        reference_price_micros=price.reference_price_micros if price else None,
        energy_price_micros=price.energy_price_micros if price else None,
        always_open=evse.opening.always_open,
        reservable=evse.reservable,
        message=stored.SerializeToString(deterministic=True),
    )


def fill(
    evse: evse_pb2.Evse,
    message: bytes,
    status: int,
    status_time: datetime | None,
    distance_m: int,
) -> None:
    """Render an EVSE of a row into an empty message."""
    evse.ParseFromString(message)
    evse.status = status  # type: ignore[assignment]  # an enum's number
    evse.distance_m = distance_m
    if status_time is not None:
        microseconds = (status_time - _EPOCH) // _MICROSECOND
        evse.status_time.seconds = microseconds // 1_000_000
        evse.status_time.nanos = microseconds % 1_000_000 * 1000


def locality(latitude_e7: int, longitude_e7: int) -> int:
    """Give a number that is close for close places (Morton order, cells of about 60 m).

    Rows written in this order share pages with their neighbours, so that a search reads few pages.
    """
    return _spread((latitude_e7 + 900_000_000) >> 13) << 1 | _spread(
        (longitude_e7 + 1_800_000_000) >> 13
    )


def _spread(number: int) -> int:
    """Put a zero bit before each of the lowest 19 bits."""
    number &= 0x7FFFF
    for shift, bits in ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F)):
        number = (number | number << shift) & bits
    number = (number | number << 2) & 0x3333333333333333
    return (number | number << 1) & 0x5555555555555555


def mask(values: Iterable[int]) -> int:
    """Give the bits of known enum values; zero, which means not known, has none."""
    bits = 0
    for value in values:
        bits |= 1 << value
    return bits & ~1


def _energy_mask(mix: evse_pb2.EnergyMix) -> int:
    """Give the bits of the sources in a mix; green energy without shares is of any green source."""
    named = mask(share.source for share in mix.shares)
    return named or (1 << evse_pb2.ENERGY_SOURCE_GENERAL_GREEN if mix.green else 0)
