"""Lists: JSON that is the market's messages again, pages read to their end, and empty ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gem.common.v1.paging_pb2 import PageRequest
from gem.marketplace.v1 import contract_framework_pb2 as framework
from gem.marketplace.v1 import contract_search_pb2 as contracts
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import partner_change_pb2 as changes
from gem.marketplace.v1 import partner_contract_pb2 as partner_contracts
from gem.marketplace.v1 import partner_registration_pb2 as registrations
from gem.marketplace.v1 import partner_search_pb2 as partners
from gem.marketplace.v1 import saved_search_service_pb2 as searches
from gem.marketplace.v1 import service_content_pb2 as content
from gem.marketplace.v1 import service_request_service_pb2 as requests
from gem.marketplace.v1 import service_search_pb2 as services
from gem.marketplace.v1 import session_service_pb2 as sessions
from gem.marketplace.v1 import transaction_service_pb2 as transactions
from tests.gemarket.fake_market import FakeMarket, page


@dataclass(frozen=True)
class Listing:
    """A command that lists: its rpc, the rpc's module, the answer's list, what is said of none."""

    command: str
    rpc: str
    module: Any
    field: str
    nothing: str
    has_limit: bool

    @property
    def response(self) -> Any:
        """The class of the answers."""
        return getattr(self.module, f"{self.rpc}Response")

    def pages(self, market: FakeMarket) -> list[PageRequest]:
        """Give which pages were asked for."""
        request: Any = getattr(self.module, f"{self.rpc}Request")
        return [each.page for each in market.asked(self.rpc, request)]


_ROWS: list[tuple[str, str, Any, str, str, bool]] = [
    ("users list", "ListUsers", sessions, "users", "Users: there are none", True),
    ("notifications list", "ListNotifications", notices, "notifications", "there are none", True),
    ("requests list", "SearchServiceRequests", requests, "service_requests", "are none", True),
    ("requests responses r", "ListServiceRequestResponses", requests, "responses", "none", True),
    ("requests history r", "ListServiceRequestEvents", requests, "events", "none", True),
    ("searches list", "ListSavedSearches", searches, "saved_searches", "there are none", True),
    ("interfaces list", "ListInterfaces", catalog, "interfaces", "Interfaces: there are", True),
    ("interfaces proposals", "ListProposals", catalog, "proposals", "Proposals: there are", True),
    ("partners list", "SearchPartners", partners, "partners", "No partners match.", True),
    ("partners history volt", "ListPartnerEvents", partners, "events", "No events match.", True),
    ("partners requests", "ListPartnerRegistrations", registrations, "registrations",
     "No requests match.", True),
    ("partners change-requests", "ListPartnerChanges", changes, "changes",
     "No change requests match.", True),
    ("partners contract --list", "ListPartnerContracts", partner_contracts, "partner_contracts",
     "No versions match.", False),
    ("contracts search", "SearchContracts", contracts, "contracts", "No contracts match.", True),
    ("contracts offerings s", "ListOfferings", framework, "offerings", "is not on offer", False),
    ("transactions list", "ListTransactions", transactions, "transactions", "No trans", True),
    ("service-files list s", "ListServiceFiles", content, "files", "has no files", False),
    ("services search", "SearchServices", services, "found", "No service meets", True),
]  # fmt: skip
_LISTS = [Listing(*row) for row in _ROWS]
EACH = pytest.mark.parametrize("listing", _LISTS, ids=[each.command for each in _LISTS])


def numbered(response: type[Message], field: str, numbers: range) -> Any:
    """Give a page of the list; the first text of each entry has its number."""
    made = response()
    for number in numbers:
        entry = getattr(made, field).add()
        _number(entry, number)
    return made


def _number(message: Any, number: int) -> None:
    for each in message.DESCRIPTOR.fields:
        if each.type == each.TYPE_STRING and not each.is_repeated:
            setattr(message, each.name, f"n{number:02}-{each.name}")
        elif each.type in (each.TYPE_INT32, each.TYPE_INT64):
            setattr(message, each.name, number)
        elif each.type == each.TYPE_ENUM and not each.is_repeated:
            setattr(message, each.name, 1)
        elif each.name == "service":
            _number(getattr(message, each.name), number)


def entries_of(answer: Any, field: str) -> list[Any]:
    """Give what a command shows of each entry."""
    return [entry.service if field == "found" else entry for entry in getattr(answer, field)]


@EACH
def test_json_is_the_messages_of_all_pages(market: FakeMarket, listing: Listing) -> None:
    field = listing.field
    answers = [numbered(listing.response, field, range(start, start + 2)) for start in (0, 2, 4)]
    for answer, token in zip(answers, ("b", "c", ""), strict=True):
        answer.page.CopyFrom(page(token))
    market.on(listing.rpc, *answers)
    shown = market.json(*listing.command.split(), "--json")
    expected = [each for answer in answers for each in entries_of(answer, field)]
    read = [json_format.ParseDict(one, type(expected[0])()) for one in shown]
    assert read == expected
    pages = listing.pages(market)
    assert [each.page_token for each in pages] == ["", "b", "c"]
    assert all(0 <= each.page_size <= 1000 for each in pages)


@EACH
def test_a_table_has_a_line_for_each_entry(market: FakeMarket, listing: Listing) -> None:
    answer = numbered(listing.response, listing.field, range(10, 13))
    if listing.field == "offerings":
        for offering in answer.offerings:
            offering.terms.sections.add(section_id="s", title="T")
    market.on(listing.rpc, answer)
    lines = market.good(*listing.command.split()).splitlines()
    first = [line for line in lines if line.startswith("│")]
    assert [str(number) in line for number, line in enumerate(first, 10)] == [True] * 3


@EACH
def test_an_empty_list_says_so_and_is_no_error(market: FakeMarket, listing: Listing) -> None:
    market.on(listing.rpc, listing.response())
    assert listing.nothing in market.good(*listing.command.split())
    assert market.json(*listing.command.split(), "--json") == []


@pytest.mark.parametrize("listing", [each for each in _LISTS if each.has_limit])
def test_no_more_is_asked_for_than_is_shown(market: FakeMarket, listing: Listing) -> None:
    answer = numbered(listing.response, listing.field, range(2))
    answer.page.CopyFrom(page("b"))
    market.on(listing.rpc, answer)
    assert len(market.json(*listing.command.split(), "--json", "--limit", "2")) == 2
    assert [each.page_size for each in listing.pages(market)] == [2]
