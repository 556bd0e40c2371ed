"""Requests at random: valid by the rules of the interface, about one's own things and others'."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from foundation.certificates import new_key_and_csr
from foundation.validation import violations
from gem.common.v1 import paging_pb2
from gem.marketplace.v1 import contract_amendment_pb2, contract_pb2
from gemarket.administration import new_request_id
from marketplace.conformance_message import valid_message
from marketplace.router.options import field_rules
from tests.contracts import framework_terms, section
from tests.end_to_end.isolation_rows import OWNER_COLUMNS
from tests.end_to_end.service_desk import IMAGE
from tests.end_to_end.whole_market import EVSE_SEARCH

#: Far ahead: nothing that a call agrees on comes about by itself while the test runs.
LATER = datetime(2031, 1, 1, tzinfo=UTC)
_ID_SHARE, _TEXT_SHARE, _OWN_SHARE, _RIGHT_KIND_SHARE = 0.85, 0.7, 0.4, 0.9
_DEPTH_MAX = 3
_TEXT_MIN = 24
_SECTIONS = [each["section_id"] for each in framework_terms()["sections"]]
_PATH = "/gem.charging.v1.EvseSearchService/SearchEvses"
_SEARCHES = "gem.marketplace.v1.ServiceRegistryService/SearchServices"
#: What a field of this name says, where a random text would be refused at once.
_GIVEN: Mapping[str, Sequence[Any]] = {
    "interface_name": (EVSE_SEARCH, ""),
    "currency_code": ("EUR",),
    "country_code": ("DE", ""),
    "hosting_country_code": ("DE", ""),
    "category": ("charging", ""),
    "media_type": ("application/pdf",),
    "service_version": ("1.0.1", "2.0.0"),
    "contact_email": ("hosting@volt.example",),
    "version": (0, 1),
    "interface_version": (0, 1),
    "revision": (0, 1, 2),
    "revision_number": (1, 2),
    "accepted_registration_contract_version": (1,),
    "framework_version": (1,),
    "accepted": (True, True, False),
    "first_sequence": (1,),
    "last_sequence": (1, 5, 100),
    "after_sequence": (0, 3),
}
_NOT_TEXT = frozenset({"page_token", "key", "endpoint", "method", "currency_code", "phone"})


class Pool:
    """All ids that the market knows, by the name of the key that they are."""

    def __init__(self, partners: Sequence[str]) -> None:
        self.partners = list(partners)
        #: Id and owners of each thing, by key column.
        self.things: dict[str, list[tuple[str, frozenset[str]]]] = {}
        #: Certificates with which the partners call: nobody revokes them here.
        self.in_use: set[str] = set()
        #: Page tokens that were given out, to whomever, by method.
        self.tokens: dict[str, list[str]] = {}
        #: Criteria of texts that others wrote.
        self.words: list[str] = []

    def kind_of(self, name: str) -> str:
        """Give the key column that a field's name means; empty for none."""
        name = name.removesuffix("s") if name.endswith("_ids") else name
        if name in OWNER_COLUMNS:
            return "partner_id"
        found = [kind for kind in self.things if name == kind or name.endswith(f"_{kind}")]
        return max(found, key=len, default="")

    def pick(self, random: Random, kind: str, caller: str) -> str:
        """Give an id of this kind, the caller's or another's, now and then of another kind."""
        if kind == "partner_id":
            return random.choice([*self.partners, caller, ""])
        if random.random() > _RIGHT_KIND_SHARE:
            kind = random.choice(list(self.things))
        return self.of_kind(random, kind, caller)

    def of_kind(self, random: Random, kind: str, caller: str) -> str:
        """Give an id of exactly this kind, the caller's or another's."""
        things = [each for each in self.things.get(kind, ()) if each[0] not in self.in_use]
        own = [name for name, owners in things if caller in owners]
        if own and random.random() < _OWN_SHARE:
            return random.choice(own)
        return random.choice(things)[0] if things else "no-such-thing"


class Requests:
    """Makes one caller's request of an rpc."""

    def __init__(
        self, random: Random, pool: Pool, caller: str, method: str, mark: Callable[[], str]
    ) -> None:
        self._random = random
        self._pool = pool
        self._caller = caller
        self._method = method
        self._mark = mark

    def make(self, kind: type[Message]) -> Message:
        """Give a request that keeps the interface's rules, or at least the generator's own."""
        seed = self._random.randrange(1 << 30)
        made = valid_message(kind, seed, LATER) or kind()
        for texts in (True, False):
            dressed = type(made)()
            dressed.CopyFrom(made)
            self._dress(dressed, 0, texts=texts)
            if not violations(dressed):
                return dressed
        return made

    def _dress(self, made: Any, depth: int, *, texts: bool) -> None:
        if isinstance(made, contract_pb2.OfferingTerms):
            made.CopyFrom(self._terms())
            return
        if isinstance(made, contract_amendment_pb2.ProposedTerms):
            terms = self._terms()
            made.CopyFrom(type(made)(sections=terms.sections, price=terms.price))
            return
        if isinstance(made, paging_pb2.PageRequest):
            self._turn_page(made)
            return
        for known in made.DESCRIPTOR.fields:
            if known.message_type is None:
                self._fill(made, known, texts=texts)
            elif known.is_repeated:
                self._dress_items(made, known, depth, texts=texts)
            else:
                self._dress_inside(made, known, depth, texts=texts)

    def _dress_items(self, made: Any, known: FieldDescriptor, depth: int, *, texts: bool) -> None:
        if known.message_type.GetOptions().map_entry:  # type: ignore[union-attr]  # asked before
            return
        for item in getattr(made, known.name):
            self._dress(item, depth + 1, texts=texts)

    def _dress_inside(self, made: Any, known: FieldDescriptor, depth: int, *, texts: bool) -> None:
        inside = getattr(made, known.name)
        if inside.DESCRIPTOR.full_name.startswith("google.protobuf."):
            return
        single = known.containing_oneof is None
        if not made.HasField(known.name) and single and depth < _DEPTH_MAX:
            if self._random.random() > _TEXT_SHARE:
                return
            inside.CopyFrom(
                valid_message(type(inside), self._random.randrange(999), LATER) or inside
            )
        if made.HasField(known.name):
            self._dress(inside, depth + 1, texts=texts)

    def _fill(self, made: Any, known: FieldDescriptor, *, texts: bool) -> None:
        value = self._value(made, known, texts=texts)
        if value is None:
            return
        oneof = known.containing_oneof
        if oneof is not None and made.WhichOneof(oneof.name) not in (None, known.name):
            return
        if not known.is_repeated:
            setattr(made, known.name, value)
            return
        made.ClearField(known.name)
        getattr(made, known.name).extend(value if isinstance(value, list) else [value])

    def _value(self, made: Any, known: FieldDescriptor, *, texts: bool) -> Any:
        name, random = known.name, self._random
        if name == "request_id":
            return new_request_id()
        special = self._special(name)
        if special is not None:
            return special
        kind = self._pool.kind_of(name)
        if kind and known.type == FieldDescriptor.TYPE_STRING:
            chosen = self._pool.pick(random, kind, self._caller)
            return chosen if random.random() < _ID_SHARE else None
        if name in _GIVEN and not (known.is_repeated and name == "category"):
            return random.choice(_GIVEN[name])
        if known.type == FieldDescriptor.TYPE_BOOL:
            return random.random() < 0.5
        wants_text = texts and known.type == FieldDescriptor.TYPE_STRING
        if not wants_text or name in _NOT_TEXT or not _takes_text(known):
            return None
        if name == "text" and self._method.startswith("Search"):
            return self._search_words()
        return self._mark() if random.random() < _TEXT_SHARE else None

    def _special(self, name: str) -> Any:
        """Give what only fits as a whole."""
        random = self._random
        if name == "fingerprint":
            return bytes.fromhex(self._pool.of_kind(random, name, self._caller))
        if name == "certificate_signing_request_pem":
            return _csr()
        if name == "section_ids":
            return random.choice([["terms"], _SECTIONS, [*_SECTIONS, "support"]])
        if name == "method":
            return _SEARCHES if "Search" in self._method else _PATH
        if name == "endpoint":
            return f"127.0.0.1:{random.randrange(1, 9)}"
        if name == "reference":
            return f"{IMAGE[:-4]}{random.randrange(10_000):04}"
        if name == "json":
            return json.dumps({"text": self._mark()})
        return None

    def _terms(self) -> Any:
        marked = section("support") | {"text": self._mark()}
        return contract_pb2.OfferingTerms(**framework_terms(extra=(marked,)))

    def _turn_page(self, made: Any) -> None:
        """Ask for a page, perhaps by a token that somebody else was given."""
        tokens = self._pool.tokens.get(self._method, [])
        made.page_size = self._random.choice([0, 1, 2, 1000])
        made.page_token = self._random.choice([*tokens[-5:], "", ""])

    def _search_words(self) -> str:
        """Search for what others wrote, as written or with a letter left out."""
        words = self._random.choice(self._pool.words or ["charging"])
        return self._random.choice([words, words[:-1], words[1:], ""])


@cache
def _csr() -> bytes:
    return new_key_and_csr("a partner")[1]


def _takes_text(known: FieldDescriptor) -> bool:
    """Say whether any text of some length is good enough for a field, or an item of it."""
    rules = field_rules(known)
    said = rules.repeated.items.string if known.is_repeated else rules.string
    fixed = said.pattern or said.const or getattr(said, "in") or said.WhichOneof("well_known")
    return not fixed and (not said.HasField("max_len") or said.max_len >= _TEXT_MIN)
