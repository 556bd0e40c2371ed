"""What the registry makes of contracts that ended by themselves, and of services added to one."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1.partner_search_pb2 import PartnerActivity
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.marketplace.v1.service_search_pb2 import ServiceRelation
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_housekeeping import ContractHousekeeping
from tests.contracts import START, Deal, deal, framework_terms
from tests.control_plane import BUSINESS, EVSP, INTERFACE_BODY, REQUIRED, TECHNICAL, ControlPlane
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
MONTH = {"duration_days": 30}
CONTRACTED = ServiceRelation.SERVICE_RELATION_CONTRACTED
AVAILABLE = ServiceRelation.SERVICE_RELATION_AVAILABLE
REQUESTS = PartnerActivity.PARTNER_ACTIVITY_SERVICE_REQUESTER
#: An interface whose callers cannot go on as they did.
BREAKING = INTERFACE_BODY.replace(
    "string name = 1 [(buf.validate.field).string.max_len = 100]",
    "int32 name = 1 [(buf.validate.field).int32.gte = 0]",
)


async def registry(plane: ControlPlane, who: str, method: str, service: Any, **fields: Any) -> Any:
    """Call a method of the registry about a service."""
    wanted = {"service_id": service.service_id, **fields}
    return await plane.ask(who, f"ServiceRegistryService/{method}", **wanted)


async def added(made: Deal, service: Any, **fields: Any) -> None:
    """Add a service to the contract by what is on offer for it."""
    offering = service.offerings[0]
    addition = {"offering_id": offering.offering_id, "section_ids": REQUIRED}
    await made.decide("Accept", await made.request("Addition", addition=addition, **fields))


async def expired(plane: ControlPlane) -> Deal:
    """Give a contract whose term is over."""
    made = await deal(plane, framework_terms(term=MONTH))
    made.later(days=31)
    await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()
    return made


async def related(plane: ControlPlane, service: Any, *others: Any) -> None:
    """Have services shown beside one."""
    wanted = [each.service_id for each in others]
    await registry(plane, "volt", "SetRelatedServices", service, related_service_ids=wanted)


async def found(plane: ControlPlane, relation: int) -> list[str]:
    """Give the services that are this to the requester."""
    method = "ServiceRegistryService/SearchServices"
    answer = await plane.ask("evsp", method, relation=relation)
    return [each.service.service_id for each in answer.found]


def blocking(error: MarketError) -> list[str]:
    """Give the contracts that a refusal lists."""
    (detail,) = (each for each in error.details if isinstance(each, BlockingContracts))
    return list(detail.contract_ids)


@pytest.mark.usecase(1486)
async def test_a_service_in_anothers_contract_is_not_disabled(plane: ControlPlane) -> None:
    made = await deal(plane)
    second = await plane.service("volt", title="Second")
    await added(made, second)
    await registry(plane, "volt", "StopService", second)
    with pytest.raises(MarketError, check=NOT_NOW) as caught:
        await registry(plane, "volt", "DisableService", second)
    assert blocking(caught.value) == [made.contract_id]
    await made.ask("evsp", "TerminateContract")
    await registry(plane, "volt", "DisableService", second)
    shown = (await registry(plane, "evsp", "GetService", second)).service
    assert shown.state == ServiceState.SERVICE_STATE_DISABLED, "whoever had it is still shown it"
    await plane.partner("stranger", EVSP)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await registry(plane, "stranger", "GetService", second)


@pytest.mark.usecase(1486)
async def test_a_service_whose_contracts_are_expired_is_disabled_and_deleted(
    plane: ControlPlane,
) -> None:
    made = await expired(plane)
    for step in ("StopService", "DisableService", "DeleteService"):
        answer = await registry(plane, "volt", step, made.service)
    assert answer.service.state == ServiceState.SERVICE_STATE_DELETED
    assert (await made.contract()).terms.service_title == made.service.title


@pytest.mark.usecase(1494)
async def test_an_added_service_keeps_a_breaking_version_back_and_an_expired_contract_does_not(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    second = await plane.service("volt", title="Second")
    await added(made, second)
    await plane.publish_interface(BREAKING)
    prepare = {"service_version": "2.0", "interface_version": 2}
    answer = await registry(plane, "volt", "PrepareServiceVersion", second, **prepare)
    assert (answer.version.compatible, answer.version.unchanged_contract_count) == (False, 1)
    with pytest.raises(MarketError, check=NOT_NOW) as caught:
        await registry(plane, "volt", "PublishServiceVersion", second)
    assert blocking(caught.value) == [made.contract_id]
    made.later(days=31)
    await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()
    answer = await registry(plane, "volt", "PublishServiceVersion", second)
    assert answer.service.interface_version == 2


@pytest.mark.usecase(1239)
async def test_a_search_knows_what_is_contracted_by_addition_and_what_is_no_more(
    plane: ControlPlane,
) -> None:
    made = await deal(plane, framework_terms(term=MONTH))
    second = await plane.service("volt", title="Second")
    first_id, second_id = made.service.service_id, second.service_id
    assert await found(plane, AVAILABLE) == [second_id]
    await added(made, second)
    assert await found(plane, CONTRACTED) == [first_id, second_id]
    assert await found(plane, AVAILABLE) == []
    shown = await registry(plane, "evsp", "GetService", second)
    assert [each.contract_id for each in shown.contracts] == [made.contract_id]
    made.later(days=31)
    await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()
    assert await found(plane, CONTRACTED) == []
    assert await found(plane, AVAILABLE) == [first_id, second_id]


@pytest.mark.usecase(1485)
async def test_what_comes_beside_a_new_contract_is_what_the_requester_does_not_have(
    plane: ControlPlane,
) -> None:
    made = await expired(plane)
    second, third, stopped, fourth = [
        await plane.service("volt", title=title) for title in ("2", "3", "4", "5")
    ]
    await related(plane, fourth, third, made.service, stopped, second)
    await registry(plane, TECHNICAL, "StopService", stopped)
    base = Deal(plane, second, await plane.contract("evsp", second))
    await added(base, third)
    values = {"offering_id": fourth.offerings[0].offering_id, "section_ids": REQUIRED}
    answer = await plane.ask("evsp", "ContractService/CreateContract", accepted=True, **values)
    offered = [each.service_id for each in answer.related_services]
    assert offered == [made.service.service_id], "its contract is expired; the third was added"


@pytest.mark.usecase(1485)
async def test_who_wants_no_cross_sale_is_shown_nothing_beside_a_contract(
    plane: ControlPlane,
) -> None:
    first, second = (await plane.market("volt"))[0], await plane.service("volt", title="Second")
    await related(plane, first, second)
    opt_out = "ServiceRegistryService/SetCrossSaleOptOut"
    await plane.ask("evsp", opt_out, opted_out=True)
    values = {"offering_id": first.offerings[0].offering_id, "section_ids": REQUIRED}
    create = "ContractService/CreateContract"
    answer = await plane.ask("evsp", create, accepted=True, request_id="once", **values)
    assert list(answer.related_services) == []
    await plane.ask("evsp", opt_out, opted_out=False)
    again = await plane.ask("evsp", create, accepted=True, request_id="once", **values)
    assert again == answer, "a repetition gives the first result"


@pytest.mark.usecase(1373)
async def test_a_partner_whose_contracts_have_ended_requests_nothing(plane: ControlPlane) -> None:
    made = await deal(plane, framework_terms(term=MONTH))

    async def requesters() -> list[str]:
        method = "PartnerService/SearchPartners"
        answer = await plane.ask(BUSINESS, method, activity=REQUESTS)
        return [each.partner_id for each in answer.partners]

    assert await requesters() == ["evsp"]
    made.later(days=31)
    await ContractHousekeeping(plane.engine, lambda: plane.now or START).sweep()
    assert await requesters() == []
