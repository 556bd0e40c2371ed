"""TariffService as the marketplace meets it: versions, who sees them, and rating by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clearinghouse import tariff_servicer
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import Pool, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from gem.charging.v1.tariff_pb2 import Tariff
from gem.roaming.v1 import tariff_service_pb2 as messages
from gem.roaming.v1.rating_pb2 import RatingComparison, RatingLineKind
from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceStub
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from tests.clearinghouse_ledger import (
    EVSP,
    HOUSE,
    OPERATOR,
    agree,
    by,
    emptied,
    house_database,
    refused,
    serving,
    settings_for,
)
from tests.clearinghouse_records import charged, plausible, price, record, tariff
from tests.identities import Identity, MakeIdentity

if TYPE_CHECKING:
    from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceAsyncStub

NOT_FOUND = ("NOT_FOUND", "NOT_FOUND")
INVALID = ("INVALID_ARGUMENT", "REQUEST_INVALID")
REUSED = ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=10)
LATER = SOON + timedelta(days=10)


@pytest.fixture(scope="module")
async def settings(
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
    make_identity: MakeIdentity,
) -> AsyncIterator[ProviderSettings]:
    folder: Path = tmp_path_factory.mktemp("house")
    async with house_database(postgres) as url:
        yield settings_for(folder, make_identity(HOUSE), url)


@pytest.fixture(scope="module")
async def served(
    settings: ProviderSettings, marketplace_identity: Identity
) -> AsyncIterator[TariffServiceAsyncStub]:
    async with serving(settings, marketplace_identity) as channel:
        yield TariffServiceStub(channel)


@pytest.fixture
async def pool(settings: ProviderSettings) -> AsyncIterator[Pool]:
    async with open_pool(settings.database_url, 4) as made:
        await emptied(made)
        yield made


@pytest.fixture
async def stub(served: TariffServiceAsyncStub, pool: Pool) -> TariffServiceAsyncStub:
    """Give the stub of a clearing house with one agreement and no tariff."""
    await agree(pool, OPERATOR, EVSP)
    return served


def publication(
    request_id: str = "R",
    start: datetime | None = None,
    end: datetime | None = None,
    given: Tariff | None = None,
    operator_id: str = "DE*ABC",
) -> messages.PublishTariffRequest:
    version = TariffVersion(
        operator_id=operator_id, tariff=given or tariff(price("ENERGY", "0.50", 20))
    )
    if start is not None:
        version.validity.start_time.FromDatetime(start)
    if end is not None:
        version.validity.end_time.FromDatetime(end)
    return messages.PublishTariffRequest(request_id=request_id, version=version)


async def publish(
    stub: TariffServiceAsyncStub, *arguments: Any, partner_id: str = OPERATOR, **named: Any
) -> TariffVersion:
    request = publication(*arguments, **named)
    return (await stub.PublishTariff(request, metadata=by(partner_id))).version


def asked(at: datetime | None = None, operator_id: str = "DE*ABC") -> messages.GetTariffRequest:
    request = messages.GetTariffRequest(operator_id=operator_id, tariff_id="T1")
    if at is not None:
        request.at_time.FromDatetime(at)
    return request


async def number_at(
    stub: TariffServiceAsyncStub, at: datetime | None, partner_id: str = EVSP
) -> int:
    answer = await stub.GetTariff(asked(at), metadata=by(partner_id))
    return answer.version.version_number


@pytest.mark.parametrize(
    "request_message",
    [publication(""), publication(operator_id="D1*ABC"), publication(end=LONG_AGO)],
)
async def test_what_breaks_the_rules_is_not_published(
    stub: TariffServiceAsyncStub, request_message: messages.PublishTariffRequest
) -> None:
    call = stub.PublishTariff(request_message, metadata=by(OPERATOR))
    assert await refused(call) == INVALID
    answer = await stub.ListTariffs(messages.ListTariffsRequest(), metadata=by(OPERATOR))
    assert not answer.versions


async def test_a_later_version_does_not_look_back(stub: TariffServiceAsyncStub) -> None:
    await publish(stub, "first", LONG_AGO)
    backdated = publication("second", datetime.now(UTC) - timedelta(minutes=1))
    assert await refused(stub.PublishTariff(backdated, metadata=by(OPERATOR))) == INVALID


async def test_a_request_id_for_another_version_is_refused(stub: TariffServiceAsyncStub) -> None:
    await publish(stub, "R")
    other_price = publication("R", given=tariff(price("ENERGY", "0.60", 20)))
    other_tariff = tariff(price("ENERGY", "0.50", 20))
    other_tariff.tariff_id = "T2"
    for request in (other_price, publication("R", given=other_tariff)):
        assert await refused(stub.PublishTariff(request, metadata=by(OPERATOR))) == REUSED


@pytest.mark.parametrize("partner_id", ["stranger", "another-evsp", HOUSE])
async def test_a_tariff_of_an_operator_without_agreement_does_not_exist(
    stub: TariffServiceAsyncStub, partner_id: str
) -> None:
    await publish(stub)
    published = messages.RateChargeDetailRecordRequest(record=plausible(), by_published_tariff=True)
    versions = messages.ListTariffVersionsRequest(operator_id="DE*ABC", tariff_id="T1")
    for call in (
        stub.GetTariff(asked(), metadata=by(partner_id)),
        stub.ListTariffVersions(versions, metadata=by(partner_id)),
        stub.RateChargeDetailRecord(published, metadata=by(partner_id)),
    ):
        assert await refused(call) == NOT_FOUND
    for operator_id in ("", "DE*ABC"):
        request = messages.ListTariffsRequest(operator_id=operator_id)
        answer = await stub.ListTariffs(request, metadata=by(partner_id))
        assert not answer.versions


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False},
        {"market_active": False},
        {"replaced_at": datetime(2026, 1, 2, tzinfo=UTC)},
        {"valid_from": datetime(2199, 1, 1, tzinfo=UTC)},
        {"valid_until": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
    ids=["disabled", "suspended in the market", "replaced", "not yet", "over"],
)
async def test_an_agreement_that_is_not_in_force_shows_nothing(
    stub: TariffServiceAsyncStub, pool: Pool, changes: dict[str, object]
) -> None:
    await agree(pool, OPERATOR, "late-evsp", **changes)
    await publish(stub)
    assert await refused(stub.GetTariff(asked(), metadata=by("late-evsp"))) == NOT_FOUND


@pytest.mark.parametrize("at", [datetime(1999, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)])
async def test_an_instant_beyond_time_is_refused(
    stub: TariffServiceAsyncStub, at: datetime
) -> None:
    assert await refused(stub.GetTariff(asked(at), metadata=by(EVSP))) == INVALID


async def test_before_its_validity_no_version_applies(stub: TariffServiceAsyncStub) -> None:
    await publish(stub, "R", SOON, LATER)
    for at in (None, SOON - timedelta(microseconds=1), LATER):
        assert await refused(stub.GetTariff(asked(at), metadata=by(EVSP))) == NOT_FOUND
    assert await number_at(stub, SOON) == 1
    assert await number_at(stub, LATER - timedelta(microseconds=1)) == 1


async def test_a_version_is_stored_as_it_came_with_number_and_times(
    stub: TariffServiceAsyncStub,
) -> None:
    before = datetime.now(UTC)
    stored = await publish(stub)
    published_at = stored.published_time.ToDatetime(tzinfo=UTC)
    assert before <= published_at <= datetime.now(UTC)
    assert stored.validity.start_time == stored.published_time
    assert not stored.validity.HasField("end_time")
    assert (stored.version_number, stored.tariff) == (1, publication().version.tariff)
    assert (await stub.GetTariff(asked(), metadata=by(EVSP))).version == stored


async def test_a_repetition_gives_the_first_version(stub: TariffServiceAsyncStub) -> None:
    stored = await publish(stub)
    assert await publish(stub) == stored
    assert (await publish(stub, "another")).version_number == 2


async def test_the_latest_version_that_is_valid_at_an_instant_applies(
    stub: TariffServiceAsyncStub,
) -> None:
    await publish(stub, "always", LONG_AGO)
    await publish(stub, "for a while", SOON, LATER)
    day = timedelta(days=1)
    found = [await number_at(stub, at) for at in (LONG_AGO, None, SOON, LATER - day, LATER)]
    assert found == [1, 1, 2, 2, 1]


async def test_nobody_takes_an_operators_name(stub: TariffServiceAsyncStub) -> None:
    """A partner may write any operator id; only who agreed with him sees that."""
    squatted = await publish(stub, partner_id="squatter", given=tariff(price("ENERGY", "9.99")))
    true = await publish(stub, "true")
    assert (squatted.version_number, true.version_number) == (1, 1)
    assert (await stub.GetTariff(asked(), metadata=by(EVSP))).version == true
    assert (await stub.GetTariff(asked(), metadata=by(OPERATOR))).version == true
    assert (await stub.GetTariff(asked(), metadata=by("squatter"))).version == squatted


async def test_versions_published_at_the_same_time_have_their_own_numbers(
    stub: TariffServiceAsyncStub,
) -> None:
    made = await asyncio.gather(*(publish(stub, f"R{number}") for number in range(8)))
    assert sorted(version.version_number for version in made) == list(range(1, 9))
    same = await asyncio.gather(*(publish(stub, "same") for _ in range(8)))
    assert {version.version_number for version in same} == {9}


async def test_versions_are_listed_the_latest_first_page_by_page(
    stub: TariffServiceAsyncStub,
) -> None:
    for number in range(5):
        await publish(stub, f"R{number}")
    request = messages.ListTariffVersionsRequest(operator_id="DE*ABC", tariff_id="T1")
    request.page.page_size = 2
    found = []
    for _ in range(3):
        answer = await stub.ListTariffVersions(request, metadata=by(EVSP))
        found += [version.version_number for version in answer.versions]
        request.page.page_token = answer.page.next_page_token
    assert found == [5, 4, 3, 2, 1]
    assert not answer.page.next_page_token


async def test_tariffs_are_listed_by_operator_and_id_each_in_its_latest_version(
    stub: TariffServiceAsyncStub, pool: Pool
) -> None:
    await agree(pool, "second-operator", EVSP)
    expected = []
    for operator_id, partner_id in (("DE*ABC", OPERATOR), ("AT*ABC", "second-operator")):
        for tariff_id in ("b c", "a", "C"):
            given = tariff(price("ENERGY", "0.50", 20))
            given.tariff_id = tariff_id
            for number in (1, 2):
                request_id = f"{operator_id} {tariff_id} {number}"
                await publish(
                    stub, request_id, None, None, given, operator_id, partner_id=partner_id
                )
            expected.append((operator_id, tariff_id, 2))
    request = messages.ListTariffsRequest()
    request.page.page_size = 2
    found = []
    for _ in range(3):
        answer = await stub.ListTariffs(request, metadata=by(EVSP))
        found += [(v.operator_id, v.tariff.tariff_id, v.version_number) for v in answer.versions]
        request.page.page_token = answer.page.next_page_token
    assert found == sorted(expected)
    assert not answer.page.next_page_token
    malformed = stub.ListTariffs(messages.ListTariffsRequest(operator_id="12*A"), metadata=by(EVSP))
    assert await refused(malformed) == INVALID
    only = messages.ListTariffsRequest(operator_id="at*abc")
    listed = (await stub.ListTariffs(only, metadata=by(EVSP))).versions
    assert [version.operator_id for version in listed] == ["AT*ABC"] * 3


async def test_a_page_of_large_tariffs_fits_an_answer(
    stub: TariffServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        given = tariff(*[price("ENERGY", "0.50", 20, start_date="2026-01-01")] * 50)
        given.tariff_id = f"T{number}"
        await publish(stub, f"R{number}", given=given)
    monkeypatch.setattr(tariff_servicer, "_PAGE_BYTES", 2 * given.ByteSize() + 200)
    request = messages.ListTariffsRequest()
    pages = []
    while True:
        answer = await stub.ListTariffs(request, metadata=by(EVSP))
        pages.append(len(answer.versions))
        request.page.page_token = answer.page.next_page_token
        if not request.page.page_token:
            break
    assert sum(pages) == 4
    assert max(pages) < 4


async def rated(stub: TariffServiceAsyncStub, partner_id: str = EVSP, **fields: Any) -> Any:
    request = messages.RateChargeDetailRecordRequest(**fields)
    answer = await stub.RateChargeDetailRecord(request, metadata=by(partner_id))
    comparison: RatingComparison = answer.comparison
    return comparison


async def test_a_record_that_cannot_be_rated_is_none_that_breaks_the_interface(
    stub: TariffServiceAsyncStub,
) -> None:
    made = plausible()
    made.ClearField("end_time")
    assert await refused(rated(stub, record=made)) == ("FAILED_PRECONDITION", "STATE_NOT_ALLOWED")


async def test_a_record_without_a_tariff_names_none_that_is_published(
    stub: TariffServiceAsyncStub,
) -> None:
    made = plausible()
    del made.tariffs[:]
    many = plausible()
    for number in range(11):
        period = many.charging_periods.add(tariff_id=f"T{number}")
        period.start_time.CopyFrom(many.start_time)
    for each in (made, many):
        call = rated(stub, record=each, by_published_tariff=True)
        assert await refused(call) == INVALID


async def test_a_record_that_keeps_its_tariff_has_no_difference(
    stub: TariffServiceAsyncStub,
) -> None:
    comparison = await rated(stub, record=plausible())
    assert comparison.within_tolerance
    assert comparison.rating.with_tax_micros == 7_200_000
    kinds = [line.kind for line in comparison.rating.lines]
    assert kinds == [
        RatingLineKind.RATING_LINE_KIND_ENERGY,
        RatingLineKind.RATING_LINE_KIND_PARKING_TIME,
    ]


async def test_the_published_version_of_the_start_decides_and_each_line_shows_the_difference(
    stub: TariffServiceAsyncStub,
) -> None:
    """The record carries a tariff of its own making: 0.50 instead of 0.40 EUR per kWh."""
    cheaper = tariff(price("ENERGY", "0.40", 20), price("PARKING_TIME", 2, 20))
    await publish(stub, "R1", LONG_AGO, given=cheaper)
    await publish(stub, "R2", SOON, given=tariff(price("ENERGY", 9)))
    comparison = await rated(stub, record=plausible(), by_published_tariff=True)
    assert not comparison.within_tolerance
    energy, parking, total = comparison.differences
    assert (energy.rated_without_tax_micros, energy.submitted_without_tax_micros) == (
        4_000_000,
        5_000_000,
    )
    assert (energy.within_tolerance, parking.within_tolerance) == (False, True)
    assert (total.rated_with_tax_micros, total.submitted_with_tax_micros) == (6_000_000, 7_200_000)
    tolerant = await rated(
        stub, record=plausible(), by_published_tariff=True, tolerance_micros=1_200_000
    )
    assert tolerant.within_tolerance


async def test_a_rating_that_no_answer_holds_is_refused(
    stub: TariffServiceAsyncStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tariff_servicer, "_ANSWER_BYTES", 100)
    request = messages.RateChargeDetailRecordRequest(record=plausible())
    call = stub.RateChargeDetailRecord(request, metadata=by(EVSP))
    assert await refused(call) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE")


@pytest.mark.parametrize(("month", "day", "night_hours"), [(3, 29, 7), (10, 25, 9)])
async def test_a_night_in_which_clocks_change_is_rated_by_the_clock_of_the_place(
    stub: TariffServiceAsyncStub, month: int, day: int, night_hours: int
) -> None:
    """From 22 to 6 o'clock in Berlin at 1 EUR an hour, published; a session of the whole night."""
    night = price("TIME", 1, start_minute=22 * 60, end_minute=6 * 60)
    await publish(stub, "R", LONG_AGO, given=tariff(night))
    start = datetime(2026, month, day - 1, 21 if month == 3 else 20, tzinfo=UTC)
    made = record(tariff(night), [((night_hours + 2) * 60, charged(10))], start=start)
    made.operator_session_id = "OP-1"
    comparison = await rated(stub, record=made, by_published_tariff=True)
    assert comparison.rating.without_tax_micros == night_hours * 1_000_000
