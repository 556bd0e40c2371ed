"""EVSEs and connectors of an OCPI 2.3.0 location as EVSEs of the interface."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.json_reader import Node
from foundation.ocpi_connector import PLUGS, POWER_TYPES
from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.ocpi_hours import time_of

STATUSES = {
    "AVAILABLE": evse_pb2.EVSE_STATUS_AVAILABLE,
    "BLOCKED": evse_pb2.EVSE_STATUS_BLOCKED,
    "CHARGING": evse_pb2.EVSE_STATUS_OCCUPIED,
    "INOPERATIVE": evse_pb2.EVSE_STATUS_MAINTENANCE,
    "OUTOFORDER": evse_pb2.EVSE_STATUS_OUT_OF_ORDER,
    "PLANNED": evse_pb2.EVSE_STATUS_PLANNED,
    "RESERVED": evse_pb2.EVSE_STATUS_RESERVED,
    "UNKNOWN": evse_pb2.EVSE_STATUS_UNSPECIFIED,
}
_OPEN = {
    *("CREDIT_CARD_PAYABLE", "DEBIT_CARD_PAYABLE", "CONTACTLESS_CARD_SUPPORT"),
    *("CHIP_CARD_SUPPORT", "PED_TERMINAL"),
}
_MEMBER = {"RFID_READER", "REMOTE_START_STOP_CAPABLE", "CHARGING_PREFERENCES_CAPABLE"}
_MOST_CONNECTORS = 32
_MOST_TARIFFS = 10

#: A tariff's country, party and id, in capitals.
TariffKey = tuple[str, str, str]
Tariffs = Mapping[TariffKey, tariff_pb2.Tariff]


def tariff_key(owner: Node, tariff_id: str) -> TariffKey:
    """Give the key of a tariff that the object's party named so."""
    parts = (owner.text("country_code", 2) or "", owner.text("party_id", 3) or "", tariff_id)
    return (parts[0].upper(), parts[1].upper(), parts[2].upper())


def add_evse(evse: evse_pb2.Evse, node: Node, location: Node, tariffs: Tariffs) -> None:
    """Fill in what an OCPI EVSE says; `tariffs` are those known, none when none were given."""
    status = node.text("status", 32)
    if status not in STATUSES:
        node.wrong("status", "unknown", "not a status of OCPI 2.3.0; taken as not known")
    evse.status = STATUSES.get(status or "", evse_pb2.EVSE_STATUS_UNSPECIFIED)
    time = time_of(node, "last_updated")
    if time is not None:
        evse.status_time.FromDatetime(time)
    evse.floor_level = node.text("floor_level", 4) or ""
    capabilities = set(node.texts("capabilities"))
    evse.reservable = "RESERVABLE" in capabilities
    restrictions = set(node.texts("parking_restrictions"))
    if "CUSTOMERS" in restrictions:
        evse.access = evse_pb2.ACCESS_KIND_CUSTOMERS
    elif restrictions & {"EMPLOYEES", "TENANTS", "TAXIS"}:
        evse.access = evse_pb2.ACCESS_KIND_RESTRICTED
    elif capabilities & _OPEN:
        evse.access = evse_pb2.ACCESS_KIND_OPEN
    elif capabilities & _MEMBER:
        evse.access = evse_pb2.ACCESS_KIND_MEMBERSHIP
    if not node.value.get("connectors"):
        node.wrong("connectors", "missing", "an EVSE has at least one connector; kept without")
    for connector in node.nodes("connectors", _MOST_CONNECTORS):
        _add_connector(evse, connector, location, tariffs)


def _add_connector(evse: evse_pb2.Evse, node: Node, location: Node, tariffs: Tariffs) -> None:
    node.text("last_updated", 40, required=True)
    plug = PLUGS.get(node.text("standard", 64) or "")
    if plug is None:
        node.wrong("standard", "unknown", "not a standard of OCPI 2.3.0; kept without")
    power_type = POWER_TYPES.get(node.text("power_type", 32) or "")
    if power_type is None:
        node.wrong("power_type", "unknown", "not a power type of OCPI 2.3.0; kept without")
    kind, phases = power_type or (evse_pb2.CHARGING_KIND_UNSPECIFIED, 0)
    voltage_v = _quantity(node, ("max_voltage", "voltage"), 5_000)
    current_a = _quantity(node, ("max_amperage", "amperage"), 10_000)
    if not voltage_v or not current_a:
        node.wrong("max_voltage", "missing", "voltage or current is not known")
    power_w = node.integer("max_electric_power", 0, 10_000_000)
    if power_w is None:
        # OCPI states the voltage of three phases against the neutral, as the interface does.
        power_w = min(voltage_v * current_a * max(phases, 1), 10_000_000) if power_type else 0
    connector = evse.connectors.add(
        kind=kind,
        plug=plug or evse_pb2.PLUG_TYPE_UNSPECIFIED,
        power_w=power_w,
        phases=phases,
        voltage_v=voltage_v,
        current_a=current_a,
        cable_attached=node.text("format", 32) == "CABLE",
    )
    if tariffs:
        _add_tariffs(evse, connector, node, location, tariffs)


def _quantity(node: Node, keys: tuple[str, str], most: int) -> int:
    """Give a quantity by its name of OCPI 2.3.0, or by that of 2.1.1, which is noted."""
    new, old = keys
    value = node.integer(new, 0, most)
    if value is None and node.value.get(old) is not None:
        node.wrong(old, "name", "a member of OCPI 2.1.1")
        value = node.integer(old, 0, most)
    return value or 0


def _add_tariffs(
    evse: evse_pb2.Evse,
    connector: evse_pb2.Connector,
    node: Node,
    location: Node,
    tariffs: Tariffs,
) -> None:
    """Add the tariffs that a connector names to its EVSE, once each."""
    for tariff_id in node.texts("tariff_ids", _MOST_TARIFFS):
        tariff = tariffs.get(tariff_key(location, tariff_id))
        if tariff is None:
            node.wrong("tariff_ids", "unknown", "no tariff with this id was given; left out")
            continue
        if tariff not in evse.tariffs:
            if len(evse.tariffs) == _MOST_TARIFFS:
                node.wrong("tariff_ids", "count", "the EVSE has too many tariffs; left out")
                continue
            evse.tariffs.append(tariff)
        connector.tariff_positions.append(list(evse.tariffs).index(tariff))
