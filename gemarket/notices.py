"""A worker's part in notifications: the feed of its streams, and the delivery of e-mails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

from foundation.database import connect_raw
from foundation.settings import Settings
from marketplace.notice_feed import NoticeFeed
from marketplace.notification_delivery import NotificationDelivery
from marketplace.smtp_mailer import SmtpMailer, SmtpServer


async def open_notices(stack: AsyncExitStack, database_url: str) -> NoticeFeed:
    """Start the feed that wakes streams of notifications; it ends with the stack."""
    feed = NoticeFeed(database_url)
    await feed.start()
    stack.push_async_callback(feed.stop)
    return feed


def start_delivery(stack: AsyncExitStack, settings: Settings, database_url: str) -> None:
    """Start to deliver e-mails, where the settings name a mail server; it ends with the stack."""
    smtp = settings.smtp
    if smtp is None:
        return
    server = SmtpServer(
        host=smtp.host,
        port=smtp.port,
        security=smtp.security,
        ca_file=smtp.ca_file,
        user_name=smtp.user_name,
        password=smtp.password,
        timeout_s=smtp.timeout_s,
    )
    delivery = NotificationDelivery(
        lambda: connect_raw(database_url),
        SmtpMailer(server),
        sender=smtp.sender,
        domain=settings.trust_domain,
    )
    stack.push_async_callback(ended, asyncio.create_task(delivery.run(), name="delivery"))


async def ended(task: asyncio.Task[None]) -> None:
    """End a task of the worker and wait for it."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
