"""ContractService: makes, suspends, resumes, ends and shows contracts (1485, 1490, 1479)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gem.marketplace.v1 import contract_pb2, contract_service_pb2
from gem.marketplace.v1.contract_pb2 import ContractTerms, OfferingTerms
from interceptors.call import Call
from marketplace.actor import party_of
from marketplace.contract import (
    Acceptance,
    Contract,
    ContractState,
    ContractStep,
    agree,
    check_accepted,
    check_parties,
    check_visible,
    take_step,
)
from marketplace.notice import contract_notices
from marketplace.rendering import enum_member, enum_number, timestamp
from marketplace.route_explanation_servicer import LeftOut, RouteExplanationServicer
from marketplace.routing_change import RoutingChange
from marketplace.service import check_role
from marketplace.service_description_servicer import related_for
from marketplace.service_registry_servicer import check_visible as check_service_visible
from marketplace.service_registry_servicer import new_id
from marketplace.storage_command import Commands, Work
from marketplace.storage_contract import ContractFilter, ContractStorage
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_price import PriceStorage
from marketplace.storage_routing import announce
from marketplace.storage_service import ServiceStorage

_STATE = "CONTRACT_STATE"
_EVENT = "CONTRACT_EVENT_KIND"


class ContractServicer(RouteExplanationServicer):
    """Serves `gem.marketplace.v1.ContractService`."""

    def __init__(
        self,
        commands: Commands,
        make_id: Callable[[], str] = new_id,
        left_out: LeftOut | None = None,
    ) -> None:
        super().__init__(commands, left_out)
        self._make_id = make_id

    async def CreateContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.CreateContractRequest, call: Call
    ) -> contract_service_pb2.CreateContractResponse:
        """Make a contract of the caller by accepting an offering."""
        acceptance = Acceptance(tuple(request.section_ids), request.accepted)
        check_accepted(acceptance)

        async def work(w: Work) -> contract_service_pb2.CreateContractResponse:
            contract = await self._agreed(w, request.offering_id, acceptance)
            related = await related_for(w, contract.service_id, not_contracted=True)
            rendered = await _remembered(w, contract, ContractStep.CREATED)
            return contract_service_pb2.CreateContractResponse(
                contract=rendered, related_services=related
            )

        response = contract_service_pb2.CreateContractResponse
        return await self._commands.run(request, call, response, work)

    async def SuspendContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.SuspendContractRequest, call: Call
    ) -> contract_service_pb2.SuspendContractResponse:
        """Mark a contract of the caller as not to be used."""

        async def work(w: Work) -> contract_service_pb2.SuspendContractResponse:
            contract = await _step(w, request.contract_id, ContractStep.SUSPENDED)
            return contract_service_pb2.SuspendContractResponse(contract=contract)

        response = contract_service_pb2.SuspendContractResponse
        return await self._commands.run(request, call, response, work)

    async def ResumeContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.ResumeContractRequest, call: Call
    ) -> contract_service_pb2.ResumeContractResponse:
        """Mark a suspended contract of the caller as to be used again."""

        async def work(w: Work) -> contract_service_pb2.ResumeContractResponse:
            contract = await _step(w, request.contract_id, ContractStep.RESUMED)
            return contract_service_pb2.ResumeContractResponse(contract=contract)

        response = contract_service_pb2.ResumeContractResponse
        return await self._commands.run(request, call, response, work)

    async def TerminateContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.TerminateContractRequest, call: Call
    ) -> contract_service_pb2.TerminateContractResponse:
        """End a contract for ever."""

        async def work(w: Work) -> contract_service_pb2.TerminateContractResponse:
            contract = await _step(w, request.contract_id, ContractStep.TERMINATED)
            return contract_service_pb2.TerminateContractResponse(contract=contract)

        response = contract_service_pb2.TerminateContractResponse
        return await self._commands.run(request, call, response, work)

    async def GetContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.GetContractRequest, call: Call
    ) -> contract_service_pb2.GetContractResponse:
        """Give one contract with its terms."""
        async with self._commands.read(call) as w:
            contract = await ContractStorage(w.connection).get(request.contract_id)
            check_visible(contract, w.actor)
        return contract_service_pb2.GetContractResponse(contract=_render(contract))

    async def ListContracts(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.ListContractsRequest, call: Call
    ) -> contract_service_pb2.ListContractsResponse:
        """List contracts in contract order."""
        page = page_by_number(request.page)
        state = enum_member(ContractState, contract_pb2.ContractState, _STATE, request.state)
        condition = ContractFilter(
            request.requester_id, request.provider_id, request.service_id, state
        )
        async with self._commands.read(call) as w:
            contracts, info = await ContractStorage(w.connection).page(page, condition, w.actor)
        return contract_service_pb2.ListContractsResponse(
            contracts=map(_render, contracts), page=info
        )

    async def ListContractEvents(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.ListContractEventsRequest, call: Call
    ) -> contract_service_pb2.ListContractEventsResponse:
        """List what happened to a contract, the oldest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            storage = ContractStorage(w.connection)
            check_visible(await storage.get(request.contract_id), w.actor)
            rows, info = await storage.events(page, request.contract_id)
        return contract_service_pb2.ListContractEventsResponse(
            events=map(_render_event, rows), page=info
        )

    async def _agreed(self, w: Work, offering_id: str, acceptance: Acceptance) -> Contract:
        """Write the contract; neither party nor service changes until the transaction ends."""
        services = ServiceStorage(w.connection)
        offering = await services.offering(offering_id)
        service = await services.shared(offering.service_id)
        check_service_visible(service, w.actor)
        # Again, now that nobody withdraws it: a new version may have taken its place meanwhile.
        offering = await services.offering(offering_id)
        requester = await PartnerStorage(w.connection).shared(w.actor.subject_id)
        provider = await PartnerStorage(w.connection).shared(service.provider_id)
        check_parties(service, requester, provider)
        interface = await InterfaceStorage(w.connection).get(
            service.interface_name, service.interface_version
        )
        check_role(requester.roles, interface.called_by, "call")
        terms = agree(OfferingTerms.FromString(offering.terms), service, acceptance)
        contract = Contract(
            contract_id=self._make_id(),
            position=0,
            requester_id=requester.partner_id,
            provider_id=provider.partner_id,
            service_id=service.service_id,
            offering_id=offering_id,
            state=ContractState.ACTIVE,
            terms=terms.SerializeToString(deterministic=True),
            created_at=w.now,
            terminated_at=None,
        )
        price = await PriceStorage(w.connection).kept(terms.price)
        return await ContractStorage(w.connection).add(contract, price)


async def _step(w: Work, contract_id: str, step: ContractStep) -> contract_pb2.Contract:
    """Take a contract one step on."""
    storage = ContractStorage(w.connection)
    before = await storage.locked(contract_id)
    state = take_step(before, step, w.actor)
    ended = w.now if state is ContractState.TERMINATED else None
    await storage.set_state(contract_id, state, ended)
    return await _remembered(w, replace(before, state=state, terminated_at=ended), step)


async def _remembered(w: Work, after: Contract, step: ContractStep) -> contract_pb2.Contract:
    """Write the history, tell the parties and the workers, as the last part of the transaction."""
    await ContractStorage(w.connection).remember(after, step, w.actor, w.now)
    await tell(w.connection, contract_notices(after, step, w.actor, w.now))
    rendered = _render(after)
    route = (after.requester_id, rendered.terms.interface_name)
    await announce(w.connection, RoutingChange(routes=frozenset({route})))
    return rendered


def _render(contract: Contract) -> contract_pb2.Contract:
    rendered: Any = contract_pb2.Contract(
        contract_id=contract.contract_id,
        requester_id=contract.requester_id,
        provider_id=contract.provider_id,
        service_id=contract.service_id,
        offering_id=contract.offering_id,
        terms=ContractTerms.FromString(contract.terms) if contract.terms else None,
        create_time=timestamp(contract.created_at),
    )
    if contract.terminated_at is not None:
        rendered.terminate_time.CopyFrom(timestamp(contract.terminated_at))
    rendered.state = enum_number(contract_pb2.ContractState, _STATE, contract.state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _render_event(row: Any) -> contract_pb2.ContractEvent:
    rendered: Any = contract_pb2.ContractEvent(
        actor=party_of(row.actor), event_time=timestamp(row.occurred_at)
    )
    step, state = ContractStep(row.kind), ContractState(row.state)
    rendered.kind = enum_number(contract_pb2.ContractEventKind, _EVENT, step)
    rendered.state = enum_number(contract_pb2.ContractState, _STATE, state)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
