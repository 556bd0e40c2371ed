"""Tariffs of OCPI 2.2.1 and 2.3.0 (module Tariffs, JSON) as tariffs by which sessions are rated.

A tariff of which a part is wrong is refused whole: without the part it would be another price.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction

_TAX = {
    "YES": tariff_pb2.TAX_TREATMENT_INCLUDED,
    "NO": tariff_pb2.TAX_TREATMENT_EXCLUDED,
    "N/A": tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE,
    None: tariff_pb2.TAX_TREATMENT_UNSPECIFIED,
}
_WEEKDAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_THOUSANDS = {
    "min_kwh": "min_energy_wh",
    "max_kwh": "max_energy_wh",
    "min_current": "min_current_ma",
    "max_current": "max_current_ma",
    "min_power": "min_power_w",
    "max_power": "max_power_w",
}
_MOST = 1_000_000_000
_MOST_COMPONENTS = 100
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00")


def read_tariff_json(text: str | bytes) -> Tariff:
    """Read one tariff object.

    Raises:
        ValueError: it is no JSON, or a part is missing, unknown, out of range or of another type.
    """
    try:
        return _tariff(json.loads(text, parse_float=Decimal, parse_constant=_no_number))
    except RecursionError:
        raise ValueError("the tariff is nested too deeply") from None
    except (KeyError, TypeError, AttributeError, IndexError, ArithmeticError):
        raise ValueError("a part of the tariff is missing or of the wrong type") from None


def _no_number(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _tariff(source: Mapping[str, Any]) -> Tariff:
    currency = source["currency"]
    if re.fullmatch("[A-Z]{3}", currency) is None or source.get("tax_included") not in _TAX:
        raise ValueError("the currency or the treatment of tax is not known")
    tariff = Tariff(
        tariff_id=source["id"], currency_code=currency, tax=_TAX[source.get("tax_included")]
    )
    for element in source["elements"]:
        restriction = _restriction(element.get("restrictions") or {})
        for part in element["price_components"]:
            component = _component(part)
            if restriction.ByteSize():
                component.restriction.CopyFrom(restriction)
            tariff.components.append(component)
    if len(tariff.components) > _MOST_COMPONENTS:
        raise ValueError("the tariff has too many price components")
    for name in ("min_price", "max_price"):
        _add_limit(tariff, name, source.get(name) or {})
    return tariff


def _component(source: Mapping[str, Any]) -> PriceComponent:
    kind, step = source["type"], _whole(source.get("step_size") or 0)
    component = PriceComponent(
        dimension=tariff_pb2.PriceDimension.Value(f"PRICE_DIMENSION_{kind}"),
        price_micros=_scaled(source["price"], 1_000_000),
        vat_ppm=_scaled(source.get("vat") or 0, 10_000),
    )
    if component.dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
        component.step_wh = step
    elif component.dimension != tariff_pb2.PRICE_DIMENSION_FLAT:
        component.step_s = step
    return component


def _restriction(source: Mapping[str, Any]) -> TariffRestriction:
    restriction = TariffRestriction(
        start_minute=_minute(source.get("start_time")) % 1440,
        end_minute=_minute(source.get("end_time")),
        start_date=_date(source.get("start_date")),
        end_date=_date(source.get("end_date")),
        weekdays=sorted({_WEEKDAYS.index(day) + 1 for day in source.get("day_of_week") or ()}),
        min_duration_s=_whole(source.get("min_duration") or 0),
        max_duration_s=_whole(source.get("max_duration") or 0),
    )
    for member, field in _THOUSANDS.items():
        setattr(restriction, field, _scaled(source.get(member) or 0, 1000))
    if reservation := source.get("reservation"):
        name = f"RESERVATION_PRICING_{reservation}"
        restriction.reservation = tariff_pb2.ReservationPricing.Value(name)
    return restriction


def _add_limit(tariff: Tariff, name: str, source: Mapping[str, Any]) -> None:
    """Set a limit without tax and, where the source tells it, the one with tax."""
    before = source.get("before_taxes", source.get("excl_vat"))
    if before is None:
        return
    after = source.get("incl_vat")
    if taxes := source.get("taxes"):
        after = before + sum(tax["amount"] for tax in taxes)
    limits = {name: before, f"{name}_with_tax": after}
    for field, amount in limits.items():
        if amount is not None:
            limit = getattr(tariff, field)
            limit.amount_micros = _scaled(amount, 1_000_000)
            limit.currency_code = tariff.currency_code


def _minute(text: str | None) -> int:
    if text is None:
        return 0
    if _CLOCK.fullmatch(text) is None:
        raise ValueError("a clock time is HH:MM")
    return int(text[:2]) * 60 + int(text[3:])


def _date(text: str | None) -> str:
    if text is not None and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is None:
        raise ValueError("a date is YYYY-MM-DD")
    return text or ""


def _whole(number: Any) -> int:
    return _scaled(number, 1)


def _scaled(number: Any, factor: int) -> int:
    """Give a number times a factor, which has to be whole, not negative and of a possible size."""
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise ValueError("a quantity is not a number")
    scaled = Decimal(number) * factor
    if not 0 <= scaled <= _MOST * factor or scaled != scaled.to_integral_value():
        raise ValueError("a quantity is negative, too large or too fine")
    return int(scaled)
