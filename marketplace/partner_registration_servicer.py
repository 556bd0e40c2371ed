"""The part of PartnerService from a registration request to the first access data (1374).

Whoever has the reference of a request is its applicant. It is random, kept as a digest, and opens
three things: how the request stands, one first certificate, and one first administrator.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from google.protobuf.message import Message

from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.marketplace.v1 import partner_registration_pb2 as wire
from interceptors.call import Call
from marketplace.certificate_servicer import CertificateServicer
from marketplace.partner import Partner, PartnerState, PartnerStep, check_partner_contract
from marketplace.partner_notice import decided_notice
from marketplace.partner_registration import (
    Registration,
    RegistrationState,
    RegistrationStep,
    applicant,
    applicant_of,
    check_room,
    take_access,
    take_step,
)
from marketplace.partner_rendering import (
    REGISTRATION_STATE,
    render_registration,
    render_registration_event,
    rendered,
)
from marketplace.rendering import enum_member
from marketplace.routing_change import RoutingChange
from marketplace.session import SECRET_BYTES, secret_digest
from marketplace.storage_command import Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_partner_contract import PartnerContractStorage
from marketplace.storage_partner_registration import RegistrationStorage
from marketplace.storage_routing import announce
from marketplace.user_servicer import NewUser, create_user

R = TypeVar("R", bound=Message)
_ANYBODY = applicant("")


class PartnerRegistrationServicer(CertificateServicer):
    """Takes registration requests, has them decided, and gives access data."""

    async def RequestPartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.RequestPartnerRegistrationRequest, call: Call
    ) -> wire.RequestPartnerRegistrationResponse:
        """Take a request of anybody and give its reference."""
        reference, digest = _new_reference()
        who = applicant_of(request.profile.responsible_person.email)
        taken = False

        async def work(w: Work) -> wire.RequestPartnerRegistrationResponse:
            nonlocal taken
            registration = await _requested(w, request, digest)
            taken = True
            shown = render_registration(registration)
            return wire.RequestPartnerRegistrationResponse(registration=shown)

        response_class = wire.RequestPartnerRegistrationResponse
        response = await self._commands.run(request, call, response_class, work, who)
        if not taken:
            registration_id = response.registration.registration_id
            async with self._commands.read(call, who) as w:
                storage = RegistrationStorage(w.connection)
                taken = await storage.renew_reference(registration_id, digest)
        response.reference = reference if taken else ""
        return response

    async def TrackPartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.TrackPartnerRegistrationRequest, call: Call
    ) -> wire.TrackPartnerRegistrationResponse:
        """Show an applicant how its request stands."""
        digest = secret_digest(request.reference)
        async with self._commands.read(call, _ANYBODY) as w:
            registration = await RegistrationStorage(w.connection).by_reference(digest, held=False)
        return wire.TrackPartnerRegistrationResponse(registration=render_registration(registration))

    async def WithdrawPartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.WithdrawPartnerRegistrationRequest, call: Call
    ) -> wire.WithdrawPartnerRegistrationResponse:
        """Take a request back and forget the person."""

        async def work(w: Work, before: Registration) -> wire.WithdrawPartnerRegistrationResponse:
            storage, step = RegistrationStorage(w.connection), RegistrationStep.WITHDRAWN
            after = replace(before, state=take_step(before, step), decided_at=w.now)
            await storage.save(after, step, w.actor, w.now)
            await storage.erase_person(after.registration_id)
            shown = render_registration(after)
            return wire.WithdrawPartnerRegistrationResponse(registration=shown)

        response = wire.WithdrawPartnerRegistrationResponse
        return await self._as_applicant(request, call, response, work)

    async def IssueFirstCertificate(  # noqa: N802  # the rpc's name
        self, request: wire.IssueFirstCertificateRequest, call: Call
    ) -> wire.IssueFirstCertificateResponse:
        """Issue the one certificate that a reference is good for."""

        async def work(w: Work, before: Registration) -> wire.IssueFirstCertificateResponse:
            step = RegistrationStep.CERTIFICATE_ISSUED
            take_access(before, step, w.now)
            partner = await PartnerStorage(w.connection).locked(before.partner_id)
            after = replace(before, certificate_issued=True)
            await RegistrationStorage(w.connection).save(after, step, w.actor, w.now)
            csr_pem = request.certificate_signing_request_pem
            certificate, chain_pem = await self._issued(w, partner, csr_pem)
            return wire.IssueFirstCertificateResponse(certificate=certificate, chain_pem=chain_pem)

        return await self._as_applicant(request, call, wire.IssueFirstCertificateResponse, work)

    async def CreateFirstAdministrator(  # noqa: N802  # the rpc's name
        self, request: wire.CreateFirstAdministratorRequest, call: Call
    ) -> wire.CreateFirstAdministratorResponse:
        """Create the one administrator that a reference is good for."""
        secret = ""

        async def work(w: Work, before: Registration) -> wire.CreateFirstAdministratorResponse:
            nonlocal secret
            step = RegistrationStep.ADMINISTRATOR_CREATED
            take_access(before, step, w.now)
            new = NewUser.administrator(before.partner_id, request.user_name, request.full_name)
            after = replace(before, administrator_created=True)
            await RegistrationStorage(w.connection).save(after, step, w.actor, w.now)
            _, secret, link = await create_user(w, new)
            return wire.CreateFirstAdministratorResponse(
                partner_id=before.partner_id, one_time_link=link
            )

        response_class = wire.CreateFirstAdministratorResponse
        response = await self._as_applicant(request, call, response_class, work)
        response.one_time_link.secret = secret
        return response

    async def GetPartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.GetPartnerRegistrationRequest, call: Call
    ) -> wire.GetPartnerRegistrationResponse:
        """Give an operator a request with its profile and history."""
        async with self._commands.read(call) as w:
            storage = RegistrationStorage(w.connection)
            shown = render_registration(await storage.get(request.registration_id))
            profile = await storage.profile(request.registration_id)
            if profile is not None:
                shown.profile.CopyFrom(profile)
            rows = await storage.events(request.registration_id)
        return wire.GetPartnerRegistrationResponse(
            registration=shown, events=map(render_registration_event, rows)
        )

    async def ListPartnerRegistrations(  # noqa: N802  # the rpc's name
        self, request: wire.ListPartnerRegistrationsRequest, call: Call
    ) -> wire.ListPartnerRegistrationsResponse:
        """List requests, the oldest first."""
        page = page_by_number(request.page)
        enum = wire.PartnerRegistrationState
        state = enum_member(RegistrationState, enum, REGISTRATION_STATE, request.state)
        async with self._commands.read(call) as w:
            found, info = await RegistrationStorage(w.connection).page(page, state)
        return wire.ListPartnerRegistrationsResponse(
            registrations=map(render_registration, found), page=info
        )

    async def ApprovePartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.ApprovePartnerRegistrationRequest, call: Call
    ) -> wire.ApprovePartnerRegistrationResponse:
        """Register the partner that a request asks for."""

        async def work(w: Work) -> wire.ApprovePartnerRegistrationResponse:
            storage, step = RegistrationStorage(w.connection), RegistrationStep.APPROVED
            before = await storage.get(request.registration_id, held=True)
            after = replace(before, state=take_step(before, step), decided_at=w.now)
            profile = await storage.profile(before.registration_id)
            assert profile is not None, "a request that waits has its profile"
            state, version = PartnerState.REGISTERED, before.partner_contract_version
            partner = Partner(before.partner_id, state, before.roles, version, w.now)
            partners = PartnerStorage(w.connection)
            await partners.add(partner, profile)
            await partners.remember(partner, PartnerStep.REGISTERED, w.actor, w.now)
            owned = await own_all(w, partner.partner_id, before.identifiers)
            await storage.save(after, step, w.actor, w.now)
            await storage.erase_person(after.registration_id)
            shown = await rendered(partners, partner)
            await tell(w.connection, (decided_notice(after, w.now),))
            if owned:
                await announce(w.connection, RoutingChange(owners=owned))
            return wire.ApprovePartnerRegistrationResponse(partner=shown)

        response = wire.ApprovePartnerRegistrationResponse
        return await self._commands.run(request, call, response, work)

    async def RefusePartnerRegistration(  # noqa: N802  # the rpc's name
        self, request: wire.RefusePartnerRegistrationRequest, call: Call
    ) -> wire.RefusePartnerRegistrationResponse:
        """Refuse a request and tell the applicant why."""

        async def work(w: Work) -> wire.RefusePartnerRegistrationResponse:
            storage, step = RegistrationStorage(w.connection), RegistrationStep.REFUSED
            before = await storage.get(request.registration_id, held=True)
            after = replace(
                before,
                state=take_step(before, step),
                decision_reason=request.reason,
                decided_at=w.now,
            )
            await storage.save(after, step, w.actor, w.now)
            await tell(w.connection, (decided_notice(after, w.now),))
            shown = render_registration(after)
            return wire.RefusePartnerRegistrationResponse(registration=shown)

        response = wire.RefusePartnerRegistrationResponse
        return await self._commands.run(request, call, response, work)

    async def _as_applicant(
        self,
        request: Any,
        call: Call,
        response_class: type[R],
        work: Callable[[Work, Registration], Awaitable[R]],
    ) -> R:
        """Run a command of whoever has the request's reference; MarketError NOT_FOUND."""
        digest = secret_digest(request.reference)
        async with self._commands.read(call, _ANYBODY) as w:
            found = await RegistrationStorage(w.connection).by_reference(digest, held=False)

        async def do(w: Work) -> R:
            return await work(w, await RegistrationStorage(w.connection).by_reference(digest))

        who = applicant(found.registration_id)
        return await self._commands.run(request, call, response_class, do, who)


async def own_all(
    w: Work, partner_id: str, identifiers: tuple[OwnedIdentifier, ...]
) -> frozenset[tuple[int, str]]:
    """Give a partner identifiers; what routing is to be told. Raises MarketError ALREADY_EXISTS."""
    storage = PartnerStorage(w.connection)
    # In one order, so that two who want the same ones do not wait for each other in a ring.
    ordered = sorted(identifiers, key=lambda item: (item.kind, item.value.upper()))
    pairs = [(int(item.kind), await storage.own(partner_id, item, w.now)) for item in ordered]
    return frozenset(pairs)


async def _requested(
    w: Work, request: wire.RequestPartnerRegistrationRequest, digest: bytes
) -> Registration:
    """Write a request, where its form is complete and there is room for it."""
    current = await PartnerContractStorage(w.connection).current_version()
    check_partner_contract(request.accepted_partner_contract_version, current)
    storage = RegistrationStorage(w.connection)
    await storage.clear_refused(w.now)
    await PartnerStorage(w.connection).check_free(request.identifiers, request.partner_id)
    check_room(await storage.waiting(w.actor, w.now))
    registration = Registration(
        registration_id=str(uuid4()),
        partner_id=request.partner_id,
        state=RegistrationState.REQUESTED,
        roles=tuple(sorted(request.roles)),
        identifiers=tuple(request.identifiers),
        partner_contract_version=current,
        requested_at=w.now,
    )
    await storage.add(registration, request.profile, w.actor, digest)
    who = applicant(registration.registration_id)
    await storage.remember(registration, RegistrationStep.REQUESTED, who, w.now)
    return registration


def _new_reference() -> tuple[str, bytes]:
    # It is typed after a command's name: one that began with a dash would be an option.
    reference = f"r{secrets.token_urlsafe(SECRET_BYTES)}"
    return reference, secret_digest(reference)
