"""The part of PartnerService about the partner contract (use cases 1374, 1377)."""

from __future__ import annotations

from dataclasses import replace

from gem.marketplace.v1 import partner_contract_pb2 as wire
from interceptors.call import Call
from marketplace.partner import PartnerStep, check_active, check_partner_contract
from marketplace.partner_contract import ContractVersion, check_next, check_not_accepted
from marketplace.partner_notice import contract_published_notices
from marketplace.partner_registration import applicant
from marketplace.partner_rendering import render_contract, rendered
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_partner_contract import PartnerContractStorage

#: Anybody may read the contract, also who is no partner yet.
_ANYBODY = applicant("")


class PartnerContractServicer:
    """Shows, publishes and accepts versions of the partner contract."""

    _commands: Commands

    async def GetPartnerContract(  # noqa: N802  # the rpc's name
        self, request: wire.GetPartnerContractRequest, call: Call
    ) -> wire.GetPartnerContractResponse:
        """Give one version with its text."""
        async with self._commands.read(call, _ANYBODY) as w:
            contract = await PartnerContractStorage(w.connection).get(request.version)
        return wire.GetPartnerContractResponse(partner_contract=render_contract(contract))

    async def ListPartnerContracts(  # noqa: N802  # the rpc's name
        self, request: wire.ListPartnerContractsRequest, call: Call
    ) -> wire.ListPartnerContractsResponse:
        """List the versions, the latest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call, _ANYBODY) as w:
            versions, info = await PartnerContractStorage(w.connection).page(page)
        return wire.ListPartnerContractsResponse(
            partner_contracts=map(render_contract, versions), page=info
        )

    async def PublishPartnerContract(  # noqa: N802  # the rpc's name
        self, request: wire.PublishPartnerContractRequest, call: Call
    ) -> wire.PublishPartnerContractResponse:
        """Write the next version and tell the partners."""

        async def work(w: Work) -> wire.PublishPartnerContractResponse:
            storage = PartnerContractStorage(w.connection)
            await storage.lock()
            check_next(request.version, await storage.current_version())
            contract = ContractVersion(request.version, request.title, request.text, w.now)
            await storage.add(contract, w.actor)
            concerned = await storage.active_partners()
            notices = contract_published_notices(contract.version, concerned, w.now)
            await tell(w.connection, notices)
            shown = render_contract(replace(contract, text=""))
            return wire.PublishPartnerContractResponse(partner_contract=shown)

        response = wire.PublishPartnerContractResponse
        return await self._commands.run(request, call, response, work)

    async def AcceptPartnerContract(  # noqa: N802  # the rpc's name
        self, request: wire.AcceptPartnerContractRequest, call: Call
    ) -> wire.AcceptPartnerContractResponse:
        """Bind the calling partner to the current version."""

        async def work(w: Work) -> wire.AcceptPartnerContractResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(w.actor.subject_id)
            check_active(before)
            current = await PartnerContractStorage(w.connection).current_version()
            check_partner_contract(request.version, current, "version")
            check_not_accepted(before.partner_contract_version, current)
            after = replace(before, partner_contract_version=current)
            await storage.set_contract_version(after.partner_id, current)
            step, detail = PartnerStep.CONTRACT_ACCEPTED, f"version {current}"
            await storage.remember(after, step, w.actor, w.now, detail)
            return wire.AcceptPartnerContractResponse(partner=await rendered(storage, after))

        response = wire.AcceptPartnerContractResponse
        return await self._commands.run(request, call, response, work)
