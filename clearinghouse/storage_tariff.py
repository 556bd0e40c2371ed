"""Versions of tariffs in PostgreSQL: SQL and nothing else.

Tariffs belong to the partner that publishes them. `owners` are the partners whose tariffs a caller
may see; what another has does not exist for him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from clearinghouse.storage import Connection, Pool
from gem.roaming.v1.tariff_version_pb2 import TariffVersion


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be written; `content` is the rendered message."""

    owner_id: str
    operator_key: str
    tariff_id: str
    version_number: int
    valid_from: datetime
    #: None is without end.
    valid_until: datetime | None
    published_at: datetime
    request_id: str
    digest: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A stored version, with what pages are ordered by."""

    operator_key: str
    tariff_id: str
    owner_id: str
    version_number: int
    content: bytes

    def message(self) -> TariffVersion:
        """Read the version."""
        return TariffVersion.FromString(self.content)


_ROW = "operator_key, tariff_id, owner_id, version_number, content"


async def wait_for_tariff(connection: Connection, owner_id: str, key: str, tariff_id: str) -> int:
    """Let no other transaction publish this tariff; gives the number of its latest version."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended($1, 7))", f"{owner_id} {key} {tariff_id}"
    )
    latest: int = await connection.fetchval(
        "SELECT coalesce(max(version_number), 0) FROM clearinghouse.tariff_version"
        " WHERE owner_id = $1 AND operator_key = $2 AND tariff_id = $3",
        *(owner_id, key, tariff_id),
    )
    return latest


async def version_of_request(
    connection: Connection, owner_id: str, request_id: str
) -> tuple[bytes, bytes] | None:
    """Give the content that a request published, and the request's digest."""
    row = await connection.fetchrow(
        "SELECT content, digest FROM clearinghouse.tariff_version"
        " WHERE owner_id = $1 AND request_id = $2",
        *(owner_id, request_id),
    )
    return None if row is None else (row["content"], row["digest"])


async def add_version(connection: Connection, new: NewVersion) -> None:
    """Write a version; UniqueViolationError where the request published another meanwhile."""
    await connection.execute(
        "INSERT INTO clearinghouse.tariff_version (owner_id, operator_key, tariff_id,"
        " version_number, valid_from, valid_until, published_at, request_id, digest, content)"
        " VALUES ($1, $2, $3, $4, $5, coalesce($6::timestamptz, 'infinity'), $7, $8, $9, $10)",
        *(new.owner_id, new.operator_key, new.tariff_id, new.version_number, new.valid_from),
        *(new.valid_until, new.published_at, new.request_id, new.digest, new.content),
    )


class TariffStorage:
    """Reads tariffs through a pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def owner(self, owners: Sequence[str], operator_key: str, tariff_id: str) -> str | None:
        """Give who of the owners has a tariff: the first named, else who published it first."""
        owner_id: str | None = await self.pool.fetchval(
            "SELECT owner_id FROM clearinghouse.tariff_version WHERE owner_id = ANY($1)"
            " AND operator_key = $2 AND tariff_id = $3 AND version_number = 1"
            " ORDER BY owner_id = ($1::text[])[1] DESC, published_at, owner_id LIMIT 1",
            *(owners, operator_key, tariff_id),
        )
        return owner_id

    async def at_start(
        self, owner_id: str, operator_key: str, tariff_ids: Sequence[str], start: datetime
    ) -> dict[str, TariffVersion]:
        """Give the versions of one operator's tariffs that apply to sessions that start then.

        By tariff id; what the plausibility of a record and its rating are held against.
        """
        rows = await self.pool.fetch(
            f"SELECT DISTINCT ON (tariff_id) {_ROW} FROM clearinghouse.tariff_version"  # noqa: S608  # our names
            " WHERE owner_id = $1 AND operator_key = $2 AND tariff_id = ANY($3)"
            " AND valid_from <= $4 AND $4 < valid_until ORDER BY tariff_id, version_number DESC",
            *(owner_id, operator_key, tariff_ids, start),
        )
        return {row["tariff_id"]: _version(row).message() for row in rows}

    async def latest(
        self, owners: Sequence[str], operator_key: str, after: tuple[str, str, str], limit: int
    ) -> list[VersionRow]:
        """Give the latest version of each tariff by operator id, tariff id and owner.

        An empty operator key means any.
        """
        rows = await self.pool.fetch(
            f"SELECT DISTINCT ON (operator_key, tariff_id, owner_id) {_ROW}"  # noqa: S608  # our names
            " FROM clearinghouse.tariff_version WHERE owner_id = ANY($1)"
            " AND ($2 = '' OR operator_key = $2)"
            " AND (operator_key, tariff_id, owner_id) > ($3, $4, $5)"
            " ORDER BY operator_key, tariff_id, owner_id, version_number DESC LIMIT $6",
            *(owners, operator_key, *after, limit),
        )
        return [_version(row) for row in rows]

    async def versions(
        self, owner_id: str, operator_key: str, tariff_id: str, before: int, limit: int
    ) -> list[VersionRow]:
        """Give the versions of a tariff, the latest first."""
        rows = await self.pool.fetch(
            f"SELECT {_ROW} FROM clearinghouse.tariff_version"  # noqa: S608  # our names
            " WHERE owner_id = $1 AND operator_key = $2 AND tariff_id = $3"
            " AND version_number < $4 ORDER BY version_number DESC LIMIT $5",
            *(owner_id, operator_key, tariff_id, before, limit),
        )
        return [_version(row) for row in rows]


def _version(row: asyncpg.Record) -> VersionRow:
    return VersionRow(*(row[name] for name in VersionRow.__slots__))
