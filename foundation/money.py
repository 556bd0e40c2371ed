"""Money as integers: millionths of a currency's unit. Every rounding is named where it happens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

MICROS_PER_UNIT = 1_000_000
#: Amounts beyond this are errors; `gem.common.v1.Money` states the same limit.
LARGEST_MICROS = 10**18
#: Currencies of ISO 4217 whose smallest coin is not a hundredth.
_WHOLE = re.compile("BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|VND|VUV|XAF|XOF|XPF")
_THOUSANDTHS = re.compile("BHD|IQD|JOD|KWD|LYD|OMR|TND")
_CURRENCY = re.compile("[A-Z]{3}")
_AMOUNT = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,6})?")


def decimals_of(currency_code: str) -> int:
    """Give the decimal places of a currency's smallest coin: 2 for EUR, 0 for JPY."""
    if _WHOLE.fullmatch(currency_code):
        return 0
    return 3 if _THOUSANDTHS.fullmatch(currency_code) else 2


def coin_micros(currency_code: str) -> int:
    """Give a currency's smallest coin in micros: 10,000 for EUR."""
    return {0: MICROS_PER_UNIT, 2: 10_000, 3: 1_000}[decimals_of(currency_code)]


class Rounding(Enum):
    """Where a value between two steps goes."""

    #: To the nearer step; from the middle away from zero. What invoices use.
    HALF_UP = "half up"
    #: To the nearer step; from the middle to the even one. What sums of many use.
    HALF_EVEN = "half even"
    #: Towards minus infinity.
    FLOOR = "floor"


def divide(numerator: int, denominator: int, rounding: Rounding) -> int:
    """Divide integers and round as named; the denominator is positive."""
    assert denominator > 0, "a rate has a positive denominator"
    quotient, rest = divmod(numerator, denominator)
    if rounding is Rounding.FLOOR or 2 * rest < denominator:
        return quotient
    if 2 * rest > denominator:
        return quotient + 1
    if rounding is Rounding.HALF_EVEN:
        return quotient + quotient % 2
    return quotient + 1 if numerator > 0 else quotient


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in one currency. Amounts of different currencies do not mix: ValueError."""

    amount_micros: int
    currency_code: str

    def __post_init__(self) -> None:
        if _CURRENCY.fullmatch(self.currency_code) is None:
            raise ValueError("a currency is three capital letters of ISO 4217")
        if abs(self.amount_micros) > LARGEST_MICROS:
            raise ValueError("the amount is beyond the limit")

    @classmethod
    def parse(cls, amount: str, currency_code: str) -> Money:
        """Read a decimal such as `0.25`, exactly: at most six decimals. Raises ValueError."""
        if _AMOUNT.fullmatch(amount) is None:
            raise ValueError("an amount has at most 12 digits and 6 decimals: 0.25")
        return cls(int(Decimal(amount).scaleb(6)), currency_code)

    def __add__(self, other: Money) -> Money:
        self._must_match(other)
        return Money(self.amount_micros + other.amount_micros, self.currency_code)

    def __sub__(self, other: Money) -> Money:
        return self + -other

    def __neg__(self) -> Money:
        return Money(-self.amount_micros, self.currency_code)

    def times(self, quantity: int, per: int, rounding: Rounding) -> Money:
        """Give the price of a quantity where this is the price of `per`.

        1,500 Wh at a price per 1,000 Wh; `rounding` decides about the last micro.
        """
        return Money(divide(self.amount_micros * quantity, per, rounding), self.currency_code)

    def to_smallest_unit(self, rounding: Rounding) -> Money:
        """Round to the currency's smallest coin: cents of EUR, whole JPY."""
        step = coin_micros(self.currency_code)
        return Money(divide(self.amount_micros, step, rounding) * step, self.currency_code)

    def __str__(self) -> str:
        """Give the amount with at least the currency's decimals: `5.50 EUR`, `0.123456 EUR`."""
        whole, micros = divmod(abs(self.amount_micros), MICROS_PER_UNIT)
        shortest = decimals_of(self.currency_code)
        decimals = f"{micros:06d}"
        decimals = decimals[:shortest] + decimals[shortest:].rstrip("0")
        sign = "-" if self.amount_micros < 0 else ""
        return f"{sign}{whole}{'.' if decimals else ''}{decimals} {self.currency_code}"

    def _must_match(self, other: Money) -> None:
        if self.currency_code != other.currency_code:
            raise ValueError("amounts of different currencies do not add up")


def total(amounts: Iterable[Money], currency_code: str) -> Money:
    """Sum amounts of one currency; nothing sums to zero. Raises ValueError for another currency."""
    result = Money(0, currency_code)
    for amount in amounts:
        result += amount
    return result
