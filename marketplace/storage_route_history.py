"""What routing depended on at an instant, from the histories in PostgreSQL.

The present is read from the states themselves, which the routing table is made of; the past from
the histories, each row of which has the state after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from gem.marketplace.v1.contract_pb2 import ContractTerms
from marketplace.actor import party_of
from marketplace.contract import ENDED, ContractState, ContractStep
from marketplace.contract_period import Ending
from marketplace.route_explanation import Candidate, CertificateRow, RouteEvent, Standing
from marketplace.storage_tables import CERTIFICATE

#: A call asks at most so many; services without a contract besides.
CONTRACTED_MAX = 1000
UNCONTRACTED_MAX = 100
#: What the end of a period makes of a contract; a prolongation leaves it in force.
_ENDED_BY = {
    Ending.EXPIRES.value: ContractState.EXPIRED,
    Ending.TERMINATES.value: ContractState.TERMINATED,
}
#: Stands for the present in conditions on the histories, which it does not limit.
_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)


def _history(table: str, key: str, subject: str, name: str) -> str:
    """Give a row with the state of a subject at `:at`, and the event since which it has had it."""
    upto = f"e.{key} = {subject} AND e.occurred_at <= :at"
    return f"""
    LATERAL (
        SELECT last.state, first.kind, first.actor, first.occurred_at
        FROM (SELECT e.state FROM marketplace.{table} e WHERE {upto}
              ORDER BY e.position DESC LIMIT 1) last
        CROSS JOIN LATERAL (
            SELECT e.kind, e.actor, e.occurred_at FROM marketplace.{table} e
            WHERE {upto} AND e.position > coalesce(
                (SELECT max(e.position) FROM marketplace.{table} e
                 WHERE {upto} AND e.state <> last.state), 0)
            ORDER BY e.position LIMIT 1) first
    ) {name}"""  # noqa: S608  # made of the names in this module


_STANDINGS = """
    s.service_id, s.provider_id, s.endpoint,
    s.state AS service_now, sh.state AS service_state, sh.kind AS service_kind,
    sh.actor AS service_actor, sh.occurred_at AS service_at,
    p.state AS provider_now, ph.state AS provider_state, ph.kind AS provider_kind,
    ph.actor AS provider_actor, ph.occurred_at AS provider_at
"""
_HISTORIES = f"""
    JOIN marketplace.partner p ON p.partner_id = s.provider_id
    CROSS JOIN {_history("service_event", "service_id", "s.service_id", "sh")}
    CROSS JOIN {_history("partner_event", "partner_id", "s.provider_id", "ph")}
"""
# A contract covers its own service from its making on, and each that was added from an instant on.
_REACHED = """
        CROSS JOIN LATERAL (
            SELECT c.service_id, 0::bigint AS place, c.created_at AS since
            UNION ALL
            SELECT a.service_id, a.place, a.effective_at FROM marketplace.contract_added_service a
            WHERE a.contract_id = c.contract_id) r
"""
_CONTRACTED = f"""
    SELECT {_STANDINGS}, c.contract_id, c.terms, c.state AS contract_now,
        c.starts_at, c.ends_at, c.ending,
        ch.state AS contract_state, ch.kind AS contract_kind, ch.actor AS contract_actor,
        ch.occurred_at AS contract_at
    FROM (
        SELECT DISTINCT ON (r.service_id) r.service_id, r.place, c.contract_id, c.position,
            c.terms, c.state, c.starts_at, c.ends_at, c.ending
        FROM marketplace.contract c {_REACHED}
        WHERE c.requester_id = :requester AND r.since <= :now
        ORDER BY r.service_id, r.since DESC, c.position DESC
    ) c
    JOIN marketplace.service s ON s.service_id = c.service_id
    {_HISTORIES}
    CROSS JOIN {_history("contract_event", "contract_id", "c.contract_id", "ch")}
    WHERE s.interface_name = :interface AND :provider IN ('', s.provider_id)
    ORDER BY c.position, c.place LIMIT {CONTRACTED_MAX}
"""  # noqa: S608  # made of the constants above
_UNCONTRACTED = f"""
    SELECT {_STANDINGS}
    FROM marketplace.service s {_HISTORIES}
    WHERE s.interface_name = :interface AND :provider IN ('', s.provider_id)
        AND s.provider_id <> :requester AND s.registered_at <= :at
        AND CASE WHEN :past THEN sh.state ELSE s.state END = 'PUBLISHED'
        AND NOT EXISTS (
            SELECT FROM marketplace.contract c {_REACHED}
            WHERE c.requester_id = :requester AND r.service_id = s.service_id
                AND r.since <= :now)
    ORDER BY s.position LIMIT {UNCONTRACTED_MAX + 1}
"""  # noqa: S608  # as above
_PARTNER = f"""
    SELECT p.state AS partner_now, p.roles, ph.state AS partner_state, ph.kind AS partner_kind,
        ph.actor AS partner_actor, ph.occurred_at AS partner_at
    FROM marketplace.partner p
    LEFT JOIN {_history("partner_event", "partner_id", "p.partner_id", "ph")} ON true
    WHERE p.partner_id = :partner
"""  # noqa: S608  # as above
_ARE_PARTIES = """
    SELECT EXISTS (SELECT FROM marketplace.contract
                   WHERE requester_id = :requester AND provider_id = :provider)
"""
# Versions that were published before labels had a history are found by their publication.
_VERSION = """
    SELECT CASE WHEN e.set THEN e.version END AS version, e.actor, e.occurred_at
    FROM marketplace.interface_label_event e
    WHERE e.interface_name = :interface AND e.label = 'CURRENT' AND e.occurred_at <= :at
    ORDER BY e.position DESC LIMIT 1
"""
_VERSION_NOW = """
    SELECT version, '' AS actor, effective_at AS occurred_at FROM marketplace.interface_label
    WHERE interface_name = :interface AND label = 'CURRENT'
"""
_VERSION_BEFORE_LABELS = """
    SELECT version, '' AS actor, published_at AS occurred_at
    FROM marketplace.interface_version JOIN marketplace.interface_publication USING (publication_id)
    WHERE interface_name = :interface AND published_at <= :at ORDER BY version DESC LIMIT 1
"""
_OWNER = """
    SELECT partner_id FROM marketplace.identifier_ownership
    WHERE kind = :kind AND value = :value AND from_at <= :at
        AND (until_at IS NULL OR until_at > :at)
    ORDER BY position DESC LIMIT 1
"""
_OWNER_NOW = """
    SELECT partner_id FROM marketplace.owned_identifier WHERE kind = :kind AND value = :value
"""


@dataclass(frozen=True, slots=True)
class Requester:
    """The partner that calls, at an instant."""

    standing: Standing
    #: Its roles of today.
    roles: tuple[int, ...]


class RouteHistory:
    """Reads the past of routing up to an instant; `at` None means the present, which is `now`."""

    def __init__(self, connection: AsyncConnection, at: datetime | None, now: datetime) -> None:
        self._connection = connection
        self._now = at or now
        self._past = at is not None
        self._at = at or _END_OF_TIME

    async def requester(self, partner_id: str) -> Requester | None:
        """Give the partner that calls; None where there was none."""
        rows = await self._all(_PARTNER, partner=partner_id)
        if not rows or (self._past and rows[0].partner_state is None):
            return None
        return Requester(self._standing(rows[0], "partner", "partner"), tuple(rows[0].roles))

    async def certificates(self, partner_id: str) -> list[CertificateRow]:
        """Give a partner's certificates in the order of their registration."""
        columns = CERTIFICATE.c
        query = select(
            columns.registered_at, columns.not_before_at, columns.not_after_at, columns.revoked_at
        )
        query = query.where(columns.partner_id == partner_id).order_by(columns.position)
        return [CertificateRow(*row) for row in await self._connection.execute(query)]

    async def are_parties(self, requester_id: str, provider_id: str) -> bool:
        """Say whether the two have or had a contract."""
        rows = await self._all(_ARE_PARTIES, requester=requester_id, provider=provider_id)
        return bool(rows[0][0])

    async def version(self, interface_name: str) -> tuple[int, RouteEvent | None]:
        """Give the version that was routed, 0 for none, and what took the last one away."""
        rows = await self._all(_VERSION if self._past else _VERSION_NOW, interface=interface_name)
        if not rows and self._past:
            rows = await self._all(_VERSION_BEFORE_LABELS, interface=interface_name)
        if not rows:
            return 0, None
        row = rows[0]
        if row.version is not None:
            return row.version, None
        return 0, RouteEvent("interface", "REMOVED", party_of(row.actor), row.occurred_at)

    async def owner(self, kind: int, value: str) -> str | None:
        """Give who owned an identifier of a `gem.common.v1.IdentifierKind`, normalised."""
        rows = await self._all(_OWNER if self._past else _OWNER_NOW, kind=kind, value=value)
        return rows[0].partner_id if rows else None

    async def contracted(
        self, requester_id: str, interface_name: str, provider_id: str
    ) -> list[Candidate]:
        """Give the services of an interface under contract, in contract order.

        Only those of one provider unless `provider_id` is empty.
        """
        which = {"requester": requester_id, "interface": interface_name, "provider": provider_id}
        rows = await self._all(_CONTRACTED, **which)
        return [self._candidate(row) for row in rows]

    async def uncontracted(
        self, requester_id: str, interface_name: str, provider_id: str
    ) -> tuple[list[Candidate], bool]:
        """Give published services of an interface without a contract, and whether more exist."""
        which = {"requester": requester_id, "interface": interface_name, "provider": provider_id}
        rows = await self._all(_UNCONTRACTED, past=self._past, **which)
        shown = [self._candidate(row) for row in rows[:UNCONTRACTED_MAX]]
        return shown, len(rows) > UNCONTRACTED_MAX

    def _candidate(self, row: Row[Any]) -> Candidate:
        found = Candidate(
            provider_id=row.provider_id,
            service_id=row.service_id,
            endpoint=row.endpoint,
            service=self._standing(row, "service", "service"),
            provider=self._standing(row, "provider", "partner"),
        )
        values = row._mapping  # noqa: SLF001  # SQLAlchemy's public name for it
        if "contract_id" not in values:
            return found
        sections = ContractTerms.FromString(row.terms).sections
        return Candidate(
            found.provider_id,
            found.service_id,
            found.endpoint,
            found.service,
            found.provider,
            contract_id=row.contract_id,
            contract=_as_agreed(self._standing(row, "contract", "contract"), row, self._now),
            section_ids=tuple(section.section_id for section in sections),
        )

    def _standing(self, row: Row[Any], name: str, history: str) -> Standing:
        values = row._mapping  # noqa: SLF001  # as above
        state, now = values[f"{name}_state"], values[f"{name}_now"]
        event = None
        if state is not None and (self._past or state == now):
            actor = party_of(values[f"{name}_actor"])
            event = RouteEvent(history, values[f"{name}_kind"], actor, values[f"{name}_at"])
        return Standing(state if self._past else now, event)

    async def _all(self, query: str, **values: object) -> Sequence[Row[Any]]:
        statement = text(query)
        wanted = {**values, "at": self._at, "now": self._now}
        known = statement.compile().params
        chosen = {name: value for name, value in wanted.items() if name in known}
        return (await self._connection.execute(statement, chosen)).all()


def _as_agreed(standing: Standing, row: Row[Any], now: datetime) -> Standing:
    """Give where a contract stands by its agreed instants, written down by now or not.

    Routes change at these instants; the history is written within moments after.
    """
    if standing.state == ContractState.PENDING and row.starts_at <= now:
        event = RouteEvent("contract", ContractStep.STARTED, "", row.starts_at)
        standing = Standing(ContractState.ACTIVE, event)
    ended = _ENDED_BY.get(row.ending)
    if ended is not None and row.ends_at <= now and standing.state not in ENDED:
        return Standing(ended, RouteEvent("contract", ended, "", row.ends_at))
    return standing
