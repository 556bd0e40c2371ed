"""Customers' contracts: what an EVSP may say about them, and how they are compared (1514 to 1516).

Pure: token ids and secrets come in and leave as hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from clearinghouse.instants import (
    ALWAYS_UNTIL,
    instant_of,
    range_of,
    timestamp,
)
from clearinghouse.refusals import invalid
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from foundation.identifiers import CheckPolicy, ContractId
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.identification_pb2 import IdentificationKind, Token, TokenStatus

_DISABLED = wire.CLEARING_CONTRACT_STATE_DISABLED
_GUEST = IdentificationKind.IDENTIFICATION_KIND_GUEST
_BLOCKED = TokenStatus.TOKEN_STATUS_BLOCKED
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenDraft:
    """One means of identification of a contract."""

    token_hash: bytes
    kind: int
    visual_number: str
    status: int
    expires_at: datetime = ALWAYS_UNTIL
    #: Known by its hash only: the contract must have it already.
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ContractDraft:
    """A contract as an EVSP wants it stored."""

    contract_key: str
    contract_id: str
    active: bool
    policy: int
    valid_from: datetime
    valid_until: datetime
    roaming_allowed: bool
    #: A CustomerContract without tokens, secret, state and version.
    content: bytes
    #: A CustomerContract of the service level alone within which the customer may choose; None
    #: leaves it as it is.
    limits: bytes | None
    secret_hash: bytes | None
    tokens: tuple[TokenDraft, ...]
    #: Equal for contracts of equal content, tokens among it; without the secret.
    digest: bytes


@dataclass(frozen=True, slots=True)
class RefusedDraft:
    """A contract that cannot be stored as it is."""

    #: Empty where not even the contract's id could be read.
    contract_key: str
    field: str
    description: str


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """One version of a contract, with the tokens of its time."""

    evsp_id: str
    contract_key: str
    version_number: int
    active: bool
    content: bytes
    limits: bytes | None
    recorded_at: datetime
    secret_hash: bytes | None = field(default=None, repr=False)
    sequence: int = 0
    tokens: Sequence[HeldTokenRow] = ()


@dataclass(frozen=True, slots=True)
class HeldTokenRow:
    """A token of a contract, as it is stored."""

    token_hash: bytes
    kind: int
    visual_number: str
    status: int
    expires_at: datetime
    blocked_by_customer: bool = False


class ContractReader:
    """Turns what EVSPs send into drafts."""

    def __init__(self, hashing: TokenHashing, check_policy: CheckPolicy) -> None:
        self._hashing = hashing
        self._check_policy = check_policy

    def key(self, contract_id: str, place: str = "contract_id") -> str:
        """Give the key of a contract id in any spelling; MarketError REQUEST_INVALID."""
        return self._id(contract_id, place).key

    def read(self, message: wire.CustomerContract, place: str = "contract") -> ContractDraft:
        """Read a contract; MarketError REQUEST_INVALID names what is wrong."""
        identifier = self._id(message.contract_id, f"{place}.contract_id")
        since, until = range_of(message.validity, f"{place}.validity")
        tokens = self._tokens(message.tokens, place)
        level = message.service_level if message.HasField("service_level") else None
        secret = message.customer_secret
        draft = ContractDraft(
            contract_key=identifier.key,
            contract_id=str(identifier),
            active=message.state != _DISABLED,
            policy=message.whitelist_policy,
            valid_from=since,
            valid_until=until,
            roaming_allowed=level is None or level.roaming_allowed,
            content=_content(message, str(identifier)),
            limits=wire.CustomerContract(service_level=level).SerializeToString(deterministic=True),
            secret_hash=self._hashing.secret(identifier.key, secret) if secret else None,
            tokens=tokens,
            digest=b"",
        )
        return self.digested(draft)

    def try_read(self, message: wire.CustomerContract) -> ContractDraft | RefusedDraft:
        """Read a contract of a load; one that is wrong becomes a report."""
        key = ""
        try:
            key = self.key(message.contract_id)
            return self.read(message, "")
        except MarketError as error:
            (violation,) = error.violations
            return RefusedDraft(key, violation.field.removeprefix("."), violation.description)

    def digested(self, draft: ContractDraft) -> ContractDraft:
        """Give a draft with the digest of its content."""
        tokens = (
            f"{token.kind} {token.status} {token.expires_at} {token.visual_number}".encode()
            + token.token_hash
            for token in sorted(draft.tokens, key=lambda each: each.token_hash)
        )
        digest = self._hashing.content(draft.content, draft.limits or b"", *tokens)
        return replace(draft, digest=digest)

    def _id(self, contract_id: str, place: str) -> ContractId:
        try:
            return ContractId.parse(contract_id, self._check_policy)
        except ValueError:
            text = "a contract id of ISO 15118, eMI3 or DIN SPEC 91286"
            raise invalid(place, text, "contract_id") from None

    def _tokens(self, tokens: Iterable[Token], place: str) -> tuple[TokenDraft, ...]:
        drafts: dict[bytes, TokenDraft] = {}
        for index, token in enumerate(tokens):
            at = f"{place}.tokens[{index}]"
            draft = self._token(token, at)
            if draft.token_hash in drafts:
                raise invalid(at, "a token that the contract has once", "unique")
            drafts[draft.token_hash] = draft
        return tuple(drafts.values())

    def _token(self, token: Token, place: str) -> TokenDraft:
        expires_at = ALWAYS_UNTIL
        if token.HasField("expiry_time"):
            expires_at = instant_of(token.expiry_time, f"{place}.expiry_time")
        elif token.kind == _GUEST:
            text = "a guest's number is good for a time and has an end"
            raise invalid(f"{place}.expiry_time", text, "required")
        return TokenDraft(
            token_hash=self._token_hash(token, place),
            kind=token.kind,
            visual_number=token.visual_number,
            status=token.status,
            expires_at=expires_at,
            kept=not token.token_uid,
        )

    def _token_hash(self, token: Token, place: str) -> bytes:
        if not token.token_uid:
            if len(token.token_hash) != _HASH_BYTES:
                raise invalid(place, "either token_uid or token_hash is set", "required")
            return token.token_hash
        try:
            return self._hashing.token(token.kind, token.token_uid)
        except ValueError:
            text = "a card's id has 8, 14 or 20 hexadecimal digits"
            raise invalid(f"{place}.token_uid", text, "token_uid") from None


def _content(message: wire.CustomerContract, contract_id: str) -> bytes:
    """Give what is stored of a contract as it is, in one spelling."""
    kept = wire.CustomerContract()
    kept.CopyFrom(message)
    for name in (
        *("evsp_partner_id", "tokens", "state", "customer_secret"),
        *("version_number", "changed_time"),
    ):
        kept.ClearField(name)
    kept.contract_id = contract_id
    return kept.SerializeToString(deterministic=True)


def render_contract(held: HeldVersion) -> wire.CustomerContract:
    """Give a contract as its EVSP sees it: tokens by their hashes, no secret."""
    message = wire.CustomerContract.FromString(held.content)
    message.evsp_partner_id = held.evsp_id
    message.state = wire.CLEARING_CONTRACT_STATE_ACTIVE if held.active else _DISABLED
    message.version_number = held.version_number
    message.changed_time.CopyFrom(timestamp(held.recorded_at))
    for token in held.tokens:
        added = message.tokens.add(
            kind=token.kind,
            token_hash=token.token_hash,
            visual_number=token.visual_number,
            status=token.status,
        )
        if token.expires_at != ALWAYS_UNTIL:
            added.expiry_time.CopyFrom(timestamp(token.expires_at))
    return message
