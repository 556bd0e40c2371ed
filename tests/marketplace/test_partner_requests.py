"""Commands about accounts sent twice, by the wrong hands, or with texts that cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.certificates import new_key_and_csr
from foundation.errors import MarketError
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1.partner_search_pb2 import PartnerEventKind
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSP
from tests.interceptors.support import raises
from tests.partner_office import ANYBODY, Office, profile_of

REUSED = raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)


async def history(office: Office, partner_id: str = "acme") -> list[str]:
    """Give the kinds of a partner's history."""
    events = await office.events(partner_id)
    names = [PartnerEventKind.Name(event.kind) for event in events]
    return [name.removeprefix("PARTNER_EVENT_KIND_") for name in names]


@pytest.mark.usecase(1374)
async def test_each_command_of_the_registration_repeated_has_its_first_result(
    office: Office,
) -> None:
    applied = await office.apply()
    which = {"registration_id": applied.registration.registration_id}
    _, csr = new_key_and_csr("acme")
    certificate = {"reference": applied.reference, "certificate_signing_request_pem": csr}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        (BUSINESS, "ApprovePartnerRegistration", which),
        (ANYBODY, "IssueFirstCertificate", certificate),
        (BUSINESS, "ActivatePartner", {"partner_id": "acme"}),
    ]
    for who, method, fields in steps:
        first = await office.ask(who, method, request_id=f"id-{method}", **fields)
        assert await office.ask(who, method, request_id=f"id-{method}", **fields) == first
    assert await history(office) == ["REGISTERED", "CERTIFICATE_ISSUED", "ACTIVATED"]
    _, other = new_key_and_csr("acme")
    certificate["certificate_signing_request_pem"] = other
    with pytest.raises(MarketError, check=REUSED):
        await office.ask(
            ANYBODY, "IssueFirstCertificate", request_id="id-IssueFirstCertificate", **certificate
        )


@pytest.mark.usecase(1376, 1380)
async def test_each_command_of_a_change_repeated_has_its_first_result(office: Office) -> None:
    await office.plane.partner("acme")
    asked = await office.ask("acme", "RequestPartnerChange", revision=1, roles=[EVSP])
    which = {"change_id": asked.change.change_id}
    other = await office.ask("acme", "RequestPartnerInactivation", request_id="i", note="n")
    again = await office.ask("acme", "RequestPartnerInactivation", request_id="i", note="n")
    assert again == other
    steps: list[tuple[str, str, dict[str, Any]]] = [
        (BUSINESS, "ApprovePartnerChange", which),
        (BUSINESS, "RefusePartnerChange", {"change_id": other.change.change_id, "reason": "r"}),
    ]
    for who, method, fields in steps:
        first = await office.ask(who, method, request_id=f"id-{method}", **fields)
        assert await office.ask(who, method, request_id=f"id-{method}", **fields) == first
    assert (await history(office))[2:] == [
        "CHANGE_REQUESTED",
        "CHANGE_REQUESTED",
        "CHANGE_APPROVED",
        "CHANGE_REFUSED",
    ]
    told = await office.rows("SELECT 1 FROM marketplace.notice WHERE kind <> 'PARTNER_ACTIVATED'")
    assert len(told) == 2, "nobody is told twice"


@pytest.mark.usecase(1374, 1376)
async def test_a_text_that_cannot_be_kept_is_refused_and_nothing_happens(office: Office) -> None:
    await office.plane.partner("acme")
    broken = profile_of("ada@b.example", company_name="Acme\0GmbH")
    with pytest.raises(MarketError, check=INVALID):
        await office.ask(
            "acme", "RequestPartnerChange", revision=1, profile=broken, note="with a \0"
        )
    applied = await office.apply("volt")
    with pytest.raises(MarketError, check=INVALID):
        await office.refuse(applied, "No \0 reason.")
    state = (await office.track(applied.reference)).state
    assert state == applied.registration.state
    with pytest.raises(MarketError, check=INVALID):
        await office.ask(BUSINESS, "SearchPartners", text="a\0b")
    assert await history(office) == ["REGISTERED", "ACTIVATED"]


@pytest.mark.usecase(1374)
async def test_a_reference_is_good_for_its_own_partner_only(office: Office) -> None:
    first, second = await office.apply("acme"), await office.apply("volt")
    await office.approve(first)
    refused = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=refused):
        await office.certificate(second.reference)
    issued = await office.certificate(first.reference)
    assert issued.certificate.partner_id == "acme"
    made = await office.administrator(first.reference)
    assert made.partner_id == "acme"
    for method in ("TrackPartnerRegistration", "WithdrawPartnerRegistration"):
        for wrong in (first.reference[:-1], first.reference.lower() + "x"):
            with pytest.raises(MarketError, check=NOT_FOUND):
                await office.ask(ANYBODY, method, reference=wrong)


@pytest.mark.usecase(1374)
async def test_an_operator_that_was_faster_leaves_no_second_first_administrator(
    office: Office,
) -> None:
    applied = await office.apply()
    await office.approve(applied)
    await office.plane.ask(BUSINESS, "PartnerService/ActivatePartner", partner_id="acme")
    await office.administrator(applied.reference, user_name="grace")
    refused = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=refused):
        await office.administrator(applied.reference, user_name="mallory")
    users = await office.rows("SELECT user_name, roles FROM marketplace.user_account")
    assert [tuple(user) for user in users] == [("grace", [1])]


@pytest.mark.usecase(1374)
async def test_certificates_are_in_the_history_and_the_limit_holds_for_the_first_too(
    office: Office,
) -> None:
    applied = await office.apply()
    await office.approve(applied)
    issued = await office.certificate(applied.reference)
    fingerprint = issued.certificate.fingerprint
    await office.ask(BUSINESS, "ActivatePartner", partner_id="acme")
    reason = partner_pb2.REVOCATION_REASON_SUPERSEDED
    await office.ask("acme", "RevokeCertificate", fingerprint=fingerprint, reason=reason)
    events = await office.events("acme")
    assert [event.detail for event in events] == ["", fingerprint.hex(), "", fingerprint.hex()]
    assert events[1].actor == f"applicant/{applied.registration.registration_id}"
    assert events[-1].actor == "acme"
    with pytest.raises(MarketError, check=NOT_FOUND):
        await office.ask("acme", "RevokeCertificate", fingerprint=b"x" * 32, reason=reason)
