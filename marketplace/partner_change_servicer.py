"""The part of PartnerService in which partners have their accounts changed (1376, 1378, 1380).

As the use cases have it, a partner fills a change request and the business operator makes the
change. Only the responsible person can be changed at once: the marketplace has nothing to check
about it, and needs to reach whoever answers for the account now.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.marketplace.v1 import partner_change_pb2 as wire
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.notice import Notice, partner_notices
from marketplace.partner import Partner, PartnerStep, check_active, check_revision, inactivate
from marketplace.partner_change import (
    AccountData,
    ChangeKind,
    ChangeState,
    ChangeStep,
    PartnerChange,
    check_may_request,
    take_step,
    wanted,
)
from marketplace.partner_notice import change_notice, person_notice
from marketplace.partner_registration_servicer import own_all
from marketplace.partner_rendering import (
    CHANGE_STATE,
    render_change,
    render_differences,
    rendered,
)
from marketplace.rendering import enum_member
from marketplace.routing_change import RoutingChange
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import tell
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_partner_change import ChangeFilter, ChangeStorage
from marketplace.storage_routing import announce


class PartnerChangeServicer:
    """Takes change requests and has them decided."""

    _commands: Commands

    async def RequestPartnerChange(  # noqa: N802  # the rpc's name
        self, request: wire.RequestPartnerChangeRequest, call: Call
    ) -> wire.RequestPartnerChangeResponse:
        """Take a request for other account data."""

        async def work(w: Work) -> wire.RequestPartnerChangeResponse:
            storage = PartnerStorage(w.connection)
            partner = await storage.locked(w.actor.subject_id)
            check_active(partner)
            check_revision(partner, request.revision)
            old = await _data(w, partner)
            profile = request.profile if request.HasField("profile") else None
            added, removed = request.added_identifiers, request.removed_identifiers
            new = wanted(old, profile, request.roles, added, removed)
            await storage.check_free(_only_in(new, old))
            change = await _requested(w, partner, ChangeKind.ACCOUNT_DATA, request.note, (old, new))
            shown = render_change(change, partner.revision)
            return wire.RequestPartnerChangeResponse(change=shown)

        response = wire.RequestPartnerChangeResponse
        return await self._commands.run(request, call, response, work)

    async def RequestPartnerInactivation(  # noqa: N802  # the rpc's name
        self, request: wire.RequestPartnerInactivationRequest, call: Call
    ) -> wire.RequestPartnerInactivationResponse:
        """Take a request for the end of the account, where no contract is in the way."""

        async def work(w: Work) -> wire.RequestPartnerInactivationResponse:
            storage = PartnerStorage(w.connection)
            partner = await storage.locked(w.actor.subject_id)
            check_active(partner)
            contract_ids, count = await storage.contracts_in_force(partner.partner_id)
            inactivate(partner.state, contract_ids, count)
            data = await _data(w, partner)
            kind = ChangeKind.INACTIVATION
            change = await _requested(w, partner, kind, request.note, (data, data))
            shown = render_change(change, partner.revision)
            return wire.RequestPartnerInactivationResponse(change=shown)

        response = wire.RequestPartnerInactivationResponse
        return await self._commands.run(request, call, response, work)

    async def WithdrawPartnerChange(  # noqa: N802  # the rpc's name
        self, request: wire.WithdrawPartnerChangeRequest, call: Call
    ) -> wire.WithdrawPartnerChangeResponse:
        """Take an own change request back."""

        async def work(w: Work) -> wire.WithdrawPartnerChangeResponse:
            change, partner = await _decided(w, request.change_id, ChangeStep.WITHDRAWN)
            shown = render_change(change, partner.revision)
            return wire.WithdrawPartnerChangeResponse(change=shown)

        response = wire.WithdrawPartnerChangeResponse
        return await self._commands.run(request, call, response, work)

    async def ApprovePartnerChange(  # noqa: N802  # the rpc's name
        self, request: wire.ApprovePartnerChangeRequest, call: Call
    ) -> wire.ApprovePartnerChangeResponse:
        """Make the account as it is asked for, or inactivate it."""

        async def work(w: Work) -> wire.ApprovePartnerChangeResponse:
            change, before = await _decided(w, request.change_id, ChangeStep.APPROVED)
            if change.kind is ChangeKind.INACTIVATION:
                after, notices, routing = await _inactivated(w, before)
            else:
                after, routing = await _changed(w, change, before)
                notices = ()
            shown = await rendered(PartnerStorage(w.connection), after)
            await tell(w.connection, (change_notice(change, w.now), *notices))
            await announce(w.connection, routing)
            return wire.ApprovePartnerChangeResponse(
                change=render_change(change, after.revision), partner=shown
            )

        response = wire.ApprovePartnerChangeResponse
        return await self._commands.run(request, call, response, work)

    async def RefusePartnerChange(  # noqa: N802  # the rpc's name
        self, request: wire.RefusePartnerChangeRequest, call: Call
    ) -> wire.RefusePartnerChangeResponse:
        """Refuse a change request and tell the partner why."""

        async def work(w: Work) -> wire.RefusePartnerChangeResponse:
            step = ChangeStep.REFUSED
            change, partner = await _decided(w, request.change_id, step, request.reason)
            await tell(w.connection, (change_notice(change, w.now),))
            shown = render_change(change, partner.revision)
            return wire.RefusePartnerChangeResponse(change=shown)

        response = wire.RefusePartnerChangeResponse
        return await self._commands.run(request, call, response, work)

    async def GetPartnerChange(  # noqa: N802  # the rpc's name
        self, request: wire.GetPartnerChangeRequest, call: Call
    ) -> wire.GetPartnerChangeResponse:
        """Give a change request with what it changes."""
        async with self._commands.read(call) as w:
            storage = ChangeStorage(w.connection)
            change = await storage.get(request.change_id)
            if not w.actor.may_see(change.partner_id):
                raise not_found("change request")
            partner = await PartnerStorage(w.connection).get(change.partner_id)
            old, new = await storage.data(change.change_id)
        shown = render_change(change, partner.revision)
        shown.note = change.note
        shown.field_changes.extend(render_differences(old, new))
        return wire.GetPartnerChangeResponse(change=shown)

    async def ListPartnerChanges(  # noqa: N802  # the rpc's name
        self, request: wire.ListPartnerChangesRequest, call: Call
    ) -> wire.ListPartnerChangesResponse:
        """List change requests, the oldest first."""
        page = page_by_number(request.page)
        state = enum_member(ChangeState, wire.PartnerChangeState, CHANGE_STATE, request.state)
        condition = ChangeFilter(request.partner_id, state)
        async with self._commands.read(call) as w:
            found, info = await ChangeStorage(w.connection).page(page, condition, w.actor)
        shown = (render_change(change, revision) for change, revision in found)
        return wire.ListPartnerChangesResponse(changes=shown, page=info)

    async def ChangeResponsiblePerson(  # noqa: N802  # the rpc's name
        self, request: wire.ChangeResponsiblePersonRequest, call: Call
    ) -> wire.ChangeResponsiblePersonResponse:
        """Change at once who answers for the calling partner's account."""

        async def work(w: Work) -> wire.ChangeResponsiblePersonResponse:
            storage = PartnerStorage(w.connection)
            before = await storage.locked(w.actor.subject_id)
            check_active(before)
            check_revision(before, request.revision)
            profile = await storage.profile(before.partner_id)
            profile.responsible_person.CopyFrom(request.responsible_person)
            after = await storage.change(before, profile)
            await storage.remember(after, PartnerStep.PERSON_CHANGED, w.actor, w.now)
            shown = await rendered(storage, after)
            await tell(w.connection, (person_notice(after, w.now),))
            return wire.ChangeResponsiblePersonResponse(partner=shown)

        response = wire.ChangeResponsiblePersonResponse
        return await self._commands.run(request, call, response, work)


async def _data(w: Work, partner: Partner) -> AccountData:
    """Give all about a partner that a change request can change."""
    storage = PartnerStorage(w.connection)
    owned = (await storage.identifiers([partner.partner_id])).get(partner.partner_id, [])
    pairs = sorted((int(item.kind), item.value) for item in owned)
    return AccountData(await storage.profile(partner.partner_id), partner.roles, tuple(pairs))


def _only_in(data: AccountData, other: AccountData) -> tuple[OwnedIdentifier, ...]:
    """Give the identifiers that the one has and the other has not."""
    pairs = sorted(set(data.identifiers) - set(other.identifiers))
    return tuple(OwnedIdentifier(kind=kind, value=value) for kind, value in pairs)  # type: ignore[arg-type]  # a number


async def _requested(
    w: Work, partner: Partner, kind: ChangeKind, note: str, data: tuple[AccountData, AccountData]
) -> PartnerChange:
    """Write a change request of a partner that is held."""
    storage = ChangeStorage(w.connection)
    check_may_request(await storage.waiting(partner.partner_id), kind)
    change = PartnerChange(
        change_id=str(uuid4()),
        partner_id=partner.partner_id,
        kind=kind,
        state=ChangeState.REQUESTED,
        base_revision=partner.revision,
        note=note,
        decision_reason="",
        requested_at=w.now,
    )
    await storage.add(change, *data)
    step = PartnerStep.CHANGE_REQUESTED
    await PartnerStorage(w.connection).remember(partner, step, w.actor, w.now, change.change_id)
    return change


async def _decided(
    w: Work, change_id: str, step: ChangeStep, reason: str = ""
) -> tuple[PartnerChange, Partner]:
    """Take a change request one step on; gives it, and its partner as it was, which is held."""
    storage, partners = ChangeStorage(w.connection), PartnerStorage(w.connection)
    partner_id = (await storage.get(change_id)).partner_id
    if not w.actor.may_see(partner_id):
        raise not_found("change request")
    # The partner before its requests, as everywhere.
    partner = await partners.locked(partner_id)
    before = await storage.get(change_id, held=True)
    state = take_step(before, step, w.actor)
    after = replace(before, state=state, decision_reason=reason, decided_at=w.now)
    await storage.save(after)
    remembered = PartnerStep(f"CHANGE_{step.value}")
    await partners.remember(partner, remembered, w.actor, w.now, change_id)
    return after, partner


async def _changed(
    w: Work, change: PartnerChange, before: Partner
) -> tuple[Partner, RoutingChange]:
    """Write the account as a request wants it; gives the partner and what routing is to know."""
    check_revision(before, change.base_revision)
    old, new = await ChangeStorage(w.connection).data(change.change_id)
    storage, gone = PartnerStorage(w.connection), _only_in(old, new)
    for identifier in gone:
        await storage.disown(before.partner_id, identifier)
    owned = await own_all(w, before.partner_id, _only_in(new, old))
    after = await storage.change(replace(before, roles=new.roles), new.profile)
    freed = frozenset((int(item.kind), item.value) for item in gone)
    return after, RoutingChange(owners=owned | freed)


async def _inactivated(
    w: Work, before: Partner
) -> tuple[Partner, tuple[Notice, ...], RoutingChange]:
    """Inactivate a partner that asked for it, where no contract is in the way by now."""
    storage = PartnerStorage(w.connection)
    contract_ids, count = await storage.contracts_in_force(before.partner_id)
    after = replace(before, state=inactivate(before.state, contract_ids, count))
    step = PartnerStep.INACTIVATED
    await storage.set_state(after.partner_id, after.state)
    await storage.remember(after, step, w.actor, w.now)
    routing = RoutingChange(partners=frozenset({after.partner_id}))
    return after, partner_notices(after, step, w.now), routing
