"""Rating against an oracle that walks through the session second by second.

The oracle knows neither cuts nor portions: at every second it asks each component by itself, in
decimal arithmetic. Energies grow by whole watt-hours a second, so that no threshold falls between.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.rateable import read_session
from clearinghouse.rating import rate
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse_records import charged, parked, record

STARTS = (
    datetime(2026, 3, 29, 0, 50, tzinfo=UTC),  # ten minutes before the clocks go forward
    datetime(2026, 10, 25, 0, 50, tzinfo=UTC),  # ten minutes before they go back
    datetime(2026, 3, 1, 22, 55, tzinfo=UTC),  # five minutes before Monday
)


def holds(rule: TariffRestriction, elapsed_s: int, energy_wh: int, local: datetime) -> bool:
    """Say whether a restriction holds in the second that begins now."""
    minute, end = local.hour * 60 + local.minute, rule.end_minute or 1440
    inside = (
        rule.start_minute <= minute < end
        if rule.start_minute < end
        else minute >= rule.start_minute or minute < end
    )
    return (
        inside
        and (not rule.weekdays or local.isoweekday() in rule.weekdays)
        and (not rule.start_date or rule.start_date <= local.date().isoformat())
        and (not rule.end_date or local.date().isoformat() < rule.end_date)
        and rule.min_duration_s <= elapsed_s
        and (not rule.max_duration_s or elapsed_s < rule.max_duration_s)
        and rule.min_energy_wh <= energy_wh
        and (not rule.max_energy_wh or energy_wh < rule.max_energy_wh)
    )


def by_the_second(made: ChargeDetailRecord, minutes: list[tuple[int, int]]) -> Decimal:
    """Give what a session costs without tax, before rounding: minutes and watt-hours a second."""
    tariff, session = made.tariffs[0], read_session(made)
    cost, second, energy_wh = Decimal(0), 0, 0
    flat: Decimal | None = None
    for length, wh_per_second in minutes:
        for _ in range(length * 60):
            local = (session.start + timedelta(seconds=second)).astimezone(session.zone)
            seen: set[int] = set()
            for component in tariff.components:
                rule = component.restriction
                if component.dimension in seen or not holds(rule, second, energy_wh, local):
                    continue
                seen.add(component.dimension)
                price = Decimal(component.price_micros) / 1_000_000
                if component.dimension == tariff_pb2.PRICE_DIMENSION_FLAT:
                    flat = price if flat is None else flat
                elif component.dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
                    cost += price * wh_per_second / 1000
                elif (component.dimension == tariff_pb2.PRICE_DIMENSION_TIME) == (
                    wh_per_second > 0
                ):
                    cost += price / 3600
            second += 1
            energy_wh += wh_per_second
    return cost + (flat or 0)


RESTRICTIONS = st.builds(
    TariffRestriction,
    start_minute=st.sampled_from([0, 0, 60, 120, 150, 1380]),
    end_minute=st.sampled_from([0, 0, 5, 120, 175, 190]),
    weekdays=st.sampled_from([[], [], [1], [7]]),
    start_date=st.sampled_from(["", "", "2026-03-02"]),
    end_date=st.sampled_from(["", "", "2026-03-02", "2026-10-26"]),
    min_duration_s=st.sampled_from([0, 0, 77, 900]),
    max_duration_s=st.sampled_from([0, 0, 301, 1_500]),
    min_energy_wh=st.sampled_from([0, 0, 1_200]),
    max_energy_wh=st.sampled_from([0, 0, 2_400]),
)
COMPONENTS = st.builds(
    PriceComponent,
    dimension=st.sampled_from([1, 2, 3, 4]),
    price_micros=st.integers(1, 90).map(lambda price: price * 100_000),
    restriction=RESTRICTIONS,
)
#: Minutes, and watt-hours a second: thresholds of energy are met at the beginning of a second.
PERIODS = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([0, 1, 2])), min_size=1, max_size=3
)


@settings(max_examples=25)
@given(st.lists(COMPONENTS, min_size=1, max_size=6), PERIODS, st.sampled_from(STARTS))
def test_rating_gives_what_walking_through_the_session_gives(
    components: list[PriceComponent], minutes: list[tuple[int, int]], start: datetime
) -> None:
    given_tariff = Tariff(tariff_id="T1", currency_code="EUR", components=components)
    periods = [
        (length, charged(f"{length * 60 * wh}/1000") if wh else parked()) for length, wh in minutes
    ]
    made = record(given_tariff, periods, start=start)
    expected = by_the_second(made, minutes).quantize(Decimal("0.01"), ROUND_HALF_UP)
    # A sum of thirds of decimals may lie a hair beside a half cent: the next cent is as good.
    difference = rate(read_session(made)).without_tax_micros - int(expected * 1_000_000)
    assert abs(difference) <= 10_000
    exact = sum(
        line.without_tax_micros for line in rate(read_session(made)).lines if line.component
    )
    assert abs(exact - by_the_second(made, minutes) * 1_000_000) <= 10
