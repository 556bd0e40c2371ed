"""Transactions of the control plane, and commands that take effect once however often they come."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import Actor, actor_of
from marketplace.storage_routing import routing_version
from marketplace.storage_tables import COMMAND

R = TypeVar("R", bound=Message)

#: Serialisation failure, deadlock, lock not available.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
#: Classes of SQLSTATE: connection, insufficient resources, operator intervention (57: shutdown,
#: statement cancelled by its timeout).
_UNAVAILABLE_CLASSES = frozenset({"08", "53", "57"})
#: Data exceptions: what the schema lets pass and PostgreSQL does not, which is a NUL in a text.
_DATA_CLASS = "22"
_RETRY_AFTER_S = 1.0


class Lock(Enum):
    """How a transaction holds a row until its end."""

    #: Nobody else changes it; others may hold it the same way.
    SHARED = "share"
    #: Nobody else holds or changes it.
    ALONE = "update"


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that commits when the block ends and rolls back when it raises.

    Raises:
        MarketError: REQUEST_INVALID for a text with a NUL; STORAGE_UNAVAILABLE while PostgreSQL
            cannot be reached (the commit may have happened: the command is to be repeated with its
            request_id); CONFLICT where another transaction was in the way.
    """
    try:
        async with engine.begin() as connection:
            yield connection
    except (OSError, PoolTimeoutError):
        raise _unavailable() from None
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in _CONFLICTS:
            raise conflict() from error
        if state[:2] == _DATA_CLASS:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_INVALID,
                "The request holds a text that cannot be stored, such as one with a NUL.",
            ) from error
        if error.connection_invalidated or state[:2] in _UNAVAILABLE_CLASSES or not state:
            raise _unavailable() from error
        raise


async def once(
    connection: AsyncConnection,
    actor: Actor,
    request: Any,
    response_class: type[R],
    now: datetime,
    work: Callable[[], Awaitable[R]],
) -> R:
    """Do `work` unless this actor's command with this `request_id` was done; give its first result.

    The row is written before the work, so that a repetition that comes at the same time waits for
    the first one's transaction. A command that fails leaves no row and can be tried again.

    Raises:
        MarketError: REQUEST_ID_REUSED where the same id came with other content.
    """
    content = request.DESCRIPTOR.full_name.encode() + b"\0"
    content += request.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).digest()
    key = (COMMAND.c.subject_id == actor.name) & (COMMAND.c.request_id == request.request_id)
    row = {
        "subject_id": actor.name,
        "request_id": request.request_id,
        "digest": digest,
        "result": b"",
        "accepted_at": now,
    }
    first = insert(COMMAND).values(row).on_conflict_do_nothing().returning(COMMAND.c.subject_id)
    if (await connection.execute(first)).one_or_none() is None:
        found = select(COMMAND.c.digest, COMMAND.c.result).where(key)
        before = (await connection.execute(found)).one()
        if before.digest != digest:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
                "This request_id was used before for another command.",
            )
        return response_class.FromString(before.result)
    response = await work()
    result = response.SerializeToString()
    await connection.execute(update(COMMAND).where(key).values(result=result))
    return response


@dataclass(frozen=True, slots=True)
class Work:
    """What one call does its work with: an open transaction, who acts, and the time."""

    connection: AsyncConnection
    actor: Actor
    now: datetime


class Commands:
    """Runs the core services' calls, each in one transaction."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Callable[[], datetime] = utc_now,
        effective: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """`effective(version)` waits until every worker routes by that version or a later one."""
        self._engine = engine
        self._clock = clock
        self._effective = effective

    async def run(
        self,
        request: Any,
        call: Call,
        response_class: type[R],
        work: Callable[[Work], Awaitable[R]],
        actor: Actor | None = None,
    ) -> R:
        """Do a command once; see `transaction` and `once` for what they raise.

        Returns when the next call on any worker follows it, also for a repetition. `actor` acts in
        place of the caller where anybody may call.
        """
        async with transaction(self._engine) as connection:
            open_work = Work(connection, actor or actor_of(call), self._clock())

            async def do() -> R:
                return await work(open_work)

            response = await once(
                connection, open_work.actor, request, response_class, open_work.now, do
            )
            version = await routing_version(connection)
        if self._effective is not None:
            await self._effective(version)
        return response

    @asynccontextmanager
    async def read(self, call: Call, actor: Actor | None = None) -> AsyncIterator[Work]:
        """Open a transaction for a query; see `transaction` for what it raises, `run` for who."""
        async with transaction(self._engine) as connection:
            yield Work(connection, actor or actor_of(call), self._clock())

    @asynccontextmanager
    async def aside(self, call: Call) -> AsyncIterator[Work]:
        """Open a transaction of its own, for what stays although the command was refused."""
        async with self.read(call) as work:
            yield work


def conflict() -> MarketError:
    """Give the error for a change that lost against another one; trying again is safe."""
    return MarketError(
        ErrorReason.ERROR_REASON_CONFLICT, "Someone else changed the same thing: try again."
    )


def _unavailable() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE,
        "The marketplace's storage cannot be reached: repeat the call with its request_id.",
        retry_after_s=_RETRY_AFTER_S,
    )
