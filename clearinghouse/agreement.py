"""Agreements of an EVSE operator and an EVSP: who may say what about them (1497, 1500, 1513).

Pure: what is stored is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from clearinghouse.instants import (
    ALWAYS_SINCE,
    ALWAYS_UNTIL,
    fill_range,
    range_of,
    timestamp,
)
from clearinghouse.refusals import invalid, not_found
from foundation.errors import MarketError
from foundation.identifiers import owner_key
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import clearing_contract_pb2 as wire

_ACTIVE = wire.CLEARING_CONTRACT_STATE_ACTIVE
_DISABLED = wire.CLEARING_CONTRACT_STATE_DISABLED


@dataclass(frozen=True, slots=True)
class AgreementDetails:
    """What the parties say about their agreement."""

    currency_code: str
    valid_from: datetime = ALWAYS_SINCE
    valid_until: datetime = ALWAYS_UNTIL
    #: As they were written, and as they are compared. Empty means all of the operator.
    operator_ids: tuple[str, ...] = ()
    operator_keys: tuple[str, ...] = ()
    broadcast_allowed: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """One version of an agreement."""

    agreement_ref: int
    version_number: int
    agreement_id: str
    operator_id: str
    evsp_id: str
    #: The contract in the marketplace from which it came.
    market_contract_id: str
    details: AgreementDetails
    changed_by: str
    active: bool = True
    #: Whether the contract in the marketplace is in force.
    market_active: bool = True
    #: Whether a party said anything since the agreement came from the marketplace.
    detailed: bool = False
    recorded_at: datetime | None = field(default=None, compare=False)

    def next(self, changed_by: str, **changes: object) -> Agreement:
        """Give the version that follows."""
        return replace(
            self,
            version_number=self.version_number + 1,
            changed_by=changed_by,
            **changes,  # type: ignore[arg-type]  # fields of this class
        )


def read_details(message: wire.RoamingAgreement) -> AgreementDetails:
    """Read what a party says; MarketError REQUEST_INVALID."""
    since, until = range_of(message.validity, "agreement.validity")
    keys = []
    for index, operator_id in enumerate(message.operator_ids):
        try:
            keys.append(owner_key(operator_id))
        except ValueError:
            place = f"agreement.operator_ids[{index}]"
            raise invalid(place, "a country and three characters, DE*ABC", "owner") from None
    return AgreementDetails(
        currency_code=message.currency_code,
        valid_from=since,
        valid_until=until,
        operator_ids=tuple(message.operator_ids),
        operator_keys=tuple(sorted(set(keys))),
        broadcast_allowed=message.broadcast_allowed,
    )


def check_party(agreement: Agreement | None, partner_id: str) -> Agreement:
    """Give an agreement to one of its parties; anybody else gets NOT_FOUND."""
    if agreement is None or partner_id not in (agreement.operator_id, agreement.evsp_id):
        raise not_found("agreement")
    return agreement


def check_broadcast(before: bool, after: AgreementDetails, evsp_id: str, partner_id: str) -> None:
    """Let nobody but the EVSP agree to be asked about customers who may not be its own.

    Raises:
        MarketError: ROLE_NOT_ALLOWED.
    """
    if after.broadcast_allowed and not before and partner_id != evsp_id:
        raise MarketError(
            ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED, "Only the EVSP can agree to be asked."
        )


def render_agreement(agreement: Agreement) -> wire.RoamingAgreement:
    """Give an agreement as its parties see it."""
    details = agreement.details
    message = wire.RoamingAgreement(
        agreement_id=agreement.agreement_id,
        operator_partner_id=agreement.operator_id,
        evsp_partner_id=agreement.evsp_id,
        market_contract_id=agreement.market_contract_id,
        state=_ACTIVE if agreement.active else _DISABLED,
        operator_ids=details.operator_ids,
        currency_code=details.currency_code,
        broadcast_allowed=details.broadcast_allowed,
        version_number=agreement.version_number,
    )
    if (details.valid_from, details.valid_until) != (ALWAYS_SINCE, ALWAYS_UNTIL):
        fill_range(message.validity, details.valid_from, details.valid_until)
    if agreement.recorded_at is not None:
        message.changed_time.CopyFrom(timestamp(agreement.recorded_at))
    return message
