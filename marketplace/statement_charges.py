"""What a month under a contract costs, line by line (business process 1495, decision 10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from foundation.money import LARGEST_MICROS
from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.marketplace.v1.statement_pb2 import ChargeKind as WireKind
from marketplace.price import tiers_of
from marketplace.price_days import fee_micros
from marketplace.price_tiers import graduated


class ChargeKind(IntEnum):
    """What a charge is for; the numbers are those of the catalogue."""

    ENTRIES = int(WireKind.CHARGE_KIND_ENTRIES)
    TIER = int(WireKind.CHARGE_KIND_TIER)
    MONTHLY_FEE = int(WireKind.CHARGE_KIND_MONTHLY_FEE)


@dataclass(frozen=True, slots=True)
class PricedEntries:
    """The entries of a month under one price and in one currency."""

    #: None for prices per call.
    price_id: int | None
    currency_code: str
    #: Entries with status OK.
    ok_count: int
    #: Units of these; None where the price counts none.
    unit_count: int | None
    #: Sum of the values of all entries.
    value_micros: int


@dataclass(frozen=True, slots=True)
class Charge:
    """One line: an amount, and what it is worked out from."""

    kind: ChargeKind
    price_id: int
    currency_code: str
    value_micros: int
    call_count: int = 0
    unit_count: int | None = None
    from_count: int | None = None
    days: int = 0


def charges_of(
    entries: Iterable[PricedEntries],
    models: Mapping[int, PriceModel],
    days: Mapping[int, int],
    days_of_month: int,
) -> list[Charge]:
    """Give the charges of a month in the order of their prices' ids.

    Args:
        entries: One for each price and currency.
        models: The model of every price id that occurs.
        days: Days that count for a price, by its id; those of prices without a fee are not charged.
        days_of_month: Number of days that the month has.

    Raises:
        ValueError: a count is beyond what the catalogue can say.
    """
    found: list[Charge] = []
    for each in entries:
        if (each.unit_count or 0) > LARGEST_MICROS:
            raise ValueError("a number of units is beyond what a statement can say")
        price_id = each.price_id or 0
        counts = (each.ok_count, each.unit_count)
        found.append(
            Charge(ChargeKind.ENTRIES, price_id, each.currency_code, each.value_micros, *counts)
        )
        if price_id and models[price_id].HasField("tiered"):
            found += _tiers(each, models[price_id])
    for price_id, number in days.items():
        if models[price_id].HasField("per_month"):
            fee = models[price_id].per_month.price
            value = fee_micros(fee.amount_micros, number, days_of_month)
            found.append(
                Charge(ChargeKind.MONTHLY_FEE, price_id, fee.currency_code, value, days=number)
            )
    return sorted(found, key=lambda charge: (charge.price_id, charge.currency_code))


def _tiers(entries: PricedEntries, model: PriceModel) -> Iterable[Charge]:
    """Give a charge for each tier that the month's calls or units reached."""
    tiered = model.tiered
    counts_units = tiered.HasField("unit")
    count = (entries.unit_count or 0) if counts_units else entries.ok_count
    for tier in graduated(tiers_of(tiered), tiered.per_count, count):
        yield Charge(
            ChargeKind.TIER,
            entries.price_id or 0,
            tiered.tiers[0].price.currency_code,
            tier.value_micros,
            call_count=0 if counts_units else tier.count,
            unit_count=tier.count if counts_units else None,
            from_count=tier.from_count,
        )


def totals_of(charges: Sequence[Charge]) -> dict[str, int]:
    """Add charges up by currency, in the order of the codes; ValueError beyond what money is."""
    sums: Counter[str] = Counter()
    for charge in charges:
        sums[charge.currency_code] += charge.value_micros
    if any(abs(value) > LARGEST_MICROS for value in sums.values()):
        raise ValueError("a total is beyond what an amount of money can be")
    return dict(sorted(sums.items()))
