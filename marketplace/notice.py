"""Notices: what happens to contracts, services, partners and interfaces, and who is told.

The texts are ours and made from ids; only a message to requesters (use case 1687) is in its
sender's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from marketplace.actor import MARKET, Actor
from marketplace.contract import Contract, ContractStep
from marketplace.partner import Partner, PartnerStep
from marketplace.service import Service, ServiceStep


class NoticeKind(StrEnum):
    """What a notice is about; the names are those of `NotificationKind`."""

    CONTRACT_CREATED = "CONTRACT_CREATED"
    CONTRACT_SUSPENDED = "CONTRACT_SUSPENDED"
    CONTRACT_RESUMED = "CONTRACT_RESUMED"
    CONTRACT_TERMINATED = "CONTRACT_TERMINATED"
    CONTRACT_CHANGED = "CONTRACT_CHANGED"
    SERVICE_PUBLISHED = "SERVICE_PUBLISHED"
    SERVICE_STOPPED = "SERVICE_STOPPED"
    SERVICE_STARTED = "SERVICE_STARTED"
    PARTNER_ACTIVATED = "PARTNER_ACTIVATED"
    PARTNER_INACTIVATED = "PARTNER_INACTIVATED"
    INTERFACE_PUBLISHED = "INTERFACE_PUBLISHED"
    SERVICE_MESSAGE = "SERVICE_MESSAGE"


@dataclass(frozen=True, slots=True)
class Preference:
    """How a partner wants notices of one kind; neither way means not at all."""

    inbox: bool
    email: bool


#: A published interface concerns everybody and nobody: who wants to know says so.
DEFAULT_PREFERENCES: Mapping[NoticeKind, Preference] = {
    kind: Preference(inbox=kind is not NoticeKind.INTERFACE_PUBLISHED, email=False)
    for kind in NoticeKind
}

#: Any other step of a contract is CONTRACT_CHANGED.
_CONTRACT_KINDS: Mapping[str, NoticeKind] = {
    ContractStep.CREATED: NoticeKind.CONTRACT_CREATED,
    ContractStep.SUSPENDED: NoticeKind.CONTRACT_SUSPENDED,
    ContractStep.RESUMED: NoticeKind.CONTRACT_RESUMED,
    ContractStep.TERMINATED: NoticeKind.CONTRACT_TERMINATED,
    ContractStep.EXPIRED: NoticeKind.CONTRACT_TERMINATED,
}
#: Requesters are told of no other step: they do not even see the endpoint.
_SERVICE_KINDS: Mapping[str, NoticeKind] = {
    ServiceStep.PUBLISHED: NoticeKind.SERVICE_PUBLISHED,
    ServiceStep.STOPPED: NoticeKind.SERVICE_STOPPED,
    ServiceStep.STARTED: NoticeKind.SERVICE_STARTED,
}
_PARTNER_KINDS: Mapping[str, NoticeKind] = {
    PartnerStep.ACTIVATED: NoticeKind.PARTNER_ACTIVATED,
    PartnerStep.INACTIVATED: NoticeKind.PARTNER_INACTIVATED,
}
_PARTNER_TEXTS = {
    PartnerStep.ACTIVATED: "may call, offer and contract.",
    PartnerStep.INACTIVATED: "can no longer call, offer or contract.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice for one partner."""

    recipient_id: str
    kind: NoticeKind
    title: str
    text: str
    occurred_at: datetime
    contract_id: str = ""
    service_id: str = ""
    interface_name: str = ""
    #: The partner that caused it; empty for the marketplace.
    sender_id: str = ""


def contract_notices(
    contract: Contract, step: ContractStep, actor: Actor, now: datetime, detail: str = ""
) -> tuple[Notice, ...]:
    """Tell both parties what happened to their contract; `detail` is a sentence more."""
    words = step.value.lower().replace("_", " ")
    parties = (contract.requester_id, contract.provider_id)
    text = (
        f"Contract {contract.contract_id} of {parties[0]} with {parties[1]} for service"
        f" {contract.service_id}: {words} by {_name(actor)}. It is"
        f" {contract.state.value.lower()} now."
    )
    text = f"{text} {detail}" if detail else text
    return tuple(
        Notice(
            recipient_id=party,
            kind=_CONTRACT_KINDS.get(step, NoticeKind.CONTRACT_CHANGED),
            title=f"Contract {words}",
            text=text,
            occurred_at=now,
            contract_id=contract.contract_id,
            service_id=contract.service_id,
            sender_id=_sender(actor),
        )
        for party in parties
    )


def concerns_requesters(step: ServiceStep) -> bool:
    """Say whether those who have a contract for a service are told of this step."""
    return step in _SERVICE_KINDS


def service_notices(
    service: Service, step: ServiceStep, requester_ids: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """Tell its requesters what happened to a service; nothing of steps that do not concern them."""
    kind = _SERVICE_KINDS.get(step)
    if kind is None:
        return ()
    words = step.value.lower()
    text = f"Service {service.service_id} of {service.provider_id} was {words}."
    return tuple(
        Notice(
            recipient_id=requester_id,
            kind=kind,
            title=f"Service {words}",
            text=text,
            occurred_at=now,
            service_id=service.service_id,
            interface_name=service.interface_name,
        )
        for requester_id in requester_ids
    )


def partner_notices(partner: Partner, step: PartnerStep, now: datetime) -> tuple[Notice, ...]:
    """Tell a partner whether it may act; nothing of other steps."""
    kind = _PARTNER_KINDS.get(step)
    if kind is None:
        return ()
    text = f"Partner {partner.partner_id} {_PARTNER_TEXTS[step]}"
    return (Notice(partner.partner_id, kind, f"Partner {step.value.lower()}", text, now),)


def interface_notices(
    versions: Iterable[tuple[str, int]], subscriber_ids: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """Tell subscribers of the interfaces, by name and version, that were published."""
    published = tuple(versions)
    return tuple(
        Notice(
            recipient_id=subscriber_id,
            kind=NoticeKind.INTERFACE_PUBLISHED,
            title="Interface published",
            text=f"Version {version} of interface {name} was published.",
            occurred_at=now,
            interface_name=name,
        )
        for subscriber_id in subscriber_ids
        for name, version in published
    )


def message_notices(
    service: Service,
    words: tuple[str, str],
    requester_ids: Iterable[str],
    actor: Actor,
    now: datetime,
) -> tuple[Notice, ...]:
    """Give a service's requesters what its provider or an operator writes: title and text."""
    title, text = words
    return tuple(
        Notice(
            recipient_id=requester_id,
            kind=NoticeKind.SERVICE_MESSAGE,
            title=title,
            text=text,
            occurred_at=now,
            service_id=service.service_id,
            interface_name=service.interface_name,
            sender_id=_sender(actor),
        )
        for requester_id in requester_ids
    )


def _name(actor: Actor) -> str:
    if actor == MARKET:
        return "the marketplace, as agreed"
    return actor.subject_id if actor.is_partner else "an operator of the marketplace"


def _sender(actor: Actor) -> str:
    return actor.subject_id if actor.is_partner else ""
