"""PartnerService: registers partners and says which of them may act (1374, 1379, 1380)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.marketplace.v1 import partner_pb2, partner_service_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.certificate_servicer import CertificateServicer
from marketplace.notice import partner_notices
from marketplace.partner import (
    IDENTIFIERS_MAX,
    Partner,
    PartnerState,
    PartnerStep,
    activate,
    check_partner_contract,
    inactivate,
)
from marketplace.rendering import enum_member, enum_number, timestamp
from marketplace.routing_change import RoutingChange
from marketplace.storage_command import Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_text
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_routing import announce

_PREFIX = "PARTNER_STATE"


class PartnerServicer(CertificateServicer):
    """Serves `gem.marketplace.v1.PartnerService`."""

    async def RegisterPartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.RegisterPartnerRequest, call: Call
    ) -> partner_service_pb2.RegisterPartnerResponse:
        """Register a partner that is not active yet."""
        version = request.accepted_partner_contract_version
        check_partner_contract(version)

        async def work(w: Work) -> partner_service_pb2.RegisterPartnerResponse:
            roles = tuple(sorted(request.roles))
            state = PartnerState.REGISTERED
            partner = Partner(request.partner_id, state, roles, version, w.now)
            storage = PartnerStorage(w.connection)
            await storage.add(partner, request.profile)
            await storage.remember(partner, PartnerStep.REGISTERED, w.actor, w.now)
            owned = [
                (item.kind, await storage.own(partner.partner_id, item, w.now))
                for item in request.identifiers
            ]
            if owned:
                await announce(w.connection, RoutingChange(owners=frozenset(owned)))
            rendered = await _rendered(storage, partner)
            return partner_service_pb2.RegisterPartnerResponse(partner=rendered)

        response = partner_service_pb2.RegisterPartnerResponse
        return await self._commands.run(request, call, response, work)

    async def ActivatePartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.ActivatePartnerRequest, call: Call
    ) -> partner_service_pb2.ActivatePartnerResponse:
        """Let a partner act."""

        async def work(w: Work) -> partner_service_pb2.ActivatePartnerResponse:
            before = await PartnerStorage(w.connection).locked(request.partner_id)
            after = replace(before, state=activate(before.state))
            rendered = await _switched(w, after, PartnerStep.ACTIVATED)
            return partner_service_pb2.ActivatePartnerResponse(partner=rendered)

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
            rendered = await _switched(w, after, PartnerStep.INACTIVATED)
            return partner_service_pb2.InactivatePartnerResponse(partner=rendered)

        response = partner_service_pb2.InactivatePartnerResponse
        return await self._commands.run(request, call, response, work)

    async def SetPartnerRoles(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.SetPartnerRolesRequest, call: Call
    ) -> partner_service_pb2.SetPartnerRolesResponse:
        """Replace a partner's roles."""

        async def work(w: Work) -> partner_service_pb2.SetPartnerRolesResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(request.partner_id)
            after = replace(before, roles=tuple(sorted(request.roles)))
            await storage.set_roles(after.partner_id, after.roles)
            await storage.remember(after, PartnerStep.ROLES_SET, w.actor, w.now)
            rendered = await _rendered(storage, after)
            return partner_service_pb2.SetPartnerRolesResponse(partner=rendered)

        response = partner_service_pb2.SetPartnerRolesResponse
        return await self._commands.run(request, call, response, work)

    async def AddPartnerIdentifier(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.AddPartnerIdentifierRequest, call: Call
    ) -> partner_service_pb2.AddPartnerIdentifierResponse:
        """Give a partner an identifier that nobody owns."""

        async def work(w: Work) -> partner_service_pb2.AddPartnerIdentifierResponse:
            storage = PartnerStorage(w.connection)
            partner = await storage.locked(request.partner_id)
            owned = await storage.identifiers([partner.partner_id])
            if len(owned.get(partner.partner_id, ())) >= IDENTIFIERS_MAX:
                raise MarketError(
                    ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                    f"The partner owns {IDENTIFIERS_MAX} identifiers already.",
                )
            value = await storage.own(partner.partner_id, request.identifier, w.now)
            await storage.remember(partner, PartnerStep.IDENTIFIER_ADDED, w.actor, w.now)
            rendered = await _rendered(storage, partner)
            await _announce_owner(w, request.identifier, value)
            return partner_service_pb2.AddPartnerIdentifierResponse(partner=rendered)

        response = partner_service_pb2.AddPartnerIdentifierResponse
        return await self._commands.run(request, call, response, work)

    async def RemovePartnerIdentifier(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.RemovePartnerIdentifierRequest, call: Call
    ) -> partner_service_pb2.RemovePartnerIdentifierResponse:
        """Take an identifier from a partner."""

        async def work(w: Work) -> partner_service_pb2.RemovePartnerIdentifierResponse:
            storage = PartnerStorage(w.connection)
            partner = await storage.locked(request.partner_id)
            value = await storage.disown(partner.partner_id, request.identifier)
            await storage.remember(partner, PartnerStep.IDENTIFIER_REMOVED, w.actor, w.now)
            rendered = await _rendered(storage, partner)
            await _announce_owner(w, request.identifier, value)
            return partner_service_pb2.RemovePartnerIdentifierResponse(partner=rendered)

        response = partner_service_pb2.RemovePartnerIdentifierResponse
        return await self._commands.run(request, call, response, work)

    async def GetPartner(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.GetPartnerRequest, call: Call
    ) -> partner_service_pb2.GetPartnerResponse:
        """Give one partner with what it stated about itself."""
        async with self._commands.read(call) as w:
            partner_id = w.actor.own_or(request.partner_id)
            storage = PartnerStorage(w.connection)
            rendered = await _rendered(storage, await storage.get(partner_id))
            rendered.profile.CopyFrom(await storage.profile(partner_id))
        return partner_service_pb2.GetPartnerResponse(partner=rendered)

    async def ListPartners(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.ListPartnersRequest, call: Call
    ) -> partner_service_pb2.ListPartnersResponse:
        """List partners by id."""
        page = page_by_text(request.page)
        state = enum_member(PartnerState, partner_pb2.PartnerState, _PREFIX, request.state)
        async with self._commands.read(call) as w:
            storage = PartnerStorage(w.connection)
            partners, info = await storage.page(page, state, request.role)
            owned = await storage.identifiers([partner.partner_id for partner in partners])
        rendered = (_render(partner, owned.get(partner.partner_id, [])) for partner in partners)
        return partner_service_pb2.ListPartnersResponse(partners=rendered, page=info)


async def _switched(w: Work, after: Partner, step: PartnerStep) -> partner_pb2.Partner:
    """Remember that a partner may act, or may no more, and tell it and the workers."""
    storage = PartnerStorage(w.connection)
    await storage.set_state(after.partner_id, after.state)
    await storage.remember(after, step, w.actor, w.now)
    rendered = await _rendered(storage, after)
    await tell(w.connection, partner_notices(after, step, w.now))
    await announce(w.connection, RoutingChange(partners=frozenset({after.partner_id})))
    return rendered


async def _announce_owner(w: Work, identifier: OwnedIdentifier, value: str) -> None:
    owner = (int(identifier.kind), value)
    await announce(w.connection, RoutingChange(owners=frozenset({owner})))


async def _rendered(storage: PartnerStorage, partner: Partner) -> partner_pb2.Partner:
    owned = await storage.identifiers([partner.partner_id])
    return _render(partner, owned.get(partner.partner_id, []))


def _render(partner: Partner, identifiers: list[OwnedIdentifier]) -> partner_pb2.Partner:
    rendered: Any = partner_pb2.Partner(
        partner_id=partner.partner_id,
        identifiers=identifiers,
        accepted_partner_contract_version=partner.partner_contract_version,
        register_time=timestamp(partner.registered_at),
    )
    rendered.state = enum_number(partner_pb2.PartnerState, _PREFIX, partner.state)
    rendered.roles.extend(partner.roles)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
