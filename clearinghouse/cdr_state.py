"""What can happen to a charge detail record, and what to do with one that comes twice. Pure.

Every acknowledged record has one effect: it is settled once, or it stands where it is seen why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason


class CdrState(StrEnum):
    """Where a record stands; the names are those of the proto enum."""

    RECEIVED = "RECEIVED"
    ACCEPTED = "ACCEPTED"
    RETURNED = "RETURNED"
    FORWARDED = "FORWARDED"
    APPROVED = "APPROVED"
    DECLINED = "DECLINED"
    REVISED = "REVISED"
    REJECTED = "REJECTED"
    CREDITED = "CREDITED"


class CdrStep(StrEnum):
    """What can happen to a record."""

    #: The clearing house finds it plausible.
    ACCEPT = "ACCEPT"
    #: The clearing house finds it implausible.
    RETURN = "RETURN"
    #: The clearing house cannot bring it to the EVSP, and gives it back.
    HAND_BACK = "HAND_BACK"
    #: The EVSP has stored it.
    FORWARD = "FORWARD"
    #: The EVSP pays.
    APPROVE = "APPROVE"
    #: The EVSP does not.
    DECLINE = "DECLINE"
    #: The operator sends it again, corrected, under the same id.
    REVISE = "REVISE"
    #: The operator gives it up.
    REJECT = "REJECT"
    #: A credit of it was accepted.
    CREDIT = "CREDIT"


TRANSITIONS: Mapping[tuple[CdrState, CdrStep], CdrState] = {
    (CdrState.RECEIVED, CdrStep.ACCEPT): CdrState.ACCEPTED,
    (CdrState.RECEIVED, CdrStep.RETURN): CdrState.RETURNED,
    (CdrState.ACCEPTED, CdrStep.FORWARD): CdrState.FORWARDED,
    (CdrState.ACCEPTED, CdrStep.HAND_BACK): CdrState.RETURNED,
    (CdrState.FORWARDED, CdrStep.APPROVE): CdrState.APPROVED,
    (CdrState.FORWARDED, CdrStep.DECLINE): CdrState.DECLINED,
    (CdrState.DECLINED, CdrStep.REVISE): CdrState.REVISED,
    (CdrState.DECLINED, CdrStep.REJECT): CdrState.REJECTED,
    (CdrState.RETURNED, CdrStep.REVISE): CdrState.REVISED,
    (CdrState.REVISED, CdrStep.ACCEPT): CdrState.ACCEPTED,
    (CdrState.REVISED, CdrStep.RETURN): CdrState.RETURNED,
    (CdrState.APPROVED, CdrStep.CREDIT): CdrState.CREDITED,
}

#: Steps of which a repeat changes nothing, and the state that shows that they were taken.
_REPEATABLE = {
    CdrStep.FORWARD: CdrState.FORWARDED,
    CdrStep.APPROVE: CdrState.APPROVED,
    CdrStep.DECLINE: CdrState.DECLINED,
    CdrStep.REJECT: CdrState.REJECTED,
}
#: What it gives back is given back already when a credit is accepted.
_NOT_OF_CREDITS = frozenset({CdrStep.DECLINE, CdrStep.CREDIT, CdrStep.HAND_BACK})
#: States in which a record counts in settlements. A credited one does; its credit takes it back.
SETTLED = frozenset({CdrState.APPROVED, CdrState.CREDITED})
#: States after which the session may have a fresh record.
_SESSION_FREE = frozenset({CdrState.CREDITED, CdrState.REJECTED})


class Submission(StrEnum):
    """What becomes of a record that is submitted; the names are those of the proto enum."""

    STORED = "STORED"
    ALREADY_SUBMITTED = "ALREADY_SUBMITTED"
    CONTENT_CONFLICT = "CONTENT_CONFLICT"
    SESSION_CONFLICT = "SESSION_CONFLICT"


@dataclass(frozen=True, slots=True)
class CdrKey:
    """Names a record: ids are unique per operator, whatever their case."""

    operator_key: str
    cdr_id: str

    @classmethod
    def of(cls, operator_key: str, cdr_id: str) -> CdrKey:
        """Give the key of an id as an operator writes it."""
        return cls(operator_key, cdr_id.casefold())


@dataclass(frozen=True, slots=True)
class StoredCdr:
    """A record as it is stored, as far as its states need it."""

    key: CdrKey
    #: Session id of the operator.
    session_id: str
    #: Digests of the bytes of every revision, the latest last.
    digests: tuple[bytes, ...]
    state: CdrState = CdrState.RECEIVED
    #: Set in a credit: the record that it gives back.
    credited: CdrKey | None = None

    @property
    def revision_number(self) -> int:
        return len(self.digests) - 1

    @property
    def holds_session(self) -> bool:
        """Whether the session can have no other record beside this one."""
        return self.credited is None and self.state not in _SESSION_FREE


def submitted(
    incoming: StoredCdr, same_id: StoredCdr | None, of_session: Iterable[StoredCdr]
) -> Submission:
    """Say what becomes of a record that comes in.

    `same_id` is the record with its key, `of_session` all records of its operator's session. Only
    STORED stores anything. A record that comes again, in any of its revisions, gets the same
    answer.
    """
    if same_id is not None:
        known = incoming.digests[-1] in same_id.digests
        return Submission.ALREADY_SUBMITTED if known else Submission.CONTENT_CONFLICT
    others = list(of_session)
    if incoming.credited is not None:
        taken = any(other.credited == incoming.credited for other in others)
    else:
        taken = any(other.holds_session for other in others)
    return Submission.SESSION_CONFLICT if taken else Submission.STORED


def take_step(stored: StoredCdr, step: CdrStep, revision_number: int | None = None) -> StoredCdr:
    """Give a record after a step other than REVISE; unchanged where it was taken before.

    `revision_number` is the one of which the step speaks; None is the latest.

    Raises:
        MarketError: CONFLICT where the step speaks of another revision, STATE_NOT_ALLOWED where the
            state, or that it is a credit, forbids the step.
    """
    assert step is not CdrStep.REVISE, "a revision has bytes: see revise()"
    _check_revision(stored, revision_number)
    if _REPEATABLE.get(step) is stored.state:
        return stored
    if stored.credited is not None and step in _NOT_OF_CREDITS:
        raise _refusal(stored, step, "A credit is neither declined nor credited nor handed back.")
    return replace(stored, state=_after(stored, step))


def revise(stored: StoredCdr, digest: bytes, revision_number: int) -> StoredCdr:
    """Give a record after its operator sent it corrected; unchanged where it is the latest already.

    Raises:
        MarketError: CONFLICT where the correction is of another revision than the latest,
            STATE_NOT_ALLOWED where the record was neither returned nor declined.
    """
    if digest == stored.digests[-1] and revision_number == stored.revision_number - 1:
        return stored
    _check_revision(stored, revision_number)
    return replace(stored, state=_after(stored, CdrStep.REVISE), digests=(*stored.digests, digest))


def _after(stored: StoredCdr, step: CdrStep) -> CdrState:
    after = TRANSITIONS.get((stored.state, step))
    if after is None:
        raise _refusal(stored, step, "The charge detail record's state does not allow this step.")
    return after


def _check_revision(stored: StoredCdr, revision_number: int | None) -> None:
    if revision_number not in {None, stored.revision_number}:
        raise MarketError(
            ErrorReason.ERROR_REASON_CONFLICT,
            "The charge detail record was revised meanwhile.",
            metadata={"revision_number": str(stored.revision_number)},
        )


def _refusal(stored: StoredCdr, step: CdrStep, text: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
        text,
        metadata={"state": stored.state.value, "step": step.value},
    )
