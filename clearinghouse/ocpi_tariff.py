"""Tariffs of OCPI as versions of tariffs that operators publish, and back."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from clearinghouse.ocpi_values import decimal_of, given, party_of, read_operator_id, time_text
from foundation.import_report import DefectReport
from foundation.json_reader import Node
from foundation.ocpi_file import ocpi_objects, timestamp_of
from foundation.ocpi_tariff import (
    DIMENSIONS,
    MICROS,
    QUANTITIES,
    RESERVATION,
    TAX,
    WEEKDAYS,
    read_tariff,
)
from foundation.ocpi_version import V2_3_0, OcpiVersion
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

_PPM_PER_PERCENT = 10_000
_DIMENSION_WORDS = {value: word for word, value in DIMENSIONS.items()}
_TAX_WORDS = {value: word for word, value in TAX.items()}
_RESERVATION_WORDS = {value: word for word, value in RESERVATION.items()}


def read_tariff_json(text: str | bytes, version: OcpiVersion = V2_3_0) -> Tariff:
    """Read one tariff object.

    Raises:
        ValueError: it is no JSON, or a part is missing, unknown, out of range or of another type.
    """
    report = DefectReport()
    tariffs = [read_tariff(node, version) for node in ocpi_objects(text, "", report)]
    if len(tariffs) != 1 or tariffs[0] is None:
        reasons = [each.message for each in report.defects]
        raise ValueError(reasons[-1] if reasons else "there is not one tariff")
    return tariffs[0]


def read_tariff_version(node: Node, version: OcpiVersion) -> TariffVersion | None:
    """Read a tariff with its operator and validity; None, noted, where a part is wrong."""
    operator_id, tariff = read_operator_id(node), read_tariff(node, version)
    if operator_id is None or tariff is None:
        return None
    read = TariffVersion(operator_id=operator_id, tariff=tariff)
    for key, field in (("start_date_time", "start_time"), ("end_date_time", "end_time")):
        time = timestamp_of(node, key)
        if time is None and node.get(key) is not None:
            return None
        if time is not None:
            getattr(read.validity, field).CopyFrom(time)
    published = timestamp_of(node, "last_updated")
    if published is None:
        node.wrong("last_updated", "missing", "when it was changed is not said")
    else:
        read.published_time.CopyFrom(published)
    return read


def write_tariff_version(published: TariffVersion, version: OcpiVersion) -> dict[str, Any]:
    """Write a version of a tariff."""
    written = {**party_of(published.operator_id), **write_tariff(published.tariff, version)}
    validity = published.validity
    if validity.HasField("start_time"):
        written["start_date_time"] = time_text(validity.start_time)
    if validity.HasField("end_time"):
        written["end_date_time"] = time_text(validity.end_time)
    if published.HasField("published_time"):
        written["last_updated"] = time_text(published.published_time)
    return written


def write_tariff(tariff: Tariff, version: OcpiVersion) -> dict[str, Any]:
    """Write a tariff without its operator; components of equal restrictions are one element."""
    written: dict[str, Any] = {"id": tariff.tariff_id, "currency": tariff.currency_code}
    for name in ("min_price", "max_price"):
        if tariff.HasField(name):
            written[name] = _limit(tariff, name, version)
    groups = groupby(tariff.components, key=lambda each: each.restriction.SerializeToString())
    written["elements"] = [_element(list(components)) for _, components in groups]
    tax = _TAX_WORDS.get(tariff.tax)
    return {**written, **(given(tax_included=tax) if version.tariff_says_tax else {})}


def _limit(tariff: Tariff, name: str, version: OcpiVersion) -> dict[str, Any]:
    limit = {version.before_tax: decimal_of(getattr(tariff, name).amount_micros, MICROS)}
    if tariff.HasField(f"{name}_with_tax"):  # type: ignore[arg-type]  # both are fields
        amount = getattr(tariff, f"{name}_with_tax").amount_micros
        limit[version.limit_after_tax] = decimal_of(amount, MICROS)
    return limit


def _element(components: list[PriceComponent]) -> dict[str, Any]:
    written: dict[str, Any] = {"price_components": [_component(each) for each in components]}
    return {**written, **given(restrictions=_restriction(components[0].restriction))}


def _component(component: PriceComponent) -> dict[str, Any]:
    written: dict[str, Any] = {
        "type": _DIMENSION_WORDS[component.dimension],
        "price": decimal_of(component.price_micros, MICROS),
    }
    if component.vat_ppm:
        written["vat"] = decimal_of(component.vat_ppm, _PPM_PER_PERCENT)
    energy = component.dimension == tariff_pb2.PRICE_DIMENSION_ENERGY
    # A flat fee has no steps, and OCPI asks for one.
    flat = component.dimension == tariff_pb2.PRICE_DIMENSION_FLAT
    step = component.step_wh if energy else component.step_s
    return {**written, "step_size": 1 if flat else step}


def _restriction(restriction: TariffRestriction) -> dict[str, Any]:
    clocks = {
        "start_time": restriction.start_minute,
        "end_time": restriction.end_minute,
    }
    written: dict[str, Any] = {
        name: f"{minute // 60:02d}:{minute % 60:02d}" for name, minute in clocks.items() if minute
    }
    written.update(given(start_date=restriction.start_date, end_date=restriction.end_date))
    for member, field, factor, _ in QUANTITIES:
        if quantity := getattr(restriction, field):
            written[member] = decimal_of(quantity, factor)
    days = [WEEKDAYS[day - 1] for day in restriction.weekdays]
    reservation = _RESERVATION_WORDS.get(restriction.reservation)
    return {**written, **given(day_of_week=days, reservation=reservation)}
