"""A process that delivers e-mails, as a worker does: `python -m tests.delivery_worker URL PORT`."""

from __future__ import annotations

import asyncio
import sys

import structlog

from foundation.database import connect_raw
from marketplace.notification_delivery import DeliveryTiming, NotificationDelivery
from marketplace.smtp_mailer import SmtpMailer, SmtpServer


async def deliver(url: str, port: int) -> None:
    """Deliver until the process is killed."""
    delivery = NotificationDelivery(
        lambda: connect_raw(url),
        SmtpMailer(SmtpServer("127.0.0.1", port, "none")),
        sender="market@gem.example",
        domain="gem.example",
        timing=DeliveryTiming(0.02, 0.02, 0.02, held_s=2.0),
    )
    await delivery.run()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(deliver(sys.argv[1], int(sys.argv[2])))
