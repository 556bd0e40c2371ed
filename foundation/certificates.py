"""Certificates: the market's two-level authority, requests for certificates, and who a peer is.

Everybody is named by exactly one URI among the subject alternative names; the common name is for
people and is never read. Our keys are EC P-256; a request may bring P-256, P-384 or RSA from 2048
bits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from foundation.errors import FieldViolation, MarketError, SettingsError
from foundation.identifiers import PARTNER_ID_PATTERN
from foundation.x509_parts import (
    certificate_builder,
    host_name,
    key_pem,
    key_usage,
    name_of,
    signed,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason

PARTNER_LIFETIME = timedelta(days=30)
LONGEST_LIFETIME = timedelta(days=398)
_ROOT_LIFETIME = timedelta(days=3652)
_ISSUING_LIFETIME = timedelta(days=1826)
#: A certificate is valid from a little before it was made: clocks of partners differ.
_BACKDATED = timedelta(minutes=5)
#: A certificate or request larger than this is not looked at.
_MAX_PEM_BYTES = 16_384
_CACHED_IDENTITIES = 4096
_URI = re.compile(
    r"spiffe://(?P<trust_domain>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)/"
    rf"(?:(?P<marketplace>marketplace)|partner/(?P<partner>{PARTNER_ID_PATTERN})"
    rf"|operator/(?P<role>business|technical)/(?P<operator>{PARTNER_ID_PATTERN}))"
)

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Give the wall clock, aware and in UTC."""
    return datetime.now(UTC)


def partner_uri(trust_domain: str, partner_id: str) -> str:
    """Give the name of a business partner."""
    return f"spiffe://{trust_domain}/partner/{partner_id}"


def operator_uri(trust_domain: str, role: str, name: str) -> str:
    """Give the name of a person who runs the market; `role` is `business` or `technical`."""
    return f"spiffe://{trust_domain}/operator/{role}/{name}"


def marketplace_uri(trust_domain: str) -> str:
    """Give the name of the marketplace itself, as providers see it."""
    return f"spiffe://{trust_domain}/marketplace"


def provider_dns_name(trust_domain: str, partner_id: str) -> str:
    """Give the DNS name by which a provider's endpoint proves whose it is."""
    return f"{partner_id}.partners.{trust_domain}"


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a client certificate names; the handshake has shown that our authority issued it."""

    #: SHA-256 of the certificate in DER.
    fingerprint: bytes
    uri: str
    trust_domain: str
    serial: int
    not_before: datetime
    not_after: datetime
    #: `partner`, `operator` or `marketplace`.
    kind: str
    #: Partner id, or the operator's name; `marketplace` for the marketplace.
    subject_id: str
    #: `business` or `technical` for an operator, else empty.
    role: str


def read_identity(pem: bytes, now: datetime | None = None) -> PeerIdentity:
    """Read whom a client certificate names; a certificate seen before costs a lookup.

    Raises MarketError: CERTIFICATE_NOT_ACCEPTED unless it has exactly one URI, of our form, is for
    clients and is no authority; CERTIFICATE_EXPIRED when `now` is given and outside its validity.
    """
    identity = _read(pem)
    if now is not None and not identity.not_before <= now <= identity.not_after:
        raise MarketError(
            ErrorReason.ERROR_REASON_CERTIFICATE_EXPIRED,
            "the certificate is not valid at this time",
        )
    return identity


@lru_cache(maxsize=_CACHED_IDENTITIES)
def _read(pem: bytes) -> PeerIdentity:
    if len(pem) > _MAX_PEM_BYTES:
        raise _not_accepted("the certificate is too large")
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension):
        raise _not_accepted("the certificate cannot be read") from None
    if _is_authority(extensions):
        raise _not_accepted("the certificate is an authority's")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in _usages(extensions):
        raise _not_accepted("the certificate is not for clients")
    uris = _uris(extensions)
    if len(uris) != 1:
        raise _not_accepted("the certificate must have exactly one URI as subject alternative name")
    match = _URI.fullmatch(uris[0])
    if match is None:
        raise _not_accepted("the certificate's URI names nobody of this market")
    kind = "operator" if match["role"] else "partner" if match["partner"] else "marketplace"
    return PeerIdentity(
        fingerprint=certificate.fingerprint(hashes.SHA256()),
        uri=uris[0],
        trust_domain=match["trust_domain"],
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        kind=kind,
        subject_id=match["operator"] or match["partner"] or match["marketplace"],
        role=match["role"] or "",
    )


def _not_accepted(message: str) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_CERTIFICATE_NOT_ACCEPTED, message)


def _is_authority(extensions: x509.Extensions) -> bool:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _usages(extensions: x509.Extensions) -> x509.ExtendedKeyUsage | tuple[()]:
    try:
        return extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ()


def _uris(extensions: x509.Extensions) -> list[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def new_key_and_csr(common_name: str) -> tuple[bytes, bytes]:
    """Make a key and a request for a certificate, both in PEM; the authority chooses the names."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(name_of(common_name))
    csr = request.sign(key, hashes.SHA256())
    return key_pem(key), csr.public_bytes(serialization.Encoding.PEM)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, durably; an older one is replaced whole."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that the authority made."""

    certificate_pem: bytes
    #: The certificate and the issuing one: what its owner presents in a handshake.
    chain_pem: bytes
    fingerprint: bytes
    serial: int
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """The root, which everybody trusts, and the issuing certificate below it, which signs.

    In its folder: `ca.pem` (the root, to give away), `root.key` (needed only to renew the issuing
    certificate: keep it elsewhere), `issuing.pem`, `issuing.key`.
    """

    folder: Path
    trust_domain: str
    root_pem: bytes
    issuing: x509.Certificate
    issuing_key: ec.EllipticCurvePrivateKey
    clock: Clock = utc_now

    @classmethod
    def create(
        cls, folder: Path, trust_domain: str, clock: Clock = utc_now
    ) -> CertificateAuthority:
        """Make an authority in a folder that does not exist yet; it appears there whole."""
        if folder.exists():
            raise SettingsError("certificate authority", f"{folder} exists already")
        now = clock()
        root_key = ec.generate_private_key(ec.SECP256R1())
        issuing_key = ec.generate_private_key(ec.SECP256R1())
        domain = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
        root_name, issuing_name = name_of("GeM market root"), name_of("GeM market issuing")

        def sign(subject: x509.Name, key: ec.EllipticCurvePrivateKey, depth: int) -> bytes:
            lifetime = _ROOT_LIFETIME if depth else _ISSUING_LIFETIME
            builder = certificate_builder(subject, root_name, key.public_key(), now, now + lifetime)
            builder = builder.add_extension(x509.BasicConstraints(True, depth), critical=True)
            builder = builder.add_extension(x509.SubjectAlternativeName([domain]), critical=False)
            builder = builder.add_extension(key_usage(authority=True), critical=True)
            return signed(builder, root_key).public_bytes(serialization.Encoding.PEM)

        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True, mode=0o700)
        write_secret(partial / "root.key", key_pem(root_key))
        write_secret(partial / "issuing.key", key_pem(issuing_key))
        (partial / "ca.pem").write_bytes(sign(root_name, root_key, 1))
        (partial / "issuing.pem").write_bytes(sign(issuing_name, issuing_key, 0))
        partial.rename(folder)
        return cls.load(folder, clock)

    @classmethod
    def load(cls, folder: Path, clock: Clock = utc_now) -> CertificateAuthority:
        """Read an authority; SettingsError if a file is missing, unfit, expired or open to all."""
        try:
            root_pem = (folder / "ca.pem").read_bytes()
            root = x509.load_pem_x509_certificate(root_pem)
            issuing = x509.load_pem_x509_certificate((folder / "issuing.pem").read_bytes())
            key = load_key(folder / "issuing.key")
            issuing.verify_directly_issued_by(root)
            uris = _uris(root.extensions)
        except SettingsError:
            raise
        except (OSError, ValueError, TypeError, InvalidSignature) as error:
            kind = type(error).__name__
            raise SettingsError("certificate authority", f"{folder} is unfit: {kind}") from None
        if key.public_key() != issuing.public_key() or len(uris) != 1:
            raise SettingsError("certificate authority", f"{folder}: key and certificate differ")
        if not issuing.not_valid_before_utc <= clock() <= issuing.not_valid_after_utc:
            raise SettingsError("certificate authority", f"{folder}/issuing.pem is not valid now")
        return cls(folder, uris[0].removeprefix("spiffe://"), root_pem, issuing, key, clock)

    def issue_from_csr(
        self,
        csr_pem: bytes,
        uri_san: str,
        dns_names: Sequence[str] = (),
        lifetime: timedelta = PARTNER_LIFETIME,
        *,
        client: bool = True,
        server: bool = False,
    ) -> IssuedCertificate:
        """Issue a certificate for the key of a request; every name in it is the caller's choice.

        `dns_names` may hold IP addresses. The certificate ends with the issuing one at the latest.
        Raises MarketError REQUEST_INVALID for a request that is unreadable, forged or weak.
        """
        assert client or server, "a certificate is for clients, servers or both"
        assert timedelta(0) < lifetime <= LONGEST_LIFETIME, "a certificate has a limited life"
        now = self.clock()
        end = min(now + lifetime, self.issuing.not_valid_after_utc)
        subject = name_of(uri_san.rsplit("/", 1)[-1])
        key = _requested_key(csr_pem)
        builder = certificate_builder(subject, self.issuing.subject, key, now - _BACKDATED, end)
        names = [x509.UniformResourceIdentifier(uri_san), *map(host_name, dns_names)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] * client + [
            ExtendedKeyUsageOID.SERVER_AUTH
        ] * server
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(key_usage(authority=False), critical=True)
        certificate = signed(builder, self.issuing_key)
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return IssuedCertificate(
            certificate_pem=pem,
            chain_pem=pem + self.issuing.public_bytes(serialization.Encoding.PEM),
            fingerprint=certificate.fingerprint(hashes.SHA256()),
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an EC key of ours; SettingsError when others could read the file too."""
    if path.stat().st_mode & 0o077:
        raise SettingsError("certificate authority", f"{path} must be readable by its owner only")
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an EC key")
    return key


def _requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Give the key of a request whose signature shows that the sender has it."""
    try:
        request = x509.load_pem_x509_csr(csr_pem[: _MAX_PEM_BYTES + 1])
        genuine = request.is_signature_valid
        key = request.public_key()
    except (ValueError, TypeError, InvalidSignature):
        raise _bad_request("must be a certificate request in PEM") from None
    if not genuine:
        raise _bad_request("must be signed with its own key")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1"):
        return key
    if isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 4096:
        return key
    raise _bad_request("must have an EC key (P-256, P-384) or an RSA key of 2048 to 4096 bits")


def _bad_request(description: str) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "the certificate request is refused",
        violations=(FieldViolation("certificate_signing_request_pem", description, "csr"),),
    )
