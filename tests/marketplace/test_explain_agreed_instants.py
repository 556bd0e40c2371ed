"""ExplainRoute of contracts that start and end by themselves, additions, and what was disabled."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from foundation.certificates import utc_now
from gem.marketplace.v1 import route_explanation_pb2 as wire
from marketplace.contract_housekeeping import ContractHousekeeping
from marketplace.router.plan import Hints, plan
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.storage_snapshot import SnapshotStorage
from tests.contracts import DAY, Deal, framework_terms, offer, time
from tests.control_plane import REQUIRED, TECHNICAL, ControlPlane
from tests.interfaces import interface
from tests.routed_market import BODY, NAME, RoutedMarket
from tests.transaction_log_support import connected

pytestmark = pytest.mark.usecase(1491)

MONTH = {"duration_days": 30}
#: Whether history was written by the time somebody asks must not matter.
SWEPT = pytest.mark.parametrize("swept", [False, True], ids=["not swept", "swept"])


@pytest.fixture
async def market(plane: ControlPlane, control_plane_url: str) -> RoutedMarket:
    """Give a market with a provider whose clock begins now: certificates are of this day."""
    plane.now = utc_now()
    made = RoutedMarket(plane, control_plane_url)
    await made.begin("volt")
    return made


async def agreed(market: RoutedMarket, terms: dict[str, Any] | None = None, **fields: Any) -> Deal:
    """Contract the service of `volt` by the framework."""
    service = market.services["volt"]
    offering = await offer(market.plane, service, terms or framework_terms())
    names = [each.section_id for each in offering.terms.sections]
    values = {"offering_id": offering.offering_id, "section_ids": names, **fields}
    return Deal(market.plane, service, await market.plane.contract("evsp", service, **values))


async def passed(market: RoutedMarket, delta: timedelta, *, swept: bool) -> datetime:
    """Let time pass; gives the instant."""
    plane = market.plane
    assert plane.now is not None
    plane.now += delta
    if swept:
        await ContractHousekeeping(plane.engine, lambda: plane.now or utc_now()).sweep()
    return plane.now


async def told(market: RoutedMarket, at: datetime | None = None) -> list[tuple[str, str, str]]:
    """Give service, reason and event of each candidate; the router agrees on who is asked."""
    explanation = await market.explain(at=at)
    if at is None:
        routed = [each.service_id for each in explanation.candidates if each.routed]
        assert routed == await planned(market)
    return [
        (
            each.service_id,
            wire.RouteReason.Name(each.reason).removeprefix("ROUTE_REASON_"),
            each.event.kind,
        )
        for each in explanation.candidates
    ]


async def planned(market: RoutedMarket) -> list[str]:
    """Give the services that the router would ask at the market's time."""
    assert market.plane.now is not None
    async with connected(market.url) as connection:
        rows = await SnapshotStorage(connection).everything(market.plane.now.timestamp())
    rules = interface(BODY)
    snapshot = RoutingSnapshot(rows.version, interfaces=[rules], routes=rows.routes)
    if not snapshot.targets("evsp", NAME):
        return []
    chosen = plan(snapshot, "evsp", rules.methods[f"/{NAME}/Search"], Hints(), "")
    return [target.service_id for target in chosen.targets]


@SWEPT
async def test_a_contract_for_later_is_not_started_until_its_instant(
    market: RoutedMarket, swept: bool
) -> None:
    assert market.plane.now is not None
    service_id = market.services["volt"].service_id
    made = await agreed(market, start_time=time(market.plane.now + 2 * DAY))
    waiting = await passed(market, DAY, swept=swept)
    assert await told(market) == [(service_id, "CONTRACT_NOT_STARTED", "CREATED")]
    await passed(market, DAY, swept=swept)
    assert await told(market) == [(service_id, "IN_FORCE", "STARTED")]
    await made.ask("evsp", "SuspendContract")
    started = await passed(market, timedelta(hours=1), swept=swept)
    assert await told(market) == [(service_id, "CONTRACT_SUSPENDED", "SUSPENDED")]
    assert await told(market, waiting) == [(service_id, "CONTRACT_NOT_STARTED", "CREATED")]
    assert await told(market, started - timedelta(hours=2)) == [
        (service_id, "CONTRACT_NOT_STARTED", "CREATED")
    ]


@SWEPT
@pytest.mark.parametrize("suspended", [False, True], ids=["active", "suspended"])
async def test_a_contract_whose_term_is_over_is_expired_from_its_instant_on(
    market: RoutedMarket, swept: bool, suspended: bool
) -> None:
    service_id = market.services["volt"].service_id
    made = await agreed(market, framework_terms(term={"duration_days": 3}))
    if suspended:
        await made.ask("evsp", "SuspendContract")
    within = await passed(market, DAY, swept=swept)
    before = await told(market)
    assert before[0][1] == ("CONTRACT_SUSPENDED" if suspended else "IN_FORCE")
    await passed(market, 2 * DAY, swept=swept)
    assert await told(market) == [(service_id, "CONTRACT_EXPIRED", "EXPIRED")]
    after = await passed(market, DAY, swept=swept)
    await passed(market, DAY, swept=swept)
    assert await told(market, after) == [(service_id, "CONTRACT_EXPIRED", "EXPIRED")]
    assert await told(market, within) == before


@SWEPT
async def test_a_notice_ends_routes_at_its_end_and_names_who_gave_none(
    market: RoutedMarket, swept: bool
) -> None:
    service_id = market.services["volt"].service_id
    made = await agreed(market, framework_terms(notice_days=2))
    await made.ask("volt", "TerminateContract")
    noticed = await passed(market, DAY, swept=swept)
    assert await told(market) == [(service_id, "IN_FORCE", "CREATED")]
    await passed(market, DAY, swept=swept)
    assert await told(market) == [(service_id, "CONTRACT_TERMINATED", "TERMINATED")]
    assert (await market.explain()).candidates[0].event.actor == ""
    assert await told(market, noticed) == [(service_id, "IN_FORCE", "CREATED")]


async def test_an_added_service_is_explained_by_the_contract_that_covers_it(
    market: RoutedMarket,
) -> None:
    plane = market.plane
    assert plane.now is not None
    made = await agreed(market)
    second = await plane.service("volt", title="Second")
    first_id, second_id = made.service.service_id, second.service_id
    before = await passed(market, timedelta(minutes=1), swept=False)
    offering = second.offerings[0]
    addition = {"offering_id": offering.offering_id, "section_ids": REQUIRED}
    at = time(plane.now + DAY)
    await made.decide(
        "Accept", await made.request("Addition", addition=addition, effective_time=at)
    )
    assert await told(market) == [(first_id, "IN_FORCE", "CREATED"), (second_id, "NO_CONTRACT", "")]
    await passed(market, DAY, swept=False)
    both = [(first_id, "IN_FORCE", "CREATED"), (second_id, "IN_FORCE", "CREATED")]
    assert await told(market) == both
    shown = (await market.explain()).candidates
    assert {each.contract_id for each in shown} == {made.contract_id}
    assert (await told(market, before))[1] == (second_id, "NO_CONTRACT", "")
    for_provider = await market.explain("volt", requester="evsp")
    assert [each.place_number for each in for_provider.candidates] == [1, 2]


@pytest.mark.usecase(1486)
async def test_a_disabled_or_deleted_service_is_no_reason_but_its_contract_is(
    market: RoutedMarket,
) -> None:
    """Nothing is disabled before its contracts end; the past remembers when it was routed."""
    made = await agreed(market)
    service_id = made.service.service_id
    routed = await passed(market, timedelta(minutes=1), swept=False)
    wanted = {"service_id": service_id}
    await market.plane.ask(TECHNICAL, "ServiceRegistryService/StopService", **wanted)
    stopped = await passed(market, timedelta(minutes=1), swept=False)
    await made.ask("evsp", "TerminateContract")
    await passed(market, timedelta(minutes=1), swept=False)
    ended = [(service_id, "CONTRACT_TERMINATED", "TERMINATED")]
    for step in ("DisableService", "DeleteService"):
        await market.plane.ask("volt", f"ServiceRegistryService/{step}", **wanted)
        await passed(market, timedelta(minutes=1), swept=False)
        assert await told(market) == ended
    moment = timedelta(seconds=1)
    assert await told(market, routed - moment) == [(service_id, "IN_FORCE", "CREATED")]
    assert await told(market, stopped - moment) == [(service_id, "SERVICE_STOPPED", "STOPPED")]
