"""What is kept of a charge detail record that comes in. Pure.

The id of a token is replaced by its keyed hash before anything is stored, and the digest by which
repeats are told is keyed too: of a plain one the few ids that cards have could be tried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from clearinghouse.cdr_state import CdrKey, StoredCdr
from clearinghouse.plausibility_context import Finding
from clearinghouse.rateable import instant_of
from clearinghouse.token_hash import TokenHashing
from foundation.identifiers import EvseId, owner_key
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

_MALFORMED = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MALFORMED
#: What tells records apart; PostgreSQL's texts hold no NUL.
_NAMING = ("cdr_id", "operator_session_id", "credited_cdr_id")


@dataclass(frozen=True, slots=True)
class IncomingCdr:
    """A record that can be stored; what is None was not given or has no form."""

    #: As its states need it.
    stored: StoredCdr
    #: Id as the operator writes it.
    cdr_id: str
    #: The session as the clearing house named it.
    given_session_id: str | None
    authorization_reference: str | None
    #: As `foundation.identifiers` compares it.
    evse_key: str | None
    started_at: datetime | None
    ended_at: datetime | None
    #: The record without the token's id.
    content: bytes

    @property
    def key(self) -> CdrKey:
        return self.stored.key


def read_incoming(record: ChargeDetailRecord, hashing: TokenHashing) -> IncomingCdr:
    """Read a record that `refusals` lets pass."""
    digest = hashing.content(b"record", record.SerializeToString(deterministic=True))
    operator = owner_key(record.operator_id)
    credited = CdrKey.of(operator, record.credited_cdr_id) if record.credited_cdr_id else None
    return IncomingCdr(
        StoredCdr(
            CdrKey.of(operator, record.cdr_id),
            record.operator_session_id,
            (digest,),
            credited=credited,
        ),
        record.cdr_id,
        _storable(record.session_id),
        _storable(record.authorization_reference),
        _evse_key(record.location.evse_id),
        instant_of(record.start_time),
        instant_of(record.end_time),
        without_token(record, hashing).SerializeToString(deterministic=True),
    )


def refusals(record: ChargeDetailRecord) -> Iterator[Finding]:
    """Give why a record cannot be stored at all: nobody could name it."""
    for name in _NAMING:
        if "\0" in getattr(record, name):
            yield Finding(_MALFORMED, name, "has a character that no id has")
    for name in ("cdr_id", "operator_session_id"):
        if not getattr(record, name):
            missing = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MISSING
            yield Finding(missing, name, "missing")
    try:
        owner_key(record.operator_id)
    except ValueError:
        yield Finding(_MALFORMED, "operator_id", "does not have the form that it must have")


def without_token(record: ChargeDetailRecord, hashing: TokenHashing) -> ChargeDetailRecord:
    """Give a copy with the hash of the token in the place of its id, and without unknown fields."""
    kept = ChargeDetailRecord()
    kept.CopyFrom(record)
    kept.DiscardUnknownFields()
    who = record.identification
    if who.token_uid:
        try:
            hashed = hashing.token(who.kind, who.token_uid)
        except ValueError:
            # No card has such an id; it is kept as little as another.
            hashed = hashing.content(b"token", who.token_uid.encode())
        kept.identification.token_uid = hashed.hex()
    return kept


def _storable(text: str) -> str | None:
    return text if text and "\0" not in text else None


def _evse_key(text: str) -> str | None:
    try:
        return EvseId.parse(text).key
    except ValueError:
        return None
