"""What holds for every tariff and every session."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.local_clock import zone_of
from clearinghouse.rateable import Period, RateableSession
from clearinghouse.rating import rate
from clearinghouse.tariff_rules import Dimension, TariffRules, read_rules
from foundation.money import coin_micros
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.common.v1.money_pb2 import Money
from gem.roaming.v1.rating_pb2 import RatingLineKind

few = settings(max_examples=40, deadline=None)
ZONES = ("Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC")
#: Around both changes of the clocks in Europe, and an ordinary day.
STARTS = (
    datetime(2026, 3, 28, 20, 7, tzinfo=UTC),
    datetime(2026, 10, 24, 20, 7, tzinfo=UTC),
    datetime(2026, 6, 10, 12, 0, tzinfo=UTC),
)


@st.composite
def restrictions(draw: st.DrawFn) -> TariffRestriction:
    """Give a restriction with some of its parts set."""
    return TariffRestriction(
        start_minute=draw(st.sampled_from([0, 0, 90, 150, 1320])),
        end_minute=draw(st.sampled_from([0, 0, 150, 360, 1440])),
        start_date=draw(st.sampled_from(["", "", "2026-03-29", "2026-10-25"])),
        end_date=draw(st.sampled_from(["", "", "2026-03-29", "2026-10-26"])),
        weekdays=draw(st.sampled_from([[], [], [6], [7, 1]])),
        min_energy_wh=draw(st.sampled_from([0, 0, 1_000, 7_777])),
        max_energy_wh=draw(st.sampled_from([0, 0, 5_000, 20_000])),
        min_duration_s=draw(st.sampled_from([0, 0, 600, 5_000])),
        max_duration_s=draw(st.sampled_from([0, 0, 1_801, 10_000])),
        min_power_w=draw(st.sampled_from([0, 0, 4_000])),
        max_power_w=draw(st.sampled_from([0, 0, 11_000])),
    )


@st.composite
def components(draw: st.DrawFn, tax_percent: int | None = None) -> PriceComponent:
    """Give a price component, restricted or not."""
    percent = st.sampled_from([0, 7, 19, 20]) if tax_percent is None else st.just(tax_percent)
    component = PriceComponent(
        dimension=draw(st.integers(1, 4)),  # type: ignore[arg-type]  # values of the enum
        price_micros=draw(st.integers(0, 9_000_000)),
        step_wh=draw(st.sampled_from([0, 1, 500])),
        step_s=draw(st.sampled_from([0, 1, 60, 900])),
        vat_ppm=draw(percent) * 10_000,
    )
    restriction = draw(st.none() | restrictions())
    if restriction is not None:
        component.restriction.CopyFrom(restriction)
    return component


@st.composite
def tariffs(draw: st.DrawFn, tax_percent: int | None = None) -> Tariff:
    """Give a tariff of any treatment of tax, with and without limits."""
    given = Tariff(
        tariff_id="T1",
        currency_code=draw(st.sampled_from(["EUR", "JPY", "KWD"])),
        components=draw(st.lists(components(tax_percent), max_size=6)),
        tax=draw(st.integers(0, 3)),  # type: ignore[arg-type]  # values of the enum
    )
    for name, largest in (("min_price", 5_000_000), ("max_price", 50_000_000)):
        if draw(st.booleans()):
            amount = Money(amount_micros=draw(st.integers(0, largest)), currency_code="EUR")
            getattr(given, name).CopyFrom(amount)
    return given


@st.composite
def periods(draw: st.DrawFn, rules: TariffRules | None) -> tuple[Period, ...]:
    """Give periods one after the other, some of zero length."""
    found = []
    at = Fraction(0)
    for _ in range(draw(st.integers(1, 4))):
        end = at + draw(st.sampled_from([0, 1, 600, 1_800, 7_200, 20_000]))
        energy = Fraction(draw(st.integers(0, 30_000_000)), 1000)
        kind = Dimension.TIME if energy else Dimension.PARKING_TIME
        found.append(Period(at, end, {Dimension.ENERGY: energy, kind: end - at}, rules))
        at = end
    return tuple(found)


@st.composite
def sessions(draw: st.DrawFn, tax_percent: int | None = None) -> RateableSession:
    """Give a session, priced by a tariff."""
    rules = read_rules(draw(tariffs(tax_percent)))
    return RateableSession(
        start=draw(st.sampled_from(STARTS)) + timedelta(minutes=draw(st.integers(0, 600))),
        zone=zone_of(draw(st.sampled_from(ZONES))),
        currency_code=rules.currency_code,
        periods=draw(periods(rules)),
        tariff=rules,
    )


def split(period: Period, share: Fraction) -> tuple[Period, Period]:
    """Cut a period in two; both have the same power."""
    middle = period.start_s + share * period.length_s
    first = {kind: quantity * share for kind, quantity in period.quantities.items()}
    second = {kind: quantity * (1 - share) for kind, quantity in period.quantities.items()}
    power_w = period.mean_power_w()
    return (
        replace(period, end_s=middle, quantities=first, power_w=power_w),
        replace(period, start_s=middle, quantities=second, power_w=power_w),
    )


@few
@given(sessions(), st.data())
def test_splitting_a_period_changes_nothing(session: RateableSession, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(session.periods) - 1))
    share = data.draw(st.fractions(Fraction(1, 50), Fraction(49, 50), max_denominator=50))
    before, after = session.periods[:number], session.periods[number + 1 :]
    parts = split(session.periods[number], share)
    assert rate(replace(session, periods=(*before, *parts, *after))) == rate(session)


@few
@given(sessions())
def test_the_lines_add_up_to_the_totals(session: RateableSession) -> None:
    rating = rate(session)
    assert sum(line.without_tax_micros for line in rating.lines) == rating.without_tax_micros
    assert sum(line.with_tax_micros for line in rating.lines) == rating.with_tax_micros
    coin = coin_micros(rating.currency_code)
    assert rating.without_tax_micros % coin == rating.with_tax_micros % coin == 0


@few
@given(sessions())
def test_nothing_is_rounded_but_the_total(session: RateableSession) -> None:
    rating = rate(session)
    rest, _ = rating.of_kind(RatingLineKind.RATING_LINE_KIND_ROUNDING)
    assert abs(rest) <= coin_micros(rating.currency_code) // 2 + len(rating.lines)


@few
@given(sessions())
def test_a_session_costs_nothing_without_a_tariff(session: RateableSession) -> None:
    free = tuple(replace(period, tariff=None) for period in session.periods)
    rating = rate(replace(session, periods=free, tariff=None))
    assert (rating.lines, rating.without_tax_micros, rating.with_tax_micros) == ((), 0, 0)


@few
@given(sessions())
def test_a_tariff_without_prices_costs_its_minimum_at_most(session: RateableSession) -> None:
    assert session.tariff is not None
    bare = replace(session.tariff, components=())
    free = tuple(replace(period, tariff=bare) for period in session.periods)
    kinds = {line.kind for line in rate(replace(session, periods=free, tariff=bare)).lines}
    assert kinds <= {
        RatingLineKind.RATING_LINE_KIND_MIN_PRICE,
        RatingLineKind.RATING_LINE_KIND_MAX_PRICE,
        RatingLineKind.RATING_LINE_KIND_ROUNDING,
    }


@few
@given(sessions(tax_percent=19), st.integers(0, 20_000))
def test_more_energy_never_costs_less(session: RateableSession, more_wh: int) -> None:
    # What costs less the more was charged is the tariff's own wish, so unrestricted prices only.
    assert session.tariff is not None
    plain = replace(
        session.tariff,
        components=tuple(replace(each, restriction=None) for each in session.tariff.components),
    )
    last = session.periods[-1]
    energy = {**last.quantities, Dimension.ENERGY: last.quantity(Dimension.ENERGY) + more_wh}

    def costs(final: Period) -> tuple[int, int]:
        priced = tuple(replace(each, tariff=plain) for each in (*session.periods[:-1], final))
        rating = rate(replace(session, periods=priced, tariff=plain))
        return rating.without_tax_micros, rating.with_tax_micros

    fewer, greater = costs(last), costs(replace(last, quantities=energy))
    assert fewer[0] <= greater[0]
    assert fewer[1] <= greater[1]


@few
@given(sessions())
def test_tax_never_lowers_a_price(session: RateableSession) -> None:
    rating = rate(session)
    assert rating.with_tax_micros >= rating.without_tax_micros >= 0


@few
@given(sessions())
def test_lines_of_one_dimension_never_overlap(session: RateableSession) -> None:
    lines = [line for line in rate(session).lines if line.component is not None]
    for kind in {line.kind for line in lines}:
        same = [line for line in lines if line.kind == kind]
        assert all(a.end_s <= b.start_s for a, b in pairwise(same))


@few
@given(sessions())
def test_a_step_adds_less_than_a_step(session: RateableSession) -> None:
    lines = [line for line in rate(session).lines if line.component is not None]
    for kinds in ({Dimension.ENERGY}, {Dimension.TIME, Dimension.PARKING_TIME}):
        paid = [each for each in lines if each.component and each.component.dimension in kinds]
        if paid:
            last = paid[-1].component
            assert last is not None
            total = sum(line.quantity for line in paid)
            assert total % last.step == 0


def test_the_kinds_of_prices_are_all_drawn() -> None:
    assert set(tariff_pb2.PriceDimension.values()) == {0, 1, 2, 3, 4}
