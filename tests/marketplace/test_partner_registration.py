"""From a registration request to the first access data (use case 1374), over a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.certificates import read_identity, utc_now
from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_registration_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace import partner_registration
from tests.control_plane import BUSINESS, TECHNICAL, fields_of
from tests.interceptors.support import raises
from tests.partner_office import ANYBODY, Office, profile_of

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
TAKEN = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
TOO_MANY = raises(ErrorReason.ERROR_REASON_RATE_EXCEEDED)
OPERATOR_ID = {"kind": IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "value": "DE*ABC"}
STATE = wire.PartnerRegistrationState


async def nothing_is_kept(office: Office) -> bool:
    """Say whether there is neither a request nor a partner."""
    query = "SELECT 1 FROM marketplace.partner_registration UNION SELECT 1 FROM marketplace.partner"
    return not await office.rows(query)


#: What an incomplete form lacks, and the field that is named.
INCOMPLETE: tuple[tuple[dict[str, Any], str], ...] = (
    ({"profile": None}, "profile"),
    ({"profile": profile_of("a@b.example", company_name="")}, "profile.company_name"),
    ({"profile": profile_of("nobody")}, "profile.responsible_person.email"),
    ({"partner_id": "Not A Label", "profile": profile_of("a@b.example")}, "partner_id"),
    ({"roles": []}, "roles"),
    ({"accepted_partner_contract_version": 0}, "accepted_partner_contract_version"),
    ({"accepted_partner_contract_version": 2}, "accepted_partner_contract_version"),
)


@pytest.mark.usecase(1374)
async def test_an_incomplete_request_names_the_field_and_is_not_kept(office: Office) -> None:
    for missing, field in INCOMPLETE:
        with pytest.raises(MarketError) as caught:
            await office.apply(**missing)
        assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
        assert fields_of(caught.value) == [field]
    assert await nothing_is_kept(office)


@pytest.mark.usecase(1374)
async def test_a_taken_id_or_identifier_is_refused_at_once(office: Office) -> None:
    await office.plane.register("acme", identifiers=[OPERATOR_ID])
    for fields in ({"partner_id": "acme"}, {"partner_id": "volt", "identifiers": [OPERATOR_ID]}):
        with pytest.raises(MarketError, check=TAKEN):
            await office.apply(**fields)
    assert not await office.rows("SELECT 1 FROM marketplace.partner_registration")


@pytest.mark.usecase(1374)
async def test_one_person_has_three_requests_waiting_at_most(office: Office) -> None:
    profiles = [profile_of(email) for email in ("ada@a.example", "ADA@A.example")]
    applied = [await office.apply(f"p{n}", profile=profiles[n % 2]) for n in range(3)]
    with pytest.raises(MarketError, check=TOO_MANY) as caught:
        await office.apply("p3", profile=profiles[0])
    assert caught.value.retry_after_s
    await office.apply("p3")
    await office.ask(ANYBODY, "WithdrawPartnerRegistration", reference=applied[0].reference)
    await office.apply("p4", profile=profiles[0])


@pytest.mark.usecase(1374)
async def test_requests_at_the_same_time_get_no_more_room_than_one_by_one(office: Office) -> None:
    profile = profile_of("ada@a.example")
    results = await asyncio.gather(
        *(office.apply(f"p{n}", profile=profile) for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, MarketError) for result in results) == 2


@pytest.mark.usecase(1374)
@pytest.mark.parametrize("limit", ["WAITING_MAX", "HOURLY_MAX"])
async def test_requests_are_limited_in_all_and_by_the_hour(
    office: Office, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_registration, limit, 2)
    first = await office.apply("p0")
    await office.ask(ANYBODY, "WithdrawPartnerRegistration", reference=first.reference)
    await office.apply("p1")
    if limit == "WAITING_MAX":
        await office.apply("p2")
    with pytest.raises(MarketError, check=TOO_MANY):
        await office.apply("p3")
    if limit == "HOURLY_MAX":
        office.plane.now = utc_now() + timedelta(hours=1, minutes=1)
        await office.apply("p3")


@pytest.mark.usecase(1374)
async def test_a_reference_is_kept_as_a_digest_and_opens_its_own_request_only(
    office: Office,
) -> None:
    first, second = await office.apply("acme"), await office.apply("volt")
    assert len(first.reference) == 44
    assert (await office.track(first.reference)).partner_id == "acme"
    assert (await office.track(second.reference)).partner_id == "volt"
    for table in ("partner_registration", "command", "partner_registration_event"):
        (row,) = await office.rows(
            f"SELECT count(*) FROM marketplace.{table} t WHERE t::text LIKE :part",
            part=f"%{first.reference}%",
        )
        assert row.count == 0, table
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.track("x" * 43)
    # The id that operators use opens nothing.
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.track(first.registration.registration_id)


@pytest.mark.usecase(1374)
async def test_a_repeated_request_has_the_first_result_and_a_new_reference_while_it_waits(
    office: Office,
) -> None:
    first = await office.apply(request_id="once")
    again = await office.apply(request_id="once")
    assert again.registration == first.registration
    assert again.reference not in ("", first.reference)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.track(first.reference)
    assert (await office.track(again.reference)).state == STATE.PARTNER_REGISTRATION_STATE_REQUESTED
    await office.refuse(again)
    assert (await office.apply(request_id="once")).reference == ""
    await office.track(again.reference)
    # Somebody else may use the same request_id.
    await office.apply("volt", request_id="once")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)):
        await office.apply("acme", request_id="once", roles=[1, 2])


@pytest.mark.usecase(1374)
async def test_a_refusal_reaches_the_applicant_with_its_reason_also_by_email(
    office: Office,
) -> None:
    applied = await office.apply()
    await office.refuse(applied, "The company is not in any register.")
    seen = await office.track(applied.reference)
    assert seen.state == STATE.PARTNER_REGISTRATION_STATE_REFUSED
    assert seen.decision_reason == "The company is not in any register."
    assert not seen.HasField("profile"), "a reference shows no personal data"
    (letter,) = await office.rows(
        "SELECT n.kind, n.text, n.in_inbox FROM marketplace.notice_outbox"
        " JOIN marketplace.notice n USING (recipient_id, sequence)"
    )
    assert (letter.kind, letter.in_inbox) == ("REGISTRATION_REFUSED", False)
    assert "not in any register" in letter.text
    for step in (office.approve, office.refuse):
        with pytest.raises(MarketError, check=NOT_NOW):
            await step(applied)
    with pytest.raises(MarketError, check=NOT_NOW):
        await office.certificate(applied.reference)
    assert not await office.rows("SELECT 1 FROM marketplace.partner")


@pytest.mark.usecase(1374)
async def test_the_person_of_a_refused_request_is_forgotten_after_thirty_days(
    office: Office,
) -> None:
    applied = await office.apply()
    await office.refuse(applied)
    office.plane.now = utc_now() + timedelta(days=31)
    await office.apply("volt")
    (row,) = await office.rows(
        "SELECT profile, person_email, applicant FROM marketplace.partner_registration"
        " WHERE partner_id = 'acme'"
    )
    assert tuple(row) == (b"", "", "")
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.track(applied.reference)


@pytest.mark.usecase(1374)
async def test_who_withdraws_leaves_no_personal_data(office: Office) -> None:
    applied = await office.apply()
    await office.ask(ANYBODY, "WithdrawPartnerRegistration", reference=applied.reference)
    everything = await office.rows(
        "SELECT convert_from(profile, 'UTF8') || person_email || applicant AS kept"
        " FROM marketplace.partner_registration"
    )
    assert [row.kept for row in everything] == [""]
    state = (await office.track(applied.reference)).state
    assert state == STATE.PARTNER_REGISTRATION_STATE_WITHDRAWN
    with pytest.raises(MarketError, check=NOT_NOW):
        await office.approve(applied)


@pytest.mark.usecase(1374)
async def test_an_approval_and_a_withdrawal_at_once_have_one_winner(office: Office) -> None:
    applied = await office.apply()
    withdraw = office.ask(ANYBODY, "WithdrawPartnerRegistration", reference=applied.reference)
    results: list[Any] = list(
        await asyncio.gather(office.approve(applied), withdraw, return_exceptions=True)
    )
    (lost,) = [result for result in results if isinstance(result, MarketError)]
    assert lost.reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
    assert len(await office.rows("SELECT 1 FROM marketplace.partner_registration_event")) == 2


@pytest.mark.usecase(1374)
async def test_of_two_who_wish_the_same_id_one_is_registered(office: Office) -> None:
    first, second = await office.apply(), await office.apply(profile=profile_of("b@b.example"))
    await office.approve(first)
    with pytest.raises(MarketError, check=TAKEN):
        await office.approve(second)
    await office.refuse(second, "The id is taken.")


@pytest.mark.usecase(1374)
async def test_an_approved_partner_is_registered_as_it_asked_and_told(office: Office) -> None:
    applied = await office.apply(identifiers=[OPERATOR_ID])
    seen = await office.ask(
        BUSINESS,
        "GetPartnerRegistration",
        registration_id=applied.registration.registration_id,
    )
    assert seen.registration.profile.responsible_person.email == "ada@acme.example"
    partner = await office.approve(applied)
    assert partner.state == partner_pb2.PARTNER_STATE_REGISTERED
    assert [item.value for item in partner.identifiers] == ["DEABC"]
    found = await office.ask(BUSINESS, "GetPartner", partner_id="acme")
    assert found.partner.profile == seen.registration.profile
    assert found.partner_contract.version == 1
    told = await office.rows("SELECT recipient_id, kind FROM marketplace.notice")
    assert [tuple(row) for row in told] == [("acme", "PARTNER_REGISTERED")]
    after = await office.ask(
        BUSINESS,
        "GetPartnerRegistration",
        registration_id=applied.registration.registration_id,
    )
    assert not after.registration.HasField("profile"), "it is the account's from now on"
    assert [event.actor.partition("/")[0] for event in after.events] == ["applicant", "operator"]


@pytest.mark.usecase(1374)
async def test_a_reference_gives_one_certificate_and_one_administrator(office: Office) -> None:
    applied = await office.apply()
    for use in (office.certificate, office.administrator):
        with pytest.raises(MarketError, check=NOT_NOW):
            await use(applied.reference)
    await office.approve(applied)
    issued = await office.certificate(applied.reference, request_id="c")
    assert read_identity(issued.chain_pem).subject_id == "acme"
    made = await office.administrator(applied.reference, request_id="a")
    assert len(made.one_time_link.secret) == 43
    for use in (office.certificate, office.administrator):
        with pytest.raises(MarketError, check=NOT_NOW):
            await use(applied.reference)
    # Repeated with its request_id a command gives its first result, and no secret twice.
    again = await office.administrator(applied.reference, request_id="a")
    assert (again.partner_id, again.one_time_link.secret) == ("acme", "")
    seen = await office.track(applied.reference)
    assert (seen.certificate_issued, seen.administrator_created) == (True, True)
    kinds = [event.detail for event in await office.events("acme")]
    assert kinds == ["", issued.certificate.fingerprint.hex()]


@pytest.mark.usecase(1374)
async def test_a_bad_csr_or_name_does_not_use_the_reference_up(office: Office) -> None:
    applied = await office.apply()
    await office.approve(applied)
    invalid = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
    with pytest.raises(MarketError, check=invalid):
        await office.certificate(applied.reference, certificate_signing_request_pem=b"none")
    with pytest.raises(MarketError, check=invalid):
        await office.administrator(applied.reference, user_name="Not A Name")
    await office.certificate(applied.reference)
    await office.administrator(applied.reference)


@pytest.mark.usecase(1374)
async def test_two_certificates_at_once_are_still_one(office: Office) -> None:
    applied = await office.apply()
    await office.approve(applied)
    results = await asyncio.gather(
        *(office.certificate(applied.reference) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(result, MarketError) for result in results) == 2
    assert len(await office.rows("SELECT 1 FROM marketplace.certificate")) == 1


@pytest.mark.usecase(1374)
async def test_a_reference_gives_no_access_data_after_thirty_days(office: Office) -> None:
    applied = await office.apply()
    await office.approve(applied)
    office.plane.now = utc_now() + timedelta(days=31)
    for use in (office.certificate, office.administrator):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await use(applied.reference)


@pytest.mark.usecase(1374)
async def test_requests_are_listed_for_the_business_operator_only(office: Office) -> None:
    first, second = await office.apply("acme"), await office.apply("volt")
    await office.refuse(first)
    waiting = STATE.PARTNER_REGISTRATION_STATE_REQUESTED
    listed = await office.ask(BUSINESS, "ListPartnerRegistrations", state=waiting)
    assert [item.partner_id for item in listed.registrations] == ["volt"]
    assert not listed.registrations[0].HasField("profile")
    everything = await office.ask(BUSINESS, "ListPartnerRegistrations", page={"page_size": 1})
    assert [item.partner_id for item in everything.registrations] == ["acme"]
    assert everything.page.next_page_token
    registration_id = second.registration.registration_id
    for who in (TECHNICAL, "acme"):
        for method, fields in (
            ("ListPartnerRegistrations", {}),
            ("GetPartnerRegistration", {"registration_id": registration_id}),
            ("ApprovePartnerRegistration", {"registration_id": registration_id}),
        ):
            refused = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
            with pytest.raises(MarketError, check=refused):
                await office.ask(who, method, **fields)


@pytest.mark.usecase(1374)
async def test_the_history_of_a_request_never_changes(office: Office) -> None:
    await office.apply()
    for statement in (
        "UPDATE marketplace.partner_registration_event SET actor = 'x'",
        "DELETE FROM marketplace.partner_registration_event",
    ):
        with pytest.raises(DBAPIError, match="it never changes"):
            async with office.plane.engine.begin() as connection:
                await connection.execute(text(statement))
