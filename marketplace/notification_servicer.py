"""NotificationService: inboxes, their streams, preferences and messages (1685, use case 1687)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from foundation.errors import MarketError
from gem.marketplace.v1 import notification_pb2, notification_service_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import Actor, actor_of, not_found
from marketplace.delivery import DeliveryFailure
from marketplace.notice import OPERATORS_INBOX, NoticeKind, Preference, message_notices
from marketplace.notice_feed import NoticeFeed
from marketplace.rendering import enum_member, enum_number, timestamp
from marketplace.storage_command import Commands, Work
from marketplace.storage_notice import NoticeFilter, NoticeStorage, requesters_of, tell
from marketplace.storage_outbox import UndeliveredStorage
from marketplace.storage_paging import page_by_number
from marketplace.storage_service import ServiceStorage

_KIND = "NOTIFICATION_KIND"
_FAILURE = "DELIVERY_FAILURE"
#: Texts are long: so many keep a page below the 4 MiB that clients take.
PAGE_MAX = 200
#: Notices that a stream holds in memory at a time.
_STREAM_PAGE = 100


class NotificationServicer:
    """Serves `gem.marketplace.v1.NotificationService`."""

    def __init__(self, commands: Commands, feed: NoticeFeed, *, sends_email: bool) -> None:
        self._commands = commands
        self._feed = feed
        self._sends_email = sends_email

    async def ListNotifications(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.ListNotificationsRequest, call: Call
    ) -> notification_service_pb2.ListNotificationsResponse:
        """List the caller's inbox, the latest first."""
        page = page_by_number(request.page, PAGE_MAX)
        kind = enum_member(NoticeKind, notification_pb2.NotificationKind, _KIND, request.kind)
        async with self._commands.read(call) as w:
            condition = NoticeFilter(kind, request.unread_only)
            rows, info = await _inbox(w).page(page, condition)
        return notification_service_pb2.ListNotificationsResponse(
            notifications=map(_render, rows), page=info
        )

    async def WatchNotifications(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.WatchNotificationsRequest, call: Call
    ) -> AsyncIterator[notification_service_pb2.WatchNotificationsResponse]:
        """Give what follows a place in the caller's inbox, and each later notice when it comes."""
        after = request.after_sequence
        with self._feed.following(_inbox_of(actor_of(call))) as news:
            while not self._feed.draining:
                # Before the look: what is committed after it sets the event again.
                news.clear()
                async with self._commands.read(call) as w:
                    rows = await _inbox(w).following(after, _STREAM_PAGE)
                for row in rows:
                    yield notification_service_pb2.WatchNotificationsResponse(
                        notification=_render(row)
                    )
                    after = row.sequence
                if len(rows) < _STREAM_PAGE:
                    await news.wait()
        raise MarketError(
            ErrorReason.ERROR_REASON_DRAINING, "This worker ends: resume behind the last that came."
        )

    async def MarkNotificationsRead(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.MarkNotificationsReadRequest, call: Call
    ) -> notification_service_pb2.MarkNotificationsReadResponse:
        """Mark a range of the caller's inbox as read."""

        async def work(w: Work) -> notification_service_pb2.MarkNotificationsReadResponse:
            first, last = request.first_sequence, request.last_sequence
            count = await _inbox(w).mark_read(first, last, w.now)
            return notification_service_pb2.MarkNotificationsReadResponse(marked_count=count)

        response = notification_service_pb2.MarkNotificationsReadResponse
        return await self._commands.run(request, call, response, work)

    async def ListNotificationPreferences(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.ListNotificationPreferencesRequest, call: Call
    ) -> notification_service_pb2.ListNotificationPreferencesResponse:
        """Give the caller's preference for every kind."""
        async with self._commands.read(call) as w:
            found = await _inbox(w).preferences()
        rendered = [_render_preference(kind, found[kind]) for kind in NoticeKind]
        return notification_service_pb2.ListNotificationPreferencesResponse(preferences=rendered)

    async def SetNotificationPreference(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.SetNotificationPreferenceRequest, call: Call
    ) -> notification_service_pb2.SetNotificationPreferenceResponse:
        """Replace the caller's preference for one kind."""
        wanted = request.preference
        kind = enum_member(NoticeKind, notification_pb2.NotificationKind, _KIND, wanted.kind)
        assert kind is not None, "validation refuses a preference without a kind"
        if wanted.email and not (self._sends_email and actor_of(call).is_partner):
            raise MarketError(
                ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                "This market sends no e-mail, or none to its operators.",
            )

        async def work(w: Work) -> notification_service_pb2.SetNotificationPreferenceResponse:
            preference = Preference(wanted.inbox, wanted.email)
            await _inbox(w).prefer(kind, preference)
            return notification_service_pb2.SetNotificationPreferenceResponse(
                preference=_render_preference(kind, preference)
            )

        response = notification_service_pb2.SetNotificationPreferenceResponse
        return await self._commands.run(request, call, response, work)

    async def NotifyServiceRequesters(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.NotifyServiceRequestersRequest, call: Call
    ) -> notification_service_pb2.NotifyServiceRequestersResponse:
        """Write to everybody who has a contract in force for a service."""

        async def work(w: Work) -> notification_service_pb2.NotifyServiceRequestersResponse:
            service = await ServiceStorage(w.connection).get(request.service_id)
            if not w.actor.may_see(service.provider_id):
                raise not_found("service")
            requesters = await requesters_of(w.connection, service.service_id)
            words = (request.title, request.text)
            await tell(w.connection, message_notices(service, words, requesters, w.actor, w.now))
            return notification_service_pb2.NotifyServiceRequestersResponse(
                requester_count=len(requesters)
            )

        response = notification_service_pb2.NotifyServiceRequestersResponse
        return await self._commands.run(request, call, response, work)

    async def ListUndeliveredNotifications(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.ListUndeliveredNotificationsRequest, call: Call
    ) -> notification_service_pb2.ListUndeliveredNotificationsResponse:
        """List e-mails that were given up."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            rows, info = await UndeliveredStorage(w.connection).page(page)
        return notification_service_pb2.ListUndeliveredNotificationsResponse(
            undelivered=map(_render_undelivered, rows), page=info
        )

    async def RetryUndeliveredNotification(  # noqa: N802  # the rpc's name
        self, request: notification_service_pb2.RetryUndeliveredNotificationRequest, call: Call
    ) -> notification_service_pb2.RetryUndeliveredNotificationResponse:
        """Have an e-mail that was given up tried again."""

        async def work(w: Work) -> notification_service_pb2.RetryUndeliveredNotificationResponse:
            storage = UndeliveredStorage(w.connection)
            await storage.retry(request.recipient_id, request.sequence, w.now)
            return notification_service_pb2.RetryUndeliveredNotificationResponse()

        response = notification_service_pb2.RetryUndeliveredNotificationResponse
        return await self._commands.run(request, call, response, work)


def _inbox(w: Work) -> NoticeStorage:
    return NoticeStorage(w.connection, _inbox_of(w.actor))


def _inbox_of(actor: Actor) -> str:
    """Give whose inbox somebody reads: its partner's, or that of the operators."""
    return actor.subject_id if actor.is_partner else OPERATORS_INBOX


def _render(row: Any) -> notification_pb2.Notification:
    rendered: Any = notification_pb2.Notification(
        sequence=row.sequence,
        title=row.title,
        text=row.text,
        contract_id=row.contract_id,
        service_id=row.service_id,
        interface_name=row.interface_name,
        sender_id=row.sender_id,
        create_time=timestamp(row.created_at),
    )
    rendered.kind = _kind_number(NoticeKind(row.kind))
    if row.read_at is not None:
        rendered.read_time.CopyFrom(timestamp(row.read_at))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _render_preference(
    kind: NoticeKind, preference: Preference
) -> notification_pb2.NotificationPreference:
    rendered: Any = notification_pb2.NotificationPreference(
        inbox=preference.inbox, email=preference.email
    )
    rendered.kind = _kind_number(kind)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _render_undelivered(row: Any) -> notification_pb2.UndeliveredNotification:
    rendered: Any = notification_pb2.UndeliveredNotification(
        recipient_id=row.recipient_id,
        sequence=row.sequence,
        smtp_code=row.smtp_code,
        attempt_count=row.attempt_count,
        create_time=timestamp(row.created_at),
        fail_time=timestamp(row.failed_at),
    )
    rendered.kind = _kind_number(NoticeKind(row.kind))
    failure = DeliveryFailure(row.failure)
    rendered.failure = enum_number(notification_pb2.DeliveryFailure, _FAILURE, failure)
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def _kind_number(kind: NoticeKind) -> int:
    return enum_number(notification_pb2.NotificationKind, _KIND, kind)
