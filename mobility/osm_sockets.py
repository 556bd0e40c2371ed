"""The sockets of an OpenStreetMap charging station: tags `socket:<kind>` and their companions."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

from foundation.json_reader import Node
from gem.charging.v1 import evse_pb2

_DC = evse_pb2.CHARGING_KIND_DC
_AC = evse_pb2.CHARGING_KIND_AC
_HOUSEHOLD = evse_pb2.PLUG_TYPE_HOUSEHOLD
_RED = evse_pb2.PLUG_TYPE_INDUSTRIAL_3_PHASE
_CCS_2 = evse_pb2.PLUG_TYPE_CCS_2

#: Kinds of sockets as the map's wiki lists them, with older spellings.
_PLUGS = {
    "type1": evse_pb2.PLUG_TYPE_TYPE_1,
    "type1_cable": evse_pb2.PLUG_TYPE_TYPE_1,
    "type1_combo": evse_pb2.PLUG_TYPE_CCS_1,
    "type2": evse_pb2.PLUG_TYPE_TYPE_2,
    "type2_cable": evse_pb2.PLUG_TYPE_TYPE_2,
    "mennekes": evse_pb2.PLUG_TYPE_TYPE_2,
    "tesla_destination": evse_pb2.PLUG_TYPE_TYPE_2,
    **dict.fromkeys(("type2_combo", "ccs", "combo", "combo2", "tesla_supercharger_ccs"), _CCS_2),
    "type3": evse_pb2.PLUG_TYPE_TYPE_3C,
    "type3c": evse_pb2.PLUG_TYPE_TYPE_3C,
    "type3a": evse_pb2.PLUG_TYPE_TYPE_3A,
    "chademo": evse_pb2.PLUG_TYPE_CHADEMO,
    **dict.fromkeys(("schuko", "typee", "bs1363", "sev1011_t13", "nema_5_15"), _HOUSEHOLD),
    **dict.fromkeys(("cee_blue", "sev1011_t23"), evse_pb2.PLUG_TYPE_INDUSTRIAL_1_PHASE),
    **dict.fromkeys(("cee_red_16a", "cee_red_32a", "cee_red_63a", "cee_red_125a"), _RED),
    "tesla_roadster": evse_pb2.PLUG_TYPE_TESLA_ROADSTER,
    "tesla_supercharger": evse_pb2.PLUG_TYPE_TESLA_EUROPE,
    "tesla_standard": evse_pb2.PLUG_TYPE_NACS,
    "nacs": evse_pb2.PLUG_TYPE_NACS,
    "gb_ac": evse_pb2.PLUG_TYPE_GB_T_AC,
    "gb_dc": evse_pb2.PLUG_TYPE_GB_T_DC,
    "chaoji": evse_pb2.PLUG_TYPE_CHAOJI,
}
_DIRECT = {
    evse_pb2.PLUG_TYPE_CCS_1,
    _CCS_2,
    evse_pb2.PLUG_TYPE_CHADEMO,
    evse_pb2.PLUG_TYPE_GB_T_DC,
    evse_pb2.PLUG_TYPE_CHAOJI,
    evse_pb2.PLUG_TYPE_TESLA_EUROPE,
}
_PHASES = {
    _HOUSEHOLD: 1,
    evse_pb2.PLUG_TYPE_TYPE_1: 1,
    evse_pb2.PLUG_TYPE_INDUSTRIAL_1_PHASE: 1,
    _RED: 3,
}
_SOCKET = re.compile(r"(?:socket|plug):([a-z0-9_]{1,40})")
_QUANTITY = re.compile(r"([0-9]{1,7}(?:[.,][0-9]{1,3})?)\s*([a-z]*)")
_UNITS = {
    "power": {"kw": 1000, "w": 1, "kva": 1000},
    "voltage": {"v": 1, "": 1},
    "current": {"a": 1, "": 1},
}
_LARGEST = {"power": 10_000_000, "voltage": 5_000, "current": 10_000}
_MOST_CONNECTORS = 32


def add_sockets(evse: evse_pb2.Evse, tags: Node) -> None:
    """Add a connector for each kind of socket; what a tag does not say stays unknown.

    A voltage or current of the whole station counts for alternating current if it is one value.
    """
    kinds = [(key, match[1]) for key in tags.value if (match := _SOCKET.fullmatch(key))]
    for key, kind in kinds[:_MOST_CONNECTORS]:
        plug = _PLUGS.get(kind)
        if plug is None:
            tags.wrong(key, "unknown", "the kind of socket is not known; kept without a plug type")
        count = _count(tags, key)
        if count is not None:
            connector = evse.connectors.add(count=count)
            connector.plug = plug or evse_pb2.PLUG_TYPE_UNSPECIFIED
            connector.cable_attached = kind.endswith("_cable")
            _fill(connector, tags, key)


def _count(tags: Node, key: str) -> int | None:
    """Give how many sockets there are, zero for a number that is not known; None for no socket."""
    text = (tags.text(key, 255) or "").casefold()
    if text in ("no", "0"):
        return None
    if re.fullmatch(r"[0-9]{1,3}", text):
        return int(text)
    if text != "yes":
        tags.wrong(key, "count", "not a number of sockets; kept without it")
    return 0


def _fill(connector: evse_pb2.Connector, tags: Node, key: str) -> None:
    """Set kind, phases, voltage, current and power."""
    plug = connector.plug
    if plug in _DIRECT:
        connector.kind = _DC
    elif plug:
        connector.kind = _AC
    voltage_v = _quantity(tags, (f"{key}:voltage",), "voltage")
    current_a = _quantity(tags, (f"{key}:current", f"{key}:amperage"), "current")
    if plug == _HOUSEHOLD:  # what the plug's standard allows
        voltage_v, current_a = voltage_v or 230, current_a or 16
    elif connector.kind == _AC:
        voltage_v = voltage_v or _quantity(tags, ("voltage",), "voltage", single=True)
        current_a = current_a or _quantity(tags, ("amperage",), "current", single=True)
    if connector.kind == _AC:
        connector.phases = _PHASES.get(plug, 0) or (0 if not voltage_v else _phases(voltage_v))
        if voltage_v >= 380:  # between two phases; the interface counts from the neutral
            voltage_v = 230
    connector.voltage_v, connector.current_a = voltage_v, current_a
    power_w = _quantity(tags, (f"{key}:output", f"{key}:power", f"{key}:maxpower"), "power")
    connector.power_w = power_w or connector.phases * voltage_v * current_a


def _phases(voltage_v: int) -> int:
    return 3 if voltage_v >= 380 else 1


def _quantity(tags: Node, keys: tuple[str, ...], kind: str, single: bool = False) -> int:
    """Give the quantity that the first of the tags states, rounded half up to units, or zero.

    Of several values the greatest counts, or with `single` none.
    """
    key = next((key for key in keys if key in tags.value), None)
    text = None if key is None else tags.text(key, 255)
    if key is None or text is None:
        return 0
    values = []
    for part in re.split(r"[;/]|,(?=[0-9]{2,}\b)", text.casefold()):
        match = _QUANTITY.fullmatch(part.strip())
        factor = _UNITS[kind].get(match[2]) if match else None
        if match is None or factor is None:
            tags.wrong(key, "value", f"not a {kind} with a unit; left out")
            return 0
        number = Decimal(match[1].replace(",", ".")) * factor
        values.append(int(number.to_integral_value(ROUND_HALF_UP)))
    if len(values) > 1 and single:
        tags.wrong(key, "several", "which socket has which value is not said; left out")
        return 0
    if max(values) > _LARGEST[kind]:
        tags.wrong(key, "range", f"no charging point has such a {kind}; left out")
        return 0
    return max(values)
