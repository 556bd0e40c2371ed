"""The half of PartnerService that issues, revokes and lists certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from foundation.certificates import (
    IssuedCertificate,
    PeerIdentity,
    partner_uri,
    provider_dns_name,
    read_identity,
)
from foundation.errors import MarketError
from gem.marketplace.v1 import partner_pb2, partner_service_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.partner import Partner, PartnerStep, check_may_have_certificate
from marketplace.rendering import timestamp
from marketplace.routing_change import RoutingChange
from marketplace.storage_certificate import CertificateStorage
from marketplace.storage_command import Commands, Work
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_routing import announce


class CertificateIssuer(Protocol):
    """The certificate authority as far as it is needed here."""

    def issue_from_csr(
        self,
        csr_pem: bytes,
        uri_san: str,
        dns_names: Sequence[str] = ...,
        *,
        client: bool = ...,
        server: bool = ...,
    ) -> IssuedCertificate:
        """Issue for the key of a request, with our names; MarketError REQUEST_INVALID."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs certificates, and the domain in which names are given."""

    issuer: CertificateIssuer
    trust_domain: str


class CertificateServicer:
    """Certificates of partners (use case 1374: provision of an access mechanism)."""

    def __init__(self, commands: Commands, authority: Authority) -> None:
        self._commands = commands
        self._authority = authority

    async def IssueCertificate(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.IssueCertificateRequest, call: Call
    ) -> partner_service_pb2.IssueCertificateResponse:
        """Issue a certificate for the partner's own key and register it."""

        async def work(w: Work) -> partner_service_pb2.IssueCertificateResponse:
            partner_id = w.actor.own_or(request.partner_id)
            partner = await PartnerStorage(w.connection).locked(partner_id)
            certificate, chain_pem = await self._issued(
                w, partner, request.certificate_signing_request_pem
            )
            return partner_service_pb2.IssueCertificateResponse(
                certificate=certificate, chain_pem=chain_pem
            )

        response = partner_service_pb2.IssueCertificateResponse
        return await self._commands.run(request, call, response, work)

    async def RevokeCertificate(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.RevokeCertificateRequest, call: Call
    ) -> partner_service_pb2.RevokeCertificateResponse:
        """Revoke a certificate of a partner; an operator's is not the business of this service."""

        async def work(w: Work) -> partner_service_pb2.RevokeCertificateResponse:
            storage = CertificateStorage(w.connection)
            owner_id = await storage.owner(request.fingerprint)
            if owner_id is None or not w.actor.may_see(owner_id):
                raise not_found("certificate")
            # The partner before its certificates, as everywhere.
            partners = PartnerStorage(w.connection)
            partner = await partners.locked(owner_id)
            before = await storage.locked(request.fingerprint)
            if before.revoked_at is not None:
                raise MarketError(
                    ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
                    "The certificate is revoked already.",
                )
            after = await storage.revoke(request.fingerprint, request.reason, w.now)
            step, detail = PartnerStep.CERTIFICATE_REVOKED, request.fingerprint.hex()
            await partners.remember(partner, step, w.actor, w.now, detail)
            change = RoutingChange(certificates=frozenset({request.fingerprint}))
            await announce(w.connection, change)
            return partner_service_pb2.RevokeCertificateResponse(certificate=_render(after))

        response = partner_service_pb2.RevokeCertificateResponse
        return await self._commands.run(request, call, response, work)

    async def ListCertificates(  # noqa: N802  # the rpc's name
        self, request: partner_service_pb2.ListCertificatesRequest, call: Call
    ) -> partner_service_pb2.ListCertificatesResponse:
        """List a partner's certificates, the newest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            partner_id = w.actor.own_or(request.partner_id)
            await PartnerStorage(w.connection).get(partner_id)
            rows, info = await CertificateStorage(w.connection).page(page, partner_id)
        return partner_service_pb2.ListCertificatesResponse(
            certificates=map(_render, rows), page=info
        )

    async def _issued(
        self, w: Work, partner: Partner, csr_pem: bytes
    ) -> tuple[partner_pb2.Certificate, bytes]:
        """Issue and register a certificate of a partner that is held; gives it and its chain.

        Those issued before stay valid beside it, so that a rotation has an overlap. To be called
        last in a transaction. Raises MarketError STATE_NOT_ALLOWED, REQUEST_INVALID.
        """
        storage = CertificateStorage(w.connection)
        count = await storage.count_valid(partner.partner_id, w.now)
        check_may_have_certificate(partner.state, count)
        issued = await asyncio.to_thread(self._issue, csr_pem, partner.partner_id)
        identity = read_identity(issued.certificate_pem)
        assert identity.subject_id == partner.partner_id, "the names are our choice"
        await storage.add(identity, w.now)
        step, detail = PartnerStep.CERTIFICATE_ISSUED, identity.fingerprint.hex()
        await PartnerStorage(w.connection).remember(partner, step, w.actor, w.now, detail)
        change = RoutingChange(certificates=frozenset({identity.fingerprint}))
        await announce(w.connection, change)
        return _render_new(identity), issued.chain_pem

    def _issue(self, csr_pem: bytes, partner_id: str) -> IssuedCertificate:
        """Sign; one certificate serves the partner as a caller and as a provider."""
        domain = self._authority.trust_domain
        uri, name = partner_uri(domain, partner_id), provider_dns_name(domain, partner_id)
        return self._authority.issuer.issue_from_csr(
            csr_pem, uri, (name,), client=True, server=True
        )


def _render_new(identity: PeerIdentity) -> partner_pb2.Certificate:
    return partner_pb2.Certificate(
        fingerprint=identity.fingerprint,
        partner_id=identity.subject_id,
        serial_number=f"{identity.serial:x}",
        uri=identity.uri,
        not_before_time=timestamp(identity.not_before),
        not_after_time=timestamp(identity.not_after),
    )


def _render(row: Any) -> partner_pb2.Certificate:
    return partner_pb2.Certificate(
        fingerprint=row.fingerprint,
        partner_id=row.partner_id,
        serial_number=row.serial_number,
        uri=row.uri,
        not_before_time=timestamp(row.not_before_at),
        not_after_time=timestamp(row.not_after_at),
        revoke_time=timestamp(row.revoked_at) if row.revoked_at is not None else None,
        revocation_reason=row.revocation_reason,
    )
