"""What the command line reads of options about partners, without a market."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import partner_pb2, partner_registration_pb2
from gem.marketplace.v1 import partner_search_pb2 as found
from gem.options.v1.options_pb2 import PartnerRole
from gemarket.endpoints import Endpoints, NotRunningError, Party
from gemarket.layout import Layout
from gemarket.partners import (
    ACTIVITIES,
    ORDERS,
    connected,
    criteria_of,
    identifiers_of,
    named,
    one_of,
    pages,
    roles_of,
    words,
)
from gemarket.times import instant_of

_NOBODY = Endpoints("localhost:1", "", "gem.example", "no-such-file", "")


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "12:00", " ", "2026-02-30"])
def test_what_is_no_instant_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2026-02-01T08:00"):
        instant_of(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00", 3_600),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00:01Z", 1),
    ],
)
def test_an_instant_is_in_utc_unless_it_says_otherwise(text: str, seconds: int) -> None:
    assert instant_of(text).seconds == seconds


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (partner_pb2.PartnerState, "PARTNER_STATE"),
        (PartnerRole, "PARTNER_ROLE"),
        (partner_registration_pb2.PartnerRegistrationState, "PARTNER_REGISTRATION_STATE"),
        (found.PartnerEventKind, "PARTNER_EVENT_KIND"),
    ],
)
def test_every_value_has_words_that_are_read_back(enum: Any, prefix: str) -> None:
    spoken = {words(enum, prefix, number): number for number in enum.values() if number}
    assert len(spoken) == len(enum.values()) - 1
    for name, number in spoken.items():
        assert name == name.lower()
        assert "_" not in name
        assert named(enum, prefix, name) == number
    assert words(enum, prefix, 0) == ""
    assert named(enum, prefix, "") == 0
    with pytest.raises(ValueError, match="there are: "):
        named(enum, prefix, "unspecified")


@given(st.text("acdimnopsty", max_size=8))
def test_a_name_is_known_or_refused_with_the_known_ones(name: str) -> None:
    if name in ORDERS:
        assert one_of(ORDERS, name, "order") == ORDERS[name]
        return
    with pytest.raises(ValueError, match="id, company, latest"):
        one_of(ORDERS, name, "order")


def test_roles_are_read_in_the_order_in_which_they_are_given() -> None:
    roles = roles_of(["evsp", "evse-operator"])
    assert roles == [PartnerRole.PARTNER_ROLE_EVSP, PartnerRole.PARTNER_ROLE_EVSE_OPERATOR]
    assert roles_of([]) == []
    with pytest.raises(ValueError, match="no partner role 'EVSP'"):
        roles_of(["EVSP"])


def test_operator_and_provider_ids_are_told_apart() -> None:
    made = identifiers_of(["DE*ABC", "DE*XYZ"], ["DE-ABC"])
    assert [(item.kind, item.value) for item in made] == [
        (IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "DE*ABC"),
        (IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "DE*XYZ"),
        (IdentifierKind.IDENTIFIER_KIND_PROVIDER_ID, "DE-ABC"),
    ]
    assert identifiers_of([], []) == []


def test_without_options_a_search_has_no_criterion() -> None:
    made = criteria_of()
    assert made.order == found.PARTNER_ORDER_PARTNER_ID
    made.ClearField("order")
    assert made == found.SearchPartnersRequest()


def test_each_option_becomes_its_criterion() -> None:
    made = criteria_of(
        text="acme",
        state=["active", "inactive"],
        role=["dso"],
        identifier="DE*ABC",
        country=["DE", "AT"],
        since="2026-01-01",
        until="2026-02-01",
        activity="provider",
        order="latest",
    )
    assert made.text == "acme"
    assert list(made.states) == [
        partner_pb2.PARTNER_STATE_ACTIVE,
        partner_pb2.PARTNER_STATE_INACTIVE,
    ]
    assert list(made.roles) == [PartnerRole.PARTNER_ROLE_DSO]
    assert made.identifier == "DE*ABC"
    assert list(made.country_codes) == ["DE", "AT"]
    assert made.register_period.start_time.ToJsonString() == "2026-01-01T00:00:00Z"
    assert made.register_period.end_time.ToJsonString() == "2026-02-01T00:00:00Z"
    assert made.activity == ACTIVITIES["provider"]
    assert made.order == ORDERS["latest"]


@pytest.mark.parametrize(("since", "until"), [("2026-01-01", ""), ("", "2026-01-01")])
def test_a_period_may_be_open_on_one_side(since: str, until: str) -> None:
    period = criteria_of(since=since, until=until).register_period
    assert period.HasField("start_time") == bool(since)
    assert period.HasField("end_time") == bool(until)


class Listing:
    """A list of numbers that is given page by page, as a stub's method would."""

    def __init__(self, length: int, most: int) -> None:
        self.entries = list(range(length))
        self.most = most
        self.asked: list[tuple[int, str]] = []

    async def ask(self, request: Any, *, timeout: float) -> Any:  # noqa: ASYNC109  # as stubs have it
        assert timeout > 0
        self.asked.append((request.page.page_size, request.page.page_token))
        start = int(request.page.page_token or 0)
        end = start + min(self.most, request.page.page_size)
        token = str(end) if end < len(self.entries) else ""
        return _Answer(self.entries[start:end], PageInfo(next_page_token=token))


class _Answer:
    def __init__(self, entries: list[int], page: PageInfo) -> None:
        self.entries = entries
        self.page = page


@pytest.mark.parametrize(
    ("length", "most", "limit", "calls"),
    [(0, 10, 5, 1), (3, 10, 5, 1), (5, 10, 5, 1), (9, 2, 5, 3), (2500, 1000, 100_000, 3)],
)
async def test_pages_are_asked_for_until_the_limit_or_the_end(
    length: int, most: int, limit: int, calls: int
) -> None:
    listing = Listing(length, most)
    got = await pages(listing.ask, found.SearchPartnersRequest(), "entries", limit)
    assert got == listing.entries[:limit]
    assert len(listing.asked) == calls
    assert all(0 < size <= min(limit, 1000) for size, _ in listing.asked)


def described(folder: Path, endpoints: Endpoints = _NOBODY) -> Layout:
    """Write what a market says of itself into a data directory."""
    endpoints.write(folder / "endpoints.json")
    return Layout(folder)


async def test_who_is_not_known_here_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    party = Party("k", "c", "a")
    endpoints = Endpoints("localhost:1", "", "d", "ca", "", {"acme": party}, {"business": party})
    with pytest.raises(KeyError, match="known are: acme, business"):
        async with connected(described(tmp_path, endpoints), "volt"):
            pass
    with pytest.raises(KeyError, match="'business' is not known here"):
        async with connected(described(tmp_path), ""):
            pass


async def test_anybody_needs_the_listener_for_people_and_its_roots(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="the listener for people is not known"):
        async with connected(described(tmp_path), None):
            pass
    absent = str(tmp_path / "ca.pem")
    known = Endpoints("localhost:1", "", "d", absent, "", sessions="localhost:2")
    with pytest.raises(FileNotFoundError):
        async with connected(described(tmp_path, known), None):
            pass
