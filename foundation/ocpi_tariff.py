"""Tariffs of OCPI 2.2.1 and 2.3.0 (module Tariffs) as tariffs of the interface, exactly.

A tariff of which a part is wrong is left out whole: without the part it would be another price.
"""

from __future__ import annotations

import re

from foundation.json_reader import Node
from foundation.ocpi_file import minute_of
from foundation.ocpi_version import VERSIONS, OcpiVersion
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction

DIMENSIONS = {
    "ENERGY": tariff_pb2.PRICE_DIMENSION_ENERGY,
    "TIME": tariff_pb2.PRICE_DIMENSION_TIME,
    "PARKING_TIME": tariff_pb2.PRICE_DIMENSION_PARKING_TIME,
    "FLAT": tariff_pb2.PRICE_DIMENSION_FLAT,
}
TAX = {
    "YES": tariff_pb2.TAX_TREATMENT_INCLUDED,
    "NO": tariff_pb2.TAX_TREATMENT_EXCLUDED,
    "N/A": tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE,
}
RESERVATION = {
    "RESERVATION": tariff_pb2.RESERVATION_PRICING_RESERVATION,
    "RESERVATION_EXPIRES": tariff_pb2.RESERVATION_PRICING_RESERVATION_EXPIRES,
}
WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
#: Member, field, factor to the field's unit, largest value of the member.
QUANTITIES = (
    ("min_kwh", "min_energy_wh", 1000, 1_000_000),
    ("max_kwh", "max_energy_wh", 1000, 1_000_000),
    ("min_current", "min_current_ma", 1000, 1_000_000),
    ("max_current", "max_current_ma", 1000, 1_000_000),
    ("min_power", "min_power_w", 1000, 1_000_000),
    ("max_power", "max_power_w", 1000, 1_000_000),
    ("min_duration", "min_duration_s", 1, 100_000_000),
    ("max_duration", "max_duration_s", 1, 100_000_000),
)
MICROS = 1_000_000
_PPM_PER_PERCENT = 10_000
_MOST_COMPONENTS = 100
_LARGEST_PRICE = 1_000_000
_LARGEST_STEP = 1_000_000_000


def read_tariff(node: Node, version: OcpiVersion) -> Tariff | None:
    """Give a tariff; None, with the reason noted, where its prices are not certain.

    What then becomes of the object is the caller's to say. Members of another version than the one
    named are taken, and noted.
    """
    tariff_id, currency = node.text("id", 36), node.text("currency", 3)
    if tariff_id is None or currency is None or not re.fullmatch(r"[A-Z]{3}", currency):
        node.report.keep(node.at, "tariff.id", "a tariff needs an id and a currency of ISO 4217")
        return None
    tariff = Tariff(tariff_id=tariff_id, currency_code=currency)
    known = _add_tax(tariff, node, version) and _add_elements(tariff, node)
    return tariff if known and _add_limits(tariff, node, version) else None


def _add_tax(tariff: Tariff, node: Node, version: OcpiVersion) -> bool:
    """Set whether prices contain tax; False where a word for it is not known."""
    if node.get("tax_included") is None:
        if version.tariff_says_tax:
            node.wrong("tax_included", "missing", "whether prices contain tax is not said")
        return True
    word = node.text("tax_included", 8)
    if word not in TAX:
        node.wrong("tax_included", "unknown", "neither YES, NO nor N/A")
        return False
    tariff.tax = TAX[word]
    return True


def _add_elements(tariff: Tariff, node: Node) -> bool:
    """Add all components; False when one is wrong or there are too many."""
    elements = node.get("elements")
    listed = list(node.nodes("elements", _MOST_COMPONENTS))
    if elements is None:
        node.wrong("elements", "missing", "a tariff has a list of elements")
    if not isinstance(elements, list) or len(listed) != len(elements):
        return False
    return all(_add_element(tariff, element) for element in listed)


def _add_element(tariff: Tariff, element: Node) -> bool:
    restriction = TariffRestriction()
    restrictions = element.node("restrictions")
    if restrictions is None and element.get("restrictions") is not None:
        return False
    if restrictions is not None and not _read_restriction(restriction, restrictions):
        return False
    components = element.get("price_components")
    listed = list(element.nodes("price_components", _MOST_COMPONENTS))
    if components is None:
        element.wrong("price_components", "missing", "an element has a list of price components")
    if not isinstance(components, list) or len(listed) != len(components):
        return False
    for node in listed:
        component = _component(node)
        if component is None or len(tariff.components) == _MOST_COMPONENTS:
            return False
        if restriction.ByteSize():
            component.restriction.CopyFrom(restriction)
        tariff.components.append(component)
    return True


def _component(node: Node) -> PriceComponent | None:
    dimension = DIMENSIONS.get(node.text("type", 32) or "")
    price_micros = _quantity(node, "price", MICROS, _LARGEST_PRICE)
    if dimension is None or price_micros is None or node.get("price") is None:
        node.report.keep(node.at, "price_component", "needs a known type and a price")
        return None
    step = _quantity(node, "step_size", 1, _LARGEST_STEP)
    vat_ppm = _quantity(node, "vat", _PPM_PER_PERCENT, 100)
    if step is None or vat_ppm is None:
        return None
    component = PriceComponent(dimension=dimension, price_micros=price_micros, vat_ppm=vat_ppm)
    if dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
        component.step_wh = step
    elif dimension != tariff_pb2.PRICE_DIMENSION_FLAT:
        component.step_s = step
    return component


def _read_restriction(restriction: TariffRestriction, node: Node) -> bool:
    """Fill a restriction; False when a part is wrong, for prices would then be wrong too."""
    for member, field, factor, most in QUANTITIES:
        quantity = _quantity(node, member, factor, most)
        if quantity is None:
            return False
        setattr(restriction, field, quantity)
    for member, field in (("start_time", "start_minute"), ("end_time", "end_minute")):
        minute = minute_of(node.text(member, 5) or "00:00")
        if minute is None or not isinstance(node.get(member), str | None):
            node.wrong(member, "value", "a clock time is HH:MM")
            return False
        setattr(restriction, field, minute % 1440 if member == "start_time" else minute)
    for member in ("start_date", "end_date"):
        text = node.text(member, 10) or ""
        if not re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?", text):
            node.wrong(member, "value", "a date is YYYY-MM-DD")
            return False
        setattr(restriction, member, text)
    return _add_words(restriction, node)


def _add_words(restriction: TariffRestriction, node: Node) -> bool:
    days = list(node.texts("day_of_week", 100))
    if any(day not in WEEKDAYS for day in days):
        node.wrong("day_of_week", "unknown", "not a day of the week")
        return False
    restriction.weekdays.extend(sorted({WEEKDAYS.index(day) + 1 for day in days}))
    reservation = node.text("reservation", 32)
    if reservation is None:
        return node.get("reservation") in {None, ""}
    if reservation not in RESERVATION:
        node.wrong("reservation", "unknown", "neither RESERVATION nor RESERVATION_EXPIRES")
        return False
    restriction.reservation = RESERVATION[reservation]
    return True


def _add_limits(tariff: Tariff, node: Node, version: OcpiVersion) -> bool:
    """Set the least and the most that a session costs; False when one is wrong."""
    for member in ("min_price", "max_price"):
        limit = node.node(member)
        if limit is None:
            if node.get(member) is not None:
                return False
            continue
        if not _add_limit(tariff, member, limit, version):
            return False
    return True


def _add_limit(tariff: Tariff, member: str, limit: Node, version: OcpiVersion) -> bool:
    before, after = _named(limit, version, "before_tax"), _named(limit, version, "limit_after_tax")
    if before is None:
        limit.wrong(version.before_tax, "missing", "a limit without an amount; left out")
        return True
    amounts: dict[str, int | None] = {member: _quantity(limit, before, MICROS, _LARGEST_PRICE)}
    if after is not None:
        amounts[f"{member}_with_tax"] = _quantity(limit, after, MICROS, _LARGEST_PRICE)
    elif limit.get("taxes") is not None:
        amounts[f"{member}_with_tax"] = _with_taxes(limit, amounts[member])
    for field, amount in amounts.items():
        if amount is None:
            return False
        money = getattr(tariff, field)
        money.amount_micros, money.currency_code = amount, tariff.currency_code
    return True


def _with_taxes(limit: Node, amount: int | None) -> int | None:
    """Give a limit with the taxes that it lists, as costs do and limits should not; noted."""
    limit.wrong("taxes", "name", "a limit has an amount with tax, no list of taxes")
    for tax in limit.nodes("taxes", 10):
        part = _quantity(tax, "amount", MICROS, _LARGEST_PRICE)
        amount = None if amount is None or part is None else amount + part
    return amount


def _named(limit: Node, version: OcpiVersion, name: str) -> str | None:
    """Give the member that stands for a name: the version's own, or, noted, another version's."""
    own: str = getattr(version, name)
    if limit.get(own) is not None:
        return own
    for other in VERSIONS.values():
        key: str = getattr(other, name)
        if limit.get(key) is not None:
            limit.wrong(key, "name", "a member of another version of OCPI")
            return key
    return None


def _quantity(node: Node, key: str, factor: int, most: int) -> int | None:
    """Give a quantity, zero where it is absent; None where it is wrong or negative."""
    if node.get(key) is None:
        return 0
    quantity = node.scaled(key, factor, most)
    if quantity is not None and quantity < 0:
        node.wrong(key, "range", "the number is negative")
        return None
    return quantity
