"""What comes about by itself over a real database: starts, ends, notices, trial periods (1397)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_housekeeping import ContractHousekeeping
from marketplace.routing_feed import RoutingFeed
from tests.contracts import DAY, START, Deal, deal, framework_terms, state_of, time
from tests.control_plane import BUSINESS, INTERFACE, ControlPlane
from tests.interceptors.support import raises

NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
MONTH = {"duration_days": 30}
_ENDS, _CONTINUES = 2, 1


async def sweep(plane: ControlPlane, workers: int = 3) -> None:
    """Let several workers sweep at once."""
    keeping = [ContractHousekeeping(plane.engine, lambda: plane.now or START)] * workers
    await asyncio.gather(*(each.sweep() for each in keeping))


async def events(made: Deal) -> list[tuple[str, float, str]]:
    """Give the history: what, how many days after START, and who."""
    found = (await made.ask("evsp", "ListContractEvents")).events
    kinds = await made.history()
    return [
        (kind, (event.event_time.ToDatetime(START.tzinfo) - START) / DAY, event.actor)
        for kind, event in zip(kinds, found, strict=True)
    ]


async def texts(plane: ControlPlane, who: str) -> list[str]:
    """Give the texts of somebody's notices about contracts, the oldest first."""
    answer = await plane.ask(who, "NotificationService/ListNotifications")
    return [each.text for each in reversed(answer.notifications) if each.contract_id]


@pytest.mark.usecase(1485)
async def test_a_contract_for_later_waits_and_starts_by_itself(plane: ControlPlane) -> None:
    made = await deal(plane, start_time=time(START + 2 * DAY))
    assert state_of(made.made) == "PENDING"
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await made.ask("evsp", "SuspendContract")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await plane.contract("evsp", made.service)
    made.later(days=5)
    assert state_of(await made.contract()) == "ACTIVE"
    await sweep(plane)
    assert await events(made) == [("CREATED", 0, "evsp"), ("STARTED", 2, "")]
    assert state_of((await made.ask("evsp", "SuspendContract")).contract) == "SUSPENDED"


@pytest.mark.usecase(1485)
async def test_a_start_too_far_ahead_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await deal(plane, start_time=time(START + 1001 * DAY))


async def test_a_term_ends_and_both_parties_are_told_before_and_then(plane: ControlPlane) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    for days in (25, 10):
        made.later(days=days)
        await sweep(plane)
        await sweep(plane)
    expected = [("CREATED", 0, "evsp"), ("REMINDED", 23, ""), ("EXPIRED", 30, "")]
    assert await events(made) == expected
    for who in ("evsp", "volt"):
        _, reminder, end = await texts(plane, who)
        assert "It ends at 2026-03-31 00:00 UTC." in reminder
        assert "by the marketplace, as agreed. It is expired now." in end


async def test_after_a_long_absence_every_step_has_its_own_instant(plane: ControlPlane) -> None:
    terms = framework_terms(
        term={**MONTH, "prolongation_days": 30}, trial={"trial_days": 10, "outcome": _CONTINUES}
    )
    made = await deal(plane, terms)
    made.later(days=95)
    await sweep(plane)
    assert [each[:2] for each in await events(made) if each[0] != "REMINDED"] == [
        ("CREATED", 0),
        ("TRIAL_ENDED", 10),
        ("PROLONGED", 30),
        ("PROLONGED", 60),
        ("PROLONGED", 90),
    ]
    contract = await made.contract()
    assert contract.end_time == time(START + 120 * DAY)
    assert contract.trial_end_time == time(START + 10 * DAY)


async def test_a_trial_that_ends_ends_the_contract(plane: ControlPlane) -> None:
    terms = framework_terms(notice_days=30, trial={"trial_days": 10, "outcome": _ENDS})
    made = await deal(plane, terms)
    made.later(days=10)
    assert state_of(await made.contract()) == "EXPIRED"
    again = await plane.contract("evsp", made.service, section_ids=["price", "service-level"])
    assert state_of(again) == "ACTIVE", "the old one is in nobody's way, swept or not"
    assert (await events(made))[-1] == ("EXPIRED", 10, "")


@pytest.mark.parametrize("who", ["evsp", "volt"])
async def test_a_notice_takes_effect_when_its_period_is_over(plane: ControlPlane, who: str) -> None:
    made = await deal(plane, framework_terms(notice_days=30))
    noticed = (await made.ask(who, "TerminateContract")).contract
    assert (state_of(noticed), noticed.end_time) == ("ACTIVE", time(START + 30 * DAY))
    for again in ("evsp", "volt"):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await made.ask(again, "TerminateContract")
    made.later(days=30)
    await sweep(plane)
    ended = await made.contract()
    assert (state_of(ended), ended.terminate_time) == ("TERMINATED", time(START + 30 * DAY))
    expected = [("CREATED", 0, "evsp"), ("NOTICE_GIVEN", 0, who), ("TERMINATED", 30, "")]
    assert await events(made) == expected


async def test_in_a_trial_and_by_the_operator_the_end_is_at_once(plane: ControlPlane) -> None:
    terms = framework_terms(notice_days=30, trial={"trial_days": 10, "outcome": _CONTINUES})
    made = await deal(plane, terms)
    assert state_of((await made.ask("evsp", "TerminateContract")).contract) == "TERMINATED"
    names = [each.section_id for each in made.made.terms.sections]
    fields: dict[str, Any] = {"offering_id": made.made.offering_id, "section_ids": names}
    again = Deal(plane, made.service, await plane.contract("evsp", made.service, **fields))
    again.later(days=11)
    assert state_of((await again.ask("volt", "TerminateContract")).contract) == "ACTIVE"
    assert state_of((await again.ask(BUSINESS, "TerminateContract")).contract) == "TERMINATED"


async def test_a_contract_that_has_ended_keeps_no_partner_from_being_inactivated(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    made.later(days=31)
    await sweep(plane)
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="volt")
    assert (await made.contract()).requester_id == "evsp"


@pytest.mark.usecase(1245)
async def test_a_search_sees_contracts_as_they_are_whether_or_not_they_were_swept(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH), start_time=time(START + DAY))

    async def found(**criteria: Any) -> int:
        method = "ContractService/SearchContracts"
        return len((await plane.ask("volt", method, criteria=criteria)).contracts)

    for swept in (False, True):
        plane.now = START + 2 * DAY
        if swept:
            await sweep(plane)
        assert await found(states=["CONTRACT_STATE_ACTIVE"]) == 1
        assert await found(states=["CONTRACT_STATE_PENDING", "CONTRACT_STATE_EXPIRED"]) == 0
        assert await found(ends_within_days=29) == 1
        assert await found(ends_within_days=28) == 0
        plane.now = START + 40 * DAY
        if swept:
            await sweep(plane)
        assert await found(states=["CONTRACT_STATE_EXPIRED"]) == 1
        assert await found(states=["CONTRACT_STATE_ACTIVE"]) == 0
        assert await found(ends_within_days=1000) == 0, "it is not due for prolongation any more"
        for days, count in ((0.5, 0), (1, 1), (30.9, 1), (31, 0)):
            assert await found(valid_at_time=time(START + days * DAY)) == count
    assert state_of(await made.contract()) == "EXPIRED"


@pytest.mark.usecase(1245)
async def test_a_search_goes_page_by_page_in_contract_order(plane: ControlPlane) -> None:
    services = await plane.market("a-one", "b-two", "c-three")
    made = [await plane.contract("evsp", service) for service in services]
    seen, page = [], {"page_size": 2}
    while True:
        method = "ContractService/SearchContracts"
        answer = await plane.ask("evsp", method, page=page)
        seen += [each.contract_id for each in answer.contracts]
        if not answer.page.next_page_token:
            break
        page["page_token"] = answer.page.next_page_token
    assert seen == [each.contract_id for each in made]
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await plane.ask("evsp", method, page={"page_token": "x"})
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await plane.ask("evsp", method, criteria={"valid_at_time": {"seconds": -1}})


@pytest.mark.fault
async def test_routes_end_at_their_instant_also_while_the_database_is_away(
    plane: ControlPlane, control_plane_url: str
) -> None:
    now_s = [START.timestamp()]
    made = await deal(plane, framework_terms(term=MONTH))
    feed = RoutingFeed(control_plane_url, wall_s=lambda: now_s[0])
    await feed.start()
    try:
        assert len(feed.current().targets("evsp", INTERFACE)) == 1
        version = feed.current().version
    finally:
        await feed.stop()
    # Nothing is left but the timer's own work.
    now_s[0] = (START + 30 * DAY).timestamp()
    feed._clock.tick()  # what the timer calls
    feed._clock.stop()  # as above
    assert feed.current().targets("evsp", INTERFACE) == ()
    assert feed.current().version == version
    assert made.made.HasField("end_time")


async def test_one_contract_that_cannot_be_settled_keeps_no_other_back(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    (second,) = [await plane.service("volt")]
    other = await plane.contract("evsp", second)
    async with plane.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE marketplace.contract SET due_at = :at, changes_at = :at"
                " WHERE contract_id = :id"
            ),
            {"at": START + DAY, "id": other.contract_id},
        )
    made.later(days=31)
    keeping = ContractHousekeeping(plane.engine, lambda: plane.now or START)
    assert [await keeping.sweep() for _ in range(2)] == [1, 0]
    assert (await events(made))[-1] == ("EXPIRED", 30, "")
