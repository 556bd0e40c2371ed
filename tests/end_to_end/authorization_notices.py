"""The rows of the authorization matrix for notifications."""

from __future__ import annotations

from collections.abc import Mapping

from gem.marketplace.v1 import notification_pb2
from gem.marketplace.v1 import notification_service_pb2 as notices
from gemarket.administration import new_request_id
from tests.end_to_end.callers import FORBIDDEN, HIDDEN, NOT_NOW, OK, Row, row

_ROWS = {
    "ListNotifications": row(
        lambda _: notices.ListNotificationsRequest(),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "ListNotificationPreferences": row(
        lambda _: notices.ListNotificationPreferencesRequest(),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    # Whoever is a partner here was told of its activation at least.
    "WatchNotifications": row(
        lambda _: notices.WatchNotificationsRequest(),
        OK,
        business=OK,
        technical=OK,
        users=OK,
    ),
    "MarkNotificationsRead": row(
        lambda _: notices.MarkNotificationsReadRequest(request_id=new_request_id()),
        OK,
        business=OK,
        technical=OK,
    ),
    "SetNotificationPreference": row(
        lambda _: notices.SetNotificationPreferenceRequest(
            request_id=new_request_id(),
            preference=notification_pb2.NotificationPreference(
                kind=notification_pb2.NOTIFICATION_KIND_SERVICE_STOPPED, email=True
            ),
        ),
        NOT_NOW,
        business=NOT_NOW,
        technical=NOT_NOW,
    ),
    "NotifyServiceRequesters": row(
        lambda t: notices.NotifyServiceRequestersRequest(
            request_id=new_request_id(), service_id=t.hidden_service_id, title="Title", text="Text"
        ),
        HIDDEN,
        provider=OK,
        business=OK,
        technical=OK,
    ),
    "ListUndeliveredNotifications": row(
        lambda _: notices.ListUndeliveredNotificationsRequest(),
        FORBIDDEN,
        business=OK,
        technical=OK,
    ),
    "RetryUndeliveredNotification": row(
        lambda t: notices.RetryUndeliveredNotificationRequest(
            request_id=new_request_id(), recipient_id=t.contracted_id, sequence=1
        ),
        FORBIDDEN,
        business=FORBIDDEN,
        technical=HIDDEN,
    ),
}

#: Every rpc of NotificationService by its path.
NOTICE_MATRIX: Mapping[str, Row] = {
    f"/gem.marketplace.v1.NotificationService/{name}": each for name, each in _ROWS.items()
}
