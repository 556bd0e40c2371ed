"""New versions of services over mutual TLS (use case 1494, feature 940)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gem.marketplace.v1 import contract_service_pb2 as contracts_wire
from gem.marketplace.v1.service_version_pb2 import ServiceVersionState
from gemarket.administration import new_request_id
from tests.end_to_end.charging import evse, evse_ids, found, search, stub
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.service_desk import (
    ask,
    blocking,
    kinds,
    publish_version,
    published,
    refusal,
    refused,
    registered,
    state_of,
)
from tests.end_to_end.whole_market import Party, WholeMarket

NOT_NOW, HIDDEN = "STATE_NOT_ALLOWED", "NOT_FOUND"


def standing(version: Any) -> str:
    """Give the state of a version by name."""
    name = ServiceVersionState.Name(version.state)
    return name.removeprefix("SERVICE_VERSION_STATE_")


async def breaking(whole: WholeMarket, name: str) -> tuple[Party, Any]:
    """Publish a service at an interface whose second version breaks the first."""
    provider = await whole.operator()
    package = f"acme.{name}.v1"
    interface = await publish_version(whole, package)
    made = await published(provider, interface_name=interface)
    await publish_version(whole, package, item="int32")
    return provider, made


@pytest.mark.usecase(1494)
async def test_unchanged_contracts_keep_a_breaking_version_from_being_published(
    whole: WholeMarket,
) -> None:
    provider, made = await breaking(whole, "breaks")
    first, second = await whole.requester(), await whole.requester()
    wanted = {"service_id": made.service_id}
    in_the_way = [await each.core.ensure_contract(made.service_id) for each in (first, second)]
    prepared = await ask(provider, "PrepareServiceVersion", service_version="2.0.0", **wanted)
    version = prepared.version
    assert (version.interface_version, version.compatible) == (2, False)
    assert version.unchanged_contract_count == 2
    assert (await kinds(first))[-1] == "SERVICE_VERSION_PREPARED"

    error = await refusal(provider, "PublishServiceVersion", **wanted)
    assert blocking(error) == in_the_way
    assert (await kinds(provider))[-1] == "SERVICE_STEP_REFUSED"
    kept = (await ask(first, "GetService", **wanted)).service
    assert (kept.interface_version, kept.service_version) == (1, "1.0.0")

    for party, contract_id in zip((first, second), in_the_way, strict=True):
        await _end(party, contract_id)
    answer = await ask(provider, "PublishServiceVersion", **wanted)
    assert (answer.service.interface_version, answer.service.service_version) == (2, "2.0.0")
    assert standing(answer.version) == "PUBLISHED"
    assert (await kinds(provider))[-1] == "SERVICE_VERSION_PUBLISHED"


@pytest.mark.usecase(1494)
async def test_a_version_that_breaks_nothing_is_published_over_its_contracts(
    whole: WholeMarket,
) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    interface = await publish_version(whole, "acme.fits.v1")
    made = await published(provider, interface_name=interface)
    wanted = {"service_id": made.service_id}
    contract_id = await requester.core.ensure_contract(made.service_id)
    await publish_version(
        whole, "acme.fits.v1", more="int32 more = 2 [(buf.validate.field).int32.gte = 0];"
    )
    prepared = await ask(provider, "PrepareServiceVersion", service_version="1.1.0", **wanted)
    assert (prepared.version.interface_version, prepared.version.compatible) == (2, True)
    assert prepared.version.unchanged_contract_count == 0
    answer = await ask(provider, "PublishServiceVersion", **wanted)
    assert answer.service.interface_version == 2
    assert (await kinds(requester))[-1] == "SERVICE_VERSION_PUBLISHED"
    shown = await ask(requester, "GetService", **wanted)
    assert [each.contract_id for each in shown.contracts] == [contract_id]
    assert shown.interface.version == 2


@pytest.mark.usecase(1494)
async def test_what_a_version_changes_holds_from_its_publication_on(whole: WholeMarket) -> None:
    requester = await whole.requester()
    old = ScriptedProvider(answers(found(evse("DE*OLD*E1"))))
    new = ScriptedProvider(answers(found(evse("DE*NEW*E1"))))
    provider = await whole.provider(old)
    await new.start(provider.identity, whole.market.settings.trust_domain)
    made = await published(provider, endpoint=old.endpoint)
    wanted = {"service_id": made.service_id}
    await requester.core.ensure_contract(made.service_id)
    terms = made.offerings[0].terms
    terms.sections[0].title = "Other terms"
    fields = {"service_version": "2.0.0", "endpoint": new.endpoint, "offering": terms, **wanted}
    prepared = (await ask(provider, "PrepareServiceVersion", **fields)).version
    assert (prepared.compatible, prepared.endpoint) == (True, new.endpoint)
    before = await stub(requester).SearchEvses(search(), timeout=10)
    assert evse_ids(before) == ["DE*OLD*E1"]

    answer = await ask(provider, "PublishServiceVersion", **wanted)
    after = await stub(requester).SearchEvses(search(), timeout=10)
    assert evse_ids(after) == ["DE*NEW*E1"]
    assert after.provider_answers[0].service_version == "2.0.0"
    (offering,) = answer.service.offerings
    assert offering.terms.sections[0].title == "Other terms"
    assert offering.offering_id != made.offerings[0].offering_id
    await new.stop()


@pytest.mark.usecase(1494)
async def test_a_version_is_prepared_once_withdrawn_and_prepared_again(whole: WholeMarket) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    prepare = {"service_version": "1.1", **wanted}
    assert await refused(provider, "PublishServiceVersion", NOT_NOW, **wanted) == (
        "The service has no prepared version."
    )
    await refused(provider, "WithdrawServiceVersion", NOT_NOW, **wanted)
    await refused(
        provider, "PrepareServiceVersion", NOT_NOW, **{**prepare, "service_version": "1.0.0"}
    )
    await refused(
        provider, "PrepareServiceVersion", "REQUEST_INVALID", **prepare, endpoint="10.0.0.1:1"
    )
    await refused(provider, "PrepareServiceVersion", HIDDEN, **prepare, interface_version=99)
    await refused(requester, "PrepareServiceVersion", HIDDEN, **prepare)
    await ask(provider, "PrepareServiceVersion", **prepare)
    await refused(provider, "PrepareServiceVersion", NOT_NOW, **prepare)
    seen = (await ask(requester, "ListServiceVersions", **wanted)).versions
    assert [standing(each) for each in seen] == ["PREPARED"]
    withdrawn = await ask(provider, "WithdrawServiceVersion", **wanted)
    assert standing(withdrawn.version) == "WITHDRAWN"
    await ask(provider, "PrepareServiceVersion", **prepare)
    listed = (await ask(provider, "ListServiceVersions", **wanted)).versions
    assert [standing(each) for each in listed] == ["WITHDRAWN", "PREPARED"]
    seen = (await ask(requester, "ListServiceVersions", **wanted)).versions
    assert [standing(each) for each in seen] == ["PREPARED"]


@pytest.mark.usecase(1494)
async def test_only_a_published_service_has_later_versions(whole: WholeMarket) -> None:
    provider = await whole.operator()
    made = await registered(provider)
    wanted = {"service_id": made.service_id}
    text = await refused(provider, "PrepareServiceVersion", NOT_NOW, service_version="2", **wanted)
    assert text == "The service is not published."
    await ask(provider, "PublishService", **wanted)
    await ask(provider, "PrepareServiceVersion", service_version="2", **wanted)
    # What is disabled has nothing prepared any more.
    await ask(provider, "StopService", **wanted)
    await ask(provider, "DisableService", **wanted)
    listed = (await ask(provider, "ListServiceVersions", **wanted)).versions
    assert [standing(each) for each in listed] == ["WITHDRAWN"]
    await refused(provider, "PublishServiceVersion", NOT_NOW, **wanted)


@pytest.mark.usecase(1494)
async def test_a_contract_made_while_a_version_is_published_has_one_version_whole(
    whole: WholeMarket,
) -> None:
    provider, made = await breaking(whole, "races")
    requesters = [await whole.requester() for _ in range(3)]
    wanted = {"service_id": made.service_id}
    await ask(provider, "PrepareServiceVersion", service_version="2.0.0", **wanted)
    results = await asyncio.gather(
        ask(provider, "PublishServiceVersion", **wanted),
        *(each.core.ensure_contract(made.service_id) for each in requesters),
        return_exceptions=True,
    )
    contracts = [result for result in results[1:] if isinstance(result, str)]
    service = (await ask(provider, "GetService", **wanted)).service
    assert state_of(service) == "PUBLISHED"
    if isinstance(results[0], BaseException):
        assert contracts
        assert service.interface_version == 1
        return
    for party in requesters:
        for contract in (await ask(party, "GetService", **wanted)).contracts:
            request = contracts_wire.GetContractRequest(contract_id=contract.contract_id)
            terms = (await party.core.contracts.GetContract(request, timeout=10)).contract.terms
            assert (terms.interface_version, terms.service_version) == (2, "2.0.0")


async def _end(party: Party, contract_id: str) -> None:
    request = contracts_wire.TerminateContractRequest(
        request_id=new_request_id(), contract_id=contract_id
    )
    await party.core.contracts.TerminateContract(request, timeout=10)
