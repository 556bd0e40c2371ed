"""Two-step changes of ContractService (use cases 1246, 1247, 1480, 1481; features 1397, 1682)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from interceptors.call import Call
from marketplace.amendment import (
    DECIDED,
    REQUESTED,
    Amendment,
    AmendmentKind,
    AmendmentState,
    AmendmentStep,
    check_asked,
    decide,
)
from marketplace.contract import ENDED, Contract, check_visible
from marketplace.contract_agreement import accept, check_content
from marketplace.contract_changes import ContractChanges
from marketplace.contract_period import instant
from marketplace.contract_rendering import render_amendment, render_contract, render_revision
from marketplace.contract_schedule import as_of
from marketplace.service_registry_servicer import new_id
from marketplace.storage_amendment import AmendmentStorage
from marketplace.storage_command import Commands, Work
from marketplace.storage_contract import ContractStorage
from marketplace.storage_paging import page_by_number

#: Terms may be long: so many keep a page below the 4 MiB that clients take.
PAGE_MAX = 3


class ContractAmendmentServicer:
    """Serves the part of `gem.marketplace.v1.ContractService` that takes two parties."""

    def __init__(self, commands: Commands, make_id: Callable[[], str] = new_id) -> None:
        self._commands = commands
        self._make_id = make_id

    async def RequestContractChange(  # noqa: N802  # the rpc's name
        self, request: amendments.RequestContractChangeRequest, call: Call
    ) -> amendments.RequestContractChangeResponse:
        """Ask the other party for other terms."""
        kind, content = AmendmentKind.CHANGE, request.terms.SerializeToString(deterministic=True)
        at = _effective(request)

        async def work(w: Work) -> amendments.RequestContractChangeResponse:
            asked = await self._ask(w, request, kind, content, at)
            return amendments.RequestContractChangeResponse(amendment=asked)

        response = amendments.RequestContractChangeResponse
        return await self._commands.run(request, call, response, work)

    async def RequestContractTermination(  # noqa: N802  # the rpc's name
        self, request: amendments.RequestContractTerminationRequest, call: Call
    ) -> amendments.RequestContractTerminationResponse:
        """Ask the other party for the end."""
        at = _effective(request)

        async def work(w: Work) -> amendments.RequestContractTerminationResponse:
            asked = await self._ask(w, request, AmendmentKind.TERMINATION, b"", at)
            return amendments.RequestContractTerminationResponse(amendment=asked)

        response = amendments.RequestContractTerminationResponse
        return await self._commands.run(request, call, response, work)

    async def RequestContractProlongation(  # noqa: N802  # the rpc's name
        self, request: amendments.RequestContractProlongationRequest, call: Call
    ) -> amendments.RequestContractProlongationResponse:
        """Ask the other party for a later end."""
        at = instant(request.end_time, "end_time")

        async def work(w: Work) -> amendments.RequestContractProlongationResponse:
            asked = await self._ask(w, request, AmendmentKind.PROLONGATION, b"", at)
            return amendments.RequestContractProlongationResponse(amendment=asked)

        response = amendments.RequestContractProlongationResponse
        return await self._commands.run(request, call, response, work)

    async def RequestServiceAddition(  # noqa: N802  # the rpc's name
        self, request: amendments.RequestServiceAdditionRequest, call: Call
    ) -> amendments.RequestServiceAdditionResponse:
        """Ask the other party to take a further service into the contract."""
        kind = AmendmentKind.ADDITION
        content = request.addition.SerializeToString(deterministic=True)
        at = _effective(request)

        async def work(w: Work) -> amendments.RequestServiceAdditionResponse:
            asked = await self._ask(w, request, kind, content, at)
            return amendments.RequestServiceAdditionResponse(amendment=asked)

        response = amendments.RequestServiceAdditionResponse
        return await self._commands.run(request, call, response, work)

    async def AcceptContractAmendment(  # noqa: N802  # the rpc's name
        self, request: amendments.AcceptContractAmendmentRequest, call: Call
    ) -> amendments.AcceptContractAmendmentResponse:
        """Accept a request of the other party."""

        async def work(w: Work) -> amendments.AcceptContractAmendmentResponse:
            changes = ContractChanges(w.connection, w.now)
            contract, before = await _locked(w, changes, request.amendment_id)
            step = AmendmentStep.ACCEPTED
            accepted = await _decided(w, changes, contract, before, step, request.note)
            contract = await accept(w, changes, contract, accepted)
            await changes.finish()
            after = await changes.amendments.get(request.amendment_id)
            return amendments.AcceptContractAmendmentResponse(
                amendment=render_amendment(after), contract=render_contract(contract)
            )

        response = amendments.AcceptContractAmendmentResponse
        return await self._commands.run(request, call, response, work)

    async def RejectContractAmendment(  # noqa: N802  # the rpc's name
        self, request: amendments.RejectContractAmendmentRequest, call: Call
    ) -> amendments.RejectContractAmendmentResponse:
        """Reject a request of the other party."""

        async def work(w: Work) -> amendments.RejectContractAmendmentResponse:
            step = AmendmentStep.REJECTED
            closed = await _closed(w, request.amendment_id, step, request.note)
            return amendments.RejectContractAmendmentResponse(amendment=closed)

        response = amendments.RejectContractAmendmentResponse
        return await self._commands.run(request, call, response, work)

    async def RevokeContractAmendment(  # noqa: N802  # the rpc's name
        self, request: amendments.RevokeContractAmendmentRequest, call: Call
    ) -> amendments.RevokeContractAmendmentResponse:
        """Take a request of the caller back."""

        async def work(w: Work) -> amendments.RevokeContractAmendmentResponse:
            closed = await _closed(w, request.amendment_id, AmendmentStep.REVOKED, None)
            return amendments.RevokeContractAmendmentResponse(amendment=closed)

        response = amendments.RevokeContractAmendmentResponse
        return await self._commands.run(request, call, response, work)

    async def ListContractAmendments(  # noqa: N802  # the rpc's name
        self, request: amendments.ListContractAmendmentsRequest, call: Call
    ) -> amendments.ListContractAmendmentsResponse:
        """List the requests about a contract, the oldest first."""
        page = page_by_number(request.page, PAGE_MAX)
        async with self._commands.read(call) as w:
            check_visible(await ContractStorage(w.connection).get(request.contract_id), w.actor)
            found, info = await AmendmentStorage(w.connection).page(page, request.contract_id)
        return amendments.ListContractAmendmentsResponse(
            amendments=map(render_amendment, found), page=info
        )

    async def ListContractRevisions(  # noqa: N802  # the rpc's name
        self, request: amendments.ListContractRevisionsRequest, call: Call
    ) -> amendments.ListContractRevisionsResponse:
        """List the revisions of a contract's terms, the oldest first."""
        page = page_by_number(request.page, PAGE_MAX)
        async with self._commands.read(call) as w:
            contract = await ContractStorage(w.connection).get(request.contract_id)
            check_visible(contract, w.actor)
            contract = as_of(contract, w.now)
            scheduled = contract.changes_at is not None and contract.state not in ENDED
            last = contract.revision + scheduled
            storage = AmendmentStorage(w.connection)
            rows, info = await storage.revisions(page, request.contract_id, last)
        return amendments.ListContractRevisionsResponse(
            revisions=map(render_revision, rows), page=info
        )

    async def _ask(
        self, w: Work, request: _Form, kind: AmendmentKind, content: bytes, at: datetime | None
    ) -> amendments.ContractAmendment:
        """Write a request with its history, and tell the other party."""
        changes = ContractChanges(w.connection, w.now)
        contract = await changes.locked(request.contract_id)
        check_visible(contract, w.actor)
        check_asked(contract, kind, at, w.now)
        amendment = Amendment(
            amendment_id=self._make_id(),
            contract_id=contract.contract_id,
            kind=kind,
            state=AmendmentState.PENDING,
            requested_by=w.actor.subject_id,
            reason=request.reason,
            content=content,
            effective_at=at,
            created_at=w.now,
        )
        await check_content(w, contract, amendment)
        await changes.amendments.add(amendment)
        await changes.take(contract, REQUESTED[kind], w.actor)
        await changes.finish()
        return render_amendment(amendment)


_Form = (
    amendments.RequestContractChangeRequest
    | amendments.RequestContractTerminationRequest
    | amendments.RequestContractProlongationRequest
    | amendments.RequestServiceAdditionRequest
)


def _effective(
    request: amendments.RequestContractChangeRequest
    | amendments.RequestContractTerminationRequest
    | amendments.RequestServiceAdditionRequest,
) -> datetime | None:
    at: Timestamp = request.effective_time
    return instant(at, "effective_time") if request.HasField("effective_time") else None


async def _locked(
    w: Work, changes: ContractChanges, amendment_id: str
) -> tuple[Contract, Amendment]:
    """Lock the contract of a request, and give both as they are then."""
    found = await changes.amendments.get(amendment_id)
    contract = await changes.contracts.locked(found.contract_id)
    check_visible(contract, w.actor)
    contract = await changes.settle(contract)
    return contract, await changes.amendments.get(amendment_id)


async def _decided(
    w: Work,
    changes: ContractChanges,
    contract: Contract,
    amendment: Amendment,
    step: AmendmentStep,
    note: str | None,
) -> Amendment:
    """Write what a party decides, with its history."""
    state = decide(contract, amendment, step, w.actor)
    after = await changes.amendments.set_state(amendment, state, w.now, note)
    await changes.take(contract, DECIDED[step], w.actor)
    return after


async def _closed(
    w: Work, amendment_id: str, step: AmendmentStep, note: str | None
) -> amendments.ContractAmendment:
    changes = ContractChanges(w.connection, w.now)
    contract, amendment = await _locked(w, changes, amendment_id)
    after = await _decided(w, changes, contract, amendment, step, note)
    await changes.finish()
    return render_amendment(after)
