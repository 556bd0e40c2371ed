"""Four partners of a running market, every call of theirs watched: who sees and changes what."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.message import Message

from gemarket.administration import new_request_id
from tests.end_to_end.isolation_calls import Outcome, Rpc, call, numbers_of, texts_of
from tests.end_to_end.isolation_counts import UNCOUNTED, is_own_count
from tests.end_to_end.isolation_requests import Pool, Requests
from tests.end_to_end.isolation_rows import Change, Ownership, Row, changes
from tests.end_to_end.isolation_sharing import (
    MARKER,
    TEXTS_OF,
    Marked,
    is_allowed,
    may_see,
)
from tests.end_to_end.test_authorization_matrix import fingerprint_of
from tests.end_to_end.whole_market import Party, WholeMarket

#: Shorter keys are names, not secrets: those of partners.
_ID_MIN = 16
_WORD = re.compile(r"[A-Za-z0-9-]{16,}")
_RUNNING = """
SELECT count(*) FROM marketplace.conformance_run JOIN marketplace.service USING (service_id)
WHERE provider_id = ANY ($1) AND conformance_run.ended_at IS NULL
"""
_SETTLE_TRIES = 400
_markers = itertools.count()


@dataclass
class Tenancy:
    """The partners, what they own, and the texts that they wrote."""

    whole: WholeMarket
    database: Any
    ownership: Ownership
    parties: dict[str, Party]
    pool: Pool
    #: Where it came from and whose it is, by marker.
    marked: dict[str, Marked] = field(default_factory=dict)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    #: Every row that there has been: an id stays its owner's after the row is gone.
    known: dict[tuple[str, str], Row] = field(default_factory=dict)
    #: Where a provider's service listens is for the provider alone: partner by endpoint.
    endpoints: dict[str, str] = field(default_factory=dict)
    #: Ends of calls by method and status.
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Requests that were made, for repetitions by somebody else.
    made: dict[str, list[tuple[str, Sequence[Message]]]] = field(default_factory=dict)
    _reads: list[str] = field(default_factory=list)
    _fresh: list[str] = field(default_factory=list)
    _by_id: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    async def of(cls, whole: WholeMarket, database: Any, parties: Sequence[Party]) -> Tenancy:
        """Start to watch."""
        names = {party.partner_id: party for party in parties}
        pool = Pool(list(names))
        pool.in_use = {fingerprint_of(party.identity).hex() for party in parties}
        made = cls(whole, database, await Ownership.of(database), names, pool)
        await made.refresh()
        return made

    async def refresh(self) -> list[Change]:
        """Read all rows again; gives what has changed since."""
        now = await self.ownership.rows(self.database, list(self.parties))
        found = list(changes(self.rows, now))
        self.rows = now
        kinds = self.ownership.kinds()
        for change in found:
            if change.after is None or not change.is_new:
                continue
            row = change.after
            self.known[row.table, row.key] = row
            identifier = row.key.partition("|")[0]
            kind = kinds.get(row.table)
            if kind is None:
                continue
            self.pool.things.setdefault(kind, []).append((identifier, row.owners))
            if len(identifier) >= _ID_MIN:
                self._by_id[identifier] = (row.table, row.key)
        return found

    async def act(self, party: Party, rpc: Rpc, *requests: Message) -> Outcome:
        """Call and remember whose the texts of the request are; nothing is checked."""
        outcome = await call(party, rpc, requests)
        await self._settle(rpc)
        self.ended[rpc.name, outcome.code.name] += 1
        self._remember(party, rpc, requests, outcome)
        return outcome

    def mark(self) -> str:
        """Give a text that nobody else has, for the request that is made now."""
        text = f"zq{next(_markers):08d}x"
        self._fresh.append(text)
        return f"{text} of somebody"

    async def checked(
        self, party: Party, rpc: Rpc, *requests: Message
    ) -> tuple[Outcome, list[str]]:
        """Call; gives how it ended and everything about it that is against isolation."""
        caller = party.partner_id
        outcome = await self.act(party, rpc, *requests)
        found = await self.refresh()
        wrong = [str(each) for each in found if not is_allowed(each, caller, rpc.name)]
        said = {text for request in requests for text in texts_of(request)}
        wrong += [f"sees {each}" for each in [e async for e in self._seen(caller, outcome, said)]]
        for message in outcome.messages:
            for holder, name, number in numbers_of(message):
                if name in UNCOUNTED:
                    continue
                if not await is_own_count(self, caller, holder, name, number):
                    wrong.append(f"counts {name} = {number}")
        return outcome, wrong

    def random_request(self, random: Random, party: Party, rpc: Rpc) -> list[Message]:
        """Make a request, or repeat one that somebody else made."""
        caller = party.partner_id
        others = [each for who, each in self.made.get(rpc.name, ()) if who != caller]
        if others and random.random() < 0.15:
            # Word for word, `request_id` included; what it says is its author's own from here on.
            return list(random.choice(others))
        maker = Requests(random, self.pool, caller, rpc.name, self.mark)
        return [maker.make(rpc.request)]

    def _remember(
        self, party: Party, rpc: Rpc, requests: Sequence[Message], outcome: Outcome
    ) -> None:
        given = " ".join(text for request in requests for text in texts_of(request))
        named, table = TEXTS_OF.get(rpc.name, ("", ""))
        key = _named([*outcome.messages, *requests], named) if named else ""
        # A text that comes a second time, in another's repetition, is no secret between the two.
        for text in set(MARKER.findall(given)):
            owner = self.marked.get(text)
            if owner is None:
                self.marked[text] = Marked(party.partner_id, rpc.name, table, key)
                self.pool.words.append(text)
            elif owner.author != party.partner_id:
                self.marked[text] = Marked("", rpc.name, table, key)
        # What was made and not used keeps its number.
        for text in self._fresh:
            self.marked.setdefault(text, Marked("", rpc.name, "", ""))
        self._fresh.clear()
        self.made.setdefault(rpc.name, []).append((party.partner_id, requests))
        for message in outcome.messages:
            token = _named([message], "next_page_token")
            if token:
                self.pool.tokens.setdefault(rpc.name, []).append(token)

    async def _seen(self, caller: str, outcome: Outcome, said: set[str]) -> Any:
        """Give the texts and things of others that came back and are not for the caller."""
        asked = " ".join(said)
        for text in outcome.texts():
            for word in set(MARKER.findall(text)):
                owner = self.marked.get(word)
                if owner is None or owner.author in ("", caller) or word in asked:
                    continue
                if not await may_see(self.database, self.known, owner.table, owner.key, caller):
                    yield f"the text {word} that {owner.author} gave {owner.method}"
            for endpoint, provider_id in self.endpoints.items():
                if endpoint in text and provider_id != caller and endpoint not in asked:
                    yield f"the endpoint {endpoint} of {provider_id}"
            for word in {text, *_WORD.findall(text)} & self._by_id.keys():
                table, key = self._by_id[word]
                row = self.known[table, key]
                if caller in row.owners or word in asked:
                    continue
                if not await may_see(self.database, self.known, table, key, caller):
                    yield f"the id of {table} {key} of {sorted(row.owners)}"

    async def _settle(self, rpc: Rpc) -> None:
        """Wait for what a call started in the background."""
        if rpc.name != "RunConformance":
            return
        for _ in range(_SETTLE_TRIES):
            if not await self.database.fetchval(_RUNNING, list(self.parties)):
                return
            await asyncio.sleep(0.02)
        raise AssertionError("a conformance run does not end")


def _named(messages: Sequence[Message], name: str) -> str:
    """Give the first text of a field of this name, however deep."""
    return next((found for message in messages for found in _fields(message, name)), "")


def _fields(message: Message, name: str) -> Iterator[str]:
    for known, value in message.ListFields():
        if known.name == name and isinstance(value, str):
            yield value
        elif known.message_type is not None and not hasattr(value, "keys"):
            for each in value if known.is_repeated else [value]:
                yield from _fields(each, name)


def fields_with_id(kind: type[Message], /, **fields: Any) -> Message:
    """Make a request; a command without `request_id` gets a fresh one."""
    known: Mapping[str, Any] = kind.DESCRIPTOR.fields_by_name
    if "request_id" in known:
        fields.setdefault("request_id", new_request_id())
    return kind(**fields)
