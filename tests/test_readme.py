"""The README's two programs run as they stand there, apart from the port."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from grpc import aio

from gem.charging.v1 import evse_pb2, evse_search_service_pb2, evse_search_service_pb2_grpc
from gem.common.v1 import geo_pb2
from gem.mesh.v1 import provider_answer_pb2
from tests.identities import Identity, MakeIdentity

ROOT = Path(__file__).resolve().parents[1]
CALLER, PROVIDER = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
SERVICE = "gem.charging.v1.EvseSearchService"
CENTER = geo_pb2.GeoPoint(latitude_e7=501109000, longitude_e7=86821000)
REQUEST = evse_search_service_pb2.SearchEvsesRequest(
    circle=geo_pb2.GeoCircle(center=CENTER, radius_m=50000)
)


@asynccontextmanager
async def program(text: str, folder: Path, owner: Identity) -> AsyncIterator[Process]:
    """Run a program in a folder that holds its owner's key, certificate and trusted roots."""
    (folder / "key.pem").write_bytes(owner.key_pem)
    (folder / "certificate.pem").write_bytes(owner.chain_pem)
    (folder / "ca.pem").write_bytes(owner.root_pem)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", text), cwd=folder, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def free_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with server:
        return int(server.sockets[0].getsockname()[1])


@pytest.fixture
async def provider_port(tmp_path: Path, make_identity: MakeIdentity) -> AsyncIterator[int]:
    """Run the README's provider and give its port."""
    port = await free_port()
    async with program(PROVIDER.replace("9443", str(port)), tmp_path, make_identity("op")):
        yield port


async def ask(port: int, caller: Identity) -> evse_search_service_pb2.SearchEvsesResponse:
    """Ask the provider as the marketplace does, with the certificate of `caller`."""
    credentials = grpc.ssl_channel_credentials(caller.root_pem, caller.key_pem, caller.chain_pem)
    metadata = (("gem-requester", "evsp"), ("gem-contract", "c-1"), ("gem-call", str(uuid4())))
    async with aio.secure_channel(f"localhost:{port}", credentials) as channel:
        stub = evse_search_service_pb2_grpc.EvseSearchServiceStub(channel)
        answer: evse_search_service_pb2.SearchEvsesResponse = await stub.SearchEvses(
            REQUEST, timeout=10, wait_for_ready=True, metadata=metadata
        )
        return answer


def test_the_provider_has_twenty_lines() -> None:
    assert len([line for line in PROVIDER.splitlines() if line.strip()]) <= 20


async def test_the_provider_refuses_everybody_but_the_marketplace(
    provider_port: int, make_identity: MakeIdentity
) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await ask(provider_port, make_identity("somebody"))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_provider_answers_the_marketplace(
    provider_port: int, marketplace_identity: Identity
) -> None:
    answer = await ask(provider_port, marketplace_identity)
    assert [evse.evse_id for evse in answer.evses] == ["DE*ABC*E1"]
    assert answer.evses[0].location == CENTER


async def answer_as_the_market_would(request: bytes, _context: object) -> bytes:
    """Give one stamped element and the entry of its provider."""
    asked = evse_search_service_pb2.SearchEvsesRequest.FromString(request)
    assert asked.circle.center == CENTER
    evse = evse_pb2.Evse(evse_id="DE*ABC*E1", provider_id="op", distance_m=250)
    entry = provider_answer_pb2.ProviderAnswer(
        provider_id="op", status=provider_answer_pb2.ANSWER_STATUS_OK, latency_us=900
    )
    answer = evse_search_service_pb2.SearchEvsesResponse(evses=[evse], provider_answers=[entry])
    return answer.SerializeToString()


async def test_the_caller_prints_what_it_finds(
    tmp_path: Path, make_identity: MakeIdentity, marketplace_identity: Identity
) -> None:
    own = marketplace_identity
    credentials = grpc.ssl_server_credentials([(own.key_pem, own.chain_pem)], own.root_pem, True)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        answer_as_the_market_would
    )
    server = aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"SearchEvses": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    text = CALLER.replace("8443", str(port))
    async with program(text, tmp_path, make_identity("evsp")) as process:
        printed, complaints = await process.communicate()
    await server.stop(0)
    assert printed.decode().splitlines() == ["op DE*ABC*E1 250 m", "op 1 900 us"], complaints
