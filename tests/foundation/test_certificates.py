from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from foundation.certificates import (
    PARTNER_LIFETIME,
    CertificateAuthority,
    marketplace_uri,
    new_key_and_csr,
    operator_uri,
    partner_uri,
    provider_dns_name,
    read_identity,
    write_secret,
)
from foundation.errors import MarketError, SettingsError, reason_name
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity, MakeOperator

_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
_ACME = partner_uri(TRUST_DOMAIN, "acme")

Change = Callable[[x509.CertificateBuilder], x509.CertificateBuilder]


def _refusal_of(pem: bytes, now: datetime | None = None) -> str:
    with pytest.raises(MarketError) as refusal:
        read_identity(pem, now)
    return reason_name(refusal.value.reason)


def _certificate(
    uris: tuple[str, ...] = (_ACME,),
    *,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    authority: bool = False,
    common_name: str = "acme",
) -> bytes:
    """Make a self-signed certificate: a handshake would refuse it, reading it does not care."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(_NOON).not_valid_after(_NOON + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "uris",
    [
        (),
        (_ACME, partner_uri(TRUST_DOMAIN, "other")),
        (_ACME, "https://gem.example/"),
        ("https://gem.example/partner/acme",),
        ("spiffe://gem.example/partner/",),
        ("spiffe://gem.example/partner/Acme",),
        ("spiffe://gem.example/partner/acme/",),
        ("spiffe://gem.example/partner/acme?x=1",),
        ("spiffe://gem.example/partner/acme%00evil",),
        ("spiffe://gem.example/partner/acme\0evil",),
        ("spiffe://gem.example/partner/acme\n",),
        ("spiffe://gem.example/partner/" + "a" * 41,),
        ("spiffe:///partner/acme",),
        ("spiffe://gem.example/operator/chief/jo",),
        ("spiffe://gem.example/operator/business",),
        ("spiffe://gem.example/marketplace/x",),
        ("spiffe://gem.example",),
    ],
)
def test_a_certificate_without_exactly_one_name_of_ours_is_not_accepted(
    uris: tuple[str, ...],
) -> None:
    assert _refusal_of(_certificate(uris)) == "CERTIFICATE_NOT_ACCEPTED"


@pytest.mark.parametrize("usage", [None, ExtendedKeyUsageOID.SERVER_AUTH])
def test_a_certificate_that_is_not_for_clients_is_not_accepted(
    usage: x509.ObjectIdentifier | None,
) -> None:
    assert _refusal_of(_certificate(usage=usage)) == "CERTIFICATE_NOT_ACCEPTED"


def test_an_authority_is_not_accepted_as_a_peer() -> None:
    assert _refusal_of(_certificate(authority=True)) == "CERTIFICATE_NOT_ACCEPTED"


@pytest.mark.parametrize(
    "pem", [b"", b"acme", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_what_cannot_be_read_is_not_accepted(pem: bytes) -> None:
    assert _refusal_of(pem) == "CERTIFICATE_NOT_ACCEPTED"


def test_a_huge_certificate_is_not_looked_at() -> None:
    assert _refusal_of(_certificate() + b" " * 20_000) == "CERTIFICATE_NOT_ACCEPTED"


def test_the_common_name_counts_for_nothing() -> None:
    assert _refusal_of(_certificate((), common_name=_ACME)) == "CERTIFICATE_NOT_ACCEPTED"
    assert read_identity(_certificate(common_name="other")).subject_id == "acme"


def test_a_certificate_outside_its_time_is_expired_even_when_it_was_accepted_before() -> None:
    pem = _certificate()
    assert read_identity(pem, _NOON + timedelta(hours=1)).subject_id == "acme"
    assert _refusal_of(pem, _NOON + timedelta(days=2)) == "CERTIFICATE_EXPIRED"
    assert _refusal_of(pem, _NOON - timedelta(seconds=1)) == "CERTIFICATE_EXPIRED"


def test_a_certificate_says_who_its_owner_is(
    make_identity: MakeIdentity, make_operator: MakeOperator, marketplace_identity: Identity
) -> None:
    partner = read_identity(make_identity("acme").certificate.certificate_pem)
    assert (partner.kind, partner.subject_id, partner.role) == ("partner", "acme", "")
    assert (partner.uri, partner.trust_domain) == (_ACME, TRUST_DOMAIN)
    operator = read_identity(make_operator("technical", "jo").certificate.certificate_pem)
    assert (operator.kind, operator.subject_id, operator.role) == ("operator", "jo", "technical")
    assert operator.uri == operator_uri(TRUST_DOMAIN, "technical", "jo")
    market = read_identity(marketplace_identity.certificate.certificate_pem)
    assert (market.kind, market.uri) == ("marketplace", marketplace_uri(TRUST_DOMAIN))


def test_the_fingerprint_and_serial_are_those_of_the_certificate(
    make_identity: MakeIdentity,
) -> None:
    issued = make_identity("acme").certificate
    identity = read_identity(issued.certificate_pem)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert identity.fingerprint == issued.fingerprint == certificate.fingerprint(hashes.SHA256())
    assert identity.serial == issued.serial == certificate.serial_number
    assert (identity.not_before, identity.not_after) == (issued.not_before, issued.not_after)


def _csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _ed25519_csr() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ed25519.Ed25519PrivateKey.generate(), None)
    return csr.public_bytes(serialization.Encoding.PEM)


def _forged_csr() -> bytes:
    """Make a request that is signed, but not with the key that it asks a certificate for."""
    _, ours = new_key_and_csr("x")
    _, other = new_key_and_csr("x")
    der = x509.load_pem_x509_csr(ours).public_bytes(serialization.Encoding.DER)
    theirs = x509.load_pem_x509_csr(other)
    point = serialization.PublicFormat.UncompressedPoint
    old, new = (
        request.public_key().public_bytes(serialization.Encoding.X962, point)
        for request in (x509.load_pem_x509_csr(ours), theirs)
    )
    forged = x509.load_der_x509_csr(der.replace(old, new))
    return forged.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "csr",
    [
        lambda: b"",
        lambda: b"-----BEGIN CERTIFICATE REQUEST-----\n" + b"A" * 40_000,
        lambda: _csr_of(rsa.generate_private_key(65537, 1024)),
        lambda: _csr_of(ec.generate_private_key(ec.SECP192R1())),
        _ed25519_csr,
        _forged_csr,
    ],
)
def test_a_weak_forged_or_unreadable_request_gets_no_certificate(
    authority: CertificateAuthority, csr: Callable[[], bytes]
) -> None:
    with pytest.raises(MarketError) as refusal:
        authority.issue_from_csr(csr(), _ACME)
    assert reason_name(refusal.value.reason) == "REQUEST_INVALID"
    assert [violation.field for violation in refusal.value.violations] == [
        "certificate_signing_request_pem"
    ]


def test_requests_with_other_keys_of_usual_strength_are_served(
    authority: CertificateAuthority,
) -> None:
    for key in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
    ):
        issued = authority.issue_from_csr(_csr_of(key), _ACME)
        assert read_identity(issued.certificate_pem).subject_id == "acme"


def test_names_in_a_request_are_not_taken_over(authority: CertificateAuthority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = x509.SubjectAlternativeName(
        [x509.UniformResourceIdentifier(marketplace_uri(TRUST_DOMAIN))]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.add_extension(wanted, critical=False).sign(key, hashes.SHA256())
    issued = authority.issue_from_csr(csr.public_bytes(serialization.Encoding.PEM), _ACME)
    assert read_identity(issued.certificate_pem).uri == _ACME


def test_a_partners_certificate_is_short_lived_and_never_outlives_its_authority(
    tmp_path: Path,
) -> None:
    now = [_NOON]
    authority = CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN, lambda: now[0])
    _, csr = new_key_and_csr("acme")
    issued = authority.issue_from_csr(csr, _ACME)
    assert issued.not_after == _NOON + PARTNER_LIFETIME
    assert issued.not_before < _NOON
    now[0] = authority.issuing.not_valid_after_utc - timedelta(days=1)
    late = authority.issue_from_csr(csr, _ACME)
    assert late.not_after == authority.issuing.not_valid_after_utc


def test_an_authority_that_expired_is_refused_at_the_start(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN, lambda: _NOON)
    with pytest.raises(SettingsError, match="not valid now"):
        CertificateAuthority.load(tmp_path / "ca", lambda: _NOON + timedelta(days=4000))


def test_an_authority_is_never_overwritten(tmp_path: Path) -> None:
    CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN)
    before = (tmp_path / "ca" / "ca.pem").read_bytes()
    with pytest.raises(SettingsError, match="exists already"):
        CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN)
    assert (tmp_path / "ca" / "ca.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["ca.pem", "issuing.pem", "issuing.key"])
@pytest.mark.parametrize("damage", ["missing", "garbage", "another's"])
def test_a_damaged_authority_is_refused_at_the_start(
    tmp_path: Path, name: str, damage: str
) -> None:
    folder = CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN).folder
    if damage == "missing":
        (folder / name).unlink()
    elif damage == "garbage":
        (folder / name).write_bytes(b"garbage")
    else:
        other = CertificateAuthority.create(tmp_path / "other", TRUST_DOMAIN).folder
        (folder / name).write_bytes((other / name).read_bytes())
    with pytest.raises(SettingsError, match="certificate authority"):
        CertificateAuthority.load(folder)


def test_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    folder = CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN).folder
    for name in ("issuing.key", "root.key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    (folder / "issuing.key").chmod(0o640)
    with pytest.raises(SettingsError, match=r"issuing\.key must be readable by its owner only"):
        CertificateAuthority.load(folder)


def test_a_secret_is_private_from_the_first_byte_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_secret(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_authority_read_again_issues_for_the_same_trust_domain(tmp_path: Path) -> None:
    made = CertificateAuthority.create(tmp_path / "ca", "market.example")
    read = CertificateAuthority.load(tmp_path / "ca")
    assert read.trust_domain == "market.example"
    assert read.root_pem == made.root_pem


def _context(identity: Identity, folder: Path, purpose: ssl.Purpose) -> ssl.SSLContext:
    files = {"key": identity.key_pem, "chain": identity.chain_pem, "root": identity.root_pem}
    for name, content in files.items():
        write_secret(folder / name, content)
    context = ssl.create_default_context(purpose, cafile=str(folder / "root"))
    context.load_cert_chain(folder / "chain", folder / "key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host_name: str) -> bytes:
    """Connect and let the server say one word; raises what either side refuses."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=host_name
        )
        word = await reader.read(5)
        writer.close()
        await writer.wait_closed()
    return word


async def test_a_provider_proves_by_its_host_name_whose_endpoint_it_is(
    make_identity: MakeIdentity, marketplace_identity: Identity, tmp_path: Path
) -> None:
    server = _context(make_identity("acme"), tmp_path, ssl.Purpose.CLIENT_AUTH)
    client = _context(marketplace_identity, tmp_path, ssl.Purpose.SERVER_AUTH)
    with pytest.raises(ssl.SSLCertVerificationError):
        await _handshake(server, client, provider_dns_name(TRUST_DOMAIN, "other"))
    word = await _handshake(server, client, provider_dns_name(TRUST_DOMAIN, "acme"))
    assert word == b"hello"


async def test_a_certificate_of_another_authority_passes_no_handshake(
    make_identity: MakeIdentity, tmp_path: Path
) -> None:
    stranger = CertificateAuthority.create(tmp_path / "ca", TRUST_DOMAIN)
    key, csr = new_key_and_csr("acme")
    forged = Identity(key, stranger.issue_from_csr(csr, _ACME), make_identity("acme").root_pem)
    server = _context(make_identity("acme"), tmp_path, ssl.Purpose.CLIENT_AUTH)
    client = _context(forged, tmp_path, ssl.Purpose.SERVER_AUTH)
    word = b""
    with suppress(ssl.SSLError, ConnectionError):
        word = await _handshake(server, client, provider_dns_name(TRUST_DOMAIN, "acme"))
    assert word == b""
