"""The server that a partner runs: its files, its health, a certificate that follows its file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from foundation.certificates import provider_dns_name
from foundation.errors import SettingsError
from interceptors.provider_server import Listener, ProviderServer
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity

#: Longest wait of a test for anything.
PATIENCE_S = 20.0
NAME = provider_dns_name(TRUST_DOMAIN, "acme")
Serving = health_pb2.HealthCheckResponse.ServingStatus


def write(folder: Path, identity: Identity) -> None:
    """Write an identity's files, the key for its owner only, the certificate last."""
    (folder / "ca.pem").write_bytes(identity.root_pem)
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(identity.key_pem)
    (folder / "certificate.pem").write_bytes(identity.chain_pem)


def listener(folder: Path, port: int = 0) -> Listener:
    """Describe a listener with the files of a folder."""
    return Listener(
        host="127.0.0.1",
        port=port,
        key_file=folder / "key.pem",
        certificate_file=folder / "certificate.pem",
        ca_file=folder / "ca.pem",
        trust_domain=TRUST_DOMAIN,
    )


@asynccontextmanager
async def serving(
    folder: Path, *can_serve: Callable[[], Awaitable[bool]]
) -> AsyncIterator[ProviderServer]:
    """Run a server with the files of a folder; without a probe it is always well."""
    server = ProviderServer(listener(folder), ("acme.Depot",), *can_serve)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1.0)


async def shown_fingerprint(port: int, caller: Identity, folder: Path) -> bytes:
    """Connect anew, and give the SHA-256 of the certificate that the server shows."""
    context = ssl.create_default_context(cadata=caller.root_pem.decode())
    own = folder / "caller.pem"
    own.write_bytes(caller.key_pem + caller.chain_pem)
    context.load_cert_chain(own)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=NAME)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return sha256(shown).digest()


async def status_of(port: int, caller: Identity, service: str, wanted: int) -> int:
    """Wait until the health service says what is wanted; gives it."""
    credentials = grpc.ssl_channel_credentials(caller.root_pem, caller.key_pem, caller.chain_pem)
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        async for answer in health.Watch(request, timeout=PATIENCE_S):
            if answer.status == wanted:
                return wanted
    raise AssertionError("a watch ends only when it is cancelled")


@pytest.mark.parametrize("name", ["key", "certificate", "ca"])
async def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, make_identity: MakeIdentity, name: str
) -> None:
    write(tmp_path, make_identity("acme"))
    (tmp_path / f"{name}.pem").unlink()
    server = ProviderServer(listener(tmp_path), ())
    with pytest.raises(SettingsError) as raised:
        await server.start()
    assert f"{name}_file" in str(raised.value)
    await server.stop(0.0)


async def test_a_taken_port_is_named(tmp_path: Path, make_identity: MakeIdentity) -> None:
    write(tmp_path, make_identity("acme"))
    async with serving(tmp_path) as first:
        second = ProviderServer(listener(tmp_path, first.port), ())
        with pytest.raises(SettingsError) as raised:
            await second.start()
        assert "port" in str(raised.value)
        await second.stop(0.0)


async def test_health_says_what_the_probe_says_of_each_service(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    write(tmp_path, make_identity("acme"))

    async def away() -> bool:
        return False

    for probes, wanted in (((), Serving.Value("SERVING")), ((away,), Serving.Value("NOT_SERVING"))):
        async with serving(tmp_path, *probes) as server:
            for service in ("", "acme.Depot"):
                said = await status_of(server.port, marketplace_identity, service, wanted)
                assert said == wanted


@pytest.mark.fault
async def test_a_probe_that_hangs_is_a_service_that_is_away(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    write(tmp_path, make_identity("acme"))

    async def hangs() -> bool:
        await asyncio.sleep(PATIENCE_S * 10)
        return True

    wanted = Serving.Value("NOT_SERVING")
    async with serving(tmp_path, hangs) as server:
        assert await status_of(server.port, marketplace_identity, "", wanted) == wanted


async def test_a_renewed_certificate_is_shown_to_new_connections_without_a_restart(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    old, new = make_identity("acme"), make_identity("acme")
    write(tmp_path, old)
    async with serving(tmp_path) as server:
        seen = await shown_fingerprint(server.port, marketplace_identity, tmp_path)
        assert seen == old.fingerprint
        write(tmp_path, new)
        seen = await shown_fingerprint(server.port, marketplace_identity, tmp_path)
        assert seen == new.fingerprint


@pytest.mark.fault
async def test_a_broken_renewal_keeps_the_old_certificate_and_is_logged(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    old, other = make_identity("acme"), make_identity("acme")
    write(tmp_path, old)
    async with serving(tmp_path) as server:
        (tmp_path / "certificate.pem").write_bytes(other.chain_pem)  # not of this key
        with capture_logs() as logs:
            seen = await shown_fingerprint(server.port, marketplace_identity, tmp_path)
        assert seen == old.fingerprint
        assert [line["event"] for line in logs] == ["listener_certificate_not_renewed"]
