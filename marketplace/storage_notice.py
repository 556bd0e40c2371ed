"""Notices, inboxes and preferences in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.notice import DEFAULT_PREFERENCES, Notice, NoticeKind, Preference
from marketplace.partner import PartnerState
from marketplace.storage_paging import Page
from marketplace.storage_tables import CONTRACT, NOTICE, NOTICE_PREFERENCE, PARTNER
from marketplace.storage_tables_contract import CONTRACT_SERVICE

#: The PostgreSQL channel on which those who follow an inbox hear its owner's id.
CHANNEL = "gem_notice"
#: Stands for every inbox.
EVERYBODY = "*"
#: Beyond so many notices in a transaction one word wakes everybody.
_NAMED_MAX = 100
_CHUNK = 1000

_TEXTS = (
    *("recipient_id", "kind", "title", "text"),
    *("contract_id", "service_id", "interface_name", "sender_id"),
)
_ARRAYS = ", ".join(f"CAST(:{name} AS text[])" for name in _TEXTS)
_NAMES = ", ".join(_TEXTS)
# One statement: preferences decide what is kept; the inboxes are locked by id, so that two who
# tell the same partners wait for each other and never in a ring.
_TELL = text(
    f"""
    WITH told AS (
        SELECT t.*, coalesce(p.inbox, t.inbox_default) AS in_inbox,
            coalesce(p.email, t.email_default) AS by_email
        FROM unnest({_ARRAYS}, CAST(:occurred_at AS timestamptz[]),
                CAST(:inbox_default AS boolean[]), CAST(:email_default AS boolean[]))
            WITH ORDINALITY
            AS t({_NAMES}, occurred_at, inbox_default, email_default, place)
        LEFT JOIN marketplace.notice_preference p
            ON p.partner_id = t.recipient_id AND p.kind = t.kind
    ), kept AS (
        SELECT *, row_number() OVER (PARTITION BY recipient_id ORDER BY place DESC) AS from_end
        FROM told WHERE in_inbox OR by_email
    ), counted AS (
        INSERT INTO marketplace.inbox AS before (recipient_id, last_sequence)
        SELECT recipient_id, count(*) FROM kept
        GROUP BY recipient_id ORDER BY recipient_id COLLATE "C"
        ON CONFLICT (recipient_id)
            DO UPDATE SET last_sequence = before.last_sequence + excluded.last_sequence
        RETURNING recipient_id, last_sequence
    ), numbered AS (
        SELECT kept.*, counted.last_sequence + 1 - kept.from_end AS sequence
        FROM kept JOIN counted USING (recipient_id)
    ), written AS (
        INSERT INTO marketplace.notice ({_NAMES}, sequence, in_inbox, created_at)
        SELECT {_NAMES}, sequence, in_inbox, occurred_at FROM numbered
    ), queued AS (
        INSERT INTO marketplace.notice_outbox
            (recipient_id, sequence, state, attempt_count, due_at)
        SELECT recipient_id, sequence, 'PENDING', 0, occurred_at
        FROM numbered WHERE by_email ORDER BY place
    )
    SELECT pg_notify('{CHANNEL}', CASE WHEN :many THEN '{EVERYBODY}' ELSE recipient_id END)
    FROM counted
    """  # noqa: S608  # constants of this module
)


async def tell(connection: AsyncConnection, notices: Iterable[Notice]) -> None:
    """Write notices, and the e-mails that preferences ask for, in the caller's own transaction.

    To be called once in a transaction, after its other changes and before `announce`: it holds the
    recipients' inboxes until the commit, so that their sequences have the order of the commits.
    """
    ordered = sorted(notices, key=attrgetter("recipient_id"))
    for start in range(0, len(ordered), _CHUNK):
        chunk = ordered[start : start + _CHUNK]
        defaults = [DEFAULT_PREFERENCES[notice.kind] for notice in chunk]
        parameters: dict[str, Any] = {
            name: [str(getattr(notice, name)) for notice in chunk] for name in _TEXTS
        }
        parameters |= {
            "occurred_at": [notice.occurred_at for notice in chunk],
            "inbox_default": [preference.inbox for preference in defaults],
            "email_default": [preference.email for preference in defaults],
            "many": len(ordered) > _NAMED_MAX,
        }
        await connection.execute(_TELL, parameters)


async def requesters_of(connection: AsyncConnection, service_id: str) -> list[str]:
    """Give the partners that have a contract for a service in force."""
    added = select(CONTRACT_SERVICE.c.contract_id).where(
        CONTRACT_SERVICE.c.service_id == service_id
    )
    covers = (CONTRACT.c.service_id == service_id) | CONTRACT.c.contract_id.in_(added)
    mine = covers & CONTRACT.c.state.not_in(["TERMINATED", "EXPIRED"])
    query = select(CONTRACT.c.requester_id).where(mine).distinct()
    return list(await connection.scalars(query.order_by(CONTRACT.c.requester_id)))


async def active_partners(connection: AsyncConnection) -> list[str]:
    """Give all partners that may act."""
    query = select(PARTNER.c.partner_id).where(PARTNER.c.state == PartnerState.ACTIVE.value)
    return list(await connection.scalars(query.order_by(PARTNER.c.partner_id)))


@dataclass(frozen=True, slots=True)
class NoticeFilter:
    """Conditions of an inbox's list, applied together; an empty one does not apply."""

    kind: NoticeKind | None = None
    unread_only: bool = False


class NoticeStorage:
    """Reads and marks one partner's notices inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection, recipient_id: str) -> None:
        self._connection = connection
        self._recipient_id = recipient_id
        self._mine = (NOTICE.c.recipient_id == recipient_id) & NOTICE.c.in_inbox

    async def page(
        self, page: Page[int], condition: NoticeFilter
    ) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the inbox, the latest first."""
        query = select(NOTICE).where(self._mine)
        if condition.kind is not None:
            query = query.where(NOTICE.c.kind == condition.kind.value)
        if condition.unread_only:
            query = query.where(NOTICE.c.read_at.is_(None))
        query = page.of(query, NOTICE.c.sequence, descending=True)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: int(row.sequence))

    async def following(self, sequence: int, most: int) -> Sequence[Row[Any]]:
        """Give the first notices behind a sequence, the oldest first."""
        query = select(NOTICE).where(self._mine, NOTICE.c.sequence > sequence)
        query = query.order_by(NOTICE.c.sequence).limit(most)
        return (await self._connection.execute(query)).all()

    async def mark_read(self, first: int, last: int, now: datetime) -> int:
        """Mark what is not read in a range, both ends included; gives how many that were."""
        meant = NOTICE.c.sequence.between(first, last) & NOTICE.c.read_at.is_(None)
        statement = update(NOTICE).where(self._mine, meant).values(read_at=now)
        return int((await self._connection.execute(statement)).rowcount)

    async def preferences(self) -> dict[NoticeKind, Preference]:
        """Give the preference for every kind."""
        query = select(NOTICE_PREFERENCE).where(
            NOTICE_PREFERENCE.c.partner_id == self._recipient_id
        )
        own = {
            NoticeKind(row.kind): Preference(row.inbox, row.email)
            for row in await self._connection.execute(query)
        }
        return {**DEFAULT_PREFERENCES, **own}

    async def prefer(self, kind: NoticeKind, preference: Preference) -> None:
        """Replace the preference for a kind."""
        values = {"inbox": preference.inbox, "email": preference.email}
        key = {"partner_id": self._recipient_id, "kind": kind.value}
        statement = insert(NOTICE_PREFERENCE).values({**key, **values})
        statement = statement.on_conflict_do_update(
            index_elements=["partner_id", "kind"], set_=values
        )
        await self._connection.execute(statement)
