"""The check of a listener's certificate before anything is started with it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from foundation.errors import SettingsError

CERTIFICATE_KEY = "tls.certificate_file"
KEY_KEY = "tls.key_file"


def check_server_certificate(
    certificate_file: Path, key_file: Path, host_names: Sequence[str], now: datetime
) -> None:
    """Refuse, by SettingsError, a certificate that callers would refuse or that is not safe.

    Both files are PEM, the listener's own certificate first. It must be valid at `now`, be for
    servers, cover every host name (a DNS name or IP address; one wildcard label counts), and belong
    to the key, whose file only its owner may read.
    """
    certificate = _read_certificate(certificate_file)
    if _read_public_key(key_file) != _public_bytes(certificate.public_key()):
        raise SettingsError(KEY_KEY, "is not the key of the certificate")
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SettingsError(CERTIFICATE_KEY, "is not valid now or ends within minutes")
    if not _is_for_servers(certificate):
        raise SettingsError(CERTIFICATE_KEY, "is not for servers (extended key usage)")
    for name in host_names:
        if not _covers(certificate, name):
            raise SettingsError(CERTIFICATE_KEY, f"does not name {name}, a public name")


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(CERTIFICATE_KEY, f"cannot be read: {type(error).__name__}") from None


def _read_public_key(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(KEY_KEY, "must be readable by its owner only (mode 0600)")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except SettingsError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(KEY_KEY, f"cannot be read: {type(error).__name__}") from None
    return _public_bytes(key.public_key())


def _public_bytes(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert isinstance(encoded, bytes)
    return encoded


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.SERVER_AUTH in usages


def _covers(certificate: x509.Certificate, name: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    try:
        return ipaddress.ip_address(name) in names.get_values_for_type(x509.IPAddress)
    except ValueError:
        dns_names = {dns_name.lower() for dns_name in names.get_values_for_type(x509.DNSName)}
    wildcard = "*." + name.lower().partition(".")[2]
    return name.lower() in dns_names or wildcard in dns_names
