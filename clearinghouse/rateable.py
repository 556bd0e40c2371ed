"""A session as rating reads it, taken from a charge detail record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from google.protobuf.timestamp_pb2 import Timestamp

from clearinghouse.exact import Exact, ratio
from clearinghouse.local_clock import zone_of
from clearinghouse.tariff_rules import Dimension, TariffRules, read_rules
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, ChargingPeriod

#: No session is longer; it bounds the work of rating one.
LONGEST_SESSION = timedelta(days=100)
_LONGEST_S = LONGEST_SESSION.total_seconds()
#: No session has more energy.
MOST_ENERGY_WH = 1_000_000_000
_FIRST_S = datetime(2000, 1, 1, tzinfo=UTC).timestamp()
_LAST_S = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
_MILLI = 1000
_SECONDS_PER_HOUR = 3600


class NotRateableError(ValueError):
    """A record whose times do not make a session; `field` is the path of what is wrong."""

    def __init__(self, field_path: str, text: str) -> None:
        super().__init__(text)
        self.field = field_path


@dataclass(frozen=True, slots=True)
class Period:
    """A part of a session in which conditions were even: quantities grow evenly in it."""

    #: Both in seconds from the start of the session.
    start_s: Exact
    end_s: Exact
    #: ENERGY in watt-hours, the others in seconds.
    quantities: Mapping[Dimension, Exact]
    #: None means free.
    tariff: TariffRules | None
    #: Mean power; None where it is to be taken from energy and time.
    power_w: Exact | None = None
    #: None where not known.
    current_ma: Exact | None = None

    @property
    def length_s(self) -> Exact:
        return self.end_s - self.start_s

    def quantity(self, dimension: Dimension) -> Exact:
        """Give how much of a dimension the period has; zero where it has none."""
        return self.quantities.get(dimension, 0)

    def mean_power_w(self) -> Exact | None:
        """Give the power as measured, else from energy and time; None where there is no time."""
        if self.power_w is not None:
            return self.power_w
        time_s = self.quantity(Dimension.TIME) or self.length_s
        if not time_s:
            return None
        return ratio(self.quantity(Dimension.ENERGY) * _SECONDS_PER_HOUR, time_s)


@dataclass(frozen=True, slots=True)
class RateableSession:
    """A session as rating reads it."""

    start: datetime
    zone: ZoneInfo
    currency_code: str
    periods: tuple[Period, ...]
    #: The tariff whose minimum and maximum hold; None means free.
    tariff: TariffRules | None = field(default=None)


def instant_of(timestamp: Timestamp) -> datetime | None:
    """Give the instant in UTC; None where it is not between the years 2000 and 2200."""
    if not _FIRST_S <= timestamp.seconds < _LAST_S or not 0 <= timestamp.nanos < 10**9:
        return None
    at = datetime.fromtimestamp(timestamp.seconds, UTC)
    return at.replace(microsecond=timestamp.nanos // 1000) if timestamp.nanos else at


def read_session(
    record: ChargeDetailRecord, rules: Mapping[str, TariffRules] | None = None
) -> RateableSession:
    """Read what has to be rated.

    `rules` replaces the tariffs that the record carries, by id. A period that names no tariff has
    the record's first. One that says neither how long it charged nor how long it only parked did
    the one where energy flowed and else the other.

    Raises:
        NotRateableError: times are missing, do not increase, or the session is too long; a tariff
            or the time zone is not known.
    """
    start, end = _ends(record)
    known = rules if rules is not None else {t.tariff_id: read_rules(t) for t in record.tariffs}
    starts = _period_starts(record, start, end)
    first = known[record.tariffs[0].tariff_id] if rules is None and record.tariffs else None
    if rules:
        first = next(iter(rules.values()))
    bounds = [*starts, end][1:]
    periods = tuple(
        _period(
            period,
            (_seconds(begin - start), _seconds(until - start)),
            _tariff(period, known, first, number),
        )
        for number, (period, begin, until) in enumerate(
            zip(record.charging_periods, starts, bounds, strict=True)
        )
    )
    _check_amounts(periods)
    zone = _zone(record)
    return RateableSession(start, zone, record.currency_code, periods, first)


def _check_amounts(periods: tuple[Period, ...]) -> None:
    """Refuse quantities of which the price could be beyond all amounts."""
    for dimension in _QUANTITIES.values():
        most = MOST_ENERGY_WH if dimension is Dimension.ENERGY else _LONGEST_S
        if sum(period.quantity(dimension) for period in periods) > most:
            raise NotRateableError("charging_periods", "the quantities are beyond any session")


def _ends(record: ChargeDetailRecord) -> tuple[datetime, datetime]:
    start, end = instant_of(record.start_time), instant_of(record.end_time)
    if start is None:
        raise NotRateableError("start_time", "the start is missing")
    if end is None:
        raise NotRateableError("end_time", "the end is missing")
    if end < start:
        raise NotRateableError("end_time", "the session ends before it starts")
    if end - start > LONGEST_SESSION:
        raise NotRateableError("end_time", "the session is too long")
    return start, end


def _zone(record: ChargeDetailRecord) -> ZoneInfo:
    try:
        return zone_of(record.location.time_zone or "UTC")
    except ValueError as error:
        raise NotRateableError("location.time_zone", str(error)) from None


def _period_starts(record: ChargeDetailRecord, start: datetime, end: datetime) -> list[datetime]:
    starts: list[datetime] = []
    for number, period in enumerate(record.charging_periods):
        at = instant_of(period.start_time)
        if at is None or not (starts[-1] if starts else start) <= at <= end:
            path = f"charging_periods[{number}].start_time"
            raise NotRateableError(path, "the period starts outside the session or out of order")
        starts.append(at)
    return starts


def _tariff(
    period: ChargingPeriod,
    known: Mapping[str, TariffRules],
    first: TariffRules | None,
    number: int,
) -> TariffRules | None:
    if not period.tariff_id:
        return first
    if period.tariff_id not in known:
        path = f"charging_periods[{number}].tariff_id"
        raise NotRateableError(path, "the record has no tariff of this id")
    return known[period.tariff_id]


def _period(
    period: ChargingPeriod, ends_s: tuple[Exact, Exact], tariff: TariffRules | None
) -> Period:
    volumes = {
        name: ratio(getattr(dimension, name), _MILLI if name.endswith(_THOUSANDTHS) else 1)
        for dimension in period.dimensions
        if (name := dimension.WhichOneof("volume")) is not None
    }
    quantities = {
        dimension: max(volumes[name], 0)
        for name, dimension in _QUANTITIES.items()
        if name in volumes
    }
    if not quantities.keys() - {Dimension.ENERGY}:
        charging = quantities.get(Dimension.ENERGY, 0) > 0
        kind = Dimension.TIME if charging else Dimension.PARKING_TIME
        quantities[kind] = ends_s[1] - ends_s[0]
    power_w, current_ma = volumes.get("power_w"), volumes.get("current_ma")
    return Period(*ends_s, quantities, tariff, power_w, current_ma)


#: Fields whose unit is a thousandth of the one in which rating counts.
_THOUSANDTHS = ("_milli_wh", "_ms")
_QUANTITIES = {
    "energy_milli_wh": Dimension.ENERGY,
    "charging_time_ms": Dimension.TIME,
    "parking_time_ms": Dimension.PARKING_TIME,
    "reservation_time_ms": Dimension.RESERVATION_TIME,
}


def _seconds(duration: timedelta) -> Exact:
    return ratio(duration // timedelta(microseconds=1), 1_000_000)
