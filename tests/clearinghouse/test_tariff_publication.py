"""What may be published as a version of a tariff, and from when it applies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.tariff_publication import (
    Publication,
    operator_key_of,
    read_publication,
    valid_from_of,
)
from foundation.errors import MarketError
from gem.common.v1.money_pb2 import Money
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from tests.clearinghouse_records import price, tariff

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Change = Callable[[TariffVersion], object]


def version(start: datetime | None = None, end: datetime | None = None) -> TariffVersion:
    made = TariffVersion(operator_id="DE*ABC", tariff=tariff(price("ENERGY", "0.50", 20)))
    if start is not None:
        made.validity.start_time.FromDatetime(start)
    if end is not None:
        made.validity.end_time.FromDatetime(end)
    return made


def publication(start: datetime | None = None, end: datetime | None = None) -> Publication:
    return read_publication(version(start, end))


def fields_of(error: MarketError) -> list[str]:
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    return [violation.field for violation in error.violations]


CHANGES: list[tuple[Change, str]] = [
    (lambda v: v.tariff.ClearField("tariff_id"), "version.tariff.tariff_id"),
    (lambda v: setattr(v, "version_number", 1), "version.version_number"),
    (lambda v: setattr(v.published_time, "seconds", 1), "version.published_time"),
    (lambda v: setattr(v, "operator_id", "12*ABC"), "version.operator_id"),
    (lambda v: setattr(v, "operator_id", "DE*AB\N{KELVIN SIGN}"), "version.operator_id"),
    (
        lambda v: setattr(v.validity.start_time, "seconds", -(10**10)),
        "version.validity.start_time",
    ),
    (lambda v: setattr(v.validity.end_time, "seconds", 10**12), "version.validity.end_time"),
    (
        lambda v: v.tariff.min_price.CopyFrom(Money(amount_micros=1, currency_code="JPY")),
        "version.tariff.min_price.currency_code",
    ),
    (
        lambda v: v.tariff.max_price_with_tax.CopyFrom(
            Money(amount_micros=-1, currency_code="EUR")
        ),
        "version.tariff.max_price_with_tax.amount_micros",
    ),
]


@pytest.mark.parametrize(("change", "field"), CHANGES)
def test_a_version_that_breaks_a_rule_is_refused_with_the_field(change: Change, field: str) -> None:
    made = version()
    change(made)
    with pytest.raises(MarketError) as refused:
        read_publication(made)
    assert fields_of(refused.value) == [field]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    made = version()
    for change, _ in CHANGES:
        change(made)
    with pytest.raises(MarketError) as refused:
        read_publication(made)
    assert len(fields_of(refused.value)) == len({field for _, field in CHANGES})


def test_a_later_version_does_not_start_before_its_publication() -> None:
    with pytest.raises(MarketError) as refused:
        valid_from_of(publication(NOW - timedelta(microseconds=1)), NOW, 2)
    assert fields_of(refused.value) == ["version.validity.start_time"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_that_is_over_before_it_starts_is_refused(number: int) -> None:
    with pytest.raises(MarketError) as refused:
        valid_from_of(publication(None, NOW), NOW, number)
    assert fields_of(refused.value) == ["version.validity.end_time"]


def test_the_first_version_may_look_back() -> None:
    assert valid_from_of(publication(NOW - DAY), NOW, 1) == NOW - DAY


def test_without_a_start_a_version_applies_from_its_publication_on() -> None:
    assert valid_from_of(publication(), NOW, 1) == valid_from_of(publication(), NOW, 9) == NOW


def test_operator_ids_are_compared_without_separators_and_case() -> None:
    assert {operator_key_of(each) for each in ("DE*ABC", "deabc", "De-aBc")} == {"DEABC"}
    assert operator_key_of("DE*AB") is None


@given(st.integers(-1000, 1000), st.integers(1, 1000), st.integers(1, 5))
def test_what_is_accepted_applies_to_no_session_of_before(
    start_h: int, length_h: int, number: int
) -> None:
    start = NOW + timedelta(hours=start_h)
    given_publication = publication(start, start + timedelta(hours=length_h))
    try:
        valid_from = valid_from_of(given_publication, NOW, number)
    except MarketError:
        assert number > 1
        assert start < NOW
    else:
        assert valid_from == start
        assert number == 1 or valid_from >= NOW
