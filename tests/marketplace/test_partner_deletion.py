"""Deletion of a partner (feature 1386): what goes, what stays, and that it is for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.certificates import new_key_and_csr
from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import partner_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSP
from tests.interceptors.support import raises
from tests.partner_office import Office, profile_of
from tests.session_plane import ADMINISTRATOR, VIEWER, SessionPlane

NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
OWNED = {"kind": IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "value": "DE*ABC"}
#: What says who somebody is; nothing else that the tests write contains these words.
PERSONAL = ("lovelace", "quimby", "vicvic", "+49301234567", "postalpost")


async def places_of(office: Office, word: str) -> list[str]:
    """Give the tables of the whole schema in which a word stands, in a text or in bytes."""
    tables = await office.rows(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE nspname = 'marketplace' AND relkind IN ('r', 'p') ORDER BY relname"
    )
    found = []
    for (table,) in tables:
        query = (
            f"SELECT 1 FROM marketplace.{table} t WHERE t::text ILIKE :part"
            " OR t::text LIKE :bytes LIMIT 1"
        )
        parameters = {"part": f"%{word}%", "bytes": f"%{word.encode().hex()}%"}
        if await office.rows(query, **parameters):
            found.append(table)
    return found


async def lived(office: Office) -> str:
    """Give a partner that has left traces of persons everywhere, and is inactive."""
    applied = await office.apply(
        profile=profile_of("lovelace@acme.example", postal_address="Postalpost 1"),
        identifiers=[OWNED],
    )
    await office.approve(applied)
    await office.certificate(applied.reference)
    made = await office.administrator(
        applied.reference, user_name="quimby", full_name="Mayor Quimby"
    )
    await office.ask(BUSINESS, "ActivatePartner", partner_id="acme")
    people = SessionPlane(office.plane)
    secret, password = made.one_time_link.secret, "seven green herons"
    await people.ask("RedeemOneTimeLink", secret=secret, password=password)
    token = await people.login("acme", "quimby")
    await people.created("acme", "vicvic", VIEWER, token=token)
    with pytest.raises(MarketError):
        await people.login("acme", "vicvic")
    # An operator's command shows a user too.
    await people.operate("CreateOneTimeLink", partner_id="acme", user_name="quimby")
    person = {"full_name": "Lovelace II", "email": "lovelace@acme.example"}
    await office.ask("acme", "ChangeResponsiblePerson", revision=1, responsible_person=person)
    profile = profile_of("lovelace2@acme.example", postal_address="Postalpost 2")
    await office.ask(
        "acme", "RequestPartnerChange", revision=2, profile=profile, note="Ask Quimby."
    )
    await act_as_person(office, "acme:quimby")
    await office.ask(BUSINESS, "InactivatePartner", partner_id="acme")
    return str(applied.reference)


async def act_as_person(office: Office, actor: str) -> None:
    """Write histories as a person in a session does."""
    async with office.plane.engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO marketplace.partner_event"
                " (partner_id, kind, state, actor, occurred_at)"
                " VALUES ('acme', 'CHANGE_REQUESTED', 'ACTIVE', :actor, now())"
            ),
            {"actor": actor},
        )


async def delete(office: Office, partner_id: str = "acme", **fields: Any) -> Any:
    return await office.ask(BUSINESS, "DeletePartner", partner_id=partner_id, **fields)


async def test_only_an_inactive_partner_can_be_deleted(office: Office) -> None:
    await office.plane.register("acme")
    with pytest.raises(MarketError, check=NOT_NOW):
        await delete(office)
    await office.ask(BUSINESS, "ActivatePartner", partner_id="acme")
    with pytest.raises(MarketError, check=NOT_NOW):
        await delete(office)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await delete(office, "nobody")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await office.ask("acme", "DeletePartner", partner_id="acme")


async def test_after_a_deletion_no_person_is_found_anywhere_and_the_history_stands(
    office: Office,
) -> None:
    reference = await lived(office)
    await office.plane.partner("volt", profile=profile_of("other@volt.example"))
    before = {word: await places_of(office, word) for word in PERSONAL}
    assert all(before.values()), "the test has something to erase"
    events = await office.events("acme")

    deleted = await delete(office)
    assert deleted.partner.state == partner_pb2.PARTNER_STATE_DELETED
    # The telephone number is another partner's too, which keeps it.
    phone = PERSONAL[3]
    assert {word: await places_of(office, word) for word in PERSONAL if word != phone} == {
        word: [] for word in PERSONAL if word != phone
    }
    assert await places_of(office, phone) == ["partner"]
    after = await office.events("acme")
    assert after[:-1] == events, "the history stays, and what it shows of it"
    assert after[-1].actor == "operator/business"
    seen = (await office.ask(BUSINESS, "GetPartner", partner_id="acme")).partner
    assert (seen.profile.company_name, seen.profile.country_code) == ("Volt GmbH", "DE")
    assert not seen.profile.HasField("responsible_person")
    assert not seen.identifiers
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await office.track(reference)
    assert await office.rows("SELECT 1 FROM marketplace.session") == []
    # Of the others nothing is gone.
    other = (await office.ask(BUSINESS, "GetPartner", partner_id="volt")).partner
    assert other.profile.responsible_person.email == "other@volt.example"


async def test_a_deleted_partner_takes_no_step_and_its_id_is_never_given_again(
    office: Office,
) -> None:
    await office.inactive(identifiers=[OWNED])
    await delete(office)
    _, csr = new_key_and_csr("acme")
    steps: list[tuple[str, dict[str, Any]]] = [
        ("DeletePartner", {}),
        ("ActivatePartner", {}),
        ("InactivatePartner", {}),
        ("SetPartnerRoles", {"roles": [EVSP]}),
        ("AddPartnerIdentifier", {"identifier": OWNED}),
        ("IssueCertificate", {"certificate_signing_request_pem": csr}),
    ]
    for method, fields in steps:
        with pytest.raises(MarketError, check=NOT_NOW):
            await office.ask(BUSINESS, method, partner_id="acme", **fields)
    with pytest.raises(MarketError, check=NOT_NOW):
        await SessionPlane(office.plane).created("acme", "ada", ADMINISTRATOR)
    taken = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
    with pytest.raises(MarketError, check=taken):
        await office.plane.register("acme")
    with pytest.raises(MarketError, check=taken):
        await office.apply("acme")
    # An identifier may go to a successor.
    await office.plane.register("volt", identifiers=[OWNED])


async def test_certificates_of_a_deleted_partner_are_revoked(office: Office) -> None:
    await office.plane.partner("acme")
    for _ in range(2):
        _, csr = new_key_and_csr("acme")
        await office.ask("acme", "IssueCertificate", certificate_signing_request_pem=csr)
    await office.ask(BUSINESS, "InactivatePartner", partner_id="acme")
    await delete(office)
    listed = await office.ask(BUSINESS, "ListCertificates", partner_id="acme")
    reasons = [item.revocation_reason for item in listed.certificates]
    assert reasons == [partner_pb2.REVOCATION_REASON_NO_LONGER_USED] * 2


async def test_a_deletion_and_an_activation_at_once_have_one_winner(office: Office) -> None:
    await office.inactive()
    activation = office.ask(BUSINESS, "ActivatePartner", partner_id="acme")
    results = await asyncio.gather(delete(office), activation, return_exceptions=True)
    assert [isinstance(result, MarketError) for result in results].count(True) == 1


async def test_a_repeated_deletion_has_the_first_result(office: Office) -> None:
    await office.inactive()
    first = await delete(office, request_id="once")
    assert await delete(office, request_id="once") == first


#: What nobody may do, whoever asks.
FORBIDDEN = (
    "UPDATE marketplace.partner SET person_name = 'Ada' WHERE partner_id = 'acme'",
    "UPDATE marketplace.partner SET state = 'ACTIVE' WHERE partner_id = 'acme'",
    "DELETE FROM marketplace.partner WHERE partner_id = 'acme'",
    # Persons go from histories of deleted partners, and nothing else ever does.
    "UPDATE marketplace.partner_event SET actor = 'volt' WHERE actor = 'volt:ada'",
    "UPDATE marketplace.partner_event SET actor = 'acme' WHERE actor = 'operator/business'",
    "UPDATE marketplace.partner_event SET actor = 'acme', kind = 'X' WHERE actor = 'acme:x'",
    "UPDATE marketplace.partner_event SET detail = 'X'",
    "DELETE FROM marketplace.partner_event",
)


async def test_the_database_itself_refuses_to_change_what_stays(office: Office) -> None:
    await office.inactive()
    await delete(office)
    await office.plane.register("volt")
    await act_as_person(office, "volt:ada")
    await act_as_person(office, "acme:x")
    for statement in FORBIDDEN:
        with pytest.raises(DBAPIError, match="it never changes"):
            async with office.plane.engine.begin() as connection:
                await connection.execute(text(statement))
