"""Two-step changes of contracts over a real database (1246, 1247, 1480, 1481; 1397, 1682)."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_housekeeping import ContractHousekeeping
from tests.contracts import (
    DAY,
    START,
    Deal,
    amendment_state,
    deal,
    framework_terms,
    price,
    state_of,
    time,
)
from tests.control_plane import BUSINESS, EVSP, ControlPlane, fields_of
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
MONTH = {"duration_days": 30}


def _proposed(micros: int = 9, **fields: Any) -> dict[str, Any]:
    made = framework_terms(micros=micros, **fields)
    return {"sections": made["sections"], "price": made["price"]}


def _micros(contract: Any) -> int:
    return int(contract.terms.price.per_call.price.amount_micros)


async def _sweep(plane: ControlPlane) -> int:
    return await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()


async def _titles(plane: ControlPlane, who: str) -> list[str]:
    answer = await plane.ask(who, "NotificationService/ListNotifications")
    return [each.title for each in answer.notifications]


@pytest.mark.usecase(1246, 1480)
@pytest.mark.parametrize("kind", ["Change", "Termination", "Prolongation"])
async def test_a_form_without_reason_is_refused_by_its_field(
    plane: ControlPlane, kind: str
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    full: dict[str, dict[str, Any]] = {
        "Change": {"terms": _proposed()},
        "Prolongation": {"end_time": time(START + 60 * DAY)},
        "Termination": {},
    }
    with pytest.raises(MarketError, check=INVALID) as caught:
        await made.request(kind, reason="", **full[kind])
    assert fields_of(caught.value) == ["reason"]
    for name in full[kind]:
        with pytest.raises(MarketError, check=INVALID) as caught:
            await made.request(kind)
        assert fields_of(caught.value) == [name]
    assert await made.history() == ["CREATED"]


@pytest.mark.usecase(1246, 1247, 1479)
@pytest.mark.parametrize(("asks", "decides"), [("evsp", "volt"), ("volt", "evsp")])
async def test_an_accepted_change_is_a_new_revision_and_the_old_one_stays(
    plane: ControlPlane, asks: str, decides: str
) -> None:
    made = await deal(plane)
    asked = await made.request("Change", asks, terms=_proposed(9))
    assert (amendment_state(asked), asked.requested_by) == ("PENDING", asks)
    shown = await made.ask(decides, "GetContract")
    assert shown.open_amendment == asked
    assert shown.contract == made.made
    assert "Contract change requested" in await _titles(plane, decides)
    accepted = await made.decide("Accept", asked, decides)
    assert amendment_state(accepted) == "APPLIED"
    after = await made.contract(asks)
    assert (after.revision, _micros(after)) == (2, 9)
    revisions = (await made.ask(asks, "ListContractRevisions")).revisions
    assert [each.revision for each in revisions] == [1, 2]
    assert [_micros(each) for each in revisions] == [20_000, 9]
    for each in revisions:
        raw = each.terms.SerializeToString(deterministic=True)
        assert each.terms_digest == hashlib.sha256(raw).digest()
    assert after.terms_digest == revisions[1].terms_digest
    expected = ["CREATED", "CHANGE_REQUESTED", "REQUEST_ACCEPTED", "CHANGED"]
    assert await made.history() == expected
    assert "Contract changed" in await _titles(plane, asks)


@pytest.mark.usecase(1247)
async def test_a_rejected_or_revoked_change_changes_nothing(plane: ControlPlane) -> None:
    made = await deal(plane)
    for step, who in (("Reject", "volt"), ("Revoke", "evsp")):
        asked = await made.request("Change", terms=_proposed())
        with pytest.raises(MarketError, check=FORBIDDEN):
            await made.decide(step, asked, "evsp" if who == "volt" else "volt")
        closed = await made.decide(step, asked, who)
        assert closed.HasField("decide_time")
        for again in ("Accept", "Reject"):
            with pytest.raises(MarketError, check=NOT_ALLOWED):
                await made.decide(again, asked)
    assert (await made.contract()) == made.made
    answer = await made.ask("volt", "ListContractAmendments")
    assert [amendment_state(each) for each in answer.amendments] == ["REJECTED", "REVOKED"]


async def test_one_request_is_open_at_a_time(plane: ControlPlane) -> None:
    made = await deal(plane)
    asked = await made.request("Change", terms=_proposed())
    for who in ("evsp", "volt"):
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await made.request("Termination", who)
    await made.decide("Reject", asked)
    await made.request("Termination")


@pytest.mark.usecase(1246, 1247, 1480, 1481)
async def test_strangers_and_operators_take_no_part(plane: ControlPlane) -> None:
    made = await deal(plane)
    await plane.partner("other", EVSP)
    asked = await made.request("Change", terms=_proposed())
    for step in ("Accept", "Reject", "Revoke"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await made.decide(step, asked, "other")
        with pytest.raises(MarketError, check=FORBIDDEN):
            await made.decide(step, asked, BUSINESS)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await made.request("Termination", "other")
    for method in ("ListContractAmendments", "ListContractRevisions"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await made.ask("other", method)
        await made.ask(BUSINESS, method)


@pytest.mark.usecase(1480, 1481)
@pytest.mark.parametrize(("asks", "decides"), [("evsp", "volt"), ("volt", "evsp")])
async def test_an_accepted_termination_ends_the_contract_without_notice(
    plane: ControlPlane, asks: str, decides: str
) -> None:
    made = await deal(plane, framework_terms(notice_days=30))
    asked = await made.request("Termination", asks)
    assert state_of(await made.contract()) == "ACTIVE"
    await made.decide("Accept", asked, decides)
    ended = await made.contract()
    assert state_of(ended) == "TERMINATED"
    assert ended.terminate_time == time(START)
    expected = ["CREATED", "TERMINATION_REQUESTED", "REQUEST_ACCEPTED", "TERMINATED"]
    assert await made.history() == expected
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await made.request("Change", terms=_proposed())


@pytest.mark.usecase(1481)
async def test_a_termination_for_later_takes_effect_then(plane: ControlPlane) -> None:
    made = await deal(plane, framework_terms(term={**MONTH, "prolongation_days": 30}))
    at = START + 45 * DAY
    asked = await made.request("Termination", effective_time=time(at))
    accepted = await made.decide("Accept", asked)
    assert amendment_state(accepted) == "SCHEDULED"
    contract = await made.contract()
    assert (state_of(contract), contract.end_time) == ("ACTIVE", time(at))
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await made.ask("evsp", "TerminateContract")
    made.later(days=46)
    assert state_of(await made.contract()) == "TERMINATED", "whether or not it was swept"
    assert await _sweep(plane) == 1
    assert await _sweep(plane) == 0
    ended = await made.contract()
    assert ended.terminate_time == time(at)
    answer = await made.ask("volt", "ListContractAmendments")
    assert [amendment_state(each) for each in answer.amendments] == ["APPLIED"]
    assert (await made.history())[-2:] == ["REQUEST_ACCEPTED", "TERMINATED"]


@pytest.mark.usecase(1246, 1247)
async def test_a_change_for_later_is_in_force_from_its_instant_on(plane: ControlPlane) -> None:
    made = await deal(plane)
    at = START + 3 * DAY
    asked = await made.request("Change", terms=_proposed(), effective_time=time(at))
    await made.decide("Accept", asked)
    assert _micros(await made.contract()) == 20_000
    revisions = (await made.ask("evsp", "ListContractRevisions")).revisions
    assert [each.effective_time for each in revisions] == [time(START), time(at)]
    made.later(days=3)
    for _ in range(2):
        contract = await made.contract()
        assert (contract.revision, _micros(contract)) == (2, 9)
        await asyncio.gather(*(_sweep(plane) for _ in range(3)))
    assert (await made.history()).count("CHANGED") == 1
    events = (await made.ask("evsp", "ListContractEvents")).events
    assert (events[-1].actor, events[-1].event_time) == ("", time(at))


async def test_what_is_open_lapses_when_the_contract_ends(plane: ControlPlane) -> None:
    made = await deal(plane)
    at = time(START + 3 * DAY)
    asked = await made.request("Change", terms=_proposed(), effective_time=at)
    await made.decide("Accept", asked)
    await made.ask(BUSINESS, "TerminateContract")
    answer = await made.ask("volt", "ListContractAmendments")
    assert [amendment_state(each) for each in answer.amendments] == ["LAPSED"]
    assert (await made.history())[-2:] == ["TERMINATED", "REQUEST_LAPSED"]
    made.later(days=4)
    assert await _sweep(plane) == 0
    assert (await made.contract()).revision == 1
    assert len((await made.ask("evsp", "ListContractRevisions")).revisions) == 1


async def test_a_prolongation_by_request_moves_the_end(plane: ControlPlane) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    later = time(START + 50 * DAY)
    with pytest.raises(MarketError, check=INVALID):
        await made.request("Prolongation", end_time=time(START + 30 * DAY))
    asked = await made.request("Prolongation", end_time=later)
    await made.decide("Accept", asked)
    made.later(days=40)
    contract = await made.contract()
    assert (state_of(contract), contract.end_time) == ("ACTIVE", later)
    made.later(days=10)
    assert state_of(await made.contract()) == "EXPIRED"
    without_end = await plane.service("volt")
    other = Deal(plane, without_end, await plane.contract("evsp", without_end))
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await other.request("Prolongation", end_time=time(START + 99 * DAY))


async def test_a_request_is_worthless_when_the_contract_has_ended_meanwhile(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    asked = await made.request("Prolongation", end_time=time(START + 50 * DAY))
    made.later(days=30)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await made.decide("Accept", asked)
    await _sweep(plane)
    answer = await made.ask("volt", "ListContractAmendments")
    assert [amendment_state(each) for each in answer.amendments] == ["LAPSED"]


@pytest.mark.usecase(1247, 1481)
@pytest.mark.parametrize(
    "steps",
    [
        [("Accept", "volt"), ("Accept", "volt")],
        [("Accept", "volt"), ("Revoke", "evsp")],
        [("Accept", "volt"), ("Reject", "volt"), ("Revoke", "evsp")],
    ],
)
async def test_of_decisions_at_once_one_wins(
    plane: ControlPlane, steps: list[tuple[str, str]]
) -> None:
    made = await deal(plane)
    asked = await made.request("Change", terms=_proposed())
    results = await asyncio.gather(
        *(made.decide(step, asked, who) for step, who in steps), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, MarketError)]
    assert len(refused) == len(steps) - 1
    assert {each.reason for each in refused} == {ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED}
    assert len([each for each in await made.history() if each.startswith("REQUEST_")]) == 1


@pytest.mark.usecase(1490, 1481)
async def test_a_termination_against_a_suspension_leaves_one_order_of_steps(
    plane: ControlPlane,
) -> None:
    made = await deal(plane)
    asked = await made.request("Termination")
    results = await asyncio.gather(
        made.decide("Accept", asked),
        made.ask("evsp", "SuspendContract"),
        made.ask("volt", "TerminateContract"),
        return_exceptions=True,
    )
    assert state_of(await made.contract()) == "TERMINATED"
    history = await made.history()
    assert history.count("TERMINATED") == 1
    refused = [each for each in results if isinstance(each, MarketError)]
    assert {each.reason for each in refused} <= {ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED}
    assert len(refused) in (1, 2)


async def test_a_repeated_step_gives_its_first_result(plane: ControlPlane) -> None:
    made = await deal(plane)
    fields: dict[str, Any] = {"request_id": "same", "terms": _proposed()}
    first = await made.request("Change", **fields)
    assert await made.request("Change", **fields) == first
    method = "AcceptContractAmendment"
    answers = [
        await made.ask("volt", method, amendment_id=first.amendment_id, request_id="accept")
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert (await made.history()).count("CHANGED") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE marketplace.contract_revision SET terms = ''",
        "DELETE FROM marketplace.contract_revision",
        "UPDATE marketplace.contract_amendment SET content = 'x'",
        "UPDATE marketplace.contract SET revision = 1",
        "UPDATE marketplace.contract SET starts_at = now()",
        "UPDATE marketplace.contract SET ending = 'EXPIRES'",
    ],
)
async def test_the_database_keeps_what_was_agreed(plane: ControlPlane, statement: str) -> None:
    made = await deal(plane)
    await made.decide("Accept", await made.request("Change", terms=_proposed()))
    with pytest.raises(DBAPIError):
        async with plane.engine.begin() as connection:
            await connection.execute(text(statement))


async def test_terms_without_framework_are_changed_as_well(plane: ControlPlane) -> None:
    plane.now = START
    (service,) = await plane.market("volt")
    made = Deal(plane, service, await plane.contract("evsp", service))
    sections = [
        {"section_id": name, "title": name, "text": "New.", "required": True}
        for name in ("price", "service-level")
    ]
    with pytest.raises(MarketError, check=INVALID):
        await made.request("Change", terms={"sections": sections[:1], "price": price(1)})
    asked = await made.request("Change", terms={"sections": sections, "price": price(1)})
    await made.decide("Accept", asked)
    contract = await made.contract()
    assert [each.text for each in contract.terms.sections] == ["New.", "New."]
    assert contract.terms.framework_version == 0
