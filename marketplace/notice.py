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
    SERVICE_REQUEST_RESPONDED = "SERVICE_REQUEST_RESPONDED"
    SERVICE_REQUEST_CHANGED = "SERVICE_REQUEST_CHANGED"
    INTERFACE_PROPOSED = "INTERFACE_PROPOSED"
    INTERFACE_PROPOSAL_VOTED = "INTERFACE_PROPOSAL_VOTED"
    INTERFACE_ACCEPTED = "INTERFACE_ACCEPTED"
    INTERFACE_REJECTED = "INTERFACE_REJECTED"
    USER_CHANGED = "USER_CHANGED"
    CONFORMANCE_FINISHED = "CONFORMANCE_FINISHED"
    SERVICE_CERTIFIED = "SERVICE_CERTIFIED"
    CERTIFICATION_REVOKED = "CERTIFICATION_REVOKED"
    PARTNER_REGISTERED = "PARTNER_REGISTERED"
    REGISTRATION_REFUSED = "REGISTRATION_REFUSED"
    PARTNER_CHANGED = "PARTNER_CHANGED"
    PARTNER_CHANGE_REFUSED = "PARTNER_CHANGE_REFUSED"
    PARTNER_CONTRACT_PUBLISHED = "PARTNER_CONTRACT_PUBLISHED"
    SERVICE_CHANGED = "SERVICE_CHANGED"
    SERVICE_DISABLED = "SERVICE_DISABLED"
    SERVICE_ENABLED = "SERVICE_ENABLED"
    SERVICE_VERSION_PREPARED = "SERVICE_VERSION_PREPARED"
    SERVICE_VERSION_PUBLISHED = "SERVICE_VERSION_PUBLISHED"
    SERVICE_STEP_REFUSED = "SERVICE_STEP_REFUSED"


#: The inbox that the marketplace's operators share; no partner's id has a slash.
OPERATORS_INBOX = "operator/all"


@dataclass(frozen=True, slots=True)
class Preference:
    """How a partner wants notices of one kind; neither way means not at all."""

    inbox: bool
    email: bool


DEFAULT_PREFERENCES: Mapping[NoticeKind, Preference] = {
    kind: Preference(inbox=True, email=False) for kind in NoticeKind
} | {
    # Who is not active yet, or never will be, reads no inbox.
    NoticeKind.PARTNER_REGISTERED: Preference(inbox=True, email=True),
    NoticeKind.REGISTRATION_REFUSED: Preference(inbox=False, email=True),
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
    ServiceStep.VERSION_PREPARED: NoticeKind.SERVICE_VERSION_PREPARED,
    ServiceStep.VERSION_PUBLISHED: NoticeKind.SERVICE_VERSION_PUBLISHED,
}
#: What a provider is told of its own service besides.
_PROVIDER_KINDS: Mapping[str, NoticeKind] = {
    **_SERVICE_KINDS,
    ServiceStep.REGISTERED: NoticeKind.SERVICE_CHANGED,
    ServiceStep.PUBLICATION_REQUESTED: NoticeKind.SERVICE_CHANGED,
    ServiceStep.PUBLICATION_REFUSED: NoticeKind.SERVICE_CHANGED,
    ServiceStep.VERSION_REQUESTED: NoticeKind.SERVICE_CHANGED,
    ServiceStep.VERSION_WITHDRAWN: NoticeKind.SERVICE_CHANGED,
    ServiceStep.DELETED: NoticeKind.SERVICE_CHANGED,
    ServiceStep.DISABLED: NoticeKind.SERVICE_DISABLED,
    ServiceStep.ENABLED: NoticeKind.SERVICE_ENABLED,
}
#: How a step is told, where its name is no past tense of a service.
_SERVICE_WORDS: Mapping[str, str] = {
    ServiceStep.PUBLICATION_REQUESTED: "waiting for the operator to publish it",
    ServiceStep.PUBLICATION_REFUSED: "not published: its events tell why",
    ServiceStep.VERSION_PREPARED: "given a new version that is not published yet",
    ServiceStep.VERSION_REQUESTED: "given a version that waits for the operator to publish it",
    ServiceStep.VERSION_WITHDRAWN: "left without its prepared version",
    ServiceStep.VERSION_PUBLISHED: "brought to a new version",
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
    return tuple(
        _service_notice(service, kind, step, requester_id, now) for requester_id in requester_ids
    )


def provider_notices(service: Service, step: ServiceStep, now: datetime) -> tuple[Notice, ...]:
    """Tell a provider what happened to its service; nothing of what it alone can do and sees."""
    kind = _PROVIDER_KINDS.get(step)
    if kind is None:
        return ()
    return (_service_notice(service, kind, step, service.provider_id, now),)


def refusal_notices(
    service: Service, what: str, contract_count: int, now: datetime
) -> tuple[Notice, ...]:
    """Tell a provider that contracts were in the way of a step (use cases 1486, 1494)."""
    notice = Notice(
        recipient_id=service.provider_id,
        kind=NoticeKind.SERVICE_STEP_REFUSED,
        title="Service not changed",
        text=(
            f"Service {service.service_id} was not {what}: {contract_count} of its contracts have"
            " to be changed or terminated first."
        ),
        occurred_at=now,
        service_id=service.service_id,
        interface_name=service.interface_name,
    )
    return (notice,)


def _service_notice(
    service: Service, kind: NoticeKind, step: ServiceStep, recipient_id: str, now: datetime
) -> Notice:
    words = _SERVICE_WORDS.get(step, step.value.lower())
    return Notice(
        recipient_id=recipient_id,
        kind=kind,
        title=f"Service {step.value.lower().replace('_', ' ')}",
        text=f"Service {service.service_id} of {service.provider_id} was {words}.",
        occurred_at=now,
        service_id=service.service_id,
        interface_name=service.interface_name,
    )


def partner_notices(partner: Partner, step: PartnerStep, now: datetime) -> tuple[Notice, ...]:
    """Tell a partner whether it may act; nothing of other steps."""
    kind = _PARTNER_KINDS.get(step)
    if kind is None:
        return ()
    text = f"Partner {partner.partner_id} {_PARTNER_TEXTS[step]}"
    return (Notice(partner.partner_id, kind, f"Partner {step.value.lower()}", text, now),)


def interface_notices(
    versions: Iterable[tuple[str, int]], partner_ids: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """Tell partners of the interfaces, by name and version, that were published."""
    published = tuple(versions)
    return tuple(
        Notice(
            recipient_id=partner_id,
            kind=NoticeKind.INTERFACE_PUBLISHED,
            title="Interface published",
            text=f"Version {version} of interface {name} was published.",
            occurred_at=now,
            interface_name=name,
        )
        for partner_id in partner_ids
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
