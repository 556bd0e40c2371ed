"""Tariffs of OCPI 2.3.0 (module Tariffs) as tariffs of the interface."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

from gem.charging.v1 import tariff_pb2
from mobility.json_reader import Node

_DIMENSIONS = {
    "ENERGY": tariff_pb2.PRICE_DIMENSION_ENERGY,
    "TIME": tariff_pb2.PRICE_DIMENSION_TIME,
    "PARKING_TIME": tariff_pb2.PRICE_DIMENSION_PARKING_TIME,
    "FLAT": tariff_pb2.PRICE_DIMENSION_FLAT,
}
_TAX = {
    "YES": tariff_pb2.TAX_TREATMENT_INCLUDED,
    "NO": tariff_pb2.TAX_TREATMENT_EXCLUDED,
    "N/A": tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE,
}
_RESERVATION = {
    "RESERVATION": tariff_pb2.RESERVATION_PRICING_RESERVATION,
    "RESERVATION_EXPIRES": tariff_pb2.RESERVATION_PRICING_RESERVATION_EXPIRES,
}
_WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_MOST_COMPONENTS = 100
_LARGEST_PRICE = 1_000_000
#: Member, field, factor to the field's unit, largest value of the member.
_QUANTITIES = (
    ("min_kwh", "min_energy_wh", 1000, 1_000_000),
    ("max_kwh", "max_energy_wh", 1000, 1_000_000),
    ("min_current", "min_current_ma", 1000, 1_000_000),
    ("max_current", "max_current_ma", 1000, 1_000_000),
    ("min_power", "min_power_w", 1000, 1_000_000),
    ("max_power", "max_power_w", 1000, 1_000_000),
    ("min_duration", "min_duration_s", 1, 100_000_000),
    ("max_duration", "max_duration_s", 1, 100_000_000),
)

#: A tariff's country, party and id, in capitals.
TariffKey = tuple[str, str, str]


def tariff_key(owner: Node, tariff_id: str) -> TariffKey:
    """Give the key of a tariff that the object's party named so."""
    parts = (owner.text("country_code", 2) or "", owner.text("party_id", 3) or "", tariff_id)
    return (parts[0].upper(), parts[1].upper(), parts[2].upper())


def read_tariff(node: Node) -> tuple[TariffKey, tariff_pb2.Tariff] | None:
    """Give a tariff with its key; None, with the reason noted, where prices are not certain.

    A tariff of which a component is wrong is left out whole: the rest would be a wrong price.
    """
    tariff_id = node.text("id", 36)
    currency = node.text("currency", 3)
    if tariff_id is None or currency is None or not re.fullmatch(r"[A-Z]{3}", currency):
        node.report.skip(node.at, "tariff.id", "a tariff needs an id and a currency of ISO 4217")
        return None
    node.text("last_updated", 40, required=True)
    tax = node.text("tax_included", 8)
    if tax is None:
        node.wrong("tax_included", "missing", "whether prices contain tax is not said")
    elif tax not in _TAX:
        node.wrong("tax_included", "unknown", "neither YES, NO nor N/A; left out")
    tariff = tariff_pb2.Tariff(
        tariff_id=tariff_id,
        currency_code=currency,
        tax=_TAX.get(tax or "", tariff_pb2.TAX_TREATMENT_UNSPECIFIED),
    )
    for element in node.nodes("elements", _MOST_COMPONENTS):
        if not _add_element(tariff, element):
            node.report.skip(node.at, "tariff.component", "a component is wrong: no price is sure")
            return None
    _add_limits(tariff, node)
    return tariff_key(node, tariff_id), tariff


def _add_element(tariff: tariff_pb2.Tariff, element: Node) -> bool:
    """Add the components of one element; False when one is wrong or there are too many."""
    restrictions = element.node("restrictions")
    if restrictions is None and element.value.get("restrictions") is not None:
        return False
    restriction = tariff_pb2.TariffRestriction()
    if restrictions is not None and not _read_restriction(restriction, restrictions):
        return False
    components = element.value.get("price_components")
    listed = list(element.nodes("price_components", _MOST_COMPONENTS))
    if not isinstance(components, list) or len(listed) != len(components):
        return False
    for node in listed:
        if len(tariff.components) == _MOST_COMPONENTS or not _add_component(tariff, node):
            return False
        if restriction.ByteSize():
            tariff.components[-1].restriction.CopyFrom(restriction)
    return True


def _add_component(tariff: tariff_pb2.Tariff, node: Node) -> bool:
    dimension = _DIMENSIONS.get(node.text("type", 32) or "")
    price = node.number("price", 0, _LARGEST_PRICE)
    if dimension is None or price is None:
        node.report.keep(node.at, "price_component", "needs a known type and a price")
        return False
    component = tariff.components.add(dimension=dimension, price_micros=micros(price))
    step = node.integer("step_size", 0, 1_000_000) or 0
    if dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
        component.step_wh = step
    elif dimension != tariff_pb2.PRICE_DIMENSION_FLAT:
        component.step_s = step
    vat_percent = node.number("vat", 0, 100)
    if vat_percent is not None:
        component.vat_ppm = _whole(vat_percent * 10_000)
    return True


def _read_restriction(restriction: tariff_pb2.TariffRestriction, node: Node) -> bool:
    """Fill a restriction; False when a part is wrong, for prices would then be wrong too."""
    for member, field, factor, most in _QUANTITIES:
        number = node.number(member, 0, most)
        if number is None and node.value.get(member) is not None:
            return False
        setattr(restriction, field, _whole((number or Decimal(0)) * factor))
    for member, field in (("start_time", "start_minute"), ("end_time", "end_minute")):
        text = node.text(member, 5)
        minute = None if text is None else minute_of(text)
        if minute is None and node.value.get(member) is not None:
            return False
        setattr(restriction, field, min(minute or 0, 1439 if member == "start_time" else 1440))
    for member in ("start_date", "end_date"):
        text = node.text(member, 10) or ""
        if not re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?", text):
            return False
        setattr(restriction, member, text)
    days = list(node.texts("day_of_week", 7))
    if any(day not in _WEEKDAYS for day in days):
        return False
    restriction.weekdays.extend(sorted({_WEEKDAYS.index(day) + 1 for day in days}))
    reservation = node.text("reservation", 32)
    if reservation is not None and reservation not in _RESERVATION:
        return False
    if reservation is not None:
        restriction.reservation = _RESERVATION[reservation]
    return True


def _add_limits(tariff: tariff_pb2.Tariff, node: Node) -> None:
    """Set the least and the most that a session costs."""
    for member in ("min_price", "max_price"):
        limit = node.node(member)
        if limit is None:
            continue
        amount = limit.number("before_taxes", 0, _LARGEST_PRICE)
        if amount is None:
            amount = limit.number("excl_vat", 0, _LARGEST_PRICE)  # as OCPI 2.2.1 names it
        if amount is None:
            limit.wrong("before_taxes", "missing", "a limit without an amount; left out")
            continue
        money = tariff.min_price if member == "min_price" else tariff.max_price
        money.amount_micros, money.currency_code = micros(amount), tariff.currency_code


def micros(amount: Decimal) -> int:
    """Give millionths, rounded half up."""
    return _whole(amount * 1_000_000)


def minute_of(text: str) -> int | None:
    """Give the minute of the day of a clock time `HH:MM`, up to 24:00; None when it is none."""
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2})", text)
    if match is None or int(match[2]) > 59:
        return None
    minute = int(match[1]) * 60 + int(match[2])
    return minute if minute <= 1440 else None


def _whole(number: Decimal) -> int:
    return int(number.to_integral_value(ROUND_HALF_UP))
