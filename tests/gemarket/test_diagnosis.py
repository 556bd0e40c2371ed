"""`gemarket doctor` names the reason: one test for each cause."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.certificates import CertificateAuthority
from foundation.embedded_postgres import EmbeddedPostgres
from gemarket.diagnosis import (
    Finding,
    check_certificate,
    check_database,
    check_handshake,
    check_parties,
    check_port,
    check_processes,
    check_providers,
)
from gemarket.endpoints import Endpoints, Party
from gemarket.ports import free_port
from tests.gemarket.files import DAY, issued, now, party_of, tls_server
from tests.identities import TRUST_DOMAIN


@pytest.fixture(scope="session")
def another(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Make an authority that the market does not trust."""
    return CertificateAuthority.create(tmp_path_factory.mktemp("another") / "ca", TRUST_DOMAIN)


def ill(*findings: Finding) -> list[tuple[str, str]]:
    """Give check and text of what is not well; each names a remedy."""
    assert all(finding.remedy for finding in findings if not finding.well)
    return [(finding.check, finding.text) for finding in findings if not finding.well]


def test_an_expired_certificate_is_named_with_its_end(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    past = replace(authority, clock=lambda: now() - 7 * DAY)
    party = party_of(issued(tmp_path, past, DAY))
    ((check, text),) = ill(*check_certificate("volt", party, now()))
    assert check == "certificate volt"
    assert text.startswith("certificate expired at ")


def test_a_certificate_of_the_future_blames_the_clock(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path, authority))
    findings = check_certificate("volt", party, now() - 7 * DAY)
    ((_, text),) = ill(*findings)
    assert "this clock says" in text
    assert findings[0].remedy == "set this machine's clock"


def test_a_certificate_of_another_authority_is_named(
    authority: CertificateAuthority, another: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path, another, roots=authority.root_pem))
    ((check, text),) = ill(*check_certificate("volt", party, now()))
    assert check == "issuer of volt"
    assert text.startswith("wrong CA")


def test_the_key_of_somebody_else_is_named(authority: CertificateAuthority, tmp_path: Path) -> None:
    mine, other = issued(tmp_path / "a", authority), issued(tmp_path / "b", authority)
    mine.key_file.write_bytes(other.key_file.read_bytes())
    findings = check_certificate("volt", party_of(mine), now())
    assert ill(*findings) == [("certificate volt", "the key does not belong to the certificate")]


@pytest.mark.parametrize("content", [None, b"", b"nonsense"], ids=["missing", "empty", "no PEM"])
def test_a_file_that_cannot_be_read_is_named(
    authority: CertificateAuthority, tmp_path: Path, content: bytes | None
) -> None:
    identity = issued(tmp_path, authority)
    if content is None:
        identity.certificate_file.unlink()
    else:
        identity.certificate_file.write_bytes(content)
    ((check, text),) = ill(*check_certificate("volt", party_of(identity), now()))
    assert check == "certificate volt"
    assert text in {"No such file or directory", "not readable as PEM"}


def test_a_certificate_that_ends_soon_is_well_and_says_so(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    findings = check_certificate("volt", party_of(issued(tmp_path, authority, DAY)), now())
    assert ill(*findings) == []
    assert findings[0].text.startswith("expires soon")


def test_a_closed_port_is_named() -> None:
    port = free_port()
    finding = check_port("marketplace", f"127.0.0.1:{port}")
    assert ill(finding) == [("marketplace", f"nobody listens on port {port} of 127.0.0.1")]


def test_a_host_without_an_address_is_named() -> None:
    finding = check_port("marketplace", "no-such-host.invalid:1")
    assert ill(finding) == [("marketplace", "the host name no-such-host.invalid does not resolve")]


def test_a_server_of_another_authority_is_named(
    authority: CertificateAuthority, another: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path / "mine", authority))
    server = issued(tmp_path / "server", another, names=("127.0.0.1",))
    with tls_server(server) as address:
        ((_, text),) = ill(check_handshake("TLS", address, party, "127.0.0.1"))
    assert text.startswith("wrong CA")


def test_an_expired_server_is_named(authority: CertificateAuthority, tmp_path: Path) -> None:
    past = replace(authority, clock=lambda: now() - 7 * DAY)
    party = party_of(issued(tmp_path / "mine", authority))
    with tls_server(issued(tmp_path / "server", past, DAY, ("127.0.0.1",))) as address:
        finding = check_handshake("TLS", address, party, "127.0.0.1")
    assert ill(finding) == [("TLS", "the server's certificate has expired")]


def test_a_server_under_another_name_is_named(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path / "mine", authority))
    with tls_server(issued(tmp_path / "server", authority, names=("localhost",))) as address:
        finding = check_handshake("TLS", address, party, "127.0.0.1")
    assert ill(finding) == [("TLS", "the server's certificate is not for 127.0.0.1")]


def test_a_port_that_speaks_no_tls_is_named(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path, authority))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        listener.listen()
        ((_, text),) = ill(check_handshake("TLS", address, party, "127.0.0.1"))
    assert text.startswith("TLS handshake failed")


def test_a_good_handshake_is_well(authority: CertificateAuthority, tmp_path: Path) -> None:
    party = party_of(issued(tmp_path / "mine", authority))
    with tls_server(issued(tmp_path / "server", authority, names=("127.0.0.1",))) as address:
        finding = check_handshake("TLS", address, party, "127.0.0.1")
    assert ill(finding) == []
    assert finding.text == "TLSv1.3 with 127.0.0.1"


async def test_a_database_that_is_down_is_named(tmp_path: Path) -> None:
    finding = await check_database(f"postgresql+asyncpg://nobody@/nothing?host={tmp_path}")
    ((check, text),) = ill(finding)
    assert check == "database"
    assert text.startswith("cannot connect")


async def test_a_database_that_answers_is_well(postgres: EmbeddedPostgres) -> None:
    assert await check_database(postgres.url) == Finding("database", True, "answers, fsync on")


def test_a_process_that_is_gone_is_named() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    findings = list(check_processes({"worker-0": gone.pid, "worker-1": os.getpid()}))
    assert ill(*findings) == [("process worker-0", f"process {gone.pid} is gone")]


def endpoints(parties: dict[str, Party], providers: dict[str, str]) -> Endpoints:
    """Describe a market that does not run."""
    return Endpoints("127.0.0.1:1", "", TRUST_DOMAIN, "", "", parties, {}, providers)


def test_every_party_is_looked_at(authority: CertificateAuthority, tmp_path: Path) -> None:
    good, bad = issued(tmp_path / "good", authority), issued(tmp_path / "bad", authority)
    bad.key_file.unlink()
    findings = check_parties(endpoints({"good": party_of(good), "bad": party_of(bad)}, {}))
    assert ill(*findings) == [("certificate bad", "No such file or directory")]
    assert "certificate good" in {finding.check for finding in findings}


def test_a_provider_has_to_prove_that_it_is_that_partner(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    party = party_of(issued(tmp_path / "mine", authority))
    server = issued(tmp_path / "server", authority, names=(f"volt.partners.{TRUST_DOMAIN}",))
    with tls_server(server) as address:
        well = check_providers(endpoints({}, {"volt": address}), party)
        wrong = check_providers(endpoints({}, {"amps": address}), party)
    away = check_providers(endpoints({}, {"volt": f"127.0.0.1:{free_port()}"}), party)
    assert ill(*well) == []
    name = f"amps.partners.{TRUST_DOMAIN}"
    assert ill(*wrong) == [("TLS of amps", f"the server's certificate is not for {name}")]
    assert [check for check, _ in ill(*away)] == ["provider volt"]
