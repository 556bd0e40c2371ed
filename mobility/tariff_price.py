"""What charging costs by a tariff, as far as a search compares and filters prices. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gem.charging.v1 import tariff_pb2

#: The reference session of `Evse.reference_price`: 20 kWh within one hour, no parking.
REFERENCE_ENERGY_WH = 20_000
REFERENCE_TIME_S = 3_600

_ENERGY = tariff_pb2.PRICE_DIMENSION_ENERGY
_TIME = tariff_pb2.PRICE_DIMENSION_TIME
_FLAT = tariff_pb2.PRICE_DIMENSION_FLAT


@dataclass(frozen=True, slots=True)
class ComparedPrice:
    """Prices in millionths of a currency: of the reference session, and of one kilowatt-hour."""

    currency_code: str
    reference_price_micros: int
    energy_price_micros: int


def compared_price(tariffs: Iterable[tariff_pb2.Tariff]) -> ComparedPrice | None:
    """Give the cheapest prices of tariffs in the first one's currency; None without a tariff.

    The two prices may come from two tariffs. A tariff that has only restricted components for a
    dimension tells nothing about the reference session and is left out.
    """
    known = [tariff for tariff in tariffs if _is_comparable(tariff)]
    if not known:
        return None
    currency = known[0].currency_code
    same = [tariff for tariff in known if tariff.currency_code == currency]
    return ComparedPrice(
        currency,
        min(reference_price_micros(tariff) for tariff in same),
        min(_unrestricted(tariff, _ENERGY) for tariff in same),
    )


def reference_price_micros(tariff: tariff_pb2.Tariff) -> int:
    """Price the reference session; no rounding, since it has whole units of every dimension."""
    price = (
        _unrestricted(tariff, _ENERGY) * (REFERENCE_ENERGY_WH // 1000)
        + _unrestricted(tariff, _TIME) * (REFERENCE_TIME_S // 3600)
        + _unrestricted(tariff, _FLAT)
    )
    if tariff.HasField("min_price"):
        price = max(price, tariff.min_price.amount_micros)
    if tariff.HasField("max_price"):
        price = min(price, tariff.max_price.amount_micros)
    return price


def _unrestricted(tariff: tariff_pb2.Tariff, dimension: int) -> int:
    """Give the first unrestricted price of a dimension; zero where there is none."""
    for component in tariff.components:
        if component.dimension == dimension and not component.HasField("restriction"):
            return component.price_micros
    return 0


def _is_comparable(tariff: tariff_pb2.Tariff) -> bool:
    """Say whether every dimension of the reference session that is priced has a price always."""
    priced = {item.dimension for item in tariff.components if not _reserves(item)}
    always = {item.dimension for item in tariff.components if not item.HasField("restriction")}
    return priced & {_ENERGY, _TIME, _FLAT} <= always


def _reserves(component: tariff_pb2.PriceComponent) -> bool:
    """Say whether a component prices reservations, not charging."""
    return component.restriction.reservation != tariff_pb2.RESERVATION_PRICING_UNSPECIFIED
