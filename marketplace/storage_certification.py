"""Conformance runs, certifications and their history, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.common.v1.paging_pb2 import PageInfo
from marketplace.actor import not_found
from marketplace.certification import CertificationEvent
from marketplace.conformance import Check, CheckKind, ConformanceState, Outcome, Run
from marketplace.storage_paging import Page
from marketplace.storage_tables_certification import (
    CERTIFICATION,
    CERTIFICATION_EVENT,
    CONFORMANCE_CHECK,
    CONFORMANCE_RUN,
)

_RUN, _CHECK, _EVENT = CONFORMANCE_RUN, CONFORMANCE_CHECK, CERTIFICATION_EVENT
_RUN_COLUMNS = tuple(c for c in _RUN.c if c.name not in ("position", "overdue_at"))
_RUNNING = _RUN.c.state == ConformanceState.RUNNING.value
#: The actor of what nobody asked for.
MARKETPLACE = "marketplace"
_SWEPT_MAX = 100
_DAY = timedelta(days=1)


async def is_certified(connection: AsyncConnection, service_id: str) -> bool:
    """Say whether a service has a certification in force."""
    return await CertificationStorage(connection).in_force(service_id) is not None


class CertificationStorage:
    """Reads and writes inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def start(self, run: Run, overdue_at: datetime) -> None:
        """Write a new run, which counts as abandoned once it is overdue."""
        row = {**asdict(run), "state": run.state.value, "overdue_at": overdue_at}
        await self._connection.execute(insert(_RUN).values(row))
        event = CertificationEvent.RUN_STARTED
        await self.remember(run.service_id, event, run.requested_by, run.started_at, run.run_id)

    async def put_off(self, run_id: str, overdue_at: datetime) -> None:
        """Note that a run is still being worked at."""
        mine = (_RUN.c.run_id == run_id) & _RUNNING
        await self._connection.execute(update(_RUN).where(mine).values(overdue_at=overdue_at))

    async def end(
        self, run_id: str, state: ConformanceState, checks: Sequence[Check], now: datetime
    ) -> Run | None:
        """End a run with its report; None where it has ended before."""
        mine = (_RUN.c.run_id == run_id) & _RUNNING
        values = {"state": state.value, "ended_at": now}
        statement = update(_RUN).where(mine).values(values).returning(*_RUN_COLUMNS)
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            return None
        rows = [
            {
                "run_id": run_id,
                "number": number,
                "kind": check.kind.value,
                "method": check.method,
                "outcome": check.outcome.value,
                "detail": check.detail,
                "duration_us": check.duration_us,
            }
            for number, check in enumerate(checks)
        ]
        if rows:
            await self._connection.execute(insert(_CHECK), rows)
        return _run(row)

    async def overdue(self, now: datetime) -> list[str]:
        """Give runs at which nobody works any more; others leave them alone until the commit."""
        query = select(_RUN.c.run_id).where(_RUNNING, _RUN.c.overdue_at < now)
        query = query.order_by(_RUN.c.position).limit(_SWEPT_MAX)
        return list(await self._connection.scalars(query.with_for_update(skip_locked=True)))

    async def get(self, run_id: str) -> Run:
        """Give a run; raises MarketError NOT_FOUND."""
        query = select(*_RUN_COLUMNS).where(_RUN.c.run_id == run_id)
        row = (await self._connection.execute(query)).one_or_none()
        if row is None:
            raise not_found("conformance report")
        return _run(row)

    async def checks(self, run_id: str) -> list[Check]:
        """Give the checks of a run in their order."""
        query = select(_CHECK).where(_CHECK.c.run_id == run_id).order_by(_CHECK.c.number)
        return [
            Check(
                CheckKind(row.kind), row.method, Outcome(row.outcome), row.detail, row.duration_us
            )
            for row in await self._connection.execute(query)
        ]

    async def page(self, page: Page[int], service_id: str) -> tuple[list[Run], PageInfo]:
        """List the runs of a service, the latest first."""
        query = select(_RUN.c.position, *_RUN_COLUMNS).where(_RUN.c.service_id == service_id)
        query = page.of(query, _RUN.c.position, descending=True)
        rows, info = page.cut(
            (await self._connection.execute(query)).all(), lambda row: int(row.position)
        )
        return [_run(row) for row in rows], info

    async def recent(self, service_id: str, now: datetime) -> tuple[bool, int]:
        """Say whether a run is under way, and how many began within a day."""
        query = select(
            func.count().filter(_RUNNING), func.count().filter(_RUN.c.started_at > now - _DAY)
        )
        row = (await self._connection.execute(query.where(_RUN.c.service_id == service_id))).one()
        return row[0] > 0, int(row[1])

    async def in_force(self, service_id: str) -> Row[Any] | None:
        """Give the certification of a service that is in force."""
        query = select(CERTIFICATION).where(_in_force(service_id))
        return (await self._connection.execute(query)).one_or_none()

    async def certify(self, run: Run, now: datetime) -> None:
        """Write a certification."""
        row = {
            "service_id": run.service_id,
            "run_id": run.run_id,
            "interface_name": run.interface_name,
            "interface_version": run.interface_version,
            "certified_at": now,
        }
        await self._connection.execute(insert(CERTIFICATION).values(row))

    async def revoke(self, service_id: str, now: datetime) -> str | None:
        """End the certification in force; gives the run on which it rested, None without one."""
        statement = update(CERTIFICATION).where(_in_force(service_id)).values(ended_at=now)
        found = await self._connection.execute(statement.returning(CERTIFICATION.c.run_id))
        run_id: str | None = found.scalar_one_or_none()
        return run_id

    async def remember(
        self,
        service_id: str,
        event: CertificationEvent,
        actor: str,
        now: datetime,
        run_id: str = "",
        reason: str = "",
    ) -> None:
        """Write one row of the history."""
        row = {
            "service_id": service_id,
            "kind": event.value,
            "run_id": run_id,
            "reason": reason,
            "actor": actor,
            "occurred_at": now,
        }
        await self._connection.execute(insert(_EVENT).values(row))

    async def events(self, page: Page[int], service_id: str) -> tuple[Sequence[Row[Any]], PageInfo]:
        """List the history of a service, the oldest first."""
        query = page.of(select(_EVENT).where(_EVENT.c.service_id == service_id), _EVENT.c.position)
        rows = (await self._connection.execute(query)).all()
        return page.cut(rows, lambda row: int(row.position))


def _in_force(service_id: str) -> Any:
    return (CERTIFICATION.c.service_id == service_id) & CERTIFICATION.c.ended_at.is_(None)


def _run(row: Any) -> Run:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's public name for it
    values.pop("position", None)
    return Run(**{**values, "state": ConformanceState(row.state)})
