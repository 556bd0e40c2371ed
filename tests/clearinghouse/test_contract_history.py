"""Random lives of contracts against a model: every instant can be had again, nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.clearing_contract_service_pb2 import LoadStatus
from gem.roaming.v1.identification_pb2 import TokenStatus
from tests.clearinghouse.house import EVSE, EVSP, House, card, contract, instant, outcome, shows

pytestmark = pytest.mark.usecase(1514, 1515, 1516)

NUMBERS = (1, 2, 3)
DISABLED = wire.CLEARING_CONTRACT_STATE_DISABLED
_TABLES = (
    *("customer_contract", "token", "blacklist", "evsp", "command"),
    *("staged_contract", "staged_token"),
)
STATUSES = ("VALID", "BLOCKED", "NO_CREDIT")


@dataclass(frozen=True)
class Item:
    """One contract of a load."""

    number: int
    #: Cards by number, with their status.
    cards: tuple[tuple[int, str], ...]
    disabled: bool = False

    def message(self) -> wire.CustomerContract:
        tokens = [card(f"{number:08X}", status) for number, status in self.cards]
        made = contract(f"DE-EVS-C{self.number:08d}", *tokens)
        del made.tokens[len(tokens) :]
        if self.disabled:
            made.state = DISABLED
        return made


@dataclass
class Model:
    """What the contracts of one EVSP are, by the rules in words."""

    #: Contract number to its cards with their status; None where it is disabled.
    held: dict[int, dict[int, str] | None] = field(default_factory=dict)
    versions: dict[int, int] = field(default_factory=dict)

    def load(self, items: list[Item]) -> list[str]:
        """Apply a message of a load; gives what becomes of each item."""
        before = {number: cards for number, cards in self.held.items() if cards is not None}
        ending = {
            item.number
            for place, item in enumerate(items)
            if item.disabled
            and item.number in before
            and item.number not in {other.number for other in items[:place]}
        }
        taken = {
            uid: number for number, cards in before.items() if number not in ending for uid in cards
        }
        named: set[int] = set()
        staged: set[int] = set()
        said = []
        for item in items:
            status = self._one(item, named, taken, staged)
            named.add(item.number)
            said.append(status)
        return said

    def _one(self, item: Item, named: set[int], taken: dict[int, int], staged: set[int]) -> str:
        number, cards = item.number, dict(item.cards)
        if number in named:
            return "REFUSED"
        known, now = number in self.held, self.held.get(number)
        if item.disabled:
            if now is None:
                return "UNCHANGED"
            self._write(number, None)
            return "DISABLED"
        if known and now is None:
            return "REFUSED"
        if known and now == cards:
            staged.update(cards)
            return "UNCHANGED"
        if any(taken.get(uid, number) != number or uid in staged for uid in cards):
            return "REFUSED"
        staged.update(cards)
        self._write(number, cards)
        return "CHANGED" if known else "CREATED"

    def _write(self, number: int, cards: dict[int, str] | None) -> None:
        self.held[number] = cards
        self.versions[number] = self.versions.get(number, 0) + 1

    def whitelist(self) -> dict[int, dict[int, str]]:
        return {number: cards for number, cards in self.held.items() if cards is not None}


_cards = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(STATUSES)),
    min_size=1,
    max_size=2,
    unique_by=lambda each: each[0],
).map(tuple)
_items = st.builds(Item, st.sampled_from(NUMBERS), _cards, st.booleans())
_loads = st.lists(st.lists(_items, min_size=1, max_size=4), min_size=1, max_size=5)


def shown_cards(house: House, held: wire.CustomerContract) -> dict[int, str]:
    """Give the cards of an answer by number, with their status."""
    hashing = house.provider.parts.hashing
    by_hash = {hashing.token(card().kind, f"{number:08X}"): number for number in range(1, 5)}
    return {
        by_hash[token.token_hash]: TokenStatus.Name(token.status).removeprefix("TOKEN_STATUS_")
        for token in held.tokens
    }


async def whitelist(house: House, at: datetime) -> dict[int, dict[int, str]]:
    """Give what the clearing house says was in force."""
    answers = await house.stream("GetWhitelist", at_time=instant(at))
    return {
        int(each.contract_id[-8:]): shown_cards(house, each)
        for answer in answers
        for each in answer.contracts
    }


async def explained(house: House, number: int, at: datetime) -> Any:
    """Give status and layer that a card had at an instant, by its EVSP's question."""
    answer = await house.ask(
        EVSP,
        "ExplainAuthorization",
        at_time=instant(at),
        evse_id=EVSE,
        identification=shows(f"{number:08X}"),
    )
    return outcome(answer.decision)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(loads=_loads)
@example(
    # Who is refused a card keeps nobody else from it.
    loads=[
        [Item(1, ((1, "VALID"), (2, "VALID")), disabled=False)],
        [Item(2, ((1, "VALID"),), disabled=False), Item(1, ((1, "VALID"),), disabled=False)],
    ]
)
async def test_every_instant_of_any_life_is_what_the_model_says(
    house: House, loads: list[list[Item]]
) -> None:
    for table in _TABLES:
        await house.pool.execute(f"DELETE FROM clearinghouse.{table}")
    if not house.stand.events:
        await house.agree(operator_ids=["DE*ABC"])
    model = Model()
    history: list[tuple[datetime, dict[int, dict[int, str]]]] = []
    copy: dict[int, dict[int, str] | None] = {}
    sequence = 0
    for items in loads:
        answers = await house.load([item.message() for item in items])
        said = [
            LoadStatus.Name(report.status).removeprefix("LOAD_STATUS_")
            for answer in answers
            for report in answer.reports
        ]
        assert said == model.load(items)
        at = await house.pool.fetchval("SELECT clock_timestamp()")
        history.append((at, model.whitelist()))
        # Whoever follows the changes has the same.
        for delta in await house.stream("StreamCustomerContracts", since_sequence=sequence):
            for each in delta.contracts:
                cards = shown_cards(house, each)
                copy[int(each.contract_id[-8:])] = None if each.state == DISABLED else cards
            sequence = delta.up_to_sequence
        assert {number: cards for number, cards in copy.items() if cards} == model.whitelist()
    for at, expected in history:
        assert await whitelist(house, at) == expected
    at, last = history[-1]
    await _same_answers(house, at, last)
    everything = await house.ask(EVSP, "ListCustomerContracts", with_disabled=True)
    versions = {int(each.contract_id[-8:]): each.version_number for each in everything.contracts}
    assert versions == model.versions
    assert sequence == sum(model.versions.values())


async def _same_answers(house: House, at: datetime, last: dict[int, dict[int, str]]) -> None:
    """Compare what is answered now, and explained of now, with the cards in force."""
    status_of = {uid: status for cards in last.values() for uid, status in cards.items()}
    names = {"VALID": "ALLOWED", "BLOCKED": "BLOCKED", "NO_CREDIT": "NO_CREDIT"}
    for uid, status in status_of.items():
        expected = (names[status], "CLEARING_HOUSE_LIST")
        assert await house.decided(shows(f"{uid:08X}")) == expected
        assert await explained(house, uid, at) == expected


@settings(max_examples=200, deadline=None)
@given(loads=_loads)
@example(
    # Who is refused a card keeps nobody else from it.
    loads=[
        [Item(1, ((1, "VALID"), (2, "VALID")), disabled=False)],
        [Item(2, ((1, "VALID"),), disabled=False), Item(1, ((1, "VALID"),), disabled=False)],
    ]
)
def test_the_model_never_gives_a_card_to_two(loads: list[list[Item]]) -> None:
    model = Model()
    for items in loads:
        model.load(items)
        uids = [uid for cards in model.whitelist().values() for uid in cards]
        assert len(uids) == len(set(uids))
