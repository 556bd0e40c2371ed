"""Prices that count the units of an answer, as the router needs them."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.money import Rounding, divide

#: More than this many units in one answer are never billed.
UNITS_MAX = 10**12
#: No answer is worth more, in micros: a thousand million units of a currency.
VALUE_MAX_MICROS = 10**15


def amount_micros(price_micros: int, count: int, per: int) -> int:
    """Give what `count` of something cost where the price is for `per` of it.

    The one place where a price is rounded: to the nearest micro, from the middle up. Whatever a
    market charges is one such amount or a sum of them.
    """
    return divide(price_micros * count, per, Rounding.HALF_UP)


@dataclass(frozen=True, slots=True)
class UnitPrice:
    """A price that is more than so much for each call."""

    #: Identifies the price in entries of the log and on statements.
    price_id: int
    #: Dotted path of the field in the answer that says the units; empty where none are counted.
    field_path: str = ""
    #: Names of the methods whose answers are counted; empty means of all.
    methods: frozenset[str] = frozenset()
    #: An answer with more units is not valid.
    most_units: int = UNITS_MAX
    #: Price of `per_units` units; zero where not the entry but the month has a value.
    price_micros: int = 0
    per_units: int = 1

    def value_micros(self, units: int | None) -> int:
        """Give the value of an answer with so many units; None has none."""
        return amount_micros(self.price_micros, units, self.per_units) if units else 0
