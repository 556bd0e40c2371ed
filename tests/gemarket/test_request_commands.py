"""`gemarket requests`: wishes from options, changes that keep the rest, responses and times."""

from __future__ import annotations

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as messages
from gem.marketplace.v1 import service_request_service_pb2 as wire
from gem.mesh.v1 import error_reason_pb2
from tests.gemarket.fake_market import FakeMarket


def request_of(revision: int = 3) -> messages.ServiceRequest:
    """Give a request as it stands."""
    wish = messages.ServiceWish(
        title="Old", description="All.", country_codes=["DE", "AT"], monthly_call_count=7
    )
    made = messages.ServiceRequest(
        service_request_id="r-1",
        wish=wish,
        state=messages.SERVICE_REQUEST_STATE_OPEN,
        revision_number=revision,
    )
    made.valid_until_time.FromJsonString("2030-01-01T00:00:00Z")
    return made


def test_every_option_becomes_a_part_of_the_wish(market: FakeMarket) -> None:
    answer = wire.CreateServiceRequestResponse(service_request=request_of(1))
    market.on("CreateServiceRequest", answer)
    said = market.good(
        *("requests", "create", "--title", "T", "--text", "X", "--until", "2026-02-01T02:00+02:00"),
        *("--category", "c", "--interface", "a.B", "--countries", "DE,,AT", "--region", "R"),
        *("--volume", "9", "--from", "2026-01-01", "--preconditions", "P", "--postconditions", "Q"),
    )
    assert said == "r-1  open, revision 1\n"
    (asked,) = market.asked("CreateServiceRequest", wire.CreateServiceRequestRequest)
    assert asked.valid_until_time.ToJsonString() == "2026-02-01T00:00:00Z"
    wish = asked.wish
    assert (wish.title, wish.description, wish.category) == ("T", "X", "c")
    assert (wish.interface_name, list(wish.country_codes)) == ("a.B", ["DE", "AT"])
    assert (wish.region, wish.monthly_call_count) == ("R", 9)
    assert wish.wished_start_time.ToJsonString() == "2026-01-01T00:00:00Z"
    assert (wish.preconditions, wish.postconditions) == ("P", "Q")


@pytest.mark.parametrize(
    ("options", "title", "countries", "until"),
    [
        ((), "Old", ["DE", "AT"], "2030-01-01T00:00:00Z"),
        (("--title", "New"), "New", ["DE", "AT"], "2030-01-01T00:00:00Z"),
        (("--countries", "FR"), "Old", ["FR"], "2030-01-01T00:00:00Z"),
        (("--until", "2031-01-01"), "Old", ["DE", "AT"], "2031-01-01T00:00:00Z"),
    ],
)
def test_what_is_not_named_stays_as_it_is(
    market: FakeMarket, options: tuple[str, ...], title: str, countries: list[str], until: str
) -> None:
    market.on("GetServiceRequest", wire.GetServiceRequestResponse(service_request=request_of()))
    answer = wire.ChangeServiceRequestResponse(service_request=request_of(4))
    market.on("ChangeServiceRequest", answer)
    assert market.good("requests", "change", "r-1", *options) == "r-1  open, revision 4\n"
    (asked,) = market.asked("ChangeServiceRequest", wire.ChangeServiceRequestRequest)
    assert (asked.wish.title, list(asked.wish.country_codes)) == (title, countries)
    assert (asked.wish.description, asked.wish.monthly_call_count) == ("All.", 7)
    assert asked.valid_until_time.ToJsonString() == until
    assert (asked.service_request_id, asked.revision_number) == ("r-1", 3)


def test_a_change_of_what_another_one_changed_is_refused(market: FakeMarket) -> None:
    market.on("GetServiceRequest", wire.GetServiceRequestResponse(service_request=request_of()))
    reason = error_reason_pb2.ERROR_REASON_CONFLICT
    market.on("ChangeServiceRequest", MarketError(reason, "It was changed."))
    result = market.run("requests", "change", "r-1", "--title", "New")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "reason CONFLICT" in result.stderr


@pytest.mark.parametrize(
    ("command", "state", "said"),
    [("close", "CLOSED", "r-1  closed"), ("delete", "DELETED", "r-1  deleted")],
)
def test_an_end_is_shown_with_the_state(
    market: FakeMarket, command: str, state: str, said: str
) -> None:
    ended = request_of()
    ended.state = messages.ServiceRequestState.Value(f"SERVICE_REQUEST_STATE_{state}")
    rpc = f"{command.capitalize()}ServiceRequest"
    market.on(rpc, getattr(wire, f"{rpc}Response")(service_request=ended))
    assert market.good("requests", command, "r-1") == f"{said}, revision 3\n"
    (shown,) = market.json("requests", command, "r-1", "--json")
    assert shown["wish"]["monthly_call_count"] == "7", "64 bits are text in JSON"


def test_a_response_has_a_service_or_the_time_of_one(market: FakeMarket) -> None:
    made = messages.ServiceRequestResponse(response_id="x-1")
    market.on("RespondToServiceRequest", wire.RespondToServiceRequestResponse(response=made))
    base = ("requests", "respond", "r-1", "--text", "We will.")
    said = market.good(*base, "--planned", "2026-06-01T00:00-03:00")
    assert said == "response x-1; its author is told\n"
    market.good(*base, "--service", "s-1")
    planned, present = market.asked("RespondToServiceRequest", wire.RespondToServiceRequestRequest)
    assert planned.planned_start_time.ToJsonString() == "2026-06-01T03:00:00Z"
    assert (present.service_id, present.HasField("planned_start_time")) == ("s-1", False)


def test_a_planned_service_is_listed_with_its_time(market: FakeMarket) -> None:
    planned = messages.ServiceRequestResponse(responder_id="volt", text="Soon.")
    planned.planned_start_time.FromJsonString("2026-06-01T03:00:00Z")
    present = messages.ServiceRequestResponse(responder_id="ampere", service_id="s-1")
    market.on(
        "ListServiceRequestResponses",
        wire.ListServiceRequestResponsesResponse(responses=[planned, present]),
    )
    said = market.good("requests", "responses", "r-1")
    (line,) = [row for row in said.splitlines() if "volt" in row]
    assert "planned 2026-06-01 03:00:00" in line
    (line,) = [row for row in said.splitlines() if "ampere" in row]
    assert "s-1" in line


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (("--owner", "own"), "owner", wire.SERVICE_REQUEST_OWNER_OWN),
        (("--owner", "others"), "owner", wire.SERVICE_REQUEST_OWNER_OTHERS),
        (("--state", "expired"), "state", messages.SERVICE_REQUEST_STATE_EXPIRED),
        (("--responded",), "responded_only", True),
        (("--country", "DE"), "country_code", "DE"),
        (("--author", "volt"), "author_id", "volt"),
    ],
)
def test_each_option_of_a_search_is_one_condition(
    market: FakeMarket, options: tuple[str, ...], field: str, value: object
) -> None:
    market.on("SearchServiceRequests", wire.SearchServiceRequestsResponse())
    market.good("requests", "list", *options)
    (asked,) = market.asked("SearchServiceRequests", wire.SearchServiceRequestsRequest)
    assert getattr(asked, field) == value
    asked.ClearField("page")
    assert [name.name for name, _ in asked.ListFields()] == [field]
