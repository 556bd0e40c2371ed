"""What the tags of an OpenStreetMap charging station say about access, price and hours."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

from foundation.json_reader import Node
from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.osm_opening import opening_of
from mobility.osm_sockets import add_sockets

_ACCESS = {
    "yes": evse_pb2.ACCESS_KIND_OPEN,
    "public": evse_pb2.ACCESS_KIND_OPEN,
    "permissive": evse_pb2.ACCESS_KIND_OPEN,
    "customers": evse_pb2.ACCESS_KIND_CUSTOMERS,
    "permit": evse_pb2.ACCESS_KIND_RESTRICTED,
    "residents": evse_pb2.ACCESS_KIND_RESTRICTED,
    "employees": evse_pb2.ACCESS_KIND_RESTRICTED,
    "private": evse_pb2.ACCESS_KIND_PRIVATE,
    "no": evse_pb2.ACCESS_KIND_PRIVATE,
}
_NARROW = {
    evse_pb2.ACCESS_KIND_CUSTOMERS,
    evse_pb2.ACCESS_KIND_RESTRICTED,
    evse_pb2.ACCESS_KIND_PRIVATE,
}
_CARD = "authentication:membership_card"
_CHARGE = re.compile(
    r"([0-9]{1,6}(?:[.,][0-9]{1,6})?)\s*(?:(eur|€)|([a-z]{3}))\s*(?:(?:/|per)\s*([a-z]+))?"
)
_HOUR = (tariff_pb2.PRICE_DIMENSION_TIME, 1)
_MINUTE = (tariff_pb2.PRICE_DIMENSION_TIME, 60)
_PER: dict[str | None, tuple[tariff_pb2.PriceDimension.ValueType, int]] = {
    "kwh": (tariff_pb2.PRICE_DIMENSION_ENERGY, 1),
    **dict.fromkeys(("h", "hour"), _HOUR),
    **dict.fromkeys(("min", "minute"), _MINUTE),
    **dict.fromkeys((None, "session", "charge"), (tariff_pb2.PRICE_DIMENSION_FLAT, 1)),
}
_MOST_COMPONENTS = 10


def add_tags(evse: evse_pb2.Evse, tags: Node, country_code: str, currency_code: str) -> None:
    """Set all attributes that tags describe; what they do not say stays unknown."""
    add_sockets(evse, tags)
    evse.name = tags.text("name", 128) or ""
    evse.floor_level = tags.text("level", 16) or tags.text("addr:floor", 16) or ""
    evse.vehicle_count = _vehicle_count(tags)
    _add_access(evse, tags)
    _add_price(evse, tags, currency_code)
    _add_address(evse, tags, country_code)
    hours = tags.text("opening_hours", 255)
    if hours is not None:
        opening = opening_of(hours)
        if opening is None:
            tags.wrong("opening_hours", "value", "more than days and times; kept without")
        else:
            evse.opening.CopyFrom(opening)


def _vehicle_count(tags: Node) -> int:
    for key in ("capacity:car", "capacity:cars", "capacity"):
        text = tags.text(key, 255)
        if text is not None and re.fullmatch(r"[0-9]{1,4}", text):
            return int(text)
        if text is not None:
            tags.wrong(key, "value", "not a number of vehicles; left out")
    return 0


def _add_access(evse: evse_pb2.Evse, tags: Node) -> None:
    """Set who may charge: a narrow access first, then how drivers identify themselves."""
    stated = _ACCESS.get((tags.text("access", 64) or "").casefold())
    card = tags.text(_CARD, 64)
    needs_none = (tags.text("authentication:none", 64) or "").casefold() == "yes"
    if card is not None and card.casefold() not in ("yes", "no"):
        evse.memberships.append(card)
    if stated in _NARROW:
        evse.access = stated
    elif needs_none:
        evse.access = evse_pb2.ACCESS_KIND_OPEN
    elif card is not None and card.casefold() != "no":
        evse.access = evse_pb2.ACCESS_KIND_MEMBERSHIP
    elif stated is not None:
        evse.access = stated


def _add_price(evse: evse_pb2.Evse, tags: Node, currency_code: str) -> None:
    """Set a tariff where charging is free or the tag `charge` states a price."""
    charge = tags.text("charge", 255)
    fee = (tags.text("fee", 64) or "").casefold()
    if charge is not None:
        tariff = _tariff_of(charge.casefold())
        if tariff is None:
            tags.wrong("charge", "value", "not amounts with currency and unit; kept without")
        else:
            evse.tariffs.append(tariff)
    elif fee == "no":
        evse.tariffs.add(currency_code=currency_code)


def _tariff_of(text: str) -> tariff_pb2.Tariff | None:
    """Read prices like `0.49 EUR/kWh; 1 EUR`; None unless all of it is understood."""
    tariff = tariff_pb2.Tariff()
    for part in text.split(";")[: _MOST_COMPONENTS + 1]:
        match = _CHARGE.fullmatch(part.strip())
        unit = _PER.get(match[4]) if match else None
        if match is None or unit is None or len(tariff.components) == _MOST_COMPONENTS:
            return None
        currency = "EUR" if match[2] else match[3].upper()
        if tariff.currency_code not in ("", currency):
            return None
        tariff.currency_code = currency
        dimension, times = unit
        micros = Decimal(match[1].replace(",", ".")) * times * 1_000_000
        price_micros = int(micros.to_integral_value(ROUND_HALF_UP))
        tariff.components.add(dimension=dimension, price_micros=price_micros)
    return tariff


def _add_address(evse: evse_pb2.Evse, tags: Node, country_code: str) -> None:
    """Set the address where a street, code or city is known."""
    street = tags.text("addr:street", 110) or tags.text("addr:place", 110) or ""
    number = tags.text("addr:housenumber", 16) or ""
    code = tags.text("addr:postcode", 16) or ""
    city = tags.text("addr:city", 96) or ""
    if street or code or city:
        evse.address.street = f"{street} {number}".strip()
        evse.address.postal_code = code
        evse.address.city = city
        evse.address.country_code = country_code
