"""E-mails of a test market: who wants them, what is waiting, what was given up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
from sqlalchemy import func, select

from foundation.certificates import utc_now
from foundation.database import connect_raw
from gem.marketplace.v1.notification_pb2 import NOTIFICATION_KIND_SERVICE_MESSAGE
from marketplace.notice import Notice, NoticeKind
from marketplace.notification_delivery import DeliveryTiming, NotificationDelivery, Outcome
from marketplace.smtp_mailer import SmtpMailer, SmtpServer
from marketplace.storage_notice import tell
from marketplace.storage_tables import NOTICE_OUTBOX
from tests.control_plane import PROFILE, TECHNICAL, ControlPlane

KIND = NoticeKind.SERVICE_MESSAGE


class Post:
    """The deliveries of a market, with a clock that tests move."""

    def __init__(self, plane: ControlPlane, url: str) -> None:
        self.plane = plane
        self.url = url
        self.later = timedelta()

    def delivery(self, port: int, **server: Any) -> NotificationDelivery:
        """Give what a worker runs, towards a server on a port."""
        values = {"security": "none", "timeout_s": 5.0, **server}
        return NotificationDelivery(
            lambda: connect_raw(self.url),
            SmtpMailer(SmtpServer("127.0.0.1", port, **values)),
            sender="market@gem.example",
            domain="gem.example",
            timing=DeliveryTiming(0.02, 0.02, 0.02),
            clock=lambda: utc_now() + self.later,
        )

    async def work(self, delivery: NotificationDelivery, most: int = 1000) -> list[Outcome]:
        """Deliver until nothing is due."""
        connection: asyncpg.Connection = await connect_raw(self.url)
        outcomes: list[Outcome] = []
        try:
            while (outcome := await delivery.deliver_one(connection)) is not Outcome.NOTHING_DUE:
                outcomes.append(outcome)
                assert len(outcomes) <= most
        finally:
            await connection.close()
        return outcomes

    async def subscriber(self, name: str) -> None:
        """Register a partner that wants messages by e-mail."""
        person = {"full_name": "Ada Byron", "email": f"ada@{name}.example"}
        await self.plane.partner(name, profile={**PROFILE, "responsible_person": person})
        wanted = {"kind": NOTIFICATION_KIND_SERVICE_MESSAGE, "inbox": True, "email": True}
        method = "NotificationService/SetNotificationPreference"
        await self.plane.ask(name, method, preference=wanted)

    async def write(self, *names: str) -> None:
        """Tell each of these, in one transaction."""
        notices = [Notice(name, KIND, "Title", "Text", utc_now(), sender_id="x") for name in names]
        async with self.plane.engine.begin() as connection:
            await tell(connection, notices)

    async def waiting(self) -> int:
        """Count the e-mails that are still to be delivered."""
        pending = NOTICE_OUTBOX.c.state == "PENDING"
        query = select(func.count()).select_from(NOTICE_OUTBOX).where(pending)
        async with self.plane.engine.connect() as connection:
            return int(await connection.scalar(query) or 0)

    async def all_delivered(self) -> bool:
        """Say whether none is left."""
        return await self.waiting() == 0

    async def undelivered(self, who: str = TECHNICAL, **fields: Any) -> list[Any]:
        """Give what an operator sees of e-mails that were given up."""
        method = "NotificationService/ListUndeliveredNotifications"
        return list((await self.plane.ask(who, method, **fields)).undelivered)
