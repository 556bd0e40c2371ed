"""From what is stored to a situation, and from a decision to the answer and what is kept of it.

Pure: ids and the time are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clearinghouse.authorization import (
    Decision,
    HeldContract,
    HeldToken,
    Reach,
    Situation,
)
from clearinghouse.authorization_text import display_text
from clearinghouse.customer_contract import ContractReader
from clearinghouse.evsp_question import EvspAnswer
from clearinghouse.instants import ALWAYS_SINCE, ALWAYS_UNTIL, stored, timestamp
from clearinghouse.plausibility_context import Validity
from clearinghouse.refusals import invalid
from clearinghouse.token_hash import PAYMENTS, TokenHashing
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationMethod,
    DecidingLayer,
)
from gem.roaming.v1.clearing_contract_pb2 import CustomerContract
from gem.roaming.v1.identification_pb2 import (
    Identification,
    IdentificationKind,
    TokenStatus,
    WhitelistPolicy,
)

_LISTS = (DecidingLayer.DECIDING_LAYER_EVSE_LIST, DecidingLayer.DECIDING_LAYER_OPERATOR_LIST)
_VALID = TokenStatus.TOKEN_STATUS_VALID
_NO_TOKEN = TokenStatus.TOKEN_STATUS_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Shown:
    """What a customer showed, as it is looked up."""

    kind: int
    contract_key: str | None
    #: Of the token, or of the payment's reference.
    token_hash: bytes | None

    @property
    def is_payment(self) -> bool:
        return self.kind in PAYMENTS

    @property
    def payment_hash(self) -> bytes | None:
        """Hash of what was reserved for one session and serves once; None for all else."""
        once = IdentificationKind.IDENTIFICATION_KIND_PAYMENT_REFERENCE
        return self.token_hash if self.kind == once else None

    @property
    def identity_key(self) -> str:
        """What a charge detail record's identification is compared by: contract, else token."""
        if self.contract_key is not None:
            return self.contract_key
        return self.token_hash.hex() if self.token_hash is not None else ""


def read_shown(shown: Identification, reader: ContractReader, hashing: TokenHashing) -> Shown:
    """Read what a customer showed; MarketError REQUEST_INVALID.

    A payment has no contract, whatever else is shown.
    """
    key = None
    if shown.contract_id and shown.kind not in PAYMENTS:
        key = reader.key(shown.contract_id, "identification.contract_id")
    try:
        return Shown(shown.kind, key, hashing.identification(shown))
    except ValueError:
        text = "a card's id has 8, 14 or 20 hexadecimal digits"
        raise invalid("identification.token_uid", text, "token_uid") from None


def situation_of(
    row: Mapping[str, Any], shown: Shown, decided_by: int, reach: Reach = Reach.REACHABLE
) -> Situation:
    """Give the situation that a row of `AuthorizationStorage.situation` describes."""
    contract = _contract(row, shown)
    paid = None
    if shown.is_payment:
        paid = _is_paid(contract, row) if contract is not None else False
    return Situation(
        now=row["now"],
        blacklisted=row["blacklisted"],
        decided_by=decided_by,  # type: ignore[arg-type]  # a plain number of the enum
        agreement_in_force=row["agreed"],
        contract=contract,
        reach=reach,
        payment_valid=paid,
        may_broadcast=bool(row["broadcast_to"]),
    )


def _contract(row: Mapping[str, Any], shown: Shown) -> HeldContract | None:
    if row["contract_key"] is None:
        return None
    token = None
    if shown.token_hash is not None:
        # Who shows a contract id with a token that is not the contract's shows nobody's token.
        status = row["status"] if row["has_token"] else _NO_TOKEN
        ends = stored(row["expires_at"]) if row["has_token"] else ALWAYS_UNTIL
        token = HeldToken(status, None if ends == ALWAYS_UNTIL else ends)
    since, until = stored(row["valid_from"]), stored(row["valid_until"])
    return HeldContract(
        policy=_policy(row["policy"]),
        validity=Validity(
            None if since == ALWAYS_SINCE else since, None if until == ALWAYS_UNTIL else until
        ),
        token=token,
        roaming_allowed=row["roaming_allowed"],
        disabled=not row["active"],
    )


def _policy(number: int) -> WhitelistPolicy.ValueType:
    return WhitelistPolicy.Value(WhitelistPolicy.Name(number))  # type: ignore[arg-type]  # a number


def _is_paid(contract: HeldContract, row: Mapping[str, Any]) -> bool:
    token = contract.token
    return (
        token is not None
        and token.status == _VALID
        and (token.expires_at is None or row["now"] < token.expires_at)
        and not contract.disabled
        and contract.validity.holds(row["now"])
        and not row["payment_used"]
    )


def method_of(kind: int, layer: int) -> AuthorizationMethod.ValueType:
    """Say how an authorization came about, as charge detail records say it again."""
    if kind in PAYMENTS:
        return AuthorizationMethod.AUTHORIZATION_METHOD_OPEN_ACCESS
    if kind == IdentificationKind.IDENTIFICATION_KIND_PHONE:
        return AuthorizationMethod.AUTHORIZATION_METHOD_CALL_CENTRE
    if layer in _LISTS:
        return AuthorizationMethod.AUTHORIZATION_METHOD_WHITELIST
    return AuthorizationMethod.AUTHORIZATION_METHOD_REQUEST


def valid_until(row: Mapping[str, Any], answer: EvspAnswer | None, lasting: timedelta) -> datetime:
    """Give until when charging has to start: never longer than contract, token or EVSP allow."""
    known = (row["valid_until"], row["expires_at"])
    ends = [row["now"] + lasting, *(stored(end) for end in known if end is not None)]
    if answer is not None and answer.decision.HasField("valid_until_time"):
        told = answer.decision.valid_until_time
        if 0 < told.seconds < ends[0].timestamp():
            ends.append(datetime.fromtimestamp(told.seconds, UTC))
    found: datetime = max(row["now"], min(ends))
    return found


def render_decision(
    decision: Decision,
    row: Mapping[str, Any],
    shown: Shown,
    answer: EvspAnswer | None,
    *,
    reference: str,
    session_id: str,
    until: datetime,
) -> AuthorizationDecision:
    """Give the answer; who may not charge learns nothing of contract and EVSP."""
    held = CustomerContract.FromString(row["content"] or b"")
    told = answer.decision if answer is not None else AuthorizationDecision()
    rendered = AuthorizationDecision(
        status=decision.status,
        deciding_layer=decision.layer,
        authorization_reference=reference,
        decided_time=timestamp(row["now"]),
        display_text=told.display_text or display_text(decision.status, held.language),
    )
    if not decision.allowed:
        return rendered
    rendered.session_id = session_id
    rendered.valid_until_time.CopyFrom(timestamp(until))
    rendered.evsp_partner_id = (answer.evsp_id if answer is not None else row["evsp_id"]) or ""
    if not shown.is_payment:
        rendered.contract_id = held.contract_id or told.contract_id
    if told.HasField("service_level"):
        rendered.service_level.CopyFrom(told.service_level)
    elif held.HasField("service_level"):
        rendered.service_level.CopyFrom(held.service_level)
    return rendered
