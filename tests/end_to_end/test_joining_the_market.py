"""How a company gets to its first call: account (1374), service (1250), contract (1485)."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio

from gem.marketplace.v1 import contract_pb2, partner_pb2, service_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.options.v1 import options_pb2
from gemarket.administration import PartnerPlan, ServicePlan, new_request_id
from gemarket.identity import Identity
from tests.end_to_end.charging import detail_of, evse, evse_ids, found, reason_of, search, stub
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import EVSE_SEARCH, OPERATOR, Party, WholeMarket, new_id


def registration(partner_id: str) -> partners.RegisterPartnerRequest:
    """Fill in the registration form."""
    plan = PartnerPlan(partner_id, "Volt GmbH", [options_pb2.PARTNER_ROLE_EVSP])
    return partners.RegisterPartnerRequest(
        request_id=new_request_id(),
        partner_id=partner_id,
        profile=plan.profile(),
        roles=plan.roles,
        accepted_partner_contract_version=1,
    )


async def is_registered(whole: WholeMarket, partner_id: str) -> bool:
    """Ask the business operator's list whether there is such a partner."""
    request = partners.GetPartnerRequest(partner_id=partner_id)
    try:
        await whole.business.core.partners.GetPartner(request, timeout=10)
    except aio.AioRpcError as error:
        if error.code() is not StatusCode.NOT_FOUND:
            raise
        return False
    return True


@pytest.mark.usecase(1374)
@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda form: form.profile.ClearField("company_name"), "profile.company_name"),
        (lambda form: form.profile.ClearField("responsible_person"), "profile.responsible_person"),
        (lambda form: form.ClearField("roles"), "roles"),
        (
            lambda form: form.ClearField("accepted_partner_contract_version"),
            "accepted_partner_contract_version",
        ),
    ],
    ids=["no company", "no responsible person", "no role", "partner contract not accepted"],
)
async def test_an_incomplete_registration_is_cancelled_with_the_reason(
    whole: WholeMarket, spoil: object, field: str
) -> None:
    form = registration(new_id("volt"))
    assert callable(spoil)
    spoil(form)
    with pytest.raises(aio.AioRpcError) as refused:
        await whole.business.core.partners.RegisterPartner(form, timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    violations = detail_of(refused.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]
    assert not await is_registered(whole, form.partner_id)


@pytest.mark.usecase(1374)
async def test_a_partner_is_registered_once_and_a_repetition_has_the_first_result(
    whole: WholeMarket,
) -> None:
    form = registration(new_id("volt"))
    stub_of_operator = whole.business.core.partners
    first = await stub_of_operator.RegisterPartner(form, timeout=10)
    assert await stub_of_operator.RegisterPartner(form, timeout=10) == first
    form.request_id = new_request_id()
    with pytest.raises(aio.AioRpcError) as refused:
        await stub_of_operator.RegisterPartner(form, timeout=10)
    assert refused.value.code() is StatusCode.ALREADY_EXISTS


@pytest.mark.usecase(1374)
async def test_access_comes_with_activation_and_a_certificate(whole: WholeMarket) -> None:
    form = registration(new_id("volt"))
    operator = whole.business.core.partners
    response = await operator.RegisterPartner(form, timeout=10)
    assert response.partner.state == partner_pb2.PARTNER_STATE_REGISTERED
    party = await whole.with_certificate(form.partner_id)
    own = partners.GetPartnerRequest()
    with pytest.raises(aio.AioRpcError) as refused:
        await party.core.partners.GetPartner(own, timeout=10)
    assert reason_of(refused.value) == "PARTNER_NOT_ACTIVE"
    activate = partners.ActivatePartnerRequest(
        request_id=new_request_id(), partner_id=form.partner_id
    )
    await operator.ActivatePartner(activate, timeout=10)
    partner = (await party.core.partners.GetPartner(own, timeout=10)).partner
    assert partner.partner_id == form.partner_id
    assert partner.state == partner_pb2.PARTNER_STATE_ACTIVE


@pytest.mark.usecase(1250)
async def test_a_service_needs_the_registration_contract_and_a_fitting_role(
    whole: WholeMarket,
) -> None:
    provider, caller = await whole.registered("operator", OPERATOR), await whole.requester()
    plan = ServicePlan(provider.partner_id, "Search", EVSE_SEARCH, "127.0.0.1:1")
    request = plan.request()
    request.accepted_registration_contract_version = 0
    with pytest.raises(aio.AioRpcError) as refused:
        await provider.core.services.RegisterService(request, timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    with pytest.raises(aio.AioRpcError) as refused:
        await caller.core.services.RegisterService(plan.request(), timeout=10)
    assert reason_of(refused.value) == "ROLE_NOT_ALLOWED"
    for party in (provider, caller):
        listing = registry.ListServicesRequest(provider_id=party.partner_id)
        assert not (await party.core.services.ListServices(listing, timeout=10)).services


@pytest.mark.usecase(1250)
async def test_a_registered_service_is_disabled_until_it_is_published(whole: WholeMarket) -> None:
    requester, provider = await whole.requester(), await whole.registered("operator", OPERATOR)
    plan = ServicePlan(provider.partner_id, "Search", EVSE_SEARCH, "127.0.0.1:1")
    service_id = await provider.core.ensure_service(plan)
    request = registry.GetServiceRequest(service_id=service_id)
    with pytest.raises(aio.AioRpcError) as refused:
        await requester.core.services.GetService(request, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND
    await whole.technical.core.publish_service(service_id)
    service = (await requester.core.services.GetService(request, timeout=10)).service
    assert service.state == service_pb2.SERVICE_STATE_PUBLISHED
    assert [section.section_id for section in service.offerings[0].terms.sections] == ["terms"]


async def offering_of(whole: WholeMarket, provider: ScriptedProvider) -> tuple[Party, str, str]:
    """Publish a provider's service; gives the provider, the service's and the offering's id."""
    party = await whole.provider(provider)
    service_id = await whole.offer(party, provider.endpoint)
    request = registry.GetServiceRequest(service_id=service_id)
    service = (await party.core.services.GetService(request, timeout=10)).service
    return party, service_id, service.offerings[0].offering_id


@pytest.mark.usecase(1485)
@pytest.mark.parametrize(
    ("choice", "field"),
    [
        ({"section_ids": [], "accepted": True}, "section_ids"),
        ({"section_ids": ["terms"], "accepted": False}, "accepted"),
    ],
    ids=["a required section is not chosen", "the offering is rejected"],
)
async def test_without_full_acceptance_there_is_no_contract_and_no_call(
    whole: WholeMarket, choice: dict[str, object], field: str
) -> None:
    requester, provider = await whole.requester(), ScriptedProvider(answers(found()))
    _, _, offering_id = await offering_of(whole, provider)
    request = contracts.CreateContractRequest(
        request_id=new_request_id(),
        offering_id=offering_id,
        **choice,  # type: ignore[arg-type]  # the fields of the case
    )
    with pytest.raises(aio.AioRpcError) as refused:
        await requester.core.contracts.CreateContract(request, timeout=10)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    violations = detail_of(refused.value, error_details_pb2.BadRequest).field_violations
    assert [violation.field for violation in violations] == [field]
    listing = contracts.ListContractsRequest()
    assert not (await requester.core.contracts.ListContracts(listing, timeout=10)).contracts
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(search(), timeout=10)
    assert reason_of(refused.value) == "NO_CONTRACT"


@pytest.mark.usecase(1485)
async def test_the_accepted_offering_is_a_contract_that_both_see_and_calls_go_by(
    whole: WholeMarket,
) -> None:
    requester = await whole.requester()
    provider = ScriptedProvider(answers(found(evse("DE*AAA*E1"))))
    party, service_id, _ = await offering_of(whole, provider)
    contract_id = await requester.core.ensure_contract(service_id)
    request = contracts.GetContractRequest(contract_id=contract_id)
    for each in (requester, party):
        contract = (await each.core.contracts.GetContract(request, timeout=10)).contract
        assert contract.state == contract_pb2.CONTRACT_STATE_ACTIVE
        assert (contract.requester_id, contract.provider_id) == (
            requester.partner_id,
            party.partner_id,
        )
    response = await stub(requester).SearchEvses(search(), timeout=10)
    assert evse_ids(response) == ["DE*AAA*E1"]
    stranger = await whole.requester()
    with pytest.raises(aio.AioRpcError) as refused:
        await stranger.core.contracts.GetContract(request, timeout=10)
    assert refused.value.code() is StatusCode.NOT_FOUND


async def test_a_service_that_is_stopped_or_moved_takes_effect_on_the_next_call(
    whole: WholeMarket,
) -> None:
    requester = await whole.requester()
    here, there = (ScriptedProvider(answers(found(evse(f"DE*AAA*E{n}")))) for n in (1, 2))
    party, service_id, _ = await offering_of(whole, here)
    await requester.core.ensure_contract(service_id)
    there_at = await there.start(party.identity, whole.market.settings.trust_domain)
    assert evse_ids(await stub(requester).SearchEvses(search(), timeout=10)) == ["DE*AAA*E1"]
    plan = ServicePlan(party.partner_id, "A service", EVSE_SEARCH, there_at)
    await party.core.ensure_service(plan)
    assert evse_ids(await stub(requester).SearchEvses(search(), timeout=10)) == ["DE*AAA*E2"]
    stop = registry.StopServiceRequest(request_id=new_request_id(), service_id=service_id)
    await whole.technical.core.services.StopService(stop, timeout=10)
    with pytest.raises(aio.AioRpcError) as refused:
        await stub(requester).SearchEvses(search(), timeout=10)
    assert reason_of(refused.value) == "NO_CONTRACT"
    await there.stop()


async def test_another_s_certificate_request_is_refused(whole: WholeMarket) -> None:
    one, other = await whole.requester(), await whole.requester()
    identity = Identity(one.identity.folder.with_name(new_id("stolen")))
    roots = whole.market.authority.root_pem
    with pytest.raises(aio.AioRpcError) as refused:
        await one.core.issue_identity(other.partner_id, identity, roots)
    assert refused.value.code() is StatusCode.NOT_FOUND
    await one.core.issue_identity(one.partner_id, identity, roots)
    assert identity.certificate_file.exists()
