"""The stored state machine against a model: any order of what operators and EVSPs can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clearinghouse.cdr_commands import key_of, reject_record, revise_record
from clearinghouse.cdr_state import CdrKey, CdrState, CdrStep, StoredCdr, submitted, take_step
from clearinghouse.cdr_state import revise as revised
from clearinghouse.dead_letters import give_back
from clearinghouse.storage import open_pool, transaction
from clearinghouse.storage_delivery import dead_letters
from foundation.errors import MarketError
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import (
    HASHING,
    OPERATOR,
    Clearing,
    accounts,
    market_client,
    numbered,
)
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, Mode
from tests.identities import Identity, MakeIdentity

pytestmark = pytest.mark.usecase(1511)
R = TypeVar("R")
NAMES = st.sampled_from(["a", "b", "c"])
SESSIONS = st.sampled_from([1, 2])
#: A record with the last remark is not plausible.
REMARKS = st.sampled_from(["one", "two", "wrong"])
TABLES = "cdr, cdr_event, cdr_reason, delivery, receiver, dispute, operator_key, command, booking"


def record_of(name: str, session: int, remark: str) -> ChargeDetailRecord:
    """Give a record of one of two sessions."""
    made = numbered(session)
    made.cdr_id, made.remark = name, remark
    if remark == "wrong":
        made.total_energy_milli_wh += 1_000_000
    return made


@dataclass(frozen=True, slots=True)
class Known:
    """A record as the model has it."""

    stored: StoredCdr
    session: int
    remark: str


class StoredClearing(RuleBasedStateMachine):
    """The model is the pure state machine; the database has to say the same at every step."""

    runner: asyncio.Runner
    clearing: Clearing
    holder: ContractHolder

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Known] = {}

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(work)

    @initialize()
    def nothing_is_stored(self) -> None:
        names = ", ".join(f"clearinghouse.{name.strip()}" for name in TABLES.split(","))
        self.run(self.clearing.pool.execute(f"TRUNCATE {names} CASCADE"))
        self.holder.kept.clear()

    @rule(name=NAMES, session=SESSIONS, remark=REMARKS, times=st.integers(1, 3))
    def a_record_comes(self, name: str, session: int, remark: str, times: int) -> None:
        key, digest = CdrKey.of("DEABC", name), f"{session} {remark}".encode()
        incoming = StoredCdr(key, str(session), (digest,))
        record = record_of(name, session, remark)
        receipts = self.run(self.clearing.submit(*[record] * times))
        for receipt in receipts:
            of_session = [each.stored for each in self.known.values() if each.session == session]
            same = self.known.get(name)
            found = submitted(incoming, same.stored if same else None, of_session)
            assert receipt.submission == found
            if found == "STORED":
                self.known[name] = Known(incoming, session, remark)

    @rule()
    def what_waits_is_checked(self) -> None:
        self.run(self.clearing.check())
        for name, each in self.known.items():
            if each.stored.state in {CdrState.RECEIVED, CdrState.REVISED}:
                step = CdrStep.RETURN if each.remark == "wrong" else CdrStep.ACCEPT
                self.known[name] = replace(each, stored=take_step(each.stored, step))

    @rule(mode=st.sampled_from([Mode.APPROVE, Mode.DECLINE, Mode.LATER, Mode.DOWN, Mode.REFUSE]))
    def what_is_accepted_is_delivered(self, mode: Mode) -> None:
        self.holder.mode = mode
        self.run(self.clearing.pool.execute(_REVIVE))
        self.run(self.clearing.deliver(rounds=1 if mode is Mode.DOWN else 30))
        verdict = {Mode.APPROVE: CdrStep.APPROVE, Mode.DECLINE: CdrStep.DECLINE}.get(mode)
        if mode in {Mode.DOWN, Mode.REFUSE}:
            return
        for name, each in self.known.items():
            if each.stored.state is CdrState.ACCEPTED:
                stored = take_step(each.stored, CdrStep.FORWARD)
                if stored.credited is not None:
                    stored = take_step(stored, CdrStep.APPROVE)
                elif verdict is not None:
                    stored = take_step(stored, verdict)
                self.known[name] = replace(each, stored=stored)

    @rule(name=NAMES, verdict=st.sampled_from([CdrStep.APPROVE, CdrStep.DECLINE]))
    def the_evsp_says_something(self, name: str, verdict: CdrStep) -> None:
        def step(stored: StoredCdr) -> StoredCdr:
            if stored.state is CdrState.ACCEPTED:
                stored = take_step(stored, CdrStep.FORWARD)
            return take_step(stored, verdict)

        said = "APPROVED" if verdict is CdrStep.APPROVE else "DECLINED"
        self.both(name, step, lambda each: self.clearing.review(name, said, _revision(each)))

    @rule(name=NAMES, remark=REMARKS)
    def the_operator_corrects(self, name: str, remark: str) -> None:
        each = self.known.get(name)
        if each is None or each.stored.credited is not None:
            return
        digest = f"{each.session} {remark}".encode()
        record, revision = record_of(name, each.session, remark), _revision(each)

        async def work(_: Known) -> None:
            async with transaction(self.clearing.pool) as connection:
                await revise_record(connection, HASHING, OPERATOR, record, revision)

        if self.both(name, lambda stored: revised(stored, digest, revision), work):
            self.known[name] = replace(self.known[name], remark=remark)

    @rule(name=NAMES)
    def the_operator_gives_it_up(self, name: str) -> None:
        async def work(each: Known) -> None:
            async with transaction(self.clearing.pool) as connection:
                key = key_of("DE*ABC", name)
                await reject_record(connection, OPERATOR, key, _revision(each), "")

        self.both(name, lambda stored: take_step(stored, CdrStep.REJECT), work)

    @rule(name=NAMES)
    def the_operator_credits_it(self, name: str) -> None:
        credit = f"credit-{name}"
        before = self.known.get(name)
        if credit in self.known:
            return
        if not self.both(
            name,
            lambda stored: take_step(stored, CdrStep.CREDIT),
            lambda _: self.clearing.credit(name, credit),
        ):
            return
        assert before is not None
        key = CdrKey.of("DEABC", credit)
        stored = StoredCdr(key, str(before.session), (b"",), CdrState.ACCEPTED, before.stored.key)
        self.known[credit] = Known(stored, before.session, "")

    @precondition(lambda self: self.known)
    @rule()
    def dead_letters_are_given_back(self) -> None:
        for letter in self.run(_letters(self.clearing)):
            name = letter.cdr_key
            number = letter.delivery_ref
            self.both(
                name,
                lambda stored: take_step(stored, CdrStep.HAND_BACK),
                lambda _, number=number: give_back(self.clearing.pool, number),
            )

    def both(self, name: str, model: Any, work: Any) -> bool:
        """Let something happen in the model and in the database; both allow it or neither."""
        each = self.known.get(name)
        if each is None:
            return False
        try:
            after = model(each.stored)
        except MarketError:
            after = None
        try:
            self.run(work(each))
        except MarketError:
            assert after is None or each.stored.state in _HIDDEN
            return False
        assert after is not None
        self.known[name] = replace(each, stored=after)
        return True

    @invariant()
    def the_database_says_the_same(self) -> None:
        states = self.run(self.clearing.states())
        assert states == {name: each.stored.state for name, each in self.known.items()}

    @invariant()
    def the_money_is_that_of_the_states(self) -> None:
        self.run(_accounts(self.clearing, set(self.known)))


#: What the EVSP does not see, or not any more.
_HIDDEN = {CdrState.RECEIVED, CdrState.RETURNED, CdrState.REVISED}
_REVIVE = """
UPDATE clearinghouse.delivery SET state = 'WAITING', refusal_count = 0 WHERE state = 'DEAD'
"""


def _revision(each: Known) -> int:
    return each.stored.revision_number


async def _letters(clearing: Clearing) -> list[Any]:
    async with clearing.pool.acquire() as connection:
        return list(await dead_letters(connection, 0, 100))


async def _accounts(clearing: Clearing, names: set[str]) -> None:
    await accounts(clearing.pool, names, revisions=True)
    bookings = await clearing.bookings()
    for name, amount in bookings.items():
        assert amount == (-7_200_000 if name.startswith("credit") else 7_200_000)
    unbalanced = "SELECT sum(amount_micros) FROM clearinghouse.ledger_posting"
    assert not await clearing.pool.fetchval(unbalanced)


async def _opened(
    url: str, market: HolderMarket, identity: Identity, folder: Path
) -> AsyncGenerator[Clearing, None]:
    client = market_client(market.port, identity, folder)
    async with open_pool(url, 4) as pool:
        made = Clearing(pool, client)
        await pool.execute("TRUNCATE clearinghouse.authorization CASCADE")
        await made.authorize(numbered(1), numbered(2))
        yield made
    await client.close()


@pytest.mark.parametrize(
    "examples", [4, pytest.param(300, marks=[pytest.mark.torture, pytest.mark.timeout(1800)])]
)
async def test_the_stored_states_are_those_of_the_model(
    shared_url: str,
    holders_market: HolderMarket,
    holder: ContractHolder,
    make_identity: MakeIdentity,
    tmp_path: Path,
    examples: int,
) -> None:
    identity = make_identity("clearinghouse")

    def run() -> None:
        with asyncio.Runner() as runner:
            opened = _opened(shared_url, holders_market, identity, tmp_path)
            clearing = runner.run(opened.__anext__())
            machine = type(
                "Machine",
                (StoredClearing,),
                {"runner": runner, "clearing": clearing, "holder": holder},
            )
            chosen = settings(
                max_examples=examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            try:
                run_state_machine_as_test(machine, settings=chosen)
            finally:
                runner.run(opened.aclose())

    # The machine has a loop of its own; the EVSP answers in this one.
    await asyncio.to_thread(run)
