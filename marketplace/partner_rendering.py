"""Accounts, requests and histories of partners as messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gem.common.v1.identifier_pb2 import OwnedIdentifier
from gem.marketplace.v1 import (
    partner_change_pb2,
    partner_contract_pb2,
    partner_pb2,
    partner_registration_pb2,
    partner_search_pb2,
)
from marketplace.actor import party_of
from marketplace.partner import Partner, PartnerState
from marketplace.partner_change import AccountData, PartnerChange, differences
from marketplace.partner_contract import ContractVersion
from marketplace.partner_registration import Registration
from marketplace.rendering import enum_number, timestamp
from marketplace.storage_partner import PartnerStorage

PARTNER_STATE = "PARTNER_STATE"
REGISTRATION_STATE = "PARTNER_REGISTRATION_STATE"
CHANGE_STATE = "PARTNER_CHANGE_STATE"


async def rendered(storage: PartnerStorage, partner: Partner) -> partner_pb2.Partner:
    """Render a partner with its identifiers and without personal data."""
    owned = await storage.identifiers([partner.partner_id])
    return render_partner(partner, owned.get(partner.partner_id, []))


def render_partner(partner: Partner, identifiers: list[OwnedIdentifier]) -> partner_pb2.Partner:
    """Render a partner without personal data: results of commands are kept."""
    message: Any = partner_pb2.Partner(
        partner_id=partner.partner_id,
        identifiers=identifiers,
        accepted_partner_contract_version=partner.partner_contract_version,
        register_time=timestamp(partner.registered_at),
        revision=partner.revision,
    )
    message.roles.extend(partner.roles)
    message.state = enum_number(partner_pb2.PartnerState, PARTNER_STATE, partner.state)
    return message  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_registration(
    registration: Registration,
) -> partner_registration_pb2.PartnerRegistration:
    """Render a registration request without personal data."""
    message: Any = partner_registration_pb2.PartnerRegistration(
        registration_id=registration.registration_id,
        partner_id=registration.partner_id,
        identifiers=registration.identifiers,
        accepted_partner_contract_version=registration.partner_contract_version,
        decision_reason=registration.decision_reason,
        request_time=timestamp(registration.requested_at),
        certificate_issued=registration.certificate_issued,
        administrator_created=registration.administrator_created,
    )
    message.roles.extend(registration.roles)
    if registration.decided_at is not None:
        message.decide_time.CopyFrom(timestamp(registration.decided_at))
    enum = partner_registration_pb2.PartnerRegistrationState
    message.state = enum_number(enum, REGISTRATION_STATE, registration.state)
    return message  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_registration_event(row: Any) -> partner_registration_pb2.PartnerRegistrationEvent:
    """Render one row of a registration request's history."""
    wire = partner_registration_pb2
    return wire.PartnerRegistrationEvent(
        kind=wire.PartnerRegistrationEventKind.Value(f"PARTNER_REGISTRATION_EVENT_KIND_{row.kind}"),
        state=wire.PartnerRegistrationState.Value(f"{REGISTRATION_STATE}_{row.state}"),
        actor=party_of(row.actor),
        event_time=timestamp(row.occurred_at),
    )


def render_change(change: PartnerChange, revision: int) -> partner_change_pb2.PartnerChange:
    """Render a change request without what may be personal; `revision` is the partner's now."""
    message: Any = partner_change_pb2.PartnerChange(
        change_id=change.change_id,
        partner_id=change.partner_id,
        base_revision=change.base_revision,
        outdated=change.decided_at is None and change.base_revision != revision,
        decision_reason=change.decision_reason,
        request_time=timestamp(change.requested_at),
    )
    if change.decided_at is not None:
        message.decide_time.CopyFrom(timestamp(change.decided_at))
    wire = partner_change_pb2
    message.kind = enum_number(wire.PartnerChangeKind, "PARTNER_CHANGE_KIND", change.kind)
    message.state = enum_number(wire.PartnerChangeState, CHANGE_STATE, change.state)
    return message  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_differences(
    old: AccountData, new: AccountData
) -> Iterable[partner_change_pb2.PartnerFieldChange]:
    """Render what a change request changes."""
    for each in differences(old, new):
        yield partner_change_pb2.PartnerFieldChange(
            field=each.field, old_values=each.old_values, new_values=each.new_values
        )


def render_contract(contract: ContractVersion) -> partner_contract_pb2.PartnerContract:
    """Render a version of the partner contract."""
    published_at = contract.published_at
    return partner_contract_pb2.PartnerContract(
        version=contract.version,
        title=contract.title,
        text=contract.text,
        publish_time=timestamp(published_at) if published_at is not None else None,
    )


def render_summary(
    row: Any, identifiers: list[OwnedIdentifier], *, in_full: bool
) -> partner_search_pb2.PartnerSummary:
    """Render what can be told of a partner; `in_full` is for operators."""
    message: Any = partner_search_pb2.PartnerSummary(
        partner_id=row.partner_id, company_name=row.company_name, country_code=row.country_code
    )
    message.roles.extend(row.roles)
    if in_full:
        state = PartnerState(row.state)
        message.state = enum_number(partner_pb2.PartnerState, PARTNER_STATE, state)
        message.register_time.CopyFrom(timestamp(row.registered_at))
        message.identifiers.extend(identifiers)
    return message  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_event(row: Any) -> partner_search_pb2.PartnerEvent:
    """Render one row of a partner's history."""
    return partner_search_pb2.PartnerEvent(
        kind=partner_search_pb2.PartnerEventKind.Value(f"PARTNER_EVENT_KIND_{row.kind}"),
        state=partner_pb2.PartnerState.Value(f"{PARTNER_STATE}_{row.state}"),
        actor=party_of(row.actor),
        detail=row.detail,
        event_time=timestamp(row.occurred_at),
    )
