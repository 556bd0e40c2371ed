"""Delivers notices by e-mail: at least once, in order for each recipient, by whichever worker.

A worker holds the row of the e-mail that it hands to the mail server, in an open transaction. If
it dies, so does its connection, and the row is another worker's: the e-mail may go out twice, with
the same Message-ID, and is never lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from enum import Enum
from typing import Protocol

import asyncpg
import structlog

from foundation.certificates import utc_now
from marketplace.delivery import (
    DeliveryFailure,
    Letter,
    NotDeliveredError,
    check_deliverable,
    compose,
    next_try,
)
from marketplace.storage_outbox import OutboxStorage


class Mailer(Protocol):
    """What takes e-mails."""

    async def send(self, message: EmailMessage, sender: str, address: str) -> None:
        """Return once the e-mail is taken; raises NotDeliveredError."""


@dataclass(frozen=True, slots=True)
class DeliveryTiming:
    """Waits of the delivery, seconds."""

    #: Between two looks while nothing is due.
    idle_s: float = 1.0
    #: After the mail server could not be reached, whoever the next e-mail is for.
    unreachable_s: float = 5.0
    #: After the database failed.
    retry_s: float = 2.0
    #: Longest time that a worker which does not move keeps an e-mail from others; the mailer's
    #: own limit has to be shorter.
    held_s: float = 40.0


class Outcome(Enum):
    """What came of one look into the outbox."""

    NOTHING_DUE = "nothing due"
    SETTLED = "settled"
    UNREACHABLE = "unreachable"


class NotificationDelivery:
    """One worker's part in the delivery; as many as there are workers share the outbox."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        mailer: Mailer,
        *,
        sender: str,
        domain: str,
        timing: DeliveryTiming | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._connect = connect
        self._mailer = mailer
        self._sender = sender
        self._domain = domain
        self._timing = timing or DeliveryTiming()
        self._clock = clock
        self._log = structlog.get_logger(component="notification_delivery")

    async def run(self) -> None:
        """Deliver until cancelled; one task runs this. A lost connection is made anew."""
        while True:
            try:
                await self._serve()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._log.warning("delivery disconnected", error=type(error).__name__)
            except Exception:  # noqa: BLE001  # a defect must not end the delivery of all others
                self._log.exception("delivery failed")
            await asyncio.sleep(self._timing.retry_s)

    async def _serve(self) -> None:
        pauses = {
            Outcome.NOTHING_DUE: self._timing.idle_s,
            Outcome.SETTLED: 0.0,
            Outcome.UNREACHABLE: self._timing.unreachable_s,
        }
        connection = await self._connect()
        try:
            await OutboxStorage(connection).hold_at_most(self._timing.held_s)
            while True:
                outcome = await self.deliver_one(connection)
                await asyncio.sleep(pauses[outcome])
        finally:
            # Also where it is cancelled: the e-mail that it held is another worker's at once.
            connection.terminate()

    async def deliver_one(self, connection: asyncpg.Connection) -> Outcome:
        """Take the e-mail that is due first and try it once."""
        async with connection.transaction():
            storage = OutboxStorage(connection)
            letter = await storage.take(self._clock())
            if letter is None:
                return Outcome.NOTHING_DUE
            try:
                await self._send(letter)
            except NotDeliveredError as error:
                await self._settle_failed(storage, letter, error)
                unreachable = error.failure is DeliveryFailure.UNREACHABLE
                return Outcome.UNREACHABLE if unreachable else Outcome.SETTLED
            await storage.delivered(letter)
        return Outcome.SETTLED

    async def _send(self, letter: Letter) -> None:
        address = check_deliverable(letter, self._clock())
        message = compose(letter, address, self._sender, self._domain)
        await self._mailer.send(message, self._sender, address)

    async def _settle_failed(
        self, storage: OutboxStorage, letter: Letter, error: NotDeliveredError
    ) -> None:
        now, fraction = self._clock(), random.random()  # noqa: S311  # jitter
        due_at = next_try(error.failure, letter.attempt_count + 1, now, fraction)
        if due_at is not None:
            await storage.put_off(letter, error, due_at)
            return
        await storage.give_up(letter, error, now)
        self._log.warning(
            "e-mail given up",
            recipient_id=letter.recipient_id,
            sequence=letter.sequence,
            failure=error.failure.value,
            smtp_code=error.smtp_code,
        )
