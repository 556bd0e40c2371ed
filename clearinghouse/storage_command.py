"""Commands that take effect once however often they come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from clearinghouse.storage import Connection, Pool, transaction
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

R = TypeVar("R", bound=Message)

_FIRST = """
INSERT INTO clearinghouse.command (partner_id, request_id, digest, result)
VALUES ($1, $2, $3, '') ON CONFLICT DO NOTHING RETURNING partner_id
"""
_BEFORE = """
SELECT digest, result FROM clearinghouse.command WHERE partner_id = $1 AND request_id = $2
"""
_DONE = """
UPDATE clearinghouse.command SET result = $3 WHERE partner_id = $1 AND request_id = $2
"""


@dataclass(frozen=True, slots=True)
class Command:
    """A partner's command with its result."""

    partner_id: str
    request_id: str
    digest: bytes
    result: bytes


def command_digest(hashing: TokenHashing, request: Message) -> bytes:
    """Hash a command, which may hold tokens and secrets, by the clearing house's key."""
    name = request.DESCRIPTOR.full_name.encode()
    return hashing.content(name, request.SerializeToString(deterministic=True))


async def once(
    pool: Pool,
    hashing: TokenHashing,
    partner_id: str,
    request: Any,
    response_class: type[R],
    work: Callable[[Connection], Awaitable[R]],
) -> R:
    """Do `work` in a transaction, unless this partner's command was done; give its first result.

    The row is written before the work, so that a repetition that comes at the same time waits for
    the first one's transaction. A command that fails leaves no row and can be tried again.

    Raises:
        MarketError: REQUEST_ID_REUSED where the same id came with other content.
    """
    digest = command_digest(hashing, request)
    async with transaction(pool) as connection:
        key = (partner_id, request.request_id)
        if await connection.fetchval(_FIRST, *key, digest) is None:
            return response_class.FromString(await first_result(connection, *key, digest))
        response = await work(connection)
        await connection.execute(_DONE, *key, response.SerializeToString())
        return response


async def first_result(
    connection: Connection, partner_id: str, request_id: str, digest: bytes
) -> bytes:
    """Give the first result of a command that was done.

    Raises:
        MarketError: REQUEST_ID_REUSED where the same id came with other content.
    """
    before = await connection.fetchrow(_BEFORE, partner_id, request_id)
    if before["digest"] != digest:
        raise reused()
    result: bytes = before["result"]
    return result


def reused() -> MarketError:
    """Give the error for a request id that came with other content."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
        "This request_id was used before for another command.",
    )
