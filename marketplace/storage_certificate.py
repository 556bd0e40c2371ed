"""Registered certificates, of partners and of operators, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.certificates import PeerIdentity, read_identity
from gem.common.v1.paging_pb2 import PageInfo
from gem.options.v1.options_pb2 import AccessRole
from marketplace.actor import not_found
from marketplace.routing_change import RoutingChange
from marketplace.storage_paging import Page
from marketplace.storage_routing import announce
from marketplace.storage_tables import CERTIFICATE

_OPERATOR_ROLES = {
    "business": int(AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR),
    "technical": int(AccessRole.ACCESS_ROLE_TECHNICAL_OPERATOR),
}


class CertificateStorage:
    """Reads and writes certificates inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, identity: PeerIdentity, now: datetime) -> bool:
        """Register a certificate of a partner or operator; False when it is registered already."""
        is_partner = identity.kind == "partner"
        row = {
            "fingerprint": identity.fingerprint,
            "partner_id": identity.subject_id if is_partner else None,
            "operator_name": None if is_partner else identity.subject_id,
            "operator_role": None if is_partner else _OPERATOR_ROLES[identity.role],
            "serial_number": f"{identity.serial:x}",
            "uri": identity.uri,
            "not_before_at": identity.not_before,
            "not_after_at": identity.not_after,
            "registered_at": now,
        }
        statement = insert(CERTIFICATE).values(row).on_conflict_do_nothing()
        added = await self._connection.execute(statement.returning(CERTIFICATE.c.position))
        return added.one_or_none() is not None

    async def owner(self, fingerprint: bytes) -> str | None:
        """Give the partner whose certificate it is, for ever; None for any other."""
        query = select(CERTIFICATE.c.partner_id).where(CERTIFICATE.c.fingerprint == fingerprint)
        found: str | None = await self._connection.scalar(query)
        return found

    async def locked(self, fingerprint: bytes) -> Row[Any]:
        """Give a certificate that nobody else changes until the end; MarketError NOT_FOUND."""
        query = select(CERTIFICATE).where(CERTIFICATE.c.fingerprint == fingerprint)
        row = (await self._connection.execute(query.with_for_update())).one_or_none()
        if row is None:
            raise not_found("certificate")
        return row

    async def revoke(self, fingerprint: bytes, reason: int, now: datetime) -> Row[Any]:
        """Revoke a certificate for ever and give it as it is then."""
        statement = (
            update(CERTIFICATE)
            .where(CERTIFICATE.c.fingerprint == fingerprint)
            .values(revoked_at=now, revocation_reason=reason)
            .returning(CERTIFICATE)
        )
        row: Row[Any] = (await self._connection.execute(statement)).one()
        return row

    async def revoke_all(self, partner_id: str, reason: int, now: datetime) -> None:
        """Revoke every certificate of a partner that is not revoked."""
        mine = (CERTIFICATE.c.partner_id == partner_id) & CERTIFICATE.c.revoked_at.is_(None)
        values = {"revoked_at": now, "revocation_reason": reason}
        await self._connection.execute(update(CERTIFICATE).where(mine).values(values))

    async def count_valid(self, partner_id: str, now: datetime) -> int:
        """Count a partner's certificates that are neither revoked nor expired."""
        query = select(func.count()).where(
            CERTIFICATE.c.partner_id == partner_id,
            CERTIFICATE.c.revoked_at.is_(None),
            CERTIFICATE.c.not_after_at > now,
        )
        return int(await self._connection.scalar(query) or 0)

    async def page(self, page: Page[int], partner_id: str) -> tuple[list[Row[Any]], PageInfo]:
        """List a partner's certificates, the newest first."""
        query = select(CERTIFICATE).where(CERTIFICATE.c.partner_id == partner_id)
        query = page.of(query, CERTIFICATE.c.position, descending=True)
        rows = (await self._connection.execute(query)).all()
        shown, info = page.cut(rows, lambda row: int(row.position))
        return list(shown), info


async def register_operator_certificate(
    connection: AsyncConnection, certificate_pem: bytes, now: datetime
) -> bytes:
    """Register an operator's certificate, at first start; gives its fingerprint.

    Registering it again changes nothing. Raises MarketError CERTIFICATE_NOT_ACCEPTED or
    CERTIFICATE_EXPIRED, and ValueError for a certificate that names no operator.
    """
    identity = read_identity(certificate_pem, now)
    if identity.kind != "operator":
        raise ValueError("the certificate names no operator")
    if await CertificateStorage(connection).add(identity, now):
        change = RoutingChange(certificates=frozenset({identity.fingerprint}))
        await announce(connection, change)
    return identity.fingerprint
