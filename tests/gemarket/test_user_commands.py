"""`gemarket users` and `notifications`: what is asked of the market, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from gem.marketplace.v1 import notification_pb2, user_pb2
from gem.marketplace.v1 import notification_service_pb2 as notices
from gem.marketplace.v1 import session_service_pb2 as wire
from tests.gemarket.fake_market import FakeMarket

_ADA = user_pb2.User(
    user_name="ada",
    full_name="Ada [L]",
    roles=[user_pb2.USER_ROLE_BUYER, user_pb2.USER_ROLE_VIEWER],
    state=user_pb2.USER_STATE_INVITED,
)


def link() -> user_pb2.OneTimeLink:
    """Give a link that ends at a known time."""
    made = user_pb2.OneTimeLink(secret="s-1")
    made.expire_time.FromJsonString("2026-02-01T08:00:00Z")
    return made


@pytest.mark.parametrize(
    ("command", "rpc"),
    [
        ("create ada --name Ada --roles buyer,viewer", "CreateUser"),
        ("link ada", "CreateOneTimeLink"),
    ],
)
def test_a_link_is_shown_once_with_its_end(market: FakeMarket, command: str, rpc: str) -> None:
    response: Any = getattr(wire, f"{rpc}Response")
    market.on(rpc, response(user=_ADA, one_time_link=link()))
    said = market.good("users", *command.split(), "--partner", "volt")
    assert said == (
        "ada sets a password with: s-1\nuntil 2026-02-01 08:00:00 UTC, by `gemarket users redeem`\n"
    )
    (shown,) = market.json("users", *command.split(), "--json")
    assert shown["one_time_link"]["secret"] == "s-1"
    assert shown["user"]["user_name"] == "ada"
    asked = market.asked(rpc, getattr(wire, f"{rpc}Request"))
    assert [(each.partner_id, each.user_name) for each in asked] == [("volt", "ada"), ("", "ada")]
    assert len({each.request_id for each in asked}) == 2


@pytest.mark.parametrize(
    ("command", "rpc"),
    [
        ("roles ada seller", "SetUserRoles"),
        ("disable ada", "DisableUser"),
        ("enable ada", "EnableUser"),
    ],
)
def test_a_changed_user_is_shown_as_it_is_then(market: FakeMarket, command: str, rpc: str) -> None:
    response: Any = getattr(wire, f"{rpc}Response")
    market.on(rpc, response(user=_ADA))
    assert market.good("users", *command.split()) == "ada  Ada [L]  buyer, viewer  invited\n"
    (shown,) = market.json("users", *command.split(), "--json")
    assert shown["state"] == "USER_STATE_INVITED"
    asked = market.asked(rpc, getattr(wire, f"{rpc}Request"))
    if rpc == "SetUserRoles":
        assert [list(each.roles) for each in asked] == [[user_pb2.USER_ROLE_SELLER]] * 2


def test_a_link_is_redeemed_with_secrets_from_the_input(market: FakeMarket) -> None:
    market.on("RedeemOneTimeLink", wire.RedeemOneTimeLinkResponse(user=_ADA))
    said = market.good("users", "redeem", stdin="s-1\nnew password\n")
    assert said == "ada has a password now\n"
    (asked,) = market.asked("RedeemOneTimeLink", wire.RedeemOneTimeLinkRequest)
    assert (asked.secret, asked.password) == ("s-1", "new password")
    assert market.calls[0].certificate_pem == b""


def test_a_password_is_replaced_and_not_echoed(market: FakeMarket) -> None:
    market.on("ChangePassword", wire.ChangePasswordResponse(ended_session_count=2))
    said = market.good("users", "password", stdin="old one\nnew one\n")
    assert said == "changed; 2 other sessions ended\n"
    (asked,) = market.asked("ChangePassword", wire.ChangePasswordRequest)
    assert (asked.current_password, asked.new_password) == ("old one", "new one")
    market.on("ChangePassword", [grpc.StatusCode.PERMISSION_DENIED])
    refused = market.run("users", "password", stdin="old one\nnew one\n")
    assert refused.exit_code == 1
    assert "new one" not in refused.output


def noticed(sequence: int) -> notices.WatchNotificationsResponse:
    """Give a notification."""
    kind = notification_pb2.NOTIFICATION_KIND_CONTRACT_CREATED
    notice = notification_pb2.Notification(sequence=sequence, kind=kind, title="T", text="what")
    return notices.WatchNotificationsResponse(notification=notice)


def test_a_watch_ends_after_so_many_or_with_the_markets_reason(market: FakeMarket) -> None:
    market.on("WatchNotifications", [noticed(n) for n in (8, 9, 10)])
    said = market.good("notifications", "watch", "--after", "7", "--count", "2")
    assert [line.split()[0] for line in said.splitlines()] == ["8", "9"]
    assert said.splitlines()[0].endswith("contract-created  T: what")
    (asked,) = market.asked("WatchNotifications", notices.WatchNotificationsRequest)
    assert asked.after_sequence == 7
    market.on("WatchNotifications", [noticed(11), grpc.StatusCode.UNAVAILABLE])
    broken = market.run("notifications", "watch", "--json")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["sequence"] == "11", "what came before the end is shown"
    assert "UNAVAILABLE" in broken.stderr


@pytest.mark.parametrize(("numbers", "last"), [(("4",), 4), (("4", "9"), 9)])
def test_what_is_read_is_one_number_or_a_range(
    market: FakeMarket, numbers: tuple[str, ...], last: int
) -> None:
    market.on("MarkNotificationsRead", notices.MarkNotificationsReadResponse(marked_count=3))
    assert market.good("notifications", "read", *numbers) == "3 marked as read\n"
    (asked,) = market.asked("MarkNotificationsRead", notices.MarkNotificationsReadRequest)
    assert (asked.first_sequence, asked.last_sequence) == (4, last)


@pytest.mark.parametrize(
    ("options", "inbox", "email"),
    [((), True, False), (("--no-inbox",), False, False), (("--email",), True, True)],
)
def test_a_preference_is_set_by_what_is_named(
    market: FakeMarket, options: tuple[str, ...], inbox: bool, email: bool
) -> None:
    kind = notification_pb2.NOTIFICATION_KIND_SERVICE_STOPPED
    kept = notification_pb2.NotificationPreference(kind=kind, inbox=inbox, email=email)
    answer = notices.SetNotificationPreferenceResponse(preference=kept)
    market.on("SetNotificationPreference", answer)
    said = market.good("notifications", "preferences", "service-stopped", *options)
    (line,) = [row for row in said.splitlines() if "service-stopped" in row]
    words = ["yes" if inbox else "no", "yes" if email else "no"]
    assert [cell.strip() for cell in line.strip("│").split("│")] == ["service-stopped", *words]
    asked = market.asked("SetNotificationPreference", notices.SetNotificationPreferenceRequest)
    assert [each.preference for each in asked] == [kept]


def test_requesters_are_written_to_in_both_words(market: FakeMarket) -> None:
    market.on("NotifyServiceRequesters", notices.NotifyServiceRequestersResponse(requester_count=3))
    said = market.good("notifications", "send", "s-1", "--title", "[T]", "--text", "X")
    assert said == "sent to 3 requesters\n"
    (asked,) = market.asked("NotifyServiceRequesters", notices.NotifyServiceRequestersRequest)
    assert (asked.service_id, asked.title, asked.text) == ("s-1", "[T]", "X")
