"""The life of a partner over both listeners of a running market, with generated stubs.

Applicants and people come without a certificate, back ends with theirs (1373 to 1380, 1386).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio

from foundation.certificates import new_key_and_csr
from gem.marketplace.v1 import (
    notification_service_pb2,
    notification_service_pb2_grpc,
    partner_change_pb2,
    partner_contract_pb2,
    partner_pb2,
    partner_registration_pb2,
    partner_search_pb2,
    partner_service_pb2,
    partner_service_pb2_grpc,
)
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.marketplace.v1.user_pb2 import UserRole
from gem.options.v1.options_pb2 import PartnerRole
from gemarket.administration import PartnerPlan, new_request_id
from gemarket.identity import Identity
from tests.end_to_end.charging import detail_of, reason_of
from tests.end_to_end.people import PASSWORD, TIMEOUT_S, People, token_metadata
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.end_to_end.test_authorization_matrix import both, fingerprint_of
from tests.end_to_end.whole_market import EVSP, Party, WholeMarket, new_id, open_channel

_MESSAGES = (
    partner_change_pb2,
    partner_contract_pb2,
    partner_registration_pb2,
    partner_search_pb2,
    partner_service_pb2,
)
BUSINESS = UserRole.USER_ROLE_BUSINESS_OPERATOR


class Desk:
    """PartnerService as somebody reaches it over one channel."""

    def __init__(self, channel: aio.Channel, token: str = "") -> None:
        self.stub = partner_service_pb2_grpc.PartnerServiceStub(channel)
        self.metadata = token_metadata(token) if token else None

    async def ask(self, method: str, **fields: Any) -> Any:
        """Call a method; a command without `request_id` gets a fresh one."""
        name = f"{method}Request"
        (module,) = [module for module in _MESSAGES if hasattr(module, name)]
        kind = getattr(module, name)
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", new_request_id())
        call = getattr(self.stub, method)
        return await call(kind(**fields), timeout=TIMEOUT_S, metadata=self.metadata)

    async def refusal(self, method: str, **fields: Any) -> str:
        """Give the reason for which a call is refused."""
        with pytest.raises(aio.AioRpcError) as caught:
            await self.ask(method, **fields)
        return reason_of(caught.value)


@pytest.fixture
async def people(whole: WholeMarket) -> AsyncIterator[People]:
    opened = People(whole)
    yield opened
    await opened.channel.close()


def form(partner_id: str, **fields: Any) -> dict[str, Any]:
    """Give a complete registration request."""
    plan = PartnerPlan(partner_id, f"{partner_id} GmbH", [EVSP])
    values = {"partner_id": partner_id, "profile": plan.profile(), "roles": plan.roles}
    return {**values, "accepted_partner_contract_version": 1, **fields}


async def registered(whole: WholeMarket, applicant: Desk, folder: Path) -> tuple[Party, str]:
    """Bring a partner from the request to activity; gives it, and the reference."""
    business = Desk(whole.business.core.channel)
    partner_id = new_id("life")
    asked = await applicant.ask("RequestPartnerRegistration", **form(partner_id))
    registration_id = asked.registration.registration_id
    await business.ask("ApprovePartnerRegistration", registration_id=registration_id)
    key, csr = new_key_and_csr(partner_id)
    issued = await applicant.ask(
        "IssueFirstCertificate", reference=asked.reference, certificate_signing_request_pem=csr
    )
    identity = Identity(folder / partner_id)
    identity.write(key, issued.chain_pem, whole.market.authority.root_pem)
    await business.ask("ActivatePartner", partner_id=partner_id)
    return Party(partner_id, identity, whole.market.address), asked.reference


@pytest.mark.usecase(1374)
async def test_each_failure_of_a_registration_is_named_to_an_applicant_without_certificate(
    whole: WholeMarket, people: People
) -> None:
    applicant, business = Desk(people.channel), Desk(whole.business.core.channel)
    known = (await whole.requester()).partner_id
    current = await applicant.ask("GetPartnerContract")
    assert current.partner_contract.version == 1
    request = "RequestPartnerRegistration"
    wished = new_id("life")
    incomplete: dict[str, Any] = {**form(wished), "profile": None}
    assert await applicant.refusal(request, **incomplete) == "REQUEST_INVALID"
    without = form(wished, accepted_partner_contract_version=0)
    assert await applicant.refusal(request, **without) == "REQUEST_INVALID"
    assert await applicant.refusal(request, **form(known)) == "ALREADY_EXISTS"
    asked = await applicant.ask(request, **form(wished))
    _, csr = new_key_and_csr(wished)
    early = {"reference": asked.reference, "certificate_signing_request_pem": csr}
    assert await applicant.refusal("IssueFirstCertificate", **early) == "STATE_NOT_ALLOWED"
    decided = {"registration_id": asked.registration.registration_id}
    await business.ask("RefusePartnerRegistration", reason="In no register.", **decided)
    seen = await applicant.ask("TrackPartnerRegistration", reference=asked.reference)
    assert seen.registration.decision_reason == "In no register."
    again = await business.refusal("ApprovePartnerRegistration", **decided)
    assert again == "STATE_NOT_ALLOWED"
    assert await business.refusal("GetPartner", partner_id=wished) == "NOT_FOUND"


@pytest.mark.usecase(1374, 1379)
async def test_a_reference_brings_a_back_end_and_an_administrator_in_and_both_are_the_partner(
    whole: WholeMarket, people: People, tmp_path: Path
) -> None:
    applicant, business = Desk(people.channel), Desk(whole.business.core.channel)
    party, reference = await registered(whole, applicant, tmp_path)
    assert await business.refusal("ActivatePartner", partner_id=party.partner_id) == (
        "STATE_NOT_ALLOWED"
    )
    back_end = Desk(party.core.channel)
    own = (await back_end.ask("GetPartner")).partner
    assert (own.partner_id, own.state) == (party.partner_id, partner_pb2.PARTNER_STATE_ACTIVE)

    person = {"reference": reference, "user_name": "ada", "full_name": "Ada B."}
    made = await applicant.ask("CreateFirstAdministrator", **person)
    assert await applicant.refusal("CreateFirstAdministrator", **person) == "STATE_NOT_ALLOWED"
    secret = made.one_time_link.secret
    await people.ask("RedeemOneTimeLink", secret=secret, password=PASSWORD)
    token = await people.login(party.partner_id, "ada")
    assert (await Desk(people.channel, token).ask("GetPartner")).partner == own
    await party.close()


@pytest.mark.usecase(1374)
async def test_in_a_rotation_the_old_certificate_works_until_it_is_revoked(
    whole: WholeMarket, people: People, tmp_path: Path
) -> None:
    party, _ = await registered(whole, Desk(people.channel), tmp_path)
    old = Desk(party.core.channel)
    key, csr = new_key_and_csr(party.partner_id)
    issued = await old.ask("IssueCertificate", certificate_signing_request_pem=csr)
    identity = Identity(tmp_path / "renewed")
    identity.write(key, issued.chain_pem, whole.market.authority.root_pem)
    channel = open_channel(whole.market.address, identity)
    new = Desk(channel)
    for desk in (old, new, old):
        assert (await desk.ask("GetPartner")).partner.partner_id == party.partner_id
    await new.ask(
        "RevokeCertificate",
        fingerprint=fingerprint_of(party.identity),
        reason=partner_pb2.REVOCATION_REASON_SUPERSEDED,
    )
    assert await old.refusal("GetPartner") == "CERTIFICATE_REVOKED"
    listed = await new.ask("ListCertificates")
    assert [each.HasField("revoke_time") for each in listed.certificates] == [False, True]
    await channel.close()
    await party.close()


@pytest.mark.usecase(1376, 1377, 1378)
async def test_an_administrator_asks_for_a_change_and_an_operator_decides_it_in_sessions(
    whole: WholeMarket, people: People
) -> None:
    party = await whole.requester()
    administrator = Desk(people.channel, await administrator_of(people, party))
    operator = Desk(people.channel, await people.user("", new_id("olga"), [BUSINESS]))
    own = (await administrator.ask("GetPartner")).partner
    change, revision = "RequestPartnerChange", {"revision": own.revision}
    assert await administrator.refusal(change, **revision) == "REQUEST_INVALID"
    assert await administrator.refusal(change, revision=99, roles=[EVSP]) == "CONFLICT"
    incomplete = {**revision, "profile": partner_pb2.PartnerProfile(company_name="New")}
    assert await administrator.refusal(change, **incomplete) == "REQUEST_INVALID"
    own.profile.company_name = "New AG"
    roles = [EVSP, PartnerRole.PARTNER_ROLE_DSO]
    asked = await administrator.ask(change, profile=own.profile, roles=roles, **revision)
    which = {"change_id": asked.change.change_id}
    stranger = Desk((await whole.requester()).core.channel)
    assert await stranger.refusal("GetPartnerChange", **which) == "NOT_FOUND"
    seen = (await operator.ask("GetPartnerChange", **which)).change
    assert [each.field for each in seen.field_changes] == ["profile.company_name", "roles"]
    # Two operators at once: one decides, the other hears that it is decided.
    by_certificate = Desk(whole.business.core.channel)
    decisions: list[Any] = list(
        await asyncio.gather(
            operator.ask("ApprovePartnerChange", **which),
            by_certificate.ask("ApprovePartnerChange", **which),
            return_exceptions=True,
        )
    )
    (lost,) = [each for each in decisions if isinstance(each, aio.AioRpcError)]
    assert reason_of(lost) == "STATE_NOT_ALLOWED"
    after = (await Desk(party.core.channel).ask("GetPartner")).partner
    assert (after.profile.company_name, after.revision) == ("New AG", own.revision + 1)
    summary = await stranger.ask("GetPartnerSummary", partner_id=party.partner_id)
    assert summary.partner.company_name == "New AG"
    assert not summary.partner.HasField("register_time")
    events = (await administrator.ask("ListPartnerEvents")).events
    last = partner_search_pb2.PARTNER_EVENT_KIND_CHANGE_APPROVED
    assert events[-1].kind == last
    assert events[-2].actor == party.partner_id, "not which person it was"


@pytest.mark.usecase(1380)
async def test_a_partner_with_contracts_is_not_inactivated_whoever_asks(
    whole: WholeMarket,
) -> None:
    requester = await whole.requester()
    contracts = await whole.contracted(requester, ScriptedProvider(both()))
    business = Desk(whole.business.core.channel)
    own = Desk(requester.core.channel)
    for desk, method, fields in (
        (own, "RequestPartnerInactivation", {}),
        (business, "InactivatePartner", {"partner_id": requester.partner_id}),
    ):
        with pytest.raises(aio.AioRpcError) as caught:
            await desk.ask(method, **fields)
        assert caught.value.code() is StatusCode.FAILED_PRECONDITION
        blocking = detail_of(caught.value, BlockingContracts)
        assert list(blocking.contract_ids) == list(contracts.values())
    assert await business.refusal("InactivatePartner") == "REQUEST_INVALID"
    assert await business.refusal("ActivatePartner") == "REQUEST_INVALID"


@pytest.mark.usecase(1380)
async def test_an_inactivated_partner_is_cut_and_a_deleted_one_never_comes_back(
    whole: WholeMarket, people: People, tmp_path: Path
) -> None:
    applicant, business = Desk(people.channel), Desk(whole.business.core.channel)
    party, reference = await registered(whole, applicant, tmp_path)
    which = {"partner_id": party.partner_id}
    assert await business.refusal("DeletePartner", **which) == "STATE_NOT_ALLOWED"
    token = await administrator_of(people, party)
    channels = await whole.channels(party)
    streams = [await watching(channel) for channel in channels.values()]
    streams.append(await watching(people.channel, token))
    asked = await Desk(party.core.channel).ask("RequestPartnerInactivation", note="We close.")
    await business.ask("ApprovePartnerChange", change_id=asked.change.change_id)
    for stream in streams:
        assert await end_of(stream) == "PARTNER_NOT_ACTIVE"
    for channel in channels.values():
        assert await Desk(channel).refusal("GetPartner") == "PARTNER_NOT_ACTIVE"
    assert await Desk(people.channel, token).refusal("GetPartner") == "PARTNER_NOT_ACTIVE"

    deleted = await business.ask("DeletePartner", **which)
    assert deleted.partner.state == partner_pb2.PARTNER_STATE_DELETED
    for channel in channels.values():
        assert await Desk(channel).refusal("GetPartner") == "CERTIFICATE_REVOKED"
    session = Desk(people.channel, token)
    assert await session.refusal("GetPartner") == "SESSION_NOT_ACCEPTED"
    with pytest.raises(aio.AioRpcError) as caught:
        await people.login(party.partner_id, "ada")
    assert reason_of(caught.value) == "LOGIN_FAILED"
    track = "TrackPartnerRegistration"
    assert await applicant.refusal(track, reference=reference) == "NOT_FOUND"
    request = "RequestPartnerRegistration"
    assert await applicant.refusal(request, **form(party.partner_id)) == "ALREADY_EXISTS"
    assert await business.refusal("ActivatePartner", **which) == "STATE_NOT_ALLOWED"
    left = (await business.ask("GetPartner", **which)).partner
    assert not left.profile.HasField("responsible_person")
    events = (await business.ask("ListPartnerEvents", **which)).events
    assert events[-1].kind == partner_search_pb2.PARTNER_EVENT_KIND_DELETED
    for channel in channels.values():
        await channel.close()
    await party.close()


@pytest.mark.usecase(1373)
async def test_operators_search_partners_and_nobody_found_is_an_empty_page(
    whole: WholeMarket, people: People
) -> None:
    party = await whole.requester()
    operator = Desk(people.channel, await people.user("", new_id("olga"), [BUSINESS]))
    found = await operator.ask("SearchPartners", text=party.partner_id.upper())
    assert party.partner_id in [each.partner_id for each in found.partners]
    nobody = await operator.ask("SearchPartners", text="no company has this name")
    assert (list(nobody.partners), nobody.page.next_page_token) == ([], "")
    own = Desk(party.core.channel)
    states = [partner_pb2.PARTNER_STATE_INACTIVE]
    assert await own.refusal("SearchPartners", states=states) == "REQUEST_INVALID"
    assert await Desk(people.channel).refusal("SearchPartners") == "SESSION_MISSING"


async def administrator_of(people: People, party: Party) -> str:
    """Give the token of an administrator of a partner."""
    return await people.user(party.partner_id, "ada", [UserRole.USER_ROLE_ADMINISTRATOR])


async def watching(channel: aio.Channel, token: str = "") -> Any:
    """Open a stream of notifications and read that the partner was activated."""
    stub = notification_service_pb2_grpc.NotificationServiceStub(channel)
    metadata = token_metadata(token) if token else None
    request = notification_service_pb2.WatchNotificationsRequest()
    stream: Any = stub.WatchNotifications(request, timeout=TIMEOUT_S, metadata=metadata)
    assert await stream.read() is not aio.EOF
    return stream


async def end_of(stream: Any) -> str:
    """Read a stream to its end and give the reason."""
    try:
        while await stream.read() is not aio.EOF:
            pass
    except aio.AioRpcError as error:
        return reason_of(error)
    return "ended well"
