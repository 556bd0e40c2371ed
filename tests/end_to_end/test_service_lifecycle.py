"""A service from registration to deletion over mutual TLS (1250, 1477, 1494, 1255, 1486, 1444)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.rpc import error_details_pb2

from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1.service_lifecycle_pb2 import ServiceEventKind
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.administration import new_request_id
from tests.end_to_end.charging import detail_of, evse, evse_ids, found, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import until
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, waits_for
from tests.end_to_end.service_desk import (
    ENDPOINT,
    IMAGE,
    ask,
    blocking,
    kinds,
    published,
    refusal,
    refused,
    registered,
    registration,
    state_of,
)
from tests.end_to_end.test_authorization_matrix import old_contract
from tests.end_to_end.whole_market import Party, WholeMarket

INVALID, NOT_NOW, HIDDEN = "REQUEST_INVALID", "STATE_NOT_ALLOWED", "NOT_FOUND"


async def fields_of(party: Party, method: str, **fields: Any) -> list[str]:
    """Call a method that must be refused as invalid; gives the fields that are blamed."""
    error = await refusal(party, method, **fields)
    bad = detail_of(error, error_details_pb2.BadRequest)
    return [violation.field for violation in bad.field_violations]


@pytest.mark.usecase(1250, 1477)
async def test_without_the_current_registration_contract_nothing_is_registered(
    whole: WholeMarket,
) -> None:
    provider = await whole.operator()
    shown = await ask(provider, "GetRegistrationContract")
    current = shown.current_version
    assert shown.registration_contract.version == current
    assert "The provider states truthfully" in shown.registration_contract.text
    for accepted in (0, current + 1):
        fields = registration(provider, accepted_registration_contract_version=accepted)
        blamed = await fields_of(provider, "RegisterService", **fields)
        assert blamed == ["accepted_registration_contract_version"]
    assert not (await ask(provider, "ListServices", provider_id=provider.partner_id)).services
    await refused(provider, "GetRegistrationContract", HIDDEN, version=current + 1)


@pytest.mark.usecase(1250)
async def test_a_registered_service_says_all_that_its_provider_stated(whole: WholeMarket) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    image = (await ask(provider, "RegisterServiceImage", reference=IMAGE, title="1.0")).image
    hosting = {
        "country_code": "DE",
        "region": "eu-central-1",
        "operator_name": "Rack AG",
        "contact_email": "ops@rack.example",
    }
    made = await registered(
        provider,
        keywords={"words": ["Ladesäule", " fast "]},
        hosting=hosting,
        image_id=image.image_id,
    )
    assert state_of(made) == "REGISTERED"
    assert (made.category, list(made.keywords)) == ("charging", ["Ladesäule", "fast"])
    assert made.image.reference == IMAGE
    assert made.hosting.contact_email == "ops@rack.example"
    await refused(requester, "GetService", HIDDEN, service_id=made.service_id)
    assert (await kinds(provider))[-1] == "SERVICE_CHANGED"
    await ask(provider, "PublishService", service_id=made.service_id)
    seen = (await ask(requester, "GetService", service_id=made.service_id)).service
    assert (seen.hosting.region, seen.hosting.contact_email) == ("eu-central-1", "")
    listed = (await ask(provider, "ListServiceImages")).images
    assert [each.image_id for each in listed] == [image.image_id]


@pytest.mark.usecase(1250)
@pytest.mark.parametrize(
    ("wrong", "blamed"),
    [
        ({"keywords": {"words": ["!?"]}}, "keywords.words[0]"),
        ({"hosting": {"country_code": "Germany"}}, "hosting.country_code"),
        ({"endpoint": "10.0.0.1:443"}, "endpoint"),
        ({"endpoint": "169.254.169.254:80"}, "endpoint"),
        ({"endpoint": "[::ffff:10.0.0.1]:443"}, "endpoint"),
        ({"endpoint": "[fe80::1]:443"}, "endpoint"),
        ({"endpoint": "no-such-host.invalid:443"}, "endpoint"),
        ({"endpoint": "http://a.example"}, "endpoint"),
    ],
)
async def test_an_ill_described_service_is_not_registered(
    whole: WholeMarket, wrong: dict[str, Any], blamed: str
) -> None:
    provider = await whole.operator()
    fields = registration(provider, **wrong)
    assert blamed in await fields_of(provider, "RegisterService", **fields)
    assert not (await ask(provider, "ListServices", provider_id=provider.partner_id)).services


@pytest.mark.usecase(1250)
async def test_anothers_image_and_a_tag_are_none_of_the_catalogue(whole: WholeMarket) -> None:
    provider, other = await whole.operator(), await whole.operator()
    theirs = (await ask(other, "RegisterServiceImage", reference=IMAGE)).image
    await refused(
        provider, "RegisterService", HIDDEN, **registration(provider, image_id=theirs.image_id)
    )
    for wrong in ("registry.example/volt:latest", "volt/search@sha256:" + "ab" * 32):
        assert await fields_of(provider, "RegisterServiceImage", reference=wrong) == ["reference"]
    await refused(other, "RegisterServiceImage", "ALREADY_EXISTS", reference=IMAGE)
    await refused(provider, "ListServiceImages", HIDDEN, provider_id=other.partner_id)


@pytest.mark.usecase(1255)
async def test_the_three_failures_of_starting_and_stopping_are_told_apart(
    whole: WholeMarket,
) -> None:
    provider = await whole.operator()
    made = await registered(provider)
    wanted = {"service_id": made.service_id}
    for step in ("StopService", "StartService"):
        text = await refused(whole.technical, step, NOT_NOW, **wanted)
        assert text == "The service is not published."
    await ask(provider, "PublishService", **wanted)
    text = await refused(whole.technical, "StartService", NOT_NOW, **wanted)
    assert text == "The service is not stopped."
    stopped = await ask(whole.technical, "StopService", **wanted)
    assert state_of(stopped.service) == "STOPPED"
    text = await refused(provider, "StopService", NOT_NOW, **wanted)
    assert text == "The service is not started."
    assert state_of((await ask(provider, "StartService", **wanted)).service) == "PUBLISHED"


@pytest.mark.usecase(1255)
async def test_a_call_in_flight_ends_well_though_its_service_is_stopped(whole: WholeMarket) -> None:
    requester, gate = await whole.requester(), asyncio.Event()
    slow = ScriptedProvider(waits_for(gate, found(evse("DE*SLO*E1"))))
    quick = ScriptedProvider(answers(found(evse("DE*QUI*E1"))))
    await whole.contracted(requester, slow, quick)
    (service,) = (await ask(requester, "ListServices", provider_id=slow.partner_id)).services
    flying = asyncio.ensure_future(stub(requester).SearchEvses(search(), timeout=20))
    await until(lambda: slow.asked, 10, "the slow provider was asked")
    await ask(whole.technical, "StopService", service_id=service.service_id)

    # The next call, on whichever worker, does not ask the stopped one.
    for channel in (await whole.channels(requester)).values():
        answer = await EvseSearchServiceStub(channel).SearchEvses(search(), timeout=10)
        assert [each.provider_id for each in answer.provider_answers] == [quick.partner_id]
        await channel.close()
    assert not flying.done()
    gate.set()
    done = await flying
    assert sorted(evse_ids(done)) == ["DE*QUI*E1", "DE*SLO*E1"]
    assert {each.status for each in done.provider_answers} == {mesh.ANSWER_STATUS_OK}
    assert len(slow.asked) == 1
    by_provider = [entry.provider_id for entry in await entries_of(requester)]
    assert by_provider.count(slow.partner_id) == 1
    await ask(whole.technical, "StartService", service_id=service.service_id)
    again = await stub(requester).SearchEvses(search(), timeout=10)
    assert len(again.provider_answers) == 2
    assert (await kinds(requester))[-2:] == ["SERVICE_STOPPED", "SERVICE_STARTED"]


@pytest.mark.usecase(1486)
async def test_a_service_with_contracts_is_not_disabled_and_its_provider_is_told(
    whole: WholeMarket,
) -> None:
    provider, requester, other = (
        await whole.operator(),
        await whole.requester(),
        await whole.requester(),
    )
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    first = await requester.core.ensure_contract(made.service_id)
    second = await other.core.ensure_contract(made.service_id)
    await other.core.suspend(second)
    text = await refused(provider, "DisableService", NOT_NOW, **wanted)
    assert text == "The service is not stopped."
    await ask(provider, "StopService", **wanted)
    error = await refusal(whole.technical, "DisableService", **wanted)
    assert blocking(error) == [first, second]
    assert state_of((await ask(provider, "GetService", **wanted)).service) == "STOPPED"
    assert (await kinds(provider))[-1] == "SERVICE_STEP_REFUSED"
    for party, contract_id in ((requester, first), (other, second)):
        await _terminate(party, contract_id)
    disabled = await ask(provider, "DisableService", **wanted)
    assert state_of(disabled.service) == "DISABLED"
    assert (await kinds(provider))[-1] == "SERVICE_DISABLED"


@pytest.mark.usecase(1486)
async def test_a_disabled_service_is_hidden_but_from_whoever_had_it_until_it_is_enabled(
    whole: WholeMarket,
) -> None:
    provider, had, stranger = (
        await whole.operator(),
        await whole.requester(),
        await whole.requester(),
    )
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    await old_contract(had, made.service_id)
    await refused(provider, "EnableService", NOT_NOW, **wanted)
    for step in ("StopService", "DisableService"):
        await ask(provider, step, **wanted)
    await refused(stranger, "GetService", HIDDEN, **wanted)
    assert state_of((await ask(had, "GetService", **wanted)).service) == "DISABLED"
    text = await refused(provider, "DisableService", NOT_NOW, **wanted)
    assert text == "The service is disabled already."
    text = await refused(provider, "StartService", NOT_NOW, **wanted)
    assert text == "The service is not published."
    enabled = await ask(whole.technical, "EnableService", **wanted)
    assert state_of(enabled.service) == "STOPPED"
    await ask(provider, "StartService", **wanted)
    assert state_of((await ask(stranger, "GetService", **wanted)).service) == "PUBLISHED"


@pytest.mark.usecase(1486)
async def test_a_deleted_service_leaves_its_contracts_and_transactions_readable(
    whole: WholeMarket,
) -> None:
    requester, stranger = await whole.requester(), await whole.requester()
    scripted = ScriptedProvider(answers(found(evse("DE*DEL*E1"))))
    provider = await whole.provider(scripted)
    hosting = {"country_code": "DE", "operator_name": "Rack", "contact_email": "a@b.example"}
    made = await published(provider, endpoint=scripted.endpoint, title="Gone", hosting=hosting)
    wanted = {"service_id": made.service_id}
    contract_id = await requester.core.ensure_contract(made.service_id)
    await stub(requester).SearchEvses(search(), timeout=10)
    text = await refused(provider, "DeleteService", NOT_NOW, **wanted)
    assert text == "The service is not disabled."
    await _terminate(requester, contract_id)
    for step in ("StopService", "DisableService", "DeleteService"):
        gone = await ask(provider, step, **wanted)
    assert state_of(gone.service) == "DELETED"
    assert not gone.service.offerings
    assert gone.service.hosting.contact_email == ""
    for step in ("DeleteService", "EnableService", "PublishService"):
        text = await refused(provider, step, NOT_NOW, **wanted)
        assert text == "The service is deleted."
    await refused(provider, "ChangeServiceDescription", NOT_NOW, title="Back", **wanted)

    await refused(stranger, "GetService", HIDDEN, **wanted)
    assert (await ask(requester, "GetService", **wanted)).service.title == "Gone"
    kept = await requester.core.contracts.GetContract(
        contracts.GetContractRequest(contract_id=contract_id), timeout=10
    )
    assert kept.contract.terms.service_title == "Gone"
    (entry,) = await entries_of(requester)
    assert entry.service_id == made.service_id
    assert not (await ask(provider, "ListServices", provider_id=provider.partner_id)).services


@pytest.mark.usecase(1250, 1255, 1486)
async def test_the_history_of_a_service_is_its_providers_and_the_operators(
    whole: WholeMarket,
) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    await ask(whole.technical, "StopService", **wanted)
    await ask(provider, "ChangeServiceEndpoint", endpoint="127.0.0.1:10", **wanted)
    await refused(requester, "ListServiceEvents", HIDDEN, **wanted)
    for party in (provider, whole.business):
        events = (await ask(party, "ListServiceEvents", **wanted)).events
        named = [ServiceEventKind.Name(each.kind) for each in events]
        assert [name.removeprefix("SERVICE_EVENT_KIND_") for name in named] == [
            "REGISTERED",
            "PUBLISHED",
            "STOPPED",
            "ENDPOINT_CHANGED",
        ]
        assert [each.actor for each in events][1:3] == [provider.partner_id, "operator/technical"]


@pytest.mark.usecase(1255, 1486)
async def test_of_conflicting_steps_at_once_one_wins_and_the_history_is_linear(
    whole: WholeMarket,
) -> None:
    provider = await whole.operator()
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    await ask(provider, "StopService", **wanted)
    steps = ["StartService", "DisableService"] * 3
    results = await asyncio.gather(
        *(ask(provider, step, **wanted) for step in steps), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    events = (await ask(provider, "ListServiceEvents", **wanted)).events
    assert len(events) == 4
    state = (await ask(provider, "GetService", **wanted)).service.state
    assert events[-1].state == state


@pytest.mark.usecase(1250)
async def test_a_repeated_command_gives_its_first_result(whole: WholeMarket) -> None:
    provider = await whole.operator()
    fields = registration(provider)
    first = await ask(provider, "RegisterService", **fields)
    assert await ask(provider, "RegisterService", **fields) == first
    await refused(
        provider, "RegisterService", "REQUEST_ID_REUSED", **{**fields, "title": "Another"}
    )
    listed = (await ask(provider, "ListServices", provider_id=provider.partner_id)).services
    assert len(listed) == 1


@pytest.mark.usecase(1255)
async def test_an_endpoint_moves_within_what_the_policy_allows_only(whole: WholeMarket) -> None:
    provider = await whole.operator()
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    for inside in ("192.168.1.1:443", "[::ffff:169.254.169.254]:80", "no-such-host.invalid:1"):
        blamed = await fields_of(provider, "ChangeServiceEndpoint", endpoint=inside, **wanted)
        assert blamed == ["endpoint"]
    assert (await ask(provider, "GetService", **wanted)).service.endpoint == ENDPOINT


async def _terminate(party: Party, contract_id: str) -> None:
    request = contracts.TerminateContractRequest(
        request_id=new_request_id(), contract_id=contract_id
    )
    await party.core.contracts.TerminateContract(request, timeout=10)
