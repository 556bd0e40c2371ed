"""Reads what the routing snapshot is made of, over one raw connection (asyncpg, streaming).

A target is in the snapshot while its contract is active, its service published and started, and its
provider active. The instants that were agreed count: what is not in force at the given time, or
will not be at some later one, comes with its window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.options.v1.options_pb2 import AccessRole, RouteKey
from interceptors.certificate import CertificateRecord
from marketplace.price import price_of
from marketplace.router.target import Price, Target
from marketplace.routing_schedule import Window, Windows, in_force
from marketplace.storage_routing import APPLIED_CHANNEL

#: Rows that are fetched at a time: between two fetches other tasks of the loop run.
CHUNK_ROWS = 2000
_NEVER = float("inf")
_PARTNER_ROLES = frozenset({int(AccessRole.ACCESS_ROLE_PARTNER)})

#: Which routing key an identifier of a partner serves.
ROUTE_KEY_OF = {
    int(IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID): int(RouteKey.ROUTE_KEY_EVSE_ID),
    int(IdentifierKind.IDENTIFIER_KIND_PROVIDER_ID): int(RouteKey.ROUTE_KEY_CONTRACT_ID),
}

VERSION = "SELECT version FROM marketplace.routing_version"

_SERVICES = """
    SELECT s.service_id, s.provider_id, s.interface_name, s.service_version, s.endpoint
    FROM marketplace.service s JOIN marketplace.partner p ON p.partner_id = s.provider_id
    WHERE s.state = 'PUBLISHED' AND p.state = 'ACTIVE'
"""
# What calls reach under a contract, and when: its own service at the price in force, from the next
# revision of its terms on at that one's, and the services that were added. Whoever adds to what a
# price is adds to each part.
_REACHED = """
    SELECT c.contract_id, c.requester_id, c.service_id, c.position, 0::bigint AS place,
           coalesce(r.price_per_call_micros, c.price_per_call_micros) AS price_per_call_micros,
           coalesce(r.currency_code, c.currency_code) AS currency_code,
           CASE WHEN r.revision IS NULL THEN c.price_id ELSE r.price_id END AS price_id,
           greatest(c.starts_at, r.effective_at) AS valid_from,
           least(CASE WHEN c.ending IN ('EXPIRES', 'TERMINATES') THEN c.ends_at END,
                 n.effective_at) AS valid_to
    FROM marketplace.contract c
        LEFT JOIN marketplace.contract_revision r
            ON r.contract_id = c.contract_id AND r.revision = c.revision
        LEFT JOIN marketplace.contract_revision n
            ON n.contract_id = c.contract_id AND n.revision = c.revision + 1
    WHERE c.state IN ('ACTIVE', 'PENDING') AND {condition}
    UNION ALL
    SELECT c.contract_id, c.requester_id, c.service_id, c.position, 0,
           n.price_per_call_micros, n.currency_code, n.price_id,
           greatest(c.starts_at, n.effective_at),
           CASE WHEN c.ending IN ('EXPIRES', 'TERMINATES') THEN c.ends_at END
    FROM marketplace.contract c
        JOIN marketplace.contract_revision n
            ON n.contract_id = c.contract_id AND n.revision = c.revision + 1
    WHERE c.state IN ('ACTIVE', 'PENDING') AND {condition}
    UNION ALL
    SELECT c.contract_id, c.requester_id, a.service_id, c.position, a.place,
           a.price_per_call_micros, a.currency_code, a.price_id,
           greatest(c.starts_at, a.effective_at),
           CASE WHEN c.ending IN ('EXPIRES', 'TERMINATES') THEN c.ends_at END
    FROM marketplace.contract c
        JOIN marketplace.contract_added_service a USING (contract_id)
    WHERE c.state IN ('ACTIVE', 'PENDING') AND {condition}
"""
# Nearly all contracts have one revision and one service: those are read in the order of an index.
_CONTRACTS = """
    SELECT contract_id, requester_id, service_id, price_per_call_micros, currency_code,
           price_id, model AS price_model, starts_at AS valid_from,
           CASE WHEN ending IN ('EXPIRES', 'TERMINATES') THEN ends_at END AS valid_to
    FROM marketplace.contract LEFT JOIN marketplace.price_model USING (price_id)
    WHERE state IN ('ACTIVE', 'PENDING') ORDER BY position
"""
_AMENDED = """c.contract_id IN (
    SELECT contract_id FROM marketplace.contract_revision
    UNION SELECT contract_id FROM marketplace.contract_added_service)"""
_AMENDED_ROUTES = f"""
    SELECT DISTINCT c.requester_id, s.interface_name
    FROM ({_REACHED.format(condition=_AMENDED)}) AS c
        JOIN marketplace.service s ON s.service_id = c.service_id
"""  # noqa: S608  # a constant of this module
# Each part is narrowed by itself: the planner does not push a join into a union.
_REACHED_BY = _REACHED.format(condition="c.requester_id = ANY($1::text[])")
_ROUTES = f"""
    SELECT c.*, s.provider_id, s.interface_name, s.service_version, s.endpoint,
           m.model AS price_model
    FROM unnest($1::text[], $2::text[]) AS wanted(requester_id, interface_name)
    JOIN ({_REACHED_BY}) AS c ON c.requester_id = wanted.requester_id
    JOIN marketplace.service s ON s.service_id = c.service_id AND s.state = 'PUBLISHED'
         AND s.interface_name = wanted.interface_name
    JOIN marketplace.partner p ON p.partner_id = s.provider_id AND p.state = 'ACTIVE'
    LEFT JOIN marketplace.price_model m ON m.price_id = c.price_id
    ORDER BY c.position, c.place, c.valid_from
"""  # noqa: S608  # a constant of this module
_ROUTES_OF_SERVICES = """
    SELECT c.requester_id, s.interface_name
    FROM marketplace.service s JOIN marketplace.contract c ON c.service_id = s.service_id
    WHERE s.service_id = ANY($1::text[]) AND c.state IN ('ACTIVE', 'PENDING')
    UNION
    SELECT c.requester_id, s.interface_name
    FROM marketplace.service s
        JOIN marketplace.contract_added_service a ON a.service_id = s.service_id
        JOIN marketplace.contract c ON c.contract_id = a.contract_id
    WHERE s.service_id = ANY($1::text[]) AND c.state IN ('ACTIVE', 'PENDING')
"""
_OWNERS = "SELECT kind, value, partner_id FROM marketplace.owned_identifier"
_SOME_OWNERS = f"""
    {_OWNERS} JOIN unnest($1::smallint[], $2::text[]) AS wanted(kind, value) USING (kind, value)
"""
# A connection may outlive its certificate for a while and is told so; after a day it is forgotten.
_CERTIFICATES = """
    SELECT c.fingerprint, c.partner_id, c.operator_name, c.operator_role, c.not_after_at,
           c.revoked_at IS NOT NULL AS revoked, p.state = 'ACTIVE' AS partner_active
    FROM marketplace.certificate c LEFT JOIN marketplace.partner p USING (partner_id)
    WHERE c.not_after_at > now() - interval '1 day'
"""
_SOME_CERTIFICATES = (
    f"{_CERTIFICATES} AND (c.fingerprint = ANY($1::bytea[]) OR c.partner_id = ANY($2::text[]))"
)
_INTERFACES = """
    SELECT interface_name, publication_id
    FROM marketplace.interface_version
        JOIN marketplace.interface_label USING (interface_name, version)
    WHERE label = 'CURRENT' AND ($1::text[] IS NULL OR interface_name = ANY($1::text[]))
"""
_DESCRIPTOR_SET = """
    SELECT descriptor_set FROM marketplace.interface_publication WHERE publication_id = $1
"""


@dataclass(slots=True)
class RoutingRows:
    """Everything that a snapshot holds besides the compiled interfaces, at one version."""

    version: int
    #: Requester id, interface name, target; in contract order, as they are at the given time.
    routes: list[tuple[str, str, Target]] = field(default_factory=list)
    #: All windows of those routes that will change by themselves.
    timed: dict[tuple[str, str], Windows] = field(default_factory=dict)
    #: Value of `RouteKey`, identifier, partner id.
    owners: list[tuple[int, str, str]] = field(default_factory=list)
    certificates: list[tuple[bytes, CertificateRecord]] = field(default_factory=list)
    #: Interface name and the publication of its current version.
    interfaces: dict[str, int] = field(default_factory=dict)


class _Interned:
    """Lets equal strings and prices of many rows be one object."""

    def __init__(self) -> None:
        self._strings: dict[str, str] = {}
        self._prices: dict[tuple[int, str, int | None], Price] = {}

    def string(self, text: str) -> str:
        return self._strings.setdefault(text, text)

    def price(self, contract: Any) -> Price:
        micros, currency_code = contract["price_per_call_micros"], contract["currency_code"]
        price_id = contract["price_id"]
        price = self._prices.get((micros, currency_code, price_id))
        if price is None:
            price = Price(micros, currency_code)
            if price_id is not None:
                price = price_of(PriceModel.FromString(contract["price_model"]), price_id)
            self._prices[micros, currency_code, price_id] = price
        return price


class SnapshotStorage:
    """Reads rows for the snapshot; the caller owns the connection and its transactions."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def version(self, timeout_s: float) -> int:
        """Give the version that is committed now."""
        return int(await self._connection.fetchval(VERSION, timeout=timeout_s))

    async def tell(self, word: str, timeout_s: float) -> None:
        """Tell every worker something about the version that this one has."""
        await self._connection.execute(
            "SELECT pg_notify($1, $2)", APPLIED_CHANNEL, word, timeout=timeout_s
        )

    async def everything(self, now_s: float) -> RoutingRows:
        """Read all rows as they were at one instant; `now_s` says what is in force."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            rows = RoutingRows(int(await self._connection.fetchval(VERSION)))
            await self._read_routes(rows, now_s)
            for row in await self._connection.fetch(_OWNERS):
                rows.owners.append((ROUTE_KEY_OF[row["kind"]], row["value"], row["partner_id"]))
            async for row in self._connection.cursor(_CERTIFICATES, prefetch=CHUNK_ROWS):
                rows.certificates.append((row["fingerprint"], _record(row)))
            rows.interfaces = await self.interfaces(None)
        return rows

    async def windows(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], Windows]:
        """Give the targets of each requester and interface, and when they are; empty for none."""
        requesters, interfaces = [name[0] for name in names], [name[1] for name in names]
        found: dict[tuple[str, str], list[Window]] = {name: [] for name in names}
        interned = _Interned()
        for row in await self._connection.fetch(_ROUTES, requesters, interfaces):
            name = (row["requester_id"], row["interface_name"])
            found[name].append(_window(row, _target(row, row, interned)))
        return {name: tuple(windows) for name, windows in found.items()}

    async def routes_of_services(self, service_ids: Iterable[str]) -> set[tuple[str, str]]:
        """Give the requesters and interfaces whose targets these services are."""
        rows = await self._connection.fetch(_ROUTES_OF_SERVICES, list(service_ids))
        return {(row["requester_id"], row["interface_name"]) for row in rows}

    async def owners(self, names: Collection[tuple[int, str]]) -> dict[tuple[int, str], str | None]:
        """Give who owns each identifier, by `RouteKey` value and identifier; None for nobody."""
        found: dict[tuple[int, str], str | None] = {
            (ROUTE_KEY_OF[kind], value): None for kind, value in names
        }
        kinds, values = [name[0] for name in names], [name[1] for name in names]
        for row in await self._connection.fetch(_SOME_OWNERS, kinds, values):
            found[ROUTE_KEY_OF[row["kind"]], row["value"]] = row["partner_id"]
        return found

    async def certificates(
        self, fingerprints: Collection[bytes], partner_ids: Collection[str]
    ) -> dict[bytes, CertificateRecord | None]:
        """Give the records of these certificates and of all of these partners."""
        found: dict[bytes, CertificateRecord | None] = dict.fromkeys(fingerprints)
        arguments = (list(fingerprints), list(partner_ids))
        for row in await self._connection.fetch(_SOME_CERTIFICATES, *arguments):
            found[row["fingerprint"]] = _record(row)
        return found

    async def interfaces(self, names: Collection[str] | None) -> dict[str, int]:
        """Give the publication of the current version of these interfaces, or of all."""
        wanted = None if names is None else list(names)
        rows = await self._connection.fetch(_INTERFACES, wanted)
        return {row["interface_name"]: row["publication_id"] for row in rows}

    async def descriptor_set(self, publication_id: int) -> bytes:
        """Give the descriptor set of a publication, which never changes."""
        return bytes(await self._connection.fetchval(_DESCRIPTOR_SET, publication_id))

    async def _read_routes(self, rows: RoutingRows, now_s: float) -> None:
        services = {row["service_id"]: row for row in await self._connection.fetch(_SERVICES)}
        amended = {tuple(row) for row in await self._connection.fetch(_AMENDED_ROUTES)}
        interned, now = _Interned(), datetime.fromtimestamp(now_s, UTC)
        timed: set[tuple[str, str]] = set()
        contracts = await self._connection.cursor(_CONTRACTS)
        while chunk := await contracts.fetch(CHUNK_ROWS):
            for row in chunk:
                service = services.get(row["service_id"])
                if service is None:
                    continue
                requester_id = interned.string(row["requester_id"])
                interface_name = interned.string(service["interface_name"])
                if (requester_id, interface_name) in amended:
                    continue
                opens, closes = row["valid_from"], row["valid_to"]
                pending = opens is not None and opens > now
                if pending or closes is not None:
                    timed.add((requester_id, interface_name))
                if not pending and (closes is None or now < closes):
                    target = _target(row, service, interned)
                    rows.routes.append((requester_id, interface_name, target))
        rows.timed = await self.windows(timed | amended)
        for name in amended:
            rows.routes += ((*name, target) for target in in_force(rows.timed[name], now_s))


def _window(row: Any, target: Target) -> Window:
    opens, closes = row["valid_from"], row["valid_to"]
    return Window(
        target,
        -_NEVER if opens is None else opens.timestamp(),
        _NEVER if closes is None else closes.timestamp(),
    )


def _target(contract: Any, service: Any, interned: _Interned) -> Target:
    return Target(
        contract_id=contract["contract_id"],
        provider_id=interned.string(service["provider_id"]),
        service_id=interned.string(contract["service_id"]),
        service_version=interned.string(service["service_version"]),
        endpoint=interned.string(service["endpoint"]),
        price=interned.price(contract),
    )


def _record(row: Any) -> CertificateRecord:
    not_after_s = row["not_after_at"].timestamp()
    if row["partner_id"] is not None:
        return CertificateRecord(
            subject_id=row["partner_id"],
            kind="partner",
            roles=_PARTNER_ROLES,
            active=row["partner_active"],
            revoked=row["revoked"],
            not_after_s=not_after_s,
        )
    return CertificateRecord(
        subject_id=row["operator_name"],
        kind="operator",
        roles=frozenset({row["operator_role"]}),
        active=True,
        revoked=row["revoked"],
        not_after_s=not_after_s,
    )
