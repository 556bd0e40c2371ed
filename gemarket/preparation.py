"""What has to exist before the market starts: authority, identities, schemas, operators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cryptography import x509

from foundation.certificates import (
    CertificateAuthority,
    IssuedCertificate,
    marketplace_uri,
    new_key_and_csr,
    operator_uri,
    utc_now,
)
from foundation.database import check_database, open_engine
from foundation.migrations import migrate
from foundation.settings import Settings
from gemarket.identity import Identity
from gemarket.layout import Layout
from marketplace.storage_certificate import register_operator_certificate

OPERATOR_ROLES = ("business", "technical")
#: An identity is renewed when less than this share of its life is left.
_RENEW_SHARE = 1 / 3
_LISTENER_LIFETIME = timedelta(days=90)
_OPERATOR_LIFETIME = timedelta(days=90)


def open_authority(layout: Layout, trust_domain: str) -> CertificateAuthority:
    """Load the certificate authority, or make it at the first start."""
    if layout.authority.exists():
        return CertificateAuthority.load(layout.authority)
    return CertificateAuthority.create(layout.authority, trust_domain)


def needs_renewal(identity: Identity) -> bool:
    """Say whether an identity is missing, unreadable, or in the last third of its life."""
    try:
        certificate = x509.load_pem_x509_certificate(identity.certificate_file.read_bytes())
    except (OSError, ValueError):
        return True
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return ends - utc_now() < (ends - begins) * _RENEW_SHARE


def renew_market_identities(
    layout: Layout, authority: CertificateAuthority, public_names: Sequence[str]
) -> bool:
    """Renew the listener's and the router's certificates where needed; says whether any was."""
    uri = marketplace_uri(authority.trust_domain)
    renewed = False
    for identity, names, client in (
        (layout.listener, tuple(public_names), False),
        (layout.router, (), True),
    ):
        if needs_renewal(identity):
            key, csr = new_key_and_csr("marketplace")
            issued = authority.issue_from_csr(
                csr, uri, names, _LISTENER_LIFETIME, client=client, server=not client
            )
            identity.write(key, issued.chain_pem, authority.root_pem)
            renewed = True
    return renewed


def issue_operator(
    authority: CertificateAuthority, role: str, identity: Identity
) -> IssuedCertificate:
    """Issue an operator's certificate and write its files; it still has to be registered."""
    key, csr = new_key_and_csr(f"{role} operator")
    uri = operator_uri(authority.trust_domain, role, role)
    issued = authority.issue_from_csr(csr, uri, (), _OPERATOR_LIFETIME)
    identity.write(key, issued.chain_pem, authority.root_pem)
    return issued


async def prepare_database(url: str, layout: Layout, authority: CertificateAuthority) -> None:
    """Refuse an unsafe server, migrate every schema, register the operators' certificates."""
    engine = open_engine(url, pool_size=2)
    try:
        await check_database(engine)
        for package in ("marketplace", "mobility"):
            await migrate(url, package)
        for role in OPERATOR_ROLES:
            identity = layout.operator(role)
            if needs_renewal(identity):
                issued = issue_operator(authority, role, identity)
                async with engine.begin() as connection:
                    await register_operator_certificate(
                        connection, issued.certificate_pem, utc_now()
                    )
    finally:
        await engine.dispose()


def public_names(settings: Settings) -> list[str]:
    """Give every name under which callers may reach the listener."""
    return list(dict.fromkeys([*settings.public_names, settings.host, "localhost", "127.0.0.1"]))
