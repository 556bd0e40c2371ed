"""Cuts a session where one price gives way to another, and finds the price of each part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from clearinghouse.exact import Exact, ratio
from clearinghouse.local_clock import edges
from clearinghouse.rateable import NotRateableError, Period, RateableSession
from clearinghouse.tariff_rules import Component, Dimension, Instant, TariffRules

_MICROSECONDS = 1_000_000
_DAY_S = 86_400
#: Components times pieces of a session that are looked at: about a second. 2,000 periods with a
#: tariff of 50 components take half of it.
_MOST_TRIALS = 200_000
#: For tariffs that are the same at all times; nobody looks at it.
_ANY_INSTANT = Instant(0, "", 0, 0, 0, None, None)
_MEASURED = (
    Dimension.ENERGY,
    Dimension.TIME,
    Dimension.PARKING_TIME,
    Dimension.RESERVATION_TIME,
)


@dataclass(frozen=True, slots=True)
class Portion:
    """A quantity that is paid by one component."""

    component: Component
    #: Both in seconds from the start of the session.
    start_s: Exact
    end_s: Exact
    #: Watt-hours, seconds, or 1 for a fixed fee.
    quantity: Exact


def portions(session: RateableSession) -> dict[Dimension, list[Portion]]:
    """Give what is paid, by dimension, each in order of time and as few portions as can be.

    A fixed fee is paid once: the first component of that dimension that applies at any time.

    Raises:
        NotRateableError: periods and restrictions are more than any real session has.
    """
    check_size(session)
    found: dict[Dimension, list[Portion]] = {dimension: [] for dimension in Dimension}
    energy_wh: Exact = 0
    for period in session.periods:
        if period.tariff is not None:
            for piece in _pieces(period, energy_wh, session):
                _add_fees(found, piece, period, period.tariff)
                _add_measured(found, piece, period, period.tariff)
        energy_wh += period.quantity(Dimension.ENERGY)
    return found


def check_size(session: RateableSession) -> None:
    """Refuse a session whose rating would take seconds: what it costs grows with both factors."""
    tariffs = _tariffs(session)
    components = sum(len(tariff.components) for tariff in tariffs)
    restrictions = sum(len(tariff.restrictions) for tariff in tariffs)
    minutes = frozenset[int]().union(*(tariff.minutes for tariff in tariffs))
    length_s = session.periods[-1].end_s if session.periods else 0
    days = int(length_s // _DAY_S) + 2
    pieces = len(session.periods) + days * len(minutes) + 4 * restrictions
    if pieces * (components + 1) > _MOST_TRIALS:
        raise NotRateableError("tariffs", "the tariffs have too many restrictions to be rated")


def _tariffs(session: RateableSession) -> list[TariffRules]:
    by_id = {id(period.tariff): period.tariff for period in session.periods}
    return [tariff for tariff in by_id.values() if tariff is not None]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a period in which nothing changes sides of any restriction."""

    #: Which part of the period it is, from 0 to 1.
    share: Exact
    start_s: Exact
    end_s: Exact
    at: Instant


def _pieces(period: Period, energy_wh: Exact, session: RateableSession) -> Iterator[_Piece]:
    assert period.tariff is not None, "what is free has no pieces"
    if not period.tariff.restrictions:
        yield _Piece(1, period.start_s, period.end_s, _ANY_INSTANT)
        return
    cuts = sorted(_cuts(period, period.tariff, energy_wh, session) | {0, 1})
    for low, high in pairwise(cuts):
        yield _Piece(
            share=high - low,
            start_s=period.start_s + low * period.length_s,
            end_s=period.start_s + high * period.length_s,
            at=_instant(period, ratio(low + high, 2), energy_wh, session),
        )


def _cuts(
    period: Period, tariff: TariffRules, energy_wh: Exact, session: RateableSession
) -> set[Exact]:
    """Give where, between 0 and 1 of the period, a restriction begins or ceases to hold."""
    found: set[Exact] = set()
    energy, length_s = period.quantity(Dimension.ENERGY), period.length_s
    if energy:
        edges_wh = {edge for each in tariff.restrictions for edge in each.energy.edges()}
        inside = (edge - energy_wh for edge in edges_wh)
        found.update(ratio(into, energy) for into in inside if 0 < into < energy)
    if length_s:
        at_s: set[Exact] = {edge for each in tariff.restrictions for edge in each.duration.edges()}
        if tariff.minutes:
            at_s |= _clock_edges_s(period, session, tariff.minutes)
        inside = (edge - period.start_s for edge in at_s)
        found.update(ratio(into, length_s) for into in inside if 0 < into < length_s)
    return found


def _clock_edges_s(period: Period, session: RateableSession, minutes: frozenset[int]) -> set[Exact]:
    start, end = _at(session, period.start_s), _at(session, period.end_s)
    found = edges(start, end, session.zone, minutes)
    return {ratio((at - session.start) // timedelta(microseconds=1), _MICROSECONDS) for at in found}


def _instant(period: Period, share: Exact, energy_wh: Exact, session: RateableSession) -> Instant:
    elapsed_s = period.start_s + share * period.length_s
    local = _at(session, elapsed_s).astimezone(session.zone)
    return Instant(
        minute_of_day=local.hour * 60 + local.minute,
        date=local.date().isoformat(),
        weekday=local.isoweekday(),
        elapsed_s=elapsed_s,
        energy_wh=energy_wh + share * period.quantity(Dimension.ENERGY),
        power_w=period.mean_power_w(),
        current_ma=period.current_ma,
    )


def _at(session: RateableSession, elapsed_s: Exact) -> datetime:
    """Give the instant, cut to the microsecond: edges of clocks are whole seconds."""
    return session.start.astimezone(UTC) + timedelta(
        microseconds=int(elapsed_s * _MICROSECONDS // 1)
    )


def _add_fees(
    found: dict[Dimension, list[Portion]], piece: _Piece, period: Period, tariff: TariffRules
) -> None:
    fees = [Dimension.FLAT]
    if period.quantity(Dimension.RESERVATION_TIME):
        fees.append(Dimension.RESERVATION_FLAT)
    for dimension in fees:
        component = tariff.component(dimension, piece.at)
        if component is not None and not found[dimension]:
            fee = Portion(component, piece.start_s, piece.start_s, 1)
            found[dimension].append(fee)


def _add_measured(
    found: dict[Dimension, list[Portion]], piece: _Piece, period: Period, tariff: TariffRules
) -> None:
    for dimension in _MEASURED:
        quantity = period.quantity(dimension) * piece.share
        component = tariff.component(dimension, piece.at) if quantity else None
        if component is not None:
            _append(found[dimension], Portion(component, piece.start_s, piece.end_s, quantity))


def _append(already: list[Portion], portion: Portion) -> None:
    """Add a portion; one that goes on where the last ended, by the same component, extends it."""
    last = already[-1] if already else None
    if last and last.end_s == portion.start_s and last.component is portion.component:
        already[-1] = replace(last, end_s=portion.end_s, quantity=last.quantity + portion.quantity)
    else:
        already.append(portion)
