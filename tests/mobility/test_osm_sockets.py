"""Sockets of the map: nothing is guessed that a tag does not say."""

from __future__ import annotations

import pytest

from foundation.import_report import Place
from foundation.json_reader import Node
from gem.charging.v1 import evse_pb2
from mobility.import_report import ImportReport
from mobility.osm_sockets import add_sockets

pytestmark = pytest.mark.usecase(1527)


def read(**tags: str) -> tuple[list[evse_pb2.Connector], set[str]]:
    """Read tags, with `__` for a colon in their keys; give connectors and rules of defects."""
    named = {key.replace("__", ":"): value for key, value in tags.items()}
    source, evse = Node(dict(named), Place("f"), ImportReport()), evse_pb2.Evse()
    add_sockets(evse, source)
    return list(evse.connectors), {defect.rule for defect in source.report.defects}


@pytest.mark.parametrize(
    "text", ["fast", "22", "22 horses", "-1 kW", "1e3 kW", "22kW+", "twenty-two kW", "kW"]
)
def test_a_power_without_number_or_unit_is_left_out(text: str) -> None:
    (connector,), rules = read(socket__type2="1", socket__type2__output=text)
    assert connector.power_w == 0
    assert rules == {"socket:type2:output.value"}


@pytest.mark.parametrize("count", ["-1", "1.5", "two", "1000", "1;2"])
def test_a_number_of_sockets_that_is_none_is_left_out(count: str) -> None:
    (connector,), rules = read(socket__type2=count)
    assert connector.count == 0
    assert rules == {"socket:type2.count"}


@pytest.mark.parametrize("count", ["no", "0", "NO"])
def test_sockets_that_are_not_there_are_no_connectors(count: str) -> None:
    assert read(socket__type2=count) == ([], set())


@pytest.mark.parametrize(
    ("text", "power_w"),
    [
        ("22 kW", 22_000),
        ("22kw", 22_000),
        ("3.7 kW", 3_700),
        ("3,7 kW", 3_700),
        ("50000 W", 50_000),
        ("11 kW;22 kW", 22_000),
        ("43 kVA", 43_000),
    ],
)
def test_a_power_has_a_unit_and_of_several_the_greatest_counts(text: str, power_w: int) -> None:
    (connector,), rules = read(socket__type2="1", socket__type2__output=text)
    assert (connector.power_w, rules) == (power_w, set())


def test_a_socket_without_details_has_none() -> None:
    (connector,), _ = read(socket__type2="yes")
    assert connector == evse_pb2.Connector(
        kind=evse_pb2.CHARGING_KIND_AC, plug=evse_pb2.PLUG_TYPE_TYPE_2
    )


def test_a_value_of_the_station_is_for_alternating_current_only() -> None:
    (first, second), _ = read(socket__type2="1", socket__ccs="1", voltage="400", amperage="32")
    assert (first.voltage_v, first.current_a, first.phases) == (230, 32, 3)
    assert (second.voltage_v, second.current_a, second.phases) == (0, 0, 0)


def test_a_socket_s_own_value_wins_over_the_station_s() -> None:
    tags = {"socket__type2__current": "16A", "amperage": "32", "voltage": "400"}
    (connector,), _ = read(socket__type2="1", **tags)
    assert (connector.current_a, connector.power_w) == (16, 11_040)


def test_two_values_of_the_station_are_not_shared_out() -> None:
    (connector,), rules = read(socket__type2="1", voltage="400;230", amperage="63;16")
    assert (connector.voltage_v, connector.current_a) == (0, 0)
    assert rules == {"voltage.several", "amperage.several"}


@pytest.mark.parametrize(
    ("kind", "plug", "charging_kind"),
    [
        ("type2_combo", evse_pb2.PLUG_TYPE_CCS_2, evse_pb2.CHARGING_KIND_DC),
        ("chademo", evse_pb2.PLUG_TYPE_CHADEMO, evse_pb2.CHARGING_KIND_DC),
        ("tesla_supercharger", evse_pb2.PLUG_TYPE_TESLA_EUROPE, evse_pb2.CHARGING_KIND_DC),
        ("schuko", evse_pb2.PLUG_TYPE_HOUSEHOLD, evse_pb2.CHARGING_KIND_AC),
        ("cee_blue", evse_pb2.PLUG_TYPE_INDUSTRIAL_1_PHASE, evse_pb2.CHARGING_KIND_AC),
        ("cee_red_32a", evse_pb2.PLUG_TYPE_INDUSTRIAL_3_PHASE, evse_pb2.CHARGING_KIND_AC),
        ("type3", evse_pb2.PLUG_TYPE_TYPE_3C, evse_pb2.CHARGING_KIND_AC),
    ],
)
def test_a_kind_of_socket_is_a_plug_with_its_current(
    kind: str, plug: int, charging_kind: int
) -> None:
    (connector,), rules = read(**{f"socket__{kind}": "1"})
    assert (connector.plug, connector.kind, rules) == (plug, charging_kind, set())


def test_a_fixed_cable_is_noted_and_more_kinds_than_the_limit_are_not_read() -> None:
    (connector,), _ = read(socket__type2_cable="1")
    assert connector.cable_attached
    many, _ = read(**{f"socket__kind{number}": "1" for number in range(50)})
    assert len(many) == 32
