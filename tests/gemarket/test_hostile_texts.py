"""What others wrote cannot colour, move or clear a terminal, whichever command shows it."""

from __future__ import annotations

import io
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import certification_pb2 as certification
from gem.marketplace.v1 import contract_pb2, contract_search_pb2, route_explanation_pb2
from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import partner_change_pb2 as changes
from gem.marketplace.v1 import partner_contract_pb2 as partner_contracts
from gem.marketplace.v1 import partner_search_pb2 as partners
from gem.marketplace.v1 import saved_search_service_pb2 as searches
from gem.marketplace.v1 import service_content_pb2 as content
from gem.marketplace.v1 import service_lifecycle_pb2 as lifecycle
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import service_request_service_pb2 as requests
from gem.marketplace.v1 import service_search_pb2 as service_search
from gem.marketplace.v1 import session_service_pb2 as sessions
from gem.mesh.v1 import error_reason_pb2
from gemarket.console import SafeConsole, shown, table
from tests.gemarket.fake_market import FakeMarket

#: Markup, a picture by its name, a cleared screen, a title of the window, and the C1 form of both.
_EVIL = "[red]A[/red] :key: [link=x]\x1b[2J\x1b]0;B\x07\x9b2J\x7f ü"
_HARMLESS = "[red]A[/red] :key: [link=x]\ufffd[2J\ufffd]0;B\ufffd\ufffd2J\ufffd ü"


def filled(kind: type[Message], *, depth: int = 4) -> Any:
    """Fill each text of a message, and of what is in it, with the worst; lists have one item."""
    made: Any = kind()
    for field in made.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING:
            value: Any = _EVIL
        elif field.type == field.TYPE_MESSAGE and depth and field.name != "page":
            value = filled(GetMessageClass(field.message_type), depth=depth - 1)
        else:
            continue
        if field.is_repeated:
            getattr(made, field.name).append(value)
        elif isinstance(value, str):
            setattr(made, field.name, value)
        else:
            getattr(made, field.name).CopyFrom(value)
    return made


_SHOWN: list[tuple[str, type[Message], str]] = [
    ("users list", sessions.ListUsersResponse, "ListUsers"),
    ("users create ada --name x --roles buyer", sessions.CreateUserResponse, "CreateUser"),
    ("whoami", sessions.WhoAmIResponse, "WhoAmI"),
    ("notifications list", notices.ListNotificationsResponse, "ListNotifications"),
    ("notifications watch", notices.WatchNotificationsResponse, "WatchNotifications"),
    ("requests list", requests.SearchServiceRequestsResponse, "SearchServiceRequests"),
    ("requests responses r", requests.ListServiceRequestResponsesResponse,
     "ListServiceRequestResponses"),
    ("requests history r", requests.ListServiceRequestEventsResponse, "ListServiceRequestEvents"),
    ("interfaces list", catalog.ListInterfacesResponse, "ListInterfaces"),
    ("interfaces show a.B", catalog.DescribeInterfaceResponse, "DescribeInterface"),
    ("interfaces proposal p", catalog.GetProposalResponse, "GetProposal"),
    ("searches list", searches.ListSavedSearchesResponse, "ListSavedSearches"),
    ("searches show s", searches.GetSavedSearchResponse, "GetSavedSearch"),
    ("partners list", partners.SearchPartnersResponse, "SearchPartners"),
    ("partners history volt", partners.ListPartnerEventsResponse, "ListPartnerEvents"),
    ("partners show-change c", changes.GetPartnerChangeResponse, "GetPartnerChange"),
    ("partners contract", partner_contracts.GetPartnerContractResponse, "GetPartnerContract"),
    ("contracts search", contract_search_pb2.SearchContractsResponse, "SearchContracts"),
    ("contracts show c", contracts.GetContractResponse, "GetContract"),
    ("services search", service_search.SearchServicesResponse, "SearchServices"),
    ("services show s", registry.GetServiceResponse, "GetService"),
    ("services contract", lifecycle.GetRegistrationContractResponse, "GetRegistrationContract"),
    ("service-files list s", content.ListServiceFilesResponse, "ListServiceFiles"),
    ("conformance show r", certification.GetConformanceReportResponse, "GetConformanceReport"),
    ("conformance status s", certification.GetCertificationResponse, "GetCertification"),
    ("explain-route a.B/C", route_explanation_pb2.ExplainRouteResponse, "ExplainRoute"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "kind", "method"), _SHOWN, ids=[row[0] for row in _SHOWN])
def test_texts_are_shown_letter_by_letter(
    market: FakeMarket, command: str, kind: type[Message], method: str
) -> None:
    market.on(method, filled(kind))
    printed = market.good(*command.split())
    assert _HARMLESS in printed
    assert not set(printed) & set("\x1b\x9b\x07\x7f")


def test_json_has_the_very_text_and_drives_no_terminal_either(market: FakeMarket) -> None:
    market.on("GetContract", filled(contracts.GetContractResponse))
    (shown_contract,) = market.json("contracts", "show", "c", "--json")
    assert shown_contract["contract"]["terms"]["sections"][0]["title"] == _EVIL
    printed = market.good("contracts", "show", "c", "--json")
    assert not set(printed) & set("\x1b\x9b\x07\x7f")
    contract = contract_pb2.Contract(requester_id="Zürich")
    market.on("GetContract", contracts.GetContractResponse(contract=contract))
    assert "Zürich" in market.good("contracts", "show", "c", "--json")


@pytest.mark.parametrize(
    "group", ["contracts show c", "services show s", "users list", "ca list v"]
)
def test_what_a_refusal_says_is_shown_letter_by_letter(market: FakeMarket, group: str) -> None:
    violation = FieldViolation(f"a{_EVIL}", f"b{_EVIL}")
    reason = error_reason_pb2.ERROR_REASON_REQUEST_INVALID
    error = MarketError(reason, f"c{_EVIL}", violations=(violation,))
    for method in ("GetContract", "GetService", "ListUsers", "ListCertificates"):
        market.on(method, error)
    result = market.run(*group.split())
    assert result.exit_code == 1
    assert f"field a{_HARMLESS}: b{_HARMLESS}" in result.stderr
    assert not set(result.output) & set("\x1b\x9b\x07\x7f")


def test_a_broken_connection_is_a_refusal_too(market: FakeMarket) -> None:
    market.on("ListUsers", [grpc.StatusCode.UNAVAILABLE])
    result = market.run("users", "list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "UNAVAILABLE broken" in result.stderr


def test_a_real_terminal_gets_our_colours_and_nobody_elses() -> None:
    printed = io.StringIO()
    console = SafeConsole(file=printed, force_terminal=True, width=200, emoji=False)
    console.print(f"[red]ours[/] {shown(_EVIL)}", highlight=False)
    console.print(f"two\nlines {_EVIL}", markup=False, highlight=False)
    text = printed.getvalue()
    assert text.startswith("\x1b[31mours\x1b[0m ")
    assert text.count("\x1b") == 2
    assert text.count(_HARMLESS) == 2
    assert "two\nlines" in text


def test_the_title_of_a_table_is_a_text_too() -> None:
    console = SafeConsole(file=io.StringIO(), width=200, emoji=False)
    console.print(table(_EVIL, ("name", "size kW"), [("a", "1")]))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith(_HARMLESS[:10])
