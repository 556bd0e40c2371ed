"""What a session costs by a tariff, line by line. Pure and exact; rounded once, at the end.

The algorithm is that of OCPI's module Tariffs (2.2.1, 2.3.0) in our words: for each
dimension the first component that applies at an instant; a step once per session for energy and
once for charging and parking time together; a minimum and a maximum, apart without and with tax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from clearinghouse.exact import Exact, ratio
from clearinghouse.rateable import RateableSession
from clearinghouse.rating_portions import Portion, portions
from clearinghouse.tariff_rules import PARTS_PER_MICRO, Component, Dimension, Limits
from foundation.money import Rounding, coin_micros, divide
from gem.roaming.v1.rating_pb2 import RatingLineKind

#: Dimensions of which one step rounds the sum.
_STEPPED = (
    (Dimension.ENERGY,),
    (Dimension.TIME, Dimension.PARKING_TIME),
    (Dimension.RESERVATION_TIME,),
)
_KINDS = {
    Dimension.FLAT: RatingLineKind.RATING_LINE_KIND_FLAT,
    Dimension.RESERVATION_FLAT: RatingLineKind.RATING_LINE_KIND_FLAT,
    Dimension.ENERGY: RatingLineKind.RATING_LINE_KIND_ENERGY,
    Dimension.TIME: RatingLineKind.RATING_LINE_KIND_TIME,
    Dimension.PARKING_TIME: RatingLineKind.RATING_LINE_KIND_PARKING_TIME,
    Dimension.RESERVATION_TIME: RatingLineKind.RATING_LINE_KIND_RESERVATION_TIME,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a rating. Amounts are in micros of the currency."""

    kind: RatingLineKind.ValueType
    without_tax_micros: int
    with_tax_micros: int
    #: None for a line that only changes the total.
    component: Component | None = None
    #: From when to when the component applied, in seconds from the start of the session.
    start_s: Exact = 0
    end_s: Exact = 0
    #: What is paid: watt-hours, seconds, or 1 for a fixed fee.
    quantity: Exact = 0


@dataclass(frozen=True, slots=True)
class Rating:
    """What a session costs: the lines add up to the totals, to the last micro."""

    currency_code: str
    lines: tuple[Line, ...]
    without_tax_micros: int
    with_tax_micros: int

    def of_kind(self, kind: RatingLineKind.ValueType) -> tuple[int, int]:
        """Give what the lines of a kind add up to, without and with tax."""
        lines = [line for line in self.lines if line.kind == kind]
        return sum(line.without_tax_micros for line in lines), sum(
            line.with_tax_micros for line in lines
        )


@dataclass(frozen=True, slots=True)
class _Amounts:
    """Exact amounts in parts of a micro."""

    without: Exact
    with_tax: Exact

    def __sub__(self, other: _Amounts) -> _Amounts:
        return _Amounts(self.without - other.without, self.with_tax - other.with_tax)


def rate(session: RateableSession) -> Rating:
    """Rate a session. Without a tariff, and where no component applies, it is free."""
    paid = stepped(portions(session))
    amounts = [_amounts(portion) for portion in paid]
    total = _Amounts(sum(each.without for each in amounts), sum(each.with_tax for each in amounts))
    lines = [_line(portion, amount) for portion, amount in zip(paid, amounts, strict=True)]
    if session.tariff is not None:
        limited = at_least(total, session.tariff.limits)
        lines += _correction(RatingLineKind.RATING_LINE_KIND_MIN_PRICE, limited - total)
        total = at_most(limited, session.tariff.limits)
        lines += _correction(RatingLineKind.RATING_LINE_KIND_MAX_PRICE, total - limited)
    currency = session.tariff.currency_code if session.tariff else session.currency_code
    return _rounded(currency, lines, total)


def stepped(found: dict[Dimension, list[Portion]]) -> list[Portion]:
    """Apply the steps, and give all portions in order of time.

    The sum of a group is raised to a whole number of the step of its last portion, and what that
    adds is paid by that portion.
    """
    paid = found[Dimension.FLAT] + found[Dimension.RESERVATION_FLAT]
    for group in _STEPPED:
        members = sorted(
            (portion for dimension in group for portion in found[dimension]), key=_when
        )
        if members:
            total, last = sum(each.quantity for each in members), members[-1]
            added = -total % last.component.step
            if added:
                members[-1] = replace(last, quantity=last.quantity + added)
        paid += members
    return sorted(paid, key=_when)


def _when(portion: Portion) -> tuple[Exact, Exact, int, int]:
    """Order by time; what was charged and what was parked in one period, in this order."""
    dimension = portion.component.dimension.value
    return portion.start_s, portion.end_s, dimension, portion.component.index


def at_least(total: _Amounts, limits: Limits) -> _Amounts:
    """Raise a total to the minimum."""
    return _limited(total, limits.least_without, limits.least_with, max)


def at_most(total: _Amounts, limits: Limits) -> _Amounts:
    """Lower a total to the maximum."""
    return _limited(total, limits.most_without, limits.most_with, min)


def _limited(
    total: _Amounts,
    without: int | None,
    with_tax: int | None,
    choose: Callable[[Exact, Exact], Exact],
) -> _Amounts:
    """Hold each total to its own limit; where only one has one, the other keeps the share of tax.

    Of nothing there is no share of tax: both are then the limit.
    """
    after_without = total.without if without is None else choose(total.without, without)
    after_with = total.with_tax if with_tax is None else choose(total.with_tax, with_tax)
    if with_tax is None and after_without != total.without:
        share = ratio(total.with_tax, total.without) if total.without else 1
        after_with = after_without * share
    if without is None and after_with != total.with_tax:
        share = ratio(total.without, total.with_tax) if total.with_tax else 1
        after_without = after_with * share
    return _Amounts(after_without, after_with)


def _amounts(portion: Portion) -> _Amounts:
    component, quantity = portion.component, portion.quantity
    return _Amounts(component.without_tax * quantity, component.with_tax * quantity)


def _line(portion: Portion, amount: _Amounts) -> Line:
    return Line(
        kind=_KINDS[portion.component.dimension],
        without_tax_micros=_micros(amount.without),
        with_tax_micros=_micros(amount.with_tax),
        component=portion.component,
        start_s=portion.start_s,
        end_s=portion.end_s,
        quantity=portion.quantity,
    )


def _correction(kind: RatingLineKind.ValueType, amount: _Amounts) -> list[Line]:
    """Give the line by which a limit changes the total; none where it does not."""
    if not amount.without and not amount.with_tax:
        return []
    return [Line(kind, _micros(amount.without), _micros(amount.with_tax))]


def _rounded(currency: str, lines: Sequence[Line], total: _Amounts) -> Rating:
    """Round the total to the currency's smallest coin; a line of its own says what that changed.

    This is the only rounding that moves money: the lines' own, to the micro, is in that line too.
    """
    without, with_tax = _to_coin(total.without, currency), _to_coin(total.with_tax, currency)
    rest = Line(
        RatingLineKind.RATING_LINE_KIND_ROUNDING,
        without - sum(line.without_tax_micros for line in lines),
        with_tax - sum(line.with_tax_micros for line in lines),
    )
    kept = (*lines, rest) if rest.without_tax_micros or rest.with_tax_micros else tuple(lines)
    return Rating(currency, kept, without, with_tax)


def _to_coin(amount: Exact, currency: str) -> int:
    """Round an exact amount, not one that was rounded to micros before."""
    coin = coin_micros(currency)
    coin_parts = amount.denominator * PARTS_PER_MICRO * coin
    return divide(amount.numerator, coin_parts, Rounding.HALF_UP) * coin


def _micros(amount: Exact) -> int:
    parts = amount.denominator * PARTS_PER_MICRO
    return divide(amount.numerator, parts, Rounding.HALF_EVEN)
