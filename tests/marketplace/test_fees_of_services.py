"""Monthly fees of contracts with several services and revisions, day by day (1471, 1682)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from gem.marketplace.v1 import statement_pb2
from gem.marketplace.v1 import transaction_service_pb2 as wire
from marketplace.contract_housekeeping import ContractHousekeeping
from marketplace.storage_price import PriceStorage
from tests.contracts import DAY, START, Deal, deal, framework_terms, time
from tests.control_plane import ControlPlane
from tests.transaction_desk import Desk, opened_desk
from tests.transaction_log_support import empty_log

pytestmark = pytest.mark.usecase(1471)

FEE = statement_pb2.CHARGE_KIND_MONTHLY_FEE


def per_month(micros_a_day: int) -> Any:
    """Give a fee that costs so much for each of the 31 days of March."""
    price = {"amount_micros": micros_a_day * 31, "currency_code": "EUR"}
    return {"per_month": {"price": price}}


def fee_terms(micros_a_day: int, **fields: Any) -> Any:
    """Give terms of the framework at a monthly fee."""
    return {**framework_terms(**fields), "price": per_month(micros_a_day)}


@pytest.fixture
async def desk(plane: ControlPlane, control_plane_url: str) -> AsyncIterator[Desk]:
    """Open the transaction log beside the control plane; nothing was called."""
    assert plane.now is None
    await empty_log(control_plane_url)
    async with opened_desk(control_plane_url) as opened:
        yield opened


async def revise(made: Deal, micros_a_day: int, at: datetime) -> None:
    """Agree on another fee from an instant on."""
    terms = fee_terms(micros_a_day)
    proposed = {"sections": terms["sections"], "price": terms["price"]}
    fields: dict[str, Any] = {"terms": proposed, "effective_time": time(at)}
    await made.decide("Accept", await made.request("Change", **fields))


async def add(made: Deal, micros_a_day: int, at: datetime, title: str) -> None:
    """Agree on a further service at a fee of its own from an instant on."""
    service = await made.plane.service("volt", title=title, offering=plain(micros_a_day))
    offering = service.offerings[0]
    names = [each.section_id for each in offering.terms.sections]
    addition = {"offering_id": offering.offering_id, "section_ids": names}
    fields: dict[str, Any] = {"addition": addition, "effective_time": time(at)}
    await made.decide("Accept", await made.request("Addition", **fields))


def plain(micros_a_day: int) -> Any:
    """Give an offering without framework at a fee."""
    sections = [{"section_id": "price", "title": "Price", "text": "A month.", "required": True}]
    return {"sections": sections, "price": per_month(micros_a_day)}


async def until(made: Deal, instant: datetime) -> None:
    """Let time pass, and have written what came about by itself."""
    plane = made.plane
    plane.now = instant
    await ContractHousekeeping(plane.engine, lambda: instant).sweep()


async def fees(desk: Desk, made: Deal, month: str = "2026-03") -> dict[int, tuple[int, int]]:
    """Give days and amount by the fee of a day; the sum is what is owed."""
    request = wire.GetMonthlyStatementRequest(contract_id=made.contract_id, month=month)
    statement = (await desk.partner("evsp").ask("GetMonthlyStatement", request)).statement
    lines = [charge for charge in statement.charges if charge.kind == FEE]
    owed = sum(total.amount_micros for total in statement.totals)
    assert owed == sum(line.value.amount_micros for line in lines)
    return {
        line.price.per_month.price.amount_micros // 31: (line.days, line.value.amount_micros)
        for line in lines
    }


async def test_an_added_service_has_a_fee_of_its_own_from_its_day_on(
    plane: ControlPlane, desk: Desk
) -> None:
    made = await deal(plane, fee_terms(1_000))
    await add(made, 70, START + 10 * DAY, "Second")
    assert await fees(desk, made) == {1_000: (31, 31_000), 70: (21, 1_470)}
    await until(made, START + 10 * DAY)
    # At the first one's fee: the days of both are on its line.
    await add(made, 1_000, START + 20 * DAY, "Third")
    assert await fees(desk, made) == {1_000: (31 + 11, 42_000), 70: (21, 1_470)}
    await until(made, START + 24 * DAY + timedelta(hours=9))
    await made.ask("evsp", "TerminateContract")
    assert await fees(desk, made) == {1_000: (25 + 5, 30_000), 70: (15, 1_050)}
    assert await fees(desk, made, "2026-04") == {}


async def test_a_revision_changes_the_fee_within_a_month_and_leaves_other_services_theirs(
    plane: ControlPlane, desk: Desk
) -> None:
    made = await deal(plane, fee_terms(1_000))
    await add(made, 70, START + DAY, "Second")
    await until(made, START + 2 * DAY)
    await revise(made, 2_000, START + 14 * DAY)
    for swept in (False, True):
        if swept:
            await until(made, START + 20 * DAY)
        assert await fees(desk, made) == {
            1_000: (14, 14_000),
            2_000: (17, 34_000),
            70: (30, 2_100),
        }


async def test_a_change_at_noon_is_billed_from_the_next_day_on(
    plane: ControlPlane, desk: Desk
) -> None:
    made = await deal(plane, fee_terms(1_000))
    await revise(made, 2_000, START + timedelta(days=9, hours=12))
    assert await fees(desk, made) == {1_000: (10, 10_000), 2_000: (21, 42_000)}


async def test_what_lapses_is_never_billed(plane: ControlPlane, desk: Desk) -> None:
    made = await deal(plane, fee_terms(1_000, term={"duration_days": 5}))
    prices = fee_terms(9_000, term={"duration_days": 5})
    proposed = {"sections": prices["sections"], "price": prices["price"]}
    fields: dict[str, Any] = {"terms": proposed, "effective_time": time(START + 4 * DAY)}
    await made.decide("Accept", await made.request("Change", **fields))
    await until(made, START + 2 * DAY)
    await made.ask("operator:business", "TerminateContract")
    await until(made, START + 30 * DAY)
    assert await fees(desk, made) == {1_000: (2, 2_000)}


async def test_prices_are_told_apart_by_service(plane: ControlPlane) -> None:
    made = await deal(plane, fee_terms(1_000))
    await add(made, 70, START + DAY, "Second")
    await until(made, START + 2 * DAY)
    await revise(made, 2_000, START + 3 * DAY)
    async with plane.engine.connect() as connection:
        found = await PriceStorage(connection).prices_of(made.contract_id)
        assert await PriceStorage(connection).prices_of("no-such") == []
    own, added = sorted(found, key=len, reverse=True)
    assert [since for _, since in added] == [START + DAY]
    assert own[0][1] == START
    assert own[-1][1] == START + 3 * DAY
    assert len({price_id for price_id, _ in [*own, *added]}) == 3
