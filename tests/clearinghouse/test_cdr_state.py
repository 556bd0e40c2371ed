"""States of charge detail records, duplicates and conflicts, alone and against a model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clearinghouse.cdr_state import (
    SETTLED,
    TRANSITIONS,
    CdrKey,
    CdrState,
    CdrStep,
    StoredCdr,
    Submission,
    revise,
    submitted,
    take_step,
)
from foundation.errors import MarketError, reason_name
from gem.roaming.v1 import cdr_clearing_pb2

OPERATOR = "DEABC"


def key(cdr_id: str) -> CdrKey:
    return CdrKey.of(OPERATOR, cdr_id)


def stored(state: CdrState = CdrState.RECEIVED, **changes: object) -> StoredCdr:
    plain = StoredCdr(key("CDR1"), "S1", (b"one",), state)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields by name


def reason(error: pytest.ExceptionInfo[MarketError]) -> str:
    return reason_name(error.value.reason)


@pytest.mark.parametrize("state", CdrState)
@pytest.mark.parametrize("step", [step for step in CdrStep if step is not CdrStep.REVISE])
def test_each_step_leads_where_the_table_says_or_nowhere(state: CdrState, step: CdrStep) -> None:
    repeated = {
        (CdrState.FORWARDED, CdrStep.FORWARD),
        (CdrState.APPROVED, CdrStep.APPROVE),
        (CdrState.DECLINED, CdrStep.DECLINE),
        (CdrState.REJECTED, CdrStep.REJECT),
    }
    if (state, step) in TRANSITIONS:
        assert take_step(stored(state), step).state is TRANSITIONS[state, step]
    elif (state, step) in repeated:
        assert take_step(stored(state), step) == stored(state)
    else:
        with pytest.raises(MarketError) as refused:
            take_step(stored(state), step)
        assert reason(refused) == "STATE_NOT_ALLOWED"


@pytest.mark.parametrize("state", CdrState)
def test_only_what_was_returned_or_declined_is_revised(state: CdrState) -> None:
    if state in {CdrState.RETURNED, CdrState.DECLINED}:
        after = revise(stored(state), b"two", 0)
        assert (after.state, after.revision_number) == (CdrState.REVISED, 1)
    else:
        with pytest.raises(MarketError) as refused:
            revise(stored(state), b"two", 0)
        assert reason(refused) == "STATE_NOT_ALLOWED"


def test_a_correction_that_comes_twice_is_one() -> None:
    once = revise(stored(CdrState.DECLINED), b"two", 0)
    assert revise(once, b"two", 0) == once
    with pytest.raises(MarketError) as refused:
        revise(once, b"three", 0)
    assert reason(refused) == "CONFLICT"


def test_a_review_of_an_older_revision_is_refused() -> None:
    revised = stored(CdrState.FORWARDED, digests=(b"one", b"two"))
    with pytest.raises(MarketError) as refused:
        take_step(revised, CdrStep.APPROVE, revision_number=0)
    assert reason(refused) == "CONFLICT"
    assert take_step(revised, CdrStep.APPROVE, revision_number=1).state is CdrState.APPROVED


def test_a_credit_is_neither_declined_nor_credited() -> None:
    credit = stored(credited=key("CDR0"))
    for state, step in (
        (CdrState.FORWARDED, CdrStep.DECLINE),
        (CdrState.APPROVED, CdrStep.CREDIT),
    ):
        with pytest.raises(MarketError) as refused:
            take_step(replace(credit, state=state), step)
        assert reason(refused) == "STATE_NOT_ALLOWED"


@pytest.mark.parametrize("state", CdrState)
def test_the_same_id_with_the_same_bytes_was_submitted_already(state: CdrState) -> None:
    known = stored(state, digests=(b"one", b"two"))
    for digest in known.digests:
        incoming = stored(digests=(digest,))
        assert submitted(incoming, known, [known]) is Submission.ALREADY_SUBMITTED


@pytest.mark.parametrize("state", CdrState)
def test_the_same_id_with_other_bytes_is_a_conflict(state: CdrState) -> None:
    known = stored(state)
    incoming = stored(digests=(b"other",))
    assert submitted(incoming, known, [known]) is Submission.CONTENT_CONFLICT


@pytest.mark.parametrize("state", CdrState)
def test_a_session_has_one_record_until_it_is_credited_or_given_up(state: CdrState) -> None:
    incoming = stored(key=key("CDR2"))
    free = state in {CdrState.CREDITED, CdrState.REJECTED}
    expected = Submission.STORED if free else Submission.SESSION_CONFLICT
    assert submitted(incoming, None, [stored(state)]) is expected


def test_a_record_is_credited_once() -> None:
    original = stored(CdrState.APPROVED)
    credit = stored(key=key("CREDIT1"), credited=original.key)
    assert submitted(credit, None, [original]) is Submission.STORED
    second = replace(credit, key=key("CREDIT2"))
    assert submitted(second, None, [original, credit]) is Submission.SESSION_CONFLICT


def test_ids_are_compared_without_case_and_per_operator() -> None:
    assert key("Cdr-Ä1") == key("cdr-ä1")
    assert key("CDR1") != CdrKey.of("DEXYZ", "CDR1")


def test_states_and_submissions_have_the_names_of_the_interface() -> None:
    states = {f"CDR_STATE_{state}" for state in CdrState}
    named = cdr_clearing_pb2.CdrState.DESCRIPTOR.values_by_name
    assert {"CDR_STATE_UNSPECIFIED", *states} == set(named)
    for each in Submission:
        assert cdr_clearing_pb2.SubmissionStatus.Value(f"SUBMISSION_STATUS_{each}")


IDS = st.sampled_from(["A", "b", "C", "d", "E"])
SESSIONS = st.sampled_from(["S1", "S2"])
DIGESTS = st.sampled_from([b"1", b"2", b"3"])
STEPS = st.sampled_from([step for step in CdrStep if step not in {CdrStep.REVISE, CdrStep.CREDIT}])


class Clearing(RuleBasedStateMachine):
    """Records of two sessions under any order of submissions, steps, repeats and credits.

    The model: every acknowledged record is kept; what each session is settled for is 0 or 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[CdrKey, StoredCdr] = {}
        self.acknowledged: dict[CdrKey, set[bytes]] = {}
        self.passed: list[tuple[CdrState, CdrState]] = []

    def submit(self, incoming: StoredCdr) -> Submission:
        of_session = [each for each in self.records.values() if same_session(each, incoming)]
        found = submitted(incoming, self.records.get(incoming.key), of_session)
        if found is Submission.STORED:
            assert incoming.key not in self.records
            self.records[incoming.key] = incoming
            self.acknowledged[incoming.key] = {incoming.digests[-1]}
        return found

    def replace(self, after: StoredCdr) -> None:
        before = self.records[after.key]
        self.records[after.key] = after
        if before.state is not after.state:
            self.passed.append((before.state, after.state))

    @rule(cdr_id=IDS, session_id=SESSIONS, digest=DIGESTS)
    def a_record_comes(self, cdr_id: str, session_id: str, digest: bytes) -> None:
        incoming = StoredCdr(key(cdr_id), session_id, (digest,))
        first = self.submit(incoming)
        again = self.submit(incoming)
        if first in {Submission.STORED, Submission.ALREADY_SUBMITTED}:
            assert again is Submission.ALREADY_SUBMITTED
        else:
            assert again is first

    @precondition(lambda self: self.records)
    @rule(data=st.data(), step=STEPS)
    def something_happens(self, data: st.DataObject, step: CdrStep) -> None:
        before = self.pick(data)
        try:
            after = take_step(before, step)
        except MarketError:
            return
        self.replace(after)
        accepted = after.state is CdrState.ACCEPTED and before.state is not CdrState.ACCEPTED
        if accepted and after.credited is not None:
            self.replace(take_step(self.records[after.credited], CdrStep.CREDIT))

    @precondition(lambda self: self.records)
    @rule(data=st.data(), digest=DIGESTS)
    def the_operator_corrects(self, data: st.DataObject, digest: bytes) -> None:
        before = self.pick(data)
        if before.credited is not None:
            return
        try:
            after = revise(before, digest, before.revision_number)
        except MarketError:
            return
        assert revise(after, digest, before.revision_number) == after
        self.acknowledged[after.key].add(digest)
        self.replace(after)

    @precondition(lambda self: any(r.state is CdrState.APPROVED for r in self.records.values()))
    @rule(data=st.data(), number=st.integers(0, 1))
    def a_credit_comes(self, data: st.DataObject, number: int) -> None:
        approved = [r for r in self.records.values() if r.state is CdrState.APPROVED]
        original = data.draw(st.sampled_from(approved))
        if original.credited is None:
            name = f"CREDIT-{original.key.cdr_id}-{number}"
            self.submit(StoredCdr(key(name), original.session_id, (b"c",), credited=original.key))

    def pick(self, data: st.DataObject) -> StoredCdr:
        return data.draw(st.sampled_from(list(self.records.values())))

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        for name, digests in self.acknowledged.items():
            assert digests <= set(self.records[name].digests)

    @invariant()
    def a_session_is_billed_once_at_most(self) -> None:
        for session_id in ("S1", "S2"):
            of_session = [r for r in self.records.values() if r.session_id == session_id]
            assert sum(record.holds_session for record in of_session) <= 1
            billed = sum(
                1 for record in of_session if record.credited is None and record.state in SETTLED
            )
            credited = sum(record.state is CdrState.CREDITED for record in of_session)
            taken_back = [r for r in of_session if r.credited is not None]
            assert billed - credited in {0, 1}
            assert credited <= len(taken_back)
            assert len({record.credited for record in taken_back}) == len(taken_back)

    @invariant()
    def only_steps_of_the_table_were_taken(self) -> None:
        allowed = {(before, after) for (before, _), after in TRANSITIONS.items()}
        assert set(self.passed) <= allowed


def same_session(one: StoredCdr, other: StoredCdr) -> bool:
    return one.session_id == other.session_id and one.key.operator_key == other.key.operator_key


TestClearing = Clearing.TestCase
TestClearing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
