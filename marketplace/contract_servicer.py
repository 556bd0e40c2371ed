"""ContractService: makes, suspends, resumes, ends, finds and shows contracts.

Use cases 1485, 1490, 1245 and 1479. What is on offer, and what takes two parties, are in the
classes below it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gem.marketplace.v1 import contract_pb2, contract_search_pb2, contract_service_pb2
from gem.marketplace.v1.contract_pb2 import ContractTerms
from interceptors.call import Call
from marketplace.contract import (
    Acceptance,
    ContractState,
    ContractStep,
    check_accepted,
    check_no_notice,
    check_visible,
    take_step,
)
from marketplace.contract_agreement import new_contract
from marketplace.contract_amendment_servicer import ContractAmendmentServicer
from marketplace.contract_changes import ContractChanges
from marketplace.contract_offering_servicer import ContractOfferingServicer
from marketplace.contract_period import instant, notice_end, terminating
from marketplace.contract_rendering import STATE, render_amendment, render_contract, render_event
from marketplace.contract_schedule import as_of
from marketplace.contract_search import contract_filter, contract_page
from marketplace.rendering import enum_member
from marketplace.route_explanation_servicer import LeftOut, RouteExplanationServicer
from marketplace.service_change import new_id
from marketplace.service_description_servicer import related_for
from marketplace.storage_amendment import AmendmentStorage
from marketplace.storage_command import Commands, Work
from marketplace.storage_contract import ContractStorage
from marketplace.storage_contract_search import ContractFilter
from marketplace.storage_paging import page_by_number

#: Entries of the history that come with a contract.
_EVENTS_SHOWN = 20


class ContractServicer(
    ContractOfferingServicer, ContractAmendmentServicer, RouteExplanationServicer
):
    """Serves `gem.marketplace.v1.ContractService`."""

    def __init__(
        self,
        commands: Commands,
        make_id: Callable[[], str] = new_id,
        left_out: LeftOut | None = None,
    ) -> None:
        RouteExplanationServicer.__init__(self, commands, left_out)
        self._make_id = make_id

    async def CreateContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.CreateContractRequest, call: Call
    ) -> contract_service_pb2.CreateContractResponse:
        """Make a contract of the caller by accepting an offering."""
        acceptance = Acceptance(tuple(request.section_ids), request.accepted)
        check_accepted(acceptance)
        starts_at = None
        if request.HasField("start_time"):
            starts_at = instant(request.start_time, "start_time")

        async def work(w: Work) -> contract_service_pb2.CreateContractResponse:
            changes = ContractChanges(w.connection, w.now)
            contract = await new_contract(
                w, changes, self._make_id(), request.offering_id, acceptance, starts_at
            )
            related = await related_for(w, contract.service_id, not_contracted=True)
            await changes.created(contract, w.actor)
            await changes.finish()
            return contract_service_pb2.CreateContractResponse(
                contract=render_contract(contract), related_services=related
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
        """End a contract for ever, after its notice period where a party asks."""

        async def work(w: Work) -> contract_service_pb2.TerminateContractResponse:
            contract = await _terminate(w, request.contract_id)
            return contract_service_pb2.TerminateContractResponse(contract=contract)

        response = contract_service_pb2.TerminateContractResponse
        return await self._commands.run(request, call, response, work)

    async def GetContract(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.GetContractRequest, call: Call
    ) -> contract_service_pb2.GetContractResponse:
        """Give one contract with its terms."""
        async with self._commands.read(call) as w:
            storage = ContractStorage(w.connection)
            contract = await storage.get(request.contract_id)
            check_visible(contract, w.actor)
            contract = await storage.with_terms(as_of(contract, w.now))
            events = await storage.latest_events(request.contract_id, _EVENTS_SHOWN)
            amendment = await AmendmentStorage(w.connection).open(request.contract_id)
        return contract_service_pb2.GetContractResponse(
            contract=render_contract(contract),
            open_amendment=None if amendment is None else render_amendment(amendment),
            latest_events=map(render_event, events),
        )

    async def ListContracts(  # noqa: N802  # the rpc's name
        self, request: contract_service_pb2.ListContractsRequest, call: Call
    ) -> contract_service_pb2.ListContractsResponse:
        """List contracts in contract order."""
        page = page_by_number(request.page)
        state = enum_member(ContractState, contract_pb2.ContractState, STATE, request.state)
        condition = ContractFilter(
            requester_id=request.requester_id,
            provider_id=request.provider_id,
            service_id=request.service_id,
            states=() if state is None else (state,),
        )
        async with self._commands.read(call) as w:
            contracts, info = await contract_page(w, page, condition)
        return contract_service_pb2.ListContractsResponse(contracts=contracts, page=info)

    async def SearchContracts(  # noqa: N802  # the rpc's name
        self, request: contract_search_pb2.SearchContractsRequest, call: Call
    ) -> contract_search_pb2.SearchContractsResponse:
        """Find contracts in contract order."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            condition = contract_filter(request.criteria, w.actor)
            contracts, info = await contract_page(w, page, condition)
        return contract_search_pb2.SearchContractsResponse(contracts=contracts, page=info)

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
            events=map(render_event, rows), page=info
        )


async def _step(w: Work, contract_id: str, step: ContractStep) -> contract_pb2.Contract:
    """Take a contract one step on."""
    changes = ContractChanges(w.connection, w.now)
    before = await changes.locked(contract_id)
    take_step(before, step, w.actor)
    after = await changes.take(before, step, w.actor)
    await changes.finish()
    return render_contract(after)


async def _terminate(w: Work, contract_id: str) -> contract_pb2.Contract:
    """End a contract now, or let a party's notice run."""
    changes = ContractChanges(w.connection, w.now)
    before = await changes.locked(contract_id)
    take_step(before, ContractStep.TERMINATED, w.actor)
    ends_at = w.now
    if w.actor.is_partner:
        check_no_notice(before)
        days = ContractTerms.FromString(before.terms).notice.notice_days
        ends_at = notice_end(before.period, days, w.now)
    if ends_at <= w.now:
        after = await changes.end(before, w.actor)
    else:
        noticed = replace(before, period=terminating(before.period, ends_at))
        detail = f"It ends at {noticed.period.ends_at:%Y-%m-%d %H:%M} UTC."
        step = ContractStep.NOTICE_GIVEN
        after = await changes.take(noticed, step, w.actor, detail=detail)
    await changes.finish()
    return render_contract(after)
