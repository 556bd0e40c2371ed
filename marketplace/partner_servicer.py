"""PartnerService: accounts as operators keep them (1374, 1379, 1380, feature 1386).

Registration requests, change requests, the partner contract and the search are parts of their own.
"""

from __future__ import annotations

from dataclasses import replace

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.marketplace.v1 import partner_pb2, partner_service_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.notice import partner_notices
from marketplace.partner import (
    IDENTIFIERS_MAX,
    Partner,
    PartnerState,
    PartnerStep,
    activate,
    check_not_deleted,
    check_partner_contract,
    delete,
    inactivate,
)
from marketplace.partner_change_servicer import PartnerChangeServicer
from marketplace.partner_contract_servicer import PartnerContractServicer
from marketplace.partner_registration_servicer import PartnerRegistrationServicer, own_all
from marketplace.partner_rendering import (
    PARTNER_STATE,
    render_contract,
    render_partner,
    rendered,
)
from marketplace.partner_search_servicer import PartnerSearchServicer
from marketplace.rendering import enum_member
from marketplace.routing_change import RoutingChange
from marketplace.storage_certificate import CertificateStorage
from marketplace.storage_command import Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_text
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_partner_contract import PartnerContractStorage
from marketplace.storage_partner_deletion import erase
from marketplace.storage_routing import announce


class PartnerServicer(
    PartnerChangeServicer,
    PartnerContractServicer,
    PartnerSearchServicer,
    PartnerRegistrationServicer,
):
    """Serves `gem.marketplace.v1.PartnerService`."""

    async def RegisterPartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.RegisterPartnerRequest, call: Call
    ) -> partner_service_pb2.RegisterPartnerResponse:
        """Register a partner that is not active yet."""

        async def work(w: Work) -> partner_service_pb2.RegisterPartnerResponse:
            version = request.accepted_partner_contract_version
            current = await PartnerContractStorage(w.connection).current_version()
            check_partner_contract(version, current)
            roles = tuple(sorted(request.roles))
            state = PartnerState.REGISTERED
            partner = Partner(request.partner_id, state, roles, version, w.now)
            storage = PartnerStorage(w.connection)
            await storage.add(partner, request.profile)
            await storage.remember(partner, PartnerStep.REGISTERED, w.actor, w.now)
            owned = await own_all(w, partner.partner_id, tuple(request.identifiers))
            if owned:
                await announce(w.connection, RoutingChange(owners=owned))
            shown = await rendered(storage, partner)
            return partner_service_pb2.RegisterPartnerResponse(partner=shown)

        response = partner_service_pb2.RegisterPartnerResponse
        return await self._commands.run(request, call, response, work)

    async def ActivatePartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.ActivatePartnerRequest, call: Call
    ) -> partner_service_pb2.ActivatePartnerResponse:
        """Let a partner act."""

        async def work(w: Work) -> partner_service_pb2.ActivatePartnerResponse:
            before = await PartnerStorage(w.connection).locked(request.partner_id)
            after = replace(before, state=activate(before.state))
            shown = await _switched(w, after, PartnerStep.ACTIVATED)
            return partner_service_pb2.ActivatePartnerResponse(partner=shown)

        response = partner_service_pb2.ActivatePartnerResponse
        return await self._commands.run(request, call, response, work)

    async def InactivatePartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.InactivatePartnerRequest, call: Call
    ) -> partner_service_pb2.InactivatePartnerResponse:
        """End that a partner without contracts in force acts."""

        async def work(w: Work) -> partner_service_pb2.InactivatePartnerResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            contract_ids, count = await storage.contracts_in_force(before.partner_id)
            after = replace(before, state=inactivate(before.state, contract_ids, count))
            shown = await _switched(w, after, PartnerStep.INACTIVATED)
            return partner_service_pb2.InactivatePartnerResponse(partner=shown)

        response = partner_service_pb2.InactivatePartnerResponse
        return await self._commands.run(request, call, response, work)

    async def DeletePartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.DeletePartnerRequest, call: Call
    ) -> partner_service_pb2.DeletePartnerResponse:
        """Erase what is personal of an inactive partner, and end its account for ever."""

        async def work(w: Work) -> partner_service_pb2.DeletePartnerResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            state, step = delete(before.state), PartnerStep.DELETED
            owned = await storage.identifiers([before.partner_id])
            keys = ((int(item.kind), item.value) for item in owned.get(before.partner_id, ()))
            reason = partner_pb2.REVOCATION_REASON_NO_LONGER_USED
            await CertificateStorage(w.connection).revoke_all(before.partner_id, reason, w.now)
            await erase(w.connection, before.partner_id, w.actor.name, w.now)
            after = replace(before, state=state, revision=before.revision + 1)
            await storage.remember(after, step, w.actor, w.now)
            change = RoutingChange(partners=frozenset({after.partner_id}), owners=frozenset(keys))
            await announce(w.connection, change)
            return partner_service_pb2.DeletePartnerResponse(partner=render_partner(after, []))

        response = partner_service_pb2.DeletePartnerResponse
        return await self._commands.run(request, call, response, work)

    async def SetPartnerRoles(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.SetPartnerRolesRequest, call: Call
    ) -> partner_service_pb2.SetPartnerRolesResponse:
        """Replace a partner's roles."""

        async def work(w: Work) -> partner_service_pb2.SetPartnerRolesResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            check_not_deleted(before)
            after = await storage.change(replace(before, roles=tuple(sorted(request.roles))))
            await storage.remember(after, PartnerStep.ROLES_SET, w.actor, w.now)
            shown = await rendered(storage, after)
            return partner_service_pb2.SetPartnerRolesResponse(partner=shown)

        response = partner_service_pb2.SetPartnerRolesResponse
        return await self._commands.run(request, call, response, work)

    async def AddPartnerIdentifier(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.AddPartnerIdentifierRequest, call: Call
    ) -> partner_service_pb2.AddPartnerIdentifierResponse:
        """Give a partner an identifier that nobody owns."""

        async def work(w: Work) -> partner_service_pb2.AddPartnerIdentifierResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            check_not_deleted(before)
            partner = await storage.change(before)
            owned = await storage.identifiers([partner.partner_id])
            if len(owned.get(partner.partner_id, ())) >= IDENTIFIERS_MAX:
                raise MarketError(
                    ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                    f"The partner owns {IDENTIFIERS_MAX} identifiers already.",
                )
            value = await storage.own(partner.partner_id, request.identifier, w.now)
            await storage.remember(partner, PartnerStep.IDENTIFIER_ADDED, w.actor, w.now, value)
            shown = await rendered(storage, partner)
            await _announce_owner(w, request.identifier, value)
            return partner_service_pb2.AddPartnerIdentifierResponse(partner=shown)

        response = partner_service_pb2.AddPartnerIdentifierResponse
        return await self._commands.run(request, call, response, work)

    async def RemovePartnerIdentifier(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.RemovePartnerIdentifierRequest, call: Call
    ) -> partner_service_pb2.RemovePartnerIdentifierResponse:
        """Take an identifier from a partner."""

        async def work(w: Work) -> partner_service_pb2.RemovePartnerIdentifierResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            value = await storage.disown(before.partner_id, request.identifier)
            partner = await storage.change(before)
            await storage.remember(partner, PartnerStep.IDENTIFIER_REMOVED, w.actor, w.now, value)
            shown = await rendered(storage, partner)
            await _announce_owner(w, request.identifier, value)
            return partner_service_pb2.RemovePartnerIdentifierResponse(partner=shown)

        response = partner_service_pb2.RemovePartnerIdentifierResponse
        return await self._commands.run(request, call, response, work)

    async def GetPartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.GetPartnerRequest, call: Call
    ) -> partner_service_pb2.GetPartnerResponse:
        """Give one partner with what it stated about itself and its partner contract (1377)."""
        async with self._commands.read(call) as w:
            partner_id = w.actor.own_or(request.partner_id)
            storage = PartnerStorage(w.connection)
            partner = await storage.get(partner_id)
            shown = await rendered(storage, partner)
            shown.profile.CopyFrom(await storage.profile(partner_id))
            version = partner.partner_contract_version
            contract = await PartnerContractStorage(w.connection).get(version)
        return partner_service_pb2.GetPartnerResponse(
            partner=shown, partner_contract=render_contract(contract)
        )

    async def ListPartners(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.ListPartnersRequest, call: Call
    ) -> partner_service_pb2.ListPartnersResponse:
        """List partners by id."""
        page = page_by_text(request.page)
        state = enum_member(PartnerState, partner_pb2.PartnerState, PARTNER_STATE, request.state)
        async with self._commands.read(call) as w:
            storage = PartnerStorage(w.connection)
            partners, info = await storage.page(page, state, request.role)
            owned = await storage.identifiers([partner.partner_id for partner in partners])
        shown = (render_partner(partner, owned.get(partner.partner_id, [])) for partner in partners)
        return partner_service_pb2.ListPartnersResponse(partners=shown, page=info)


async def _switched(w: Work, after: Partner, step: PartnerStep) -> partner_pb2.Partner:
    """Remember that a partner may act, or may no more, and tell it and the workers."""
    storage = PartnerStorage(w.connection)
    await storage.set_state(after.partner_id, after.state)
    await storage.remember(after, step, w.actor, w.now)
    shown = await rendered(storage, after)
    await tell(w.connection, partner_notices(after, step, w.now))
    await announce(w.connection, RoutingChange(partners=frozenset({after.partner_id})))
    return shown


async def _announce_owner(w: Work, identifier: OwnedIdentifier, value: str) -> None:
    owner = (int(identifier.kind), value)
    await announce(w.connection, RoutingChange(owners=frozenset({owner})))
