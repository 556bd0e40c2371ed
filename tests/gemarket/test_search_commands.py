"""`gemarket searches`: saved criteria are run, changed and refused by their name."""

from __future__ import annotations

import pytest
from grpc_reflection.v1alpha import reflection_pb2 as reflection

from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import saved_search_service_pb2 as searches
from tests.gemarket.fake_market import FakeMarket, described

_SERVICE = "gem.marketplace.v1.NotificationService"
_LIST = f"{_SERVICE}/ListNotifications"
_REFLECT = "ServerReflectionInfo"


@pytest.fixture
def known(market: FakeMarket) -> FakeMarket:
    """Give a market that describes its notifications."""
    market.on(_REFLECT, described(notices.DESCRIPTOR))
    return market


def unknown() -> reflection.ServerReflectionResponse:
    """Say that there is no such symbol."""
    error = reflection.ErrorResponse(error_code=5, error_message="[red]\x1b[2J")
    return reflection.ServerReflectionResponse(error_response=error)


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
