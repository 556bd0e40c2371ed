"""A tariff as rating reads it: exact numbers in watt-hours, seconds and parts of a micro.

Quantities and the instants at which one price gives way to another have no finite decimal form in
general, and nothing may be rounded before the end: what is no integer is a `Fraction`. Amounts are
counted in parts of which prices have a whole number, so that amounts are integers as a rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache

from clearinghouse.exact import Exact, ratio
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction

_MINUTES_OF_DAY = 1440
_PPM = 1_000_000
#: Tariffs, the last used ones, that are not read again.
_RULES_KEPT = 512
_SECONDS_PER_HOUR = 3600
_WH_PER_KWH = 1000
#: Amounts count in it: a price per kilowatt-hour or hour is a whole number of parts per watt-hour
#: or second, and so is its share of tax.
PARTS_PER_MICRO = 18_000 * _PPM


class Dimension(IntEnum):
    """What can be priced; the values are the kinds of lines in `gem.roaming.v1`."""

    FLAT = 1
    ENERGY = 2
    TIME = 3
    PARKING_TIME = 4
    RESERVATION_TIME = 8
    #: A fixed fee of a reservation; its line is a FLAT one.
    RESERVATION_FLAT = 9


_DIMENSIONS = {
    tariff_pb2.PRICE_DIMENSION_ENERGY: Dimension.ENERGY,
    tariff_pb2.PRICE_DIMENSION_TIME: Dimension.TIME,
    tariff_pb2.PRICE_DIMENSION_PARKING_TIME: Dimension.PARKING_TIME,
    tariff_pb2.PRICE_DIMENSION_FLAT: Dimension.FLAT,
}
_OF_RESERVATION = {
    Dimension.TIME: Dimension.RESERVATION_TIME,
    Dimension.FLAT: Dimension.RESERVATION_FLAT,
}


@dataclass(frozen=True, slots=True)
class Instant:
    """The state of a session at one instant, as restrictions look at it."""

    minute_of_day: int
    #: As `2025-12-31`.
    date: str
    #: 1 is Monday.
    weekday: int
    elapsed_s: Exact
    energy_wh: Exact
    #: None where nobody measured it: a restriction on it does not hold then.
    power_w: Exact | None
    current_ma: Exact | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """A half-open range of a quantity; None is no bound."""

    least: int
    below: int | None

    def hold(self, value: Exact | None) -> bool:
        """Say whether the value is inside; an unknown one is inside no range but the whole."""
        if value is None:
            return self.is_whole
        return self.least <= value and (self.below is None or value < self.below)

    @property
    def is_whole(self) -> bool:
        return self.least == 0 and self.below is None

    def edges(self) -> Iterator[int]:
        """Give the values at which holding changes."""
        if self.least:
            yield self.least
        if self.below is not None:
            yield self.below


@dataclass(frozen=True, slots=True)
class Restriction:
    """When a component applies: every part must hold."""

    start_minute: int
    #: First minute outside; not after the start where the range wraps midnight.
    end_minute: int
    start_date: str
    end_date: str
    weekdays: frozenset[int]
    energy: Bounds
    duration: Bounds
    power: Bounds
    current: Bounds

    def holds(self, at: Instant) -> bool:
        """Say whether the restriction holds at an instant."""
        return (
            self._clock_holds(at.minute_of_day)
            and self.start_date <= at.date
            and (not self.end_date or at.date < self.end_date)
            and (not self.weekdays or at.weekday in self.weekdays)
            and self.energy.hold(at.energy_wh)
            and self.duration.hold(at.elapsed_s)
            and self.power.hold(at.power_w)
            and self.current.hold(at.current_ma)
        )

    def minutes(self) -> Iterator[int]:
        """Give the minutes of the day at which holding can change."""
        if (self.start_minute, self.end_minute) != (0, _MINUTES_OF_DAY):
            yield from (self.start_minute, self.end_minute % _MINUTES_OF_DAY)
        if self.start_date or self.end_date or self.weekdays:
            yield 0

    def _clock_holds(self, minute: int) -> bool:
        if self.start_minute < self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


@dataclass(frozen=True, slots=True)
class Component:
    """One price of a tariff."""

    tariff_id: str
    #: Position in the tariff.
    index: int
    dimension: Dimension
    #: As the tariff has it, per kilowatt-hour, hour or session.
    price_micros: int
    #: The same in parts of a micro per watt-hour, second or session, without and with tax.
    without_tax: Exact
    with_tax: Exact
    #: Smallest quantity that is paid, in watt-hours or seconds.
    step: int
    tax_ppm: int
    restriction: Restriction | None

    def applies(self, at: Instant) -> bool:
        """Say whether the component applies at an instant."""
        return self.restriction is None or self.restriction.holds(at)


@dataclass(frozen=True, slots=True)
class Limits:
    """The least and the most that a session costs, in parts of a micro; None is no limit."""

    least_without: int | None
    least_with: int | None
    most_without: int | None
    most_with: int | None


@dataclass(frozen=True)
class TariffRules:
    """A tariff as rating reads it; what follows from it is computed once."""

    tariff_id: str
    currency_code: str
    components: tuple[Component, ...]
    limits: Limits

    def component(self, dimension: Dimension, at: Instant) -> Component | None:
        """Give the first component of a dimension that applies at an instant; None is free."""
        for component in self._by_dimension[dimension]:
            if component.applies(at):
                return component
        return None

    @cached_property
    def restrictions(self) -> tuple[Restriction, ...]:
        """The restrictions of all components."""
        found = (component.restriction for component in self.components)
        return tuple(restriction for restriction in found if restriction is not None)

    @cached_property
    def minutes(self) -> frozenset[int]:
        """The minutes of the day at which any restriction can begin or cease to hold."""
        return frozenset(minute for each in self.restrictions for minute in each.minutes())

    @cached_property
    def _by_dimension(self) -> Mapping[Dimension, tuple[Component, ...]]:
        return {
            dimension: tuple(each for each in self.components if each.dimension is dimension)
            for dimension in Dimension
        }


def read_rules(tariff: Tariff) -> TariffRules:
    """Turn a tariff into what rating reads; the same tariff comes with thousands of records."""
    return _read_rules(tariff.SerializeToString(deterministic=True))


@lru_cache(maxsize=_RULES_KEPT)
def _read_rules(content: bytes) -> TariffRules:
    tariff = Tariff.FromString(content)
    components = (_component(tariff, index) for index in range(len(tariff.components)))
    return TariffRules(
        tariff.tariff_id,
        tariff.currency_code,
        tuple(component for component in components if component is not None),
        _limits(tariff),
    )


def _component(tariff: Tariff, index: int) -> Component | None:
    """Read a component; None for one that never prices a session."""
    source = tariff.components[index]
    dimension = _dimension(source)
    if dimension is None:
        return None
    unit, step = _unit_and_step(source)
    taxed = tariff.tax != tariff_pb2.TAX_TREATMENT_NOT_APPLICABLE
    tax_ppm = source.vat_ppm if taxed else 0
    price = source.price_micros * PARTS_PER_MICRO // unit
    if tariff.tax == tariff_pb2.TAX_TREATMENT_INCLUDED:
        without_tax, with_tax = ratio(price * _PPM, _PPM + tax_ppm), price
    else:
        without_tax, with_tax = price, price * (_PPM + tax_ppm) // _PPM
    restricted = source.HasField("restriction")
    return Component(
        tariff_id=tariff.tariff_id,
        index=index,
        dimension=dimension,
        price_micros=source.price_micros,
        without_tax=without_tax,
        with_tax=with_tax,
        step=step or 1,
        tax_ppm=tax_ppm,
        restriction=_restriction(source.restriction) if restricted else None,
    )


def _dimension(source: PriceComponent) -> Dimension | None:
    dimension = _DIMENSIONS.get(source.dimension)
    reservation = source.restriction.reservation
    if dimension is None or reservation == tariff_pb2.RESERVATION_PRICING_UNSPECIFIED:
        return dimension
    if reservation == tariff_pb2.RESERVATION_PRICING_RESERVATION:
        return _OF_RESERVATION.get(dimension)
    return None


def _unit_and_step(source: PriceComponent) -> tuple[int, int]:
    """Give how many watt-hours, seconds or sessions the price is for, and the step of them."""
    if source.dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
        return _WH_PER_KWH, source.step_wh
    if source.dimension == tariff_pb2.PRICE_DIMENSION_FLAT:
        return 1, 1
    return _SECONDS_PER_HOUR, source.step_s


def _restriction(source: TariffRestriction) -> Restriction:
    return Restriction(
        start_minute=source.start_minute,
        end_minute=source.end_minute or _MINUTES_OF_DAY,
        start_date=source.start_date,
        end_date=source.end_date,
        weekdays=frozenset(source.weekdays),
        energy=Bounds(source.min_energy_wh, source.max_energy_wh or None),
        duration=Bounds(source.min_duration_s, source.max_duration_s or None),
        power=Bounds(source.min_power_w, source.max_power_w or None),
        current=Bounds(source.min_current_ma, source.max_current_ma or None),
    )


def _limits(tariff: Tariff) -> Limits:
    """Read the limits; where prices contain tax, `min_price` and `max_price` do too."""
    given = {
        name: getattr(tariff, name).amount_micros * PARTS_PER_MICRO
        for name in ("min_price", "max_price", "min_price_with_tax", "max_price_with_tax")
        if tariff.HasField(name)
    }
    least, most = given.get("min_price"), given.get("max_price")
    least_with, most_with = given.get("min_price_with_tax"), given.get("max_price_with_tax")
    if tariff.tax == tariff_pb2.TAX_TREATMENT_INCLUDED:
        least_with = least if least_with is None else least_with
        most_with = most if most_with is None else most_with
        return Limits(None, least_with, None, most_with)
    return Limits(least, least_with, most, most_with)
