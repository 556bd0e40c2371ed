"""What a deletion takes with it, place by place, and what it leaves alone (feature 1386)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import notification_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, TECHNICAL, ControlPlane
from tests.interceptors.support import raises
from tests.partner_office import Office
from tests.session_plane import ADMINISTRATOR, PASSWORD, VIEWER, SessionPlane

OWNED = {"kind": IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "value": "DE*ABC"}
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
LOGIN_FAILED = raises(ErrorReason.ERROR_REASON_LOGIN_FAILED)
SESSION_GONE = raises(ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED)


@pytest.fixture
def people(plane: ControlPlane) -> SessionPlane:
    return SessionPlane(plane)


async def end(office: Office, partner_id: str = "acme") -> None:
    """Inactivate a partner and delete it."""
    for method in ("InactivatePartner", "DeletePartner"):
        await office.ask(BUSINESS, method, partner_id=partner_id)


async def count(office: Office, table: str, condition: str) -> int:
    (row,) = await office.rows(f"SELECT count(*) AS n FROM marketplace.{table} WHERE {condition}")
    return int(row.n)


async def execute(office: Office, statement: str, **parameters: Any) -> None:
    async with office.plane.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


async def test_users_keep_their_number_and_nothing_that_says_who_they_were(
    office: Office, people: SessionPlane
) -> None:
    await office.plane.partner("acme")
    token = await people.user("acme", "ada", ADMINISTRATOR)
    await people.user("acme", "vic", VIEWER, token=token)
    await end(office)
    users = await office.rows("SELECT * FROM marketplace.user_account ORDER BY created_at")
    assert [user.user_name == user.user_id for user in users] == [True, True]
    assert {(user.full_name, user.password_hash, user.state) for user in users} == {
        ("", "", "DISABLED")
    }
    history = await office.rows("SELECT kind, actor FROM marketplace.user_event ORDER BY position")
    assert [row.kind for row in history[-2:]] == ["DISABLED", "DISABLED"]
    assert {row.actor for row in history} == {"operator/business", "acme"}


async def test_nobody_logs_in_any_more_by_password_session_or_link(
    office: Office, people: SessionPlane
) -> None:
    await office.plane.partner("acme")
    token = await people.user("acme", "ada", ADMINISTRATOR)
    secret = await people.created("acme", "vic", VIEWER, token=token)
    await end(office)
    with pytest.raises(MarketError, check=SESSION_GONE):
        await people.ask("WhoAmI", token)
    with pytest.raises(MarketError, check=LOGIN_FAILED):
        await people.login("acme", "ada")
    with pytest.raises(MarketError, check=NOT_FOUND):
        await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
    for table in ("session", "one_time_link"):
        assert await count(office, table, "true") == 0


async def test_failed_logins_are_forgotten_of_the_partners_users_only(
    office: Office, people: SessionPlane
) -> None:
    for partner_id in ("acme", "volt"):
        await office.plane.partner(partner_id)
        await people.created(partner_id, "ada", ADMINISTRATOR)
        with pytest.raises(MarketError, check=LOGIN_FAILED):
            await people.login(partner_id, "ada")
    assert await count(office, "login_attempt", "true") == 2
    await end(office)
    assert await count(office, "login_attempt", "true") == 1


async def test_notifications_and_letters_to_the_partner_go_and_those_to_others_stay(
    office: Office,
) -> None:
    for partner_id in ("acme", "volt"):
        await office.plane.partner(partner_id)
        wanted = {
            "kind": notification_pb2.NOTIFICATION_KIND_PARTNER_INACTIVATED,
            "inbox": True,
            "email": True,
        }
        method = "NotificationService/SetNotificationPreference"
        await office.plane.ask(partner_id, method, preference=wanted)
    await office.ask(BUSINESS, "InactivatePartner", partner_id="volt")
    await end(office)
    for table, column in (
        ("notice", "recipient_id"),
        ("notice_outbox", "recipient_id"),
        ("inbox", "recipient_id"),
        ("notice_preference", "partner_id"),
    ):
        assert await count(office, table, f"{column} = 'acme'") == 0, table
        assert await count(office, table, f"{column} = 'volt'") > 0, table


async def test_identifiers_are_free_and_routing_is_told(office: Office) -> None:
    await office.plane.partner("acme", identifiers=[OWNED])
    before = await office.rows("SELECT version FROM marketplace.routing_version")
    await end(office)
    assert await count(office, "owned_identifier", "true") == 0
    after = await office.rows("SELECT version FROM marketplace.routing_version")
    assert after[0].version == before[0].version + 2, "inactivated, and deleted"


async def test_histories_of_contracts_and_services_name_the_partner_and_no_person(
    office: Office,
) -> None:
    (service,) = await office.plane.market("volt")
    contract = await office.plane.contract("evsp", service)
    for table, subject, value in (
        ("contract_event", "contract_id", contract.contract_id),
        ("service_event", "service_id", service.service_id),
    ):
        for actor in ("volt:ada", "evsp:bob", "operator/business"):
            await execute(
                office,
                f"INSERT INTO marketplace.{table} ({subject}, kind, state, actor, occurred_at)"
                " VALUES (:value, 'RESUMED', 'ACTIVE', :actor, now())",
                value=value,
                actor=actor,
            )
    terminate = "ContractService/TerminateContract"
    await office.plane.ask(BUSINESS, terminate, contract_id=contract.contract_id)
    total = await count(office, "contract_event", "true")
    await end(office, "volt")
    for table in ("contract_event", "service_event"):
        assert await count(office, table, "actor = 'volt:ada'") == 0
        assert await count(office, table, "actor = 'volt'") >= 1
        assert await count(office, table, "actor = 'evsp:bob'") == 1
    assert await count(office, "contract_event", "true") == total
    # The other party reads the contract and its history as before.
    method = "ContractService/ListContractEvents"
    events = (await office.plane.ask("evsp", method, contract_id=contract.contract_id)).events
    assert len(events) == total
    found = await office.plane.ask(
        "evsp", "ContractService/GetContract", contract_id=contract.contract_id
    )
    assert found.contract.provider_id == "volt"


async def test_a_change_request_that_waits_ends_with_the_partner(office: Office) -> None:
    await office.plane.partner("acme")
    asked = await office.ask("acme", "RequestPartnerChange", revision=1, roles=[1], note="Hm.")
    await end(office)
    which = {"change_id": asked.change.change_id}
    seen = (await office.ask(BUSINESS, "GetPartnerChange", **which)).change
    assert (seen.note, list(seen.field_changes)) == ("", [])
    assert not seen.outdated
    refused = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=refused):
        await office.ask(BUSINESS, "ApprovePartnerChange", **which)


async def test_first_results_of_commands_go_where_they_show_a_person_and_stay_elsewhere(
    office: Office, people: SessionPlane
) -> None:
    for partner_id in ("acme", "acme-2"):
        await office.plane.partner(partner_id)
        await people.created(partner_id, "ada", ADMINISTRATOR)
        person = {"full_name": "Ada B.", "email": "ada@b.example"}
        fields = {"revision": 1, "responsible_person": person}
        await office.ask(partner_id, "ChangeResponsiblePerson", **fields)
    before = await count(office, "command", "subject_id = 'operator/business'")
    await end(office)
    assert await count(office, "command", "subject_id = 'acme'") == 0
    assert await count(office, "command", "subject_id = 'acme-2'") == 1
    # One more for each of the two steps to the end; without what shows the partner's user.
    left = await count(office, "command", "subject_id = 'operator/business'")
    assert left < before + 2
    shown = "position(convert_to('acme-2', 'UTF8') in result) > 0"
    assert await count(office, "command", f"subject_id = 'operator/business' AND {shown}") >= 1


async def test_a_partner_whose_id_begins_like_anothers_loses_nothing(office: Office) -> None:
    await office.plane.partner("acme")
    await office.plane.partner("acme-2", identifiers=[OWNED])
    await execute(
        office,
        "INSERT INTO marketplace.partner_event (partner_id, kind, state, actor, occurred_at)"
        " VALUES ('acme-2', 'ROLES_SET', 'ACTIVE', 'acme-2:ada', now())",
    )
    await end(office)
    assert await count(office, "partner_event", "actor = 'acme-2:ada'") == 1
    other = (await office.ask("acme-2", "GetPartner")).partner
    assert other.profile.responsible_person.full_name == "Ada Byron"
    assert len(other.identifiers) == 1


async def test_operators_find_a_deleted_partner_and_partners_do_not(office: Office) -> None:
    await office.plane.partner("acme")
    await office.plane.partner("volt")
    await end(office)
    for who in (BUSINESS, TECHNICAL):
        found = await office.ask(who, "SearchPartners", states=[4])
        assert [each.partner_id for each in found.partners] == ["acme"]
        assert found.partners[0].company_name == "Volt GmbH"
    found = await office.ask("volt", "SearchPartners", text="acme")
    assert not found.partners
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.ask("volt", "GetPartnerSummary", partner_id="acme")
