"""Certificates of partners and operators in the registry (use case 1374: access data)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import text

from foundation.certificates import (
    new_key_and_csr,
    read_identity,
    utc_now,
)
from foundation.errors import MarketError
from gem.marketplace.v1.partner_pb2 import RevocationReason
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.partner import CERTIFICATES_MAX
from marketplace.storage_certificate import register_operator_certificate
from tests.control_plane import BUSINESS, TECHNICAL, ControlPlane, fields_of
from tests.identities import TRUST_DOMAIN, MakeIdentity, MakeOperator
from tests.interceptors.support import raises

COMPROMISED = RevocationReason.REVOCATION_REASON_KEY_COMPROMISED
NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """Give a market with two partners."""
    await plane.partner("acme")
    await plane.partner("volt")
    return plane


async def _issue(plane: ControlPlane, who: str, **fields: Any) -> Any:
    fields.setdefault("certificate_signing_request_pem", new_key_and_csr("anything")[1])
    return await plane.ask(who, "PartnerService/IssueCertificate", **fields)


async def _revoke(plane: ControlPlane, who: str, fingerprint: bytes) -> Any:
    method = "PartnerService/RevokeCertificate"
    return await plane.ask(who, method, fingerprint=fingerprint, reason=COMPROMISED)


def _csr_that_claims(uri: str, dns_name: str) -> bytes:
    """Make a request that asks for names which are not its sender's to have."""
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName(dns_name)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "volt")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = request.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = request.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


async def test_names_in_a_request_are_ignored(plane: ControlPlane) -> None:
    csr_pem = _csr_that_claims(f"spiffe://{TRUST_DOMAIN}/marketplace", "volt.partners.gem.example")
    issued = await _issue(plane, "acme", certificate_signing_request_pem=csr_pem)
    certificate = x509.load_pem_x509_certificate(issued.chain_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"spiffe://{TRUST_DOMAIN}/partner/acme"
    ]
    assert names.get_values_for_type(x509.DNSName) == [f"acme.partners.{TRUST_DOMAIN}"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.fingerprint(hashes.SHA256()) == issued.certificate.fingerprint


async def test_a_partner_gets_certificates_for_itself_only(plane: ControlPlane) -> None:
    with pytest.raises(MarketError, check=NOT_FOUND):
        await _issue(plane, "acme", partner_id="volt")


async def test_an_operator_names_the_partner(plane: ControlPlane) -> None:
    with pytest.raises(MarketError, check=NOT_FOUND):
        await _issue(plane, BUSINESS)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await _issue(plane, BUSINESS, partner_id="nobody")


async def test_a_request_that_is_none_is_refused(plane: ControlPlane) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await _issue(plane, "acme", certificate_signing_request_pem=b"-----BEGIN")


async def test_an_inactive_partner_gets_no_certificate(plane: ControlPlane) -> None:
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="acme")
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await _issue(plane, BUSINESS, partner_id="acme")


async def test_the_number_of_valid_certificates_is_limited(plane: ControlPlane) -> None:
    first = await _issue(plane, "acme")
    for _ in range(CERTIFICATES_MAX - 1):
        await _issue(plane, "acme")
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await _issue(plane, "acme")
    await _revoke(plane, "acme", first.certificate.fingerprint)
    await _issue(plane, "acme")


async def test_another_partners_certificate_cannot_be_revoked(plane: ControlPlane) -> None:
    issued = await _issue(plane, "volt")
    for fingerprint in (issued.certificate.fingerprint, bytes(32)):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await _revoke(plane, "acme", fingerprint)


async def test_an_operators_certificate_cannot_be_revoked_as_a_partners(
    plane: ControlPlane, make_operator: MakeOperator
) -> None:
    identity = make_operator("technical", "acme")
    async with plane.engine.begin() as connection:
        pem = identity.certificate.certificate_pem
        await register_operator_certificate(connection, pem, utc_now())
    for who in ("acme", BUSINESS):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await _revoke(plane, who, identity.fingerprint)


async def test_a_certificate_is_revoked_once_and_for_ever(plane: ControlPlane) -> None:
    issued = await _issue(plane, "acme")
    fingerprint = issued.certificate.fingerprint
    revoked = (await _revoke(plane, TECHNICAL, fingerprint)).certificate
    assert revoked.HasField("revoke_time")
    assert revoked.revocation_reason == COMPROMISED
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await _revoke(plane, "acme", fingerprint)


async def test_every_issued_certificate_is_registered_and_listed(plane: ControlPlane) -> None:
    fingerprints = [(await _issue(plane, "acme")).certificate.fingerprint for _ in range(3)]
    await _issue(plane, "volt")
    page: dict[str, Any] = {"page_size": 2}
    first = await plane.ask("acme", "PartnerService/ListCertificates", page=page)
    page["page_token"] = first.page.next_page_token
    second = await plane.ask("acme", "PartnerService/ListCertificates", page=page)
    assert not second.page.next_page_token
    listed = [item.fingerprint for item in (*first.certificates, *second.certificates)]
    assert listed == fingerprints[::-1]
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask("acme", "PartnerService/ListCertificates", partner_id="volt")
    page["page_token"] = "bm90IGEgbnVtYmVy"
    with pytest.raises(MarketError) as caught:
        await plane.ask("acme", "PartnerService/ListCertificates", page=page)
    assert fields_of(caught.value) == ["page.page_token"]


@pytest.mark.usecase(1374)
async def test_a_registered_partner_can_be_given_its_first_certificate(plane: ControlPlane) -> None:
    await plane.register("newcomer")
    issued = await _issue(plane, BUSINESS, partner_id="newcomer")
    identity = read_identity(issued.chain_pem)
    assert (identity.kind, identity.subject_id) == ("partner", "newcomer")
    assert identity.fingerprint == issued.certificate.fingerprint


async def test_only_an_operators_certificate_is_registered_as_one(
    plane: ControlPlane, make_identity: MakeIdentity
) -> None:
    pem = make_identity("acme").certificate.certificate_pem
    async with plane.engine.begin() as connection:
        with pytest.raises(ValueError, match="names no operator"):
            await register_operator_certificate(connection, pem, utc_now())


async def test_an_expired_operators_certificate_is_not_registered(
    plane: ControlPlane, make_operator: MakeOperator
) -> None:
    pem = make_operator("business", "late").certificate.certificate_pem
    async with plane.engine.begin() as connection:
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_CERTIFICATE_EXPIRED)):
            await register_operator_certificate(connection, pem, utc_now() + timedelta(days=400))


async def test_an_operators_certificate_is_registered_once(
    plane: ControlPlane, make_operator: MakeOperator
) -> None:
    pem = make_operator("business", "alice").certificate.certificate_pem
    for _ in range(2):
        async with plane.engine.begin() as connection:
            await register_operator_certificate(connection, pem, utc_now())
    async with plane.engine.connect() as connection:
        query = "SELECT operator_name, partner_id FROM marketplace.certificate"
        rows = [tuple(row) for row in await connection.execute(text(query))]
    assert rows == [("alice", None)]
