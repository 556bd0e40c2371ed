"""`gemarket call` and saved searches: any method by reflection, and what may go wrong before it."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from foundation.errors import MarketError
from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import saved_search_service_pb2 as searches
from gem.mesh.v1 import error_reason_pb2
from gemarket.layout import Layout
from tests.gemarket.fake_market import FakeMarket, objects

_SERVICE = "gem.marketplace.v1.NotificationService"
_LIST = f"{_SERVICE}/ListNotifications"
_REFLECT = "ServerReflectionInfo"


def described(file: FileDescriptor) -> reflection.ServerReflectionResponse:
    """Give a file with all that it imports, as reflection does."""
    found: dict[str, bytes] = {}

    def add(each: FileDescriptor) -> None:
        for dependency in each.dependencies:
            add(dependency)
        found[each.name] = each.serialized_pb

    add(file)
    return reflection.ServerReflectionResponse(
        file_descriptor_response=reflection.FileDescriptorResponse(
            file_descriptor_proto=found.values()
        )
    )


@pytest.fixture
def known(market: FakeMarket) -> FakeMarket:
    """Give a market that describes its notifications."""
    market.on(_REFLECT, described(notices.DESCRIPTOR))
    return market


def unknown() -> reflection.ServerReflectionResponse:
    """Say that there is no such symbol."""
    error = reflection.ErrorResponse(error_code=5, error_message="[red]\x1b[2J")
    return reflection.ServerReflectionResponse(error_response=error)


def test_an_answer_is_json_with_the_names_of_the_proto(known: FakeMarket) -> None:
    notice = notification_pb2.Notification(sequence=7, text="[red]\x1b[2J ü", service_id="s-1")
    known.on("ListNotifications", notices.ListNotificationsResponse(notifications=[notice]))
    request = '{"unread_only": true, "page": {"page_size": 3}}'
    (shown,) = known.json("call", _LIST, request, "--as", "ampere")
    assert shown == {
        "notifications": [{"sequence": "7", "text": "[red]\x1b[2J ü", "service_id": "s-1"}]
    }
    (asked,) = known.asked("ListNotifications", notices.ListNotificationsRequest)
    assert (asked.unread_only, asked.page.page_size) == (True, 3)
    certificate = Layout(known.folder).partner("ampere").certificate_file.read_bytes()
    assert certificate.startswith(known.calls[-1].certificate_pem.strip())


def test_each_answer_of_a_stream_is_shown_and_the_reason_of_its_end(known: FakeMarket) -> None:
    answers = [
        notices.WatchNotificationsResponse(notification=notification_pb2.Notification(sequence=n))
        for n in (1, 2)
    ]
    reason = error_reason_pb2.ERROR_REASON_DRAINING
    known.on("WatchNotifications", [*answers, MarketError(reason, "Come [again].")])
    result = known.run("call", f"/{_SERVICE}/WatchNotifications")
    assert result.exit_code == 1
    shown = [each["notification"]["sequence"] for each in objects(result.stdout)]
    assert shown == ["1", "2"]
    assert "UNAVAILABLE Come [again]." in result.stderr
    assert "reason DRAINING" in result.stderr


def test_a_request_comes_from_standard_input_too(known: FakeMarket) -> None:
    known.on("ListNotifications", notices.ListNotificationsResponse())
    assert known.good("call", _LIST, "-", stdin='{"unread_only": true}') == "{}\n"
    assert known.asked("ListNotifications", notices.ListNotificationsRequest)[0].unread_only


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (("--budget-ms", "250"), {"gem-budget-ms": "250"}),
        (("--provider", "volt"), {"gem-provider": "volt"}),
    ],
)
def test_what_is_wished_of_the_router_goes_as_metadata(
    known: FakeMarket, options: tuple[str, ...], expected: dict[str, str]
) -> None:
    known.on("ListNotifications", notices.ListNotificationsResponse())
    known.good("call", _LIST, *options)
    metadata = known.calls[-1].metadata
    assert {key: value for key, value in metadata.items() if key.startswith("gem-")} == expected


@pytest.mark.parametrize(
    ("method", "request_text", "reason"),
    [
        (f"{_SERVICE}/[red]No", "{}", f"{_SERVICE} has no method '[red]No'; it has: List"),
        ("ListNotifications", "{}", "is not of the form package.Service/Method"),
        (_LIST, "[", "Expecting value"),
        (_LIST, '{"unread": true}', 'no field named "unread"'),
        (_LIST, '{"unread_only": "x"}', "unread_only"),
        (_LIST, "{} {}", "the method takes one request, 2 were given"),
    ],
)
def test_a_call_that_cannot_be_made_is_not_made(
    known: FakeMarket, method: str, request_text: str, reason: str
) -> None:
    result = known.run("call", method, request_text)
    assert result.exit_code == 2
    assert result.stderr.startswith("gemarket call: ")
    assert reason in result.stderr
    assert {call.method for call in known.calls} <= {_REFLECT}


def test_services_are_listed_by_name(market: FakeMarket) -> None:
    names = ("b.[red]B", "a.A")
    listed = reflection.ListServiceResponse(
        service=[reflection.ServiceResponse(name=name) for name in names]
    )
    market.on(_REFLECT, reflection.ServerReflectionResponse(list_services_response=listed))
    assert market.good("call", "--list").splitlines() == ["a.A", "b.[red]B"]


def test_a_saved_search_is_run_with_its_own_criteria(known: FakeMarket) -> None:
    criteria = notices.ListNotificationsRequest(unread_only=True)
    saved = searches.SavedSearch(name="mine", method=_LIST, criteria=criteria.SerializeToString())
    known.on("GetSavedSearch", searches.GetSavedSearchResponse(saved_search=saved))
    known.on("ListNotifications", notices.ListNotificationsResponse())
    assert known.good("searches", "run", "mine") == "{}\n"
    assert known.asked("ListNotifications", notices.ListNotificationsRequest) == [criteria]


def test_a_saved_search_of_a_method_that_is_gone_is_refused(market: FakeMarket) -> None:
    market.on(_REFLECT, unknown())
    saved = searches.SavedSearch(name="mine", method="a.Gone/Call")
    market.on("GetSavedSearch", searches.GetSavedSearchResponse(saved_search=saved))
    for command in (("searches", "run", "mine"), ("call", "a.Gone/Call")):
        result = market.run(*command)
        assert result.exit_code == 2
        assert "the market knows no 'a.Gone'" in result.stderr
        assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("command", "rpc", "field", "value", "said"),
    [
        ("rename mine yours", "RenameSavedSearch", "name", "yours", "mine: renamed"),
        ("replace mine {}", "ReplaceSavedSearch", "criteria",
         searches.SearchCriteria(json="{}"), "mine: replaced"),
        ("delete mine", "DeleteSavedSearch", "saved_search_id", "i-1", "mine: deleted"),
    ],
)  # fmt: skip
def test_a_search_is_named_by_its_owner_and_changed_by_its_id(
    market: FakeMarket, command: str, rpc: str, field: str, value: object, said: str
) -> None:
    saved = searches.SavedSearch(saved_search_id="i-1", name="mine")
    market.on("GetSavedSearch", searches.GetSavedSearchResponse(saved_search=saved))
    response = getattr(searches, f"{rpc}Response")
    market.on(rpc, response() if rpc.startswith("Delete") else response(saved_search=saved))
    assert market.good("searches", *command.split()) == f"{said}\n"
    (asked,) = market.asked(rpc, getattr(searches, f"{rpc}Request"))
    assert asked.saved_search_id == "i-1"
    assert getattr(asked, field) == value
