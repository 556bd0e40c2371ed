"""`gemarket notifications`: what happened, what comes how, and messages to requesters (1687)."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

import typer

from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import notification_service_pb2 as wire
from gemarket.administration import new_request_id
from gemarket.commands.calling import (
    Json,
    Limit,
    enum_name,
    enum_value,
    pages,
    run,
    show,
    show_all,
    told,
    when,
)
from gemarket.core_client import CoreClient
from gemarket.options import As, DataDir

application = typer.Typer(help="What the marketplace tells you.", no_args_is_help=True)
_SERVICE = "NotificationService"
_KIND = (notification_pb2.NotificationKind, "NOTIFICATION_KIND")

Kind = Annotated[str, typer.Option(help="For instance contract-suspended.")]


@application.command("list")
def list_notifications(
    *,
    kind: Kind = "",
    unread: Annotated[bool, typer.Option("--unread", help="Only what is not read.")] = False,
    limit: Limit = 50,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """List the inbox, the latest first."""

    async def work(market: CoreClient) -> None:
        request = wire.ListNotificationsRequest(unread_only=unread)
        if kind:
            request.kind = enum_value(*_KIND, kind)
        method, response = f"{_SERVICE}/ListNotifications", wire.ListNotificationsResponse
        found = await pages(market, method, request, response, "notifications", limit)
        columns = ("number", "at (UTC)", "kind", "text")
        show_all(found, "Notifications", columns, _row, json=json)

    run(work, caller, data_dir)


@application.command("watch")
def watch(
    *,
    after: Annotated[int, typer.Option(min=0, help="Number of the last one that is known.")] = 0,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0 goes on.")] = 0,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show what comes when it comes, after what there is."""

    async def work(market: CoreClient) -> None:
        request = wire.WatchNotificationsRequest(after_sequence=after)
        method, response = f"{_SERVICE}/WatchNotifications", wire.WatchNotificationsResponse
        seen = 0
        async with aclosing(market.stream(method, request, response, None)) as stream:
            async for answer in stream:
                if json:
                    show(answer.notification)
                else:
                    told("  ".join(_row(answer.notification)))
                seen += 1
                if seen == count:
                    return

    run(work, caller, data_dir)


@application.command("read")
def mark_read(
    first: Annotated[int, typer.Argument(min=0, help="The first number that is meant.")],
    last: Annotated[int, typer.Argument(min=0, help="The last; else only the first.")] = 0,
    *,
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Mark notifications as read."""

    async def work(market: CoreClient) -> None:
        request = wire.MarkNotificationsReadRequest(
            request_id=new_request_id(), first_sequence=first, last_sequence=last or first
        )
        method, response = f"{_SERVICE}/MarkNotificationsRead", wire.MarkNotificationsReadResponse
        told(f"{(await market.ask(method, request, response)).marked_count} marked as read")

    run(work, caller, data_dir)


@application.command("send")
def send(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Service id.")],
    *,
    title: Annotated[str, typer.Option(help="One line.")],
    text: Annotated[str, typer.Option(help="What its requesters are to know.")],
    caller: As = "",
    data_dir: DataDir = None,
) -> None:
    """Write to everybody who has a contract for a service."""

    async def work(market: CoreClient) -> None:
        request = wire.NotifyServiceRequestersRequest(
            request_id=new_request_id(), service_id=service, title=title, text=text
        )
        response = wire.NotifyServiceRequestersResponse
        answer = await market.ask(f"{_SERVICE}/NotifyServiceRequesters", request, response)
        told(f"sent to {answer.requester_count} requesters")

    run(work, caller, data_dir)


@application.command("preferences")
def preferences(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="The kind to set.")] = "",
    *,
    inbox: Annotated[bool, typer.Option(help="Into the inbox.")] = True,
    email: Annotated[bool, typer.Option(help="By e-mail.")] = False,
    caller: As = "",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show how each kind comes, or set how one kind comes."""

    async def work(market: CoreClient) -> None:
        found: list[Any] = []
        if kind:
            wanted = notification_pb2.NotificationPreference(inbox=inbox, email=email)
            wanted.kind = enum_value(*_KIND, kind)
            request = wire.SetNotificationPreferenceRequest(
                request_id=new_request_id(), preference=wanted
            )
            response = wire.SetNotificationPreferenceResponse
            method = f"{_SERVICE}/SetNotificationPreference"
            found.append((await market.ask(method, request, response)).preference)
        else:
            method = f"{_SERVICE}/ListNotificationPreferences"
            listing = wire.ListNotificationPreferencesRequest()
            answer = await market.ask(method, listing, wire.ListNotificationPreferencesResponse)
            found.extend(answer.preferences)
        columns = ("kind", "inbox", "e-mail")
        show_all(found, "Preferences", columns, _preference_row, json=json)

    run(work, caller, data_dir)


def _row(notice: Any) -> tuple[str, ...]:
    kind = enum_name(*_KIND, notice.kind)
    text = f"{notice.title}: {notice.text}" if notice.title else notice.text
    return str(notice.sequence), when(notice.create_time), kind, text


def _preference_row(preference: Any) -> tuple[str, ...]:
    words = ("yes" if preference.inbox else "no", "yes" if preference.email else "no")
    return (enum_name(*_KIND, preference.kind), *words)
