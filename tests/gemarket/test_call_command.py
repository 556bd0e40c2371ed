"""`gemarket call` and saved searches: any method by reflection, and what may go wrong before it."""

from __future__ import annotations

import pytest
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from foundation.errors import MarketError
from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.mesh.v1 import error_reason_pb2
from gemarket.layout import Layout
from tests.gemarket.fake_market import FakeMarket, described, objects

_SERVICE = "gem.marketplace.v1.NotificationService"
_LIST = f"{_SERVICE}/ListNotifications"
_REFLECT = "ServerReflectionInfo"


@pytest.fixture
def known(market: FakeMarket) -> FakeMarket:
    """Give a market that describes its notifications."""
    market.on(_REFLECT, described(notices.DESCRIPTOR))
    return market


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
