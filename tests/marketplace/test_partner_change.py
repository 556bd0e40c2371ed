"""Change requests of partners (use cases 1376, 1378, 1380), over a real database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import partner_change_pb2 as wire
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, TECHNICAL, ControlPlane, fields_of
from tests.interceptors.support import raises
from tests.partner_office import Office, profile_of

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
CONFLICT = raises(ErrorReason.ERROR_REASON_CONFLICT)
TAKEN = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
KIND = IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID
OWNED, FREE = {"kind": KIND, "value": "DE*ABC"}, {"kind": KIND, "value": "DE*XYZ"}
STATE = wire.PartnerChangeState


@pytest.fixture
async def office(plane: ControlPlane) -> Office:
    """Give an office with an active partner of revision 1."""
    await plane.partner("acme", EVSE_OPERATOR, identifiers=[OWNED])
    return Office(plane)


async def request(office: Office, who: str = "acme", **fields: Any) -> Any:
    """Ask for a change, of the roles unless something else is named."""
    wanted = fields or {"roles": [EVSE_OPERATOR, EVSP]}
    response = await office.ask(who, "RequestPartnerChange", **{"revision": 1, **wanted})
    return response.change


async def approve(office: Office, change: Any) -> Any:
    return await office.ask(BUSINESS, "ApprovePartnerChange", change_id=change.change_id)


async def refuse(office: Office, change: Any, reason: str = "Not so.") -> Any:
    fields = {"change_id": change.change_id, "reason": reason}
    return await office.ask(BUSINESS, "RefusePartnerChange", **fields)


async def told(office: Office) -> list[tuple[str, str]]:
    """Give kinds and texts of what the partner was told after its activation."""
    rows = await office.rows("SELECT kind, text FROM marketplace.notice ORDER BY sequence")
    return [tuple(row) for row in rows][1:]


#: What an incomplete form says, and the field that is named.
INCOMPLETE: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "revision"),
        ({"revision": 1}, "profile"),
        ({"revision": 1, "roles": [EVSE_OPERATOR]}, "profile"),
        ({"revision": 1, "profile": profile_of("a@a.example", company_name="")},
         "profile.company_name"),
        ({"revision": 1, "profile": profile_of("nobody")}, "profile.responsible_person.email"),
        ({"revision": 1, "roles": [0]}, "roles[0]"),
        ({"revision": 1, "removed_identifiers": [FREE]}, "removed_identifiers"),
)  # fmt: skip


@pytest.mark.usecase(1376, 1378)
async def test_an_incomplete_change_request_names_the_field_and_is_not_kept(
    office: Office,
) -> None:
    for fields, field in INCOMPLETE:
        with pytest.raises(MarketError) as caught:
            await office.ask("acme", "RequestPartnerChange", **fields)
        assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
        assert fields_of(caught.value) == [field]
    assert not await office.rows("SELECT 1 FROM marketplace.partner_change")


@pytest.mark.usecase(1376)
async def test_what_another_partner_owns_cannot_be_asked_for(office: Office) -> None:
    await office.plane.register("volt", identifiers=[FREE])
    with pytest.raises(MarketError, check=TAKEN):
        await request(office, added_identifiers=[{"kind": KIND, "value": "dexyz"}])


@pytest.mark.usecase(1376, 1378)
async def test_the_operator_sees_each_field_as_it_is_and_as_it_shall_be(office: Office) -> None:
    profile = profile_of("grace@acme.example", company_name="Acme AG")
    change = await request(
        office,
        profile=profile,
        roles=[EVSP],
        added_identifiers=[FREE],
        removed_identifiers=[OWNED],
        note="We merged.",
    )
    assert not change.field_changes, "results of commands are kept without personal data"
    method = "GetPartnerChange"
    seen = (await office.ask(BUSINESS, method, change_id=change.change_id)).change
    assert seen.note == "We merged."
    shown = {
        each.field: (list(each.old_values), list(each.new_values)) for each in seen.field_changes
    }
    assert shown == {
        "profile.company_name": (["Volt GmbH"], ["Acme AG"]),
        "profile.responsible_person.email": (["ada@volt.example"], ["grace@acme.example"]),
        "profile.responsible_person.phone": ([], ["+49301234567"]),
        "roles": (["EVSE_OPERATOR"], ["EVSP"]),
        "identifiers": (["OPERATOR_ID DEABC"], ["OPERATOR_ID DEXYZ"]),
    }
    before = await office.ask("acme", "GetPartner")
    assert (before.partner.revision, list(before.partner.roles)) == (1, [EVSE_OPERATOR])

    approved = await approve(office, change)
    assert approved.change.state == STATE.PARTNER_CHANGE_STATE_APPROVED
    after = (await office.ask("acme", "GetPartner")).partner
    assert (after.revision, list(after.roles)) == (2, [EVSP])
    assert after.profile.company_name == "Acme AG"
    assert [item.value for item in after.identifiers] == ["DEXYZ"]
    ((kind, text),) = await told(office)
    assert kind == "PARTNER_CHANGED"
    assert change.change_id in text
    # What it gave up is free.
    await office.plane.register("volt", identifiers=[OWNED])


@pytest.mark.usecase(1376)
async def test_a_refusal_changes_nothing_and_reaches_the_partner_with_its_reason(
    office: Office,
) -> None:
    change = await request(office)
    refused = await refuse(office, change, "You are no EVSP.")
    assert refused.change.decision_reason == "You are no EVSP."
    assert list((await office.ask("acme", "GetPartner")).partner.roles) == [EVSE_OPERATOR]
    ((kind, text),) = await told(office)
    assert kind == "PARTNER_CHANGE_REFUSED"
    assert text.endswith("You are no EVSP.")
    for step in (approve, refuse):
        with pytest.raises(MarketError, check=NOT_NOW):
            await step(office, change)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await refuse(office, change, "")


@pytest.mark.usecase(1376)
async def test_a_request_for_another_revision_is_refused_when_made_and_when_approved(
    office: Office,
) -> None:
    change, other = await request(office), await request(office)
    await approve(office, change)
    with pytest.raises(MarketError, check=CONFLICT) as caught:
        await request(office)
    assert caught.value.metadata == {"revision": "2"}
    listed = await office.ask(BUSINESS, "ListPartnerChanges")
    assert [(item.change_id, item.outdated) for item in listed.changes] == [
        (change.change_id, False),
        (other.change_id, True),
    ]
    with pytest.raises(MarketError, check=CONFLICT):
        await approve(office, other)
    # It waits on as it was, and can be taken back.
    await office.ask("acme", "WithdrawPartnerChange", change_id=other.change_id)


@pytest.mark.usecase(1376)
async def test_an_identifier_that_was_taken_meanwhile_stops_the_whole_change(
    office: Office,
) -> None:
    change = await request(office, roles=[EVSP], added_identifiers=[FREE])
    await office.plane.register("volt", identifiers=[FREE])
    with pytest.raises(MarketError, check=TAKEN):
        await approve(office, change)
    partner = (await office.ask("acme", "GetPartner")).partner
    assert (partner.revision, list(partner.roles)) == (1, [EVSE_OPERATOR])
    assert await told(office) == []


@pytest.mark.usecase(1376)
async def test_conflicting_decisions_have_one_winner(office: Office) -> None:
    change = await request(office)
    results: list[Any] = list(
        await asyncio.gather(
            approve(office, change),
            refuse(office, change),
            office.ask("acme", "WithdrawPartnerChange", change_id=change.change_id),
            return_exceptions=True,
        )
    )
    lost = [result for result in results if isinstance(result, MarketError)]
    assert [error.reason for error in lost] == [ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED] * 2
    kinds = [event.detail for event in await office.events("acme")]
    assert kinds.count(change.change_id) == 2, "requested, and decided once"


@pytest.mark.usecase(1376)
async def test_two_approvals_at_once_never_both_change_the_account(office: Office) -> None:
    changes = [await request(office, roles=[EVSP]), await request(office, added_identifiers=[FREE])]
    results: list[Any] = list(
        await asyncio.gather(*(approve(office, each) for each in changes), return_exceptions=True)
    )
    (lost,) = [result for result in results if isinstance(result, MarketError)]
    assert lost.reason == ErrorReason.ERROR_REASON_CONFLICT
    assert (await office.ask("acme", "GetPartner")).partner.revision == 2


@pytest.mark.usecase(1376)
async def test_ten_requests_of_a_partner_wait_at_most(office: Office) -> None:
    changes = [await request(office) for _ in range(10)]
    with pytest.raises(MarketError, check=NOT_NOW):
        await request(office)
    await office.ask("acme", "WithdrawPartnerChange", change_id=changes[0].change_id)
    await request(office)


@pytest.mark.usecase(1376)
async def test_other_partners_see_and_touch_no_change_request(office: Office) -> None:
    await office.plane.partner("volt")
    change = await request(office)
    for method in ("GetPartnerChange", "WithdrawPartnerChange"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await office.ask("volt", method, change_id=change.change_id)
    assert not (await office.ask("volt", "ListPartnerChanges")).changes
    assert not (await office.ask("volt", "ListPartnerChanges", partner_id="acme")).changes
    waiting = STATE.PARTNER_CHANGE_STATE_REQUESTED
    for who in ("acme", BUSINESS):
        listed = await office.ask(who, "ListPartnerChanges", partner_id="acme", state=waiting)
        assert [item.change_id for item in listed.changes] == [change.change_id]
    refused = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
    for who, method in (("acme", "ApprovePartnerChange"), (TECHNICAL, "ApprovePartnerChange")):
        with pytest.raises(MarketError, check=refused):
            await office.ask(who, method, change_id=change.change_id)


@pytest.mark.usecase(1378)
async def test_the_responsible_person_is_changed_at_once_and_nothing_else(office: Office) -> None:
    person = {"full_name": "Grace Hopper", "email": "grace@acme.example"}
    change = "ChangeResponsiblePerson"
    with pytest.raises(MarketError, check=CONFLICT):
        await office.ask("acme", change, revision=2, responsible_person=person)
    with pytest.raises(MarketError) as caught:
        await office.ask("acme", change, revision=1)
    assert fields_of(caught.value) == ["responsible_person"]
    changed = await office.ask("acme", change, revision=1, responsible_person=person)
    assert changed.partner.revision == 2
    profile = (await office.ask(BUSINESS, "GetPartner", partner_id="acme")).partner.profile
    assert profile.responsible_person.full_name == "Grace Hopper"
    assert profile.responsible_person.phone == ""
    assert profile.company_name == "Volt GmbH"
    ((kind, text),) = await told(office)
    assert kind == "PARTNER_CHANGED"
    assert "Grace" not in text


@pytest.mark.usecase(1380)
async def test_an_inactivation_is_refused_at_once_with_the_contracts_in_the_way(
    plane: ControlPlane,
) -> None:
    office = Office(plane)
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    with pytest.raises(MarketError, check=NOT_NOW) as caught:
        await office.ask("volt", "RequestPartnerInactivation")
    (blocking,) = caught.value.details
    assert isinstance(blocking, BlockingContracts)
    assert list(blocking.contract_ids) == [contract.contract_id]
    assert not (await office.ask(BUSINESS, "ListPartnerChanges")).changes


@pytest.mark.usecase(1380)
async def test_a_contract_that_came_meanwhile_stops_an_inactivation(plane: ControlPlane) -> None:
    office = Office(plane)
    (service,) = await plane.market("volt")
    asked = (await office.ask("volt", "RequestPartnerInactivation")).change
    with pytest.raises(MarketError, check=NOT_NOW):
        await office.ask("volt", "RequestPartnerInactivation")
    contract = await plane.contract("evsp", service)
    with pytest.raises(MarketError, check=NOT_NOW) as caught:
        await approve(office, asked)
    assert caught.value.metadata == {"contracts": "1"}
    await plane.ask(BUSINESS, "ContractService/TerminateContract", contract_id=contract.contract_id)
    done = await approve(office, asked)
    assert done.partner.state == partner_pb2.PARTNER_STATE_INACTIVE
    kinds = [row.kind for row in await office.rows(
        "SELECT kind FROM marketplace.notice WHERE recipient_id = 'volt' ORDER BY sequence"
    )]  # fmt: skip
    assert kinds[-2:] == ["PARTNER_CHANGED", "PARTNER_INACTIVATED"]


@pytest.mark.usecase(1376)
async def test_a_repeated_request_is_made_once(office: Office) -> None:
    first = await request(office, request_id="once", roles=[EVSP])
    again = await request(office, request_id="once", roles=[EVSP])
    assert again == first
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)):
        await request(office, request_id="once", roles=[EVSP, EVSE_OPERATOR])
