"""Why something does not connect: one check for each cause, from the inside out.

Each check gives findings; none raises. The order is that of causes: when a certificate has expired,
what the handshake says about it comes later and is less telling.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from gemarket.endpoints import Endpoints, Party
from gemarket.identity import Identity

_CONNECT_TIMEOUT_S = 3.0
_EXPIRES_SOON = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `remedy` is empty where all is well."""

    check: str
    well: bool
    text: str
    remedy: str = ""


def split_address(address: str) -> tuple[str, int]:
    """Split `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def check_certificate(name: str, party: Party, now: datetime) -> list[Finding]:
    """Check one party's files: present, matching, in time, issued by the market's authority."""
    try:
        key, chain_pem, roots_pem = Identity(Path(party.certificate_file).parent).read()
        chain = x509.load_pem_x509_certificates(chain_pem)
        roots = x509.load_pem_x509_certificates(roots_pem)
        private = serialization.load_pem_private_key(key, None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not readable as PEM"
        remedy = "restore the file or let the operator issue a new certificate"
        return [Finding(f"certificate {name}", False, f"{reason}", remedy)]
    leaf = chain[0]
    if leaf.public_key() != private.public_key():
        text, remedy = "the key does not belong to the certificate", "use the key of the CSR"
        return [Finding(f"certificate {name}", False, text, remedy)]
    return [_check_time(name, leaf, now), _check_issuer(name, chain, roots)]


def _check_time(name: str, leaf: x509.Certificate, now: datetime) -> Finding:
    check, begins, ends = f"certificate {name}", leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < begins:
        text = f"not valid before {begins:%Y-%m-%d %H:%M} UTC; this clock says {now:%Y-%m-%d %H:%M}"
        return Finding(check, False, text, "set this machine's clock")
    if now >= ends:
        text = f"certificate expired at {ends:%Y-%m-%d %H:%M} UTC"
        return Finding(check, False, text, "issue a new one; `gemarket up` renews its own")
    if ends - now < _EXPIRES_SOON:
        text = f"expires soon, at {ends:%Y-%m-%d %H:%M} UTC"
        return Finding(check, True, text, "renew it")
    return Finding(check, True, f"valid until {ends:%Y-%m-%d}")


def _check_issuer(
    name: str, chain: list[x509.Certificate], roots: list[x509.Certificate]
) -> Finding:
    check = f"issuer of {name}"
    current = chain[0]
    for issuer in (*chain[1:], *roots):
        if _issued_by(current, issuer):
            current = issuer
        if any(current == root for root in roots):
            return Finding(check, True, "issued by the market's authority")
    text = "wrong CA: not issued by the authority in its ca.pem"
    remedy = "take ca.pem and the certificate from the same market"
    return Finding(check, False, text, remedy)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def check_port(name: str, address: str) -> Finding:
    """Check that somebody listens at `host:port`."""
    host, port = split_address(address)
    try:
        socket.create_connection((host, port), _CONNECT_TIMEOUT_S).close()
    except ConnectionRefusedError:
        text = f"nobody listens on port {port} of {host}"
        return Finding(name, False, text, "start it, or correct the port")
    except socket.gaierror:
        return Finding(name, False, f"the host name {host} does not resolve", "correct the host")
    except TimeoutError:
        text = f"no answer from {address}; a firewall or a stopped process"
        return Finding(name, False, text, "see whether the process runs")
    except OSError as error:
        return Finding(name, False, f"{address}: {error.strerror}", "see the network settings")
    return Finding(name, True, f"{address} accepts connections")


def check_handshake(name: str, address: str, party: Party, server_name: str) -> Finding:
    """Check mutual TLS: the server's certificate against our roots and name."""
    host, port = split_address(address)
    try:
        context = ssl.create_default_context(cafile=party.ca_file)
        context.load_cert_chain(party.certificate_file, party.key_file)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, port), _CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=server_name) as secure,
        ):
            version = secure.version()
    except ssl.SSLCertVerificationError as error:
        return Finding(name, False, *_explain_verification(error, server_name))
    except (ssl.SSLError, OSError) as error:
        text = f"TLS handshake failed: {type(error).__name__}"
        return Finding(name, False, text, "see whether this port speaks TLS")
    return Finding(name, True, f"{version} with {server_name}")


def _explain_verification(error: ssl.SSLCertVerificationError, server_name: str) -> tuple[str, str]:
    message = error.verify_message
    if "expired" in message:
        return "the server's certificate has expired", "restart the market: it renews its own"
    if "not yet valid" in message:
        return "the server's certificate is not valid yet", "set this machine's clock"
    if "ostname" in message or "IP address" in message:
        text = f"the server's certificate is not for {server_name}"
        return text, "use a name in `public_names`, or add this one"
    text = "wrong CA: the server's certificate is not issued by the authority in ca.pem"
    return text, "take ca.pem from this market's data directory"


async def check_database(url: str) -> Finding:
    """Check that PostgreSQL answers and keeps what it acknowledges."""
    from foundation.database import connect_raw  # noqa: PLC0415

    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            connection = await connect_raw(url)
            try:
                fsync = await connection.fetchval("SHOW fsync")
            finally:
                await connection.close()
    except TimeoutError:
        return Finding("database", False, "no answer; is it stopped or overloaded?", "restart it")
    except Exception as error:  # noqa: BLE001  # whatever the driver raises is the finding
        text = f"cannot connect: {type(error).__name__}"
        return Finding("database", False, text, "see whether it runs, and GEMARKET_DATABASE_URL")
    if fsync != "on":
        return Finding(
            "database", False, "fsync is off: acknowledged calls could be lost", "turn it on"
        )
    return Finding("database", True, "answers, fsync on")


def check_processes(processes: dict[str, int]) -> Iterable[Finding]:
    """Check that every child process of `gemarket up` is alive."""
    for name, pid in sorted(processes.items()):
        alive = Path(f"/proc/{pid}").exists() or not Path("/proc").exists()
        text = f"process {pid} runs" if alive else f"process {pid} is gone"
        yield Finding(f"process {name}", alive, text, "" if alive else "see its log file")


def check_parties(endpoints: Endpoints) -> list[Finding]:
    """Check the files of every partner and operator."""
    now = datetime.now(UTC)
    parties = {**endpoints.operators, **endpoints.partners}
    return [
        finding
        for name, party in sorted(parties.items())
        for finding in check_certificate(name, party, now)
    ]


def check_providers(endpoints: Endpoints, party: Party) -> list[Finding]:
    """Check each reference provider: port, then TLS under the name that is only its own."""
    findings = []
    for provider_id, address in sorted(endpoints.providers.items()):
        port = check_port(f"provider {provider_id}", address)
        name = f"{provider_id}.partners.{endpoints.trust_domain}"
        findings.append(port)
        if port.well:
            findings.append(check_handshake(f"TLS of {provider_id}", address, party, name))
    return findings
