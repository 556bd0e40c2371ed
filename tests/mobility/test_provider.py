"""A provider as the marketplace meets it: generated stubs, mutual TLS, a real database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import asyncpg
import grpc
import protovalidate
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from foundation.certificates import provider_dns_name
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gem.charging.v1 import evse_search_service_pb2 as messages
from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub
from mobility.evse_row import row_of
from mobility.provider import SERVICE, serve
from mobility.provider_settings import ProviderSettings
from mobility.storage import EvseStorage, open_pool
from mobility.synthetic import SyntheticOperator, synthetic_rows
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity
from tests.mobility.test_provider_settings import config_file
from tests.mobility.test_search import around, at

if TYPE_CHECKING:
    from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceAsyncStub

pytestmark = pytest.mark.usecase(1527)
METADATA = (
    ("gem-requester", "some-evsp"),
    ("gem-contract", "c-1"),
    ("gem-call", str(uuid4())),
)
#: Longest wait of a test for anything.
PATIENCE_S = 20.0

MakeSettings = Callable[..., ProviderSettings]


@pytest.fixture
def make_settings(tmp_path: Path, make_identity: MakeIdentity) -> MakeSettings:
    """Give `make_settings(database_url=…)`: settings of the provider of the operator ABC."""
    identity = make_identity("abc")
    files = {
        "key_file": identity.key_pem,
        "certificate_file": identity.chain_pem,
        "ca_file": identity.root_pem,
    }
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)

    def make(**changes: object) -> ProviderSettings:
        values = {"operator_name": "ABC", "trust_domain": TRUST_DOMAIN, **changes}
        return ProviderSettings(**values, **{name: tmp_path / name for name in files})  # type: ignore[arg-type]

    return make


@asynccontextmanager
async def connected(port: int, identity: Identity | None) -> AsyncIterator[grpc.aio.Channel]:
    """Connect as the owner of an identity, or without one."""
    assert identity is not None
    credentials = grpc.ssl_channel_credentials(
        identity.root_pem, identity.key_pem, identity.chain_pem
    )
    options = (
        ("grpc.ssl_target_name_override", provider_dns_name(TRUST_DOMAIN, "abc")),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield channel


@asynccontextmanager
async def serving(
    settings: ProviderSettings, identity: Identity
) -> AsyncIterator[EvseSearchServiceAsyncStub]:
    """Run a provider; give a stub with the identity's certificate."""
    provider = await serve(settings)
    try:
        async with connected(provider.port, identity) as channel:
            yield EvseSearchServiceStub(channel)
    finally:
        await provider.stop(1.0)


@pytest.fixture
async def stub(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> AsyncIterator[EvseSearchServiceAsyncStub]:
    """Give the marketplace's stub of a provider with three EVSEs."""
    async with open_pool(mobility_url, 1) as pool:
        storage = EvseStorage(pool)
        await _fill(storage)
    settings = make_settings(database_url=mobility_url)
    async with serving(settings, marketplace_identity) as made:
        yield made


async def _fill(storage: EvseStorage) -> None:
    await storage.register([("abc", "ABC", "abc", ["DE*SYN"]), ("def", "DEF", "def", [])])
    abc, other = await storage.operator("abc", None), await storage.operator("def", None)
    assert abc is not None
    assert other is not None
    rows = [(abc.operator_ref, row_of(at(50, 10 + number / 1000, number))) for number in (1, 2, 3)]
    await storage.upsert([*rows, (other.operator_ref, row_of(at(50, 10, 4)))])


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """Await a call that fails; give its code and the reason of its ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    if status is not None:
        assert status.details[0].Unpack(info)
    return caught.value.code(), info.reason


async def test_another_partner_is_refused(
    mobility_url: str, make_settings: MakeSettings, make_identity: MakeIdentity
) -> None:
    settings = make_settings(database_url=mobility_url)
    async with serving(settings, make_identity("abc")) as stub:
        for call in (
            stub.SearchEvses(around(50, 10, 10), metadata=METADATA),
            stub.GetEvse(messages.GetEvseRequest(evse_id="DE*SYN*E1"), metadata=METADATA),
        ):
            code, reason = await refused(call)
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert reason == "NOT_THE_MARKETPLACE"


async def test_a_caller_without_a_certificate_is_not_connected(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    provider = await serve(make_settings(database_url=mobility_url))
    credentials = grpc.ssl_channel_credentials(marketplace_identity.root_pem)
    try:
        async with grpc.aio.secure_channel(f"localhost:{provider.port}", credentials) as channel:
            call = EvseSearchServiceStub(channel).SearchEvses(around(50, 10, 10), timeout=5)
            assert (await refused(call))[0] is grpc.StatusCode.UNAVAILABLE
    finally:
        await provider.stop(1.0)


@pytest.mark.parametrize(
    "request_message",
    [
        messages.SearchEvsesRequest(),
        around(50, 10, 0),
        around(91, 10, 100),
        messages.SearchEvsesRequest(circle=around(50, 10, 9).circle, limit=1001),
    ],
)
async def test_a_request_that_breaks_the_rules_is_refused(
    stub: EvseSearchServiceAsyncStub, request_message: messages.SearchEvsesRequest
) -> None:
    code, reason = await refused(stub.SearchEvses(request_message, metadata=METADATA))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")


async def test_a_corridor_around_the_earth_is_refused(stub: EvseSearchServiceAsyncStub) -> None:
    request = messages.SearchEvsesRequest()
    for longitude in (0, 1_200_000_000, -1_200_000_000):
        request.corridor.points.add(longitude_e7=longitude)
    request.corridor.distance_m = 10
    code, _ = await refused(stub.SearchEvses(request, metadata=METADATA))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("evse_id", ["DE*SYN*E9", "DE*SYN*E4", "+49*823*1234"])
async def test_an_evse_that_the_operator_does_not_have_is_not_found(
    stub: EvseSearchServiceAsyncStub, evse_id: str
) -> None:
    call = stub.GetEvse(messages.GetEvseRequest(evse_id=evse_id), metadata=METADATA)
    assert await refused(call) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_nothing_found_is_ok_and_empty(stub: EvseSearchServiceAsyncStub) -> None:
    answer = await stub.SearchEvses(around(-50, 10, 1000), metadata=METADATA)
    assert answer == messages.SearchEvsesResponse()


async def test_an_operator_without_any_import_is_ok_and_empty(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    settings = make_settings(database_url=mobility_url)
    async with serving(settings, marketplace_identity) as stub:
        answer = await stub.SearchEvses(around(50, 10, 1000), metadata=METADATA)
        assert answer == messages.SearchEvsesResponse()


async def test_a_search_gives_the_operators_own_evses_by_distance(
    stub: EvseSearchServiceAsyncStub,
) -> None:
    answer = await stub.SearchEvses(around(50, 10, 1000), metadata=METADATA)
    assert [(each.evse_id, each.distance_m) for each in answer.evses] == [
        ("DE*SYN*E1", 71),
        ("DE*SYN*E2", 143),
        ("DE*SYN*E3", 214),
    ]
    assert not answer.truncated


async def test_a_limit_keeps_the_nearest_and_says_that_there_is_more(
    stub: EvseSearchServiceAsyncStub,
) -> None:
    request = around(50, 10, 1000)
    for limit, truncated in ((2, True), (3, False)):
        request.limit = limit
        answer = await stub.SearchEvses(request, metadata=METADATA)
        assert len(answer.evses) == limit
        assert answer.truncated is truncated


@pytest.mark.parametrize("spelling", ["DE*SYN*E1", "desyne1", "DE*SYN*E*1"])
async def test_an_evse_is_found_in_any_spelling_of_its_id(
    stub: EvseSearchServiceAsyncStub, spelling: str
) -> None:
    answer = await stub.GetEvse(messages.GetEvseRequest(evse_id=spelling), metadata=METADATA)
    assert answer.evse.evse_id == "DE*SYN*E1"


async def test_an_answer_keeps_the_rules_of_the_interface_and_its_size(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    async with open_pool(mobility_url, 1) as pool:
        storage = EvseStorage(pool)
        await storage.register([("abc", "ABC", "abc", ["DE*SYN"])])
        rows = synthetic_rows(SyntheticOperator("ABC", "DE*SYN"), 200, seed=5)
        await storage.copy_all(1, [list(rows)])
    settings = make_settings(database_url=mobility_url)
    async with serving(settings, marketplace_identity) as stub:
        request = around(51, 10, 500_000)
        request.limit = 100
        answer = await stub.SearchEvses(request, metadata=METADATA)
    assert len(answer.evses) == 100
    protovalidate.validate(answer)
    assert 9_000 <= answer.ByteSize() <= 16_000


@pytest.mark.fault
async def test_a_provider_without_its_database_is_unavailable_and_recovers(
    short_tmp_dir: Path, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    database = EmbeddedPostgres(short_tmp_dir / "own", options={"shared_buffers": "16MB"})
    settings = make_settings(database_url=database.url)
    try:
        async with serving(settings, marketplace_identity) as stub:
            search = around(50, 10, 1000)
            away = (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
            assert await refused(stub.SearchEvses(search, metadata=METADATA)) == away
            await asyncio.to_thread(database.start)
            await migrate(database.url, "mobility")
            async with open_pool(database.url, 1) as pool:
                await _fill(EvseStorage(pool))
            assert len((await stub.SearchEvses(search, metadata=METADATA)).evses) == 3
            await asyncio.to_thread(database.kill)
            assert await refused(_until_refused(stub, search)) == away
            await asyncio.to_thread(database.start)
            assert len((await stub.SearchEvses(search, metadata=METADATA)).evses) == 3
            pid = database.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                assert await refused(_until_refused(stub, search)) == away
            finally:
                os.kill(pid, signal.SIGCONT)
    finally:
        await asyncio.to_thread(database.stop)


async def _until_refused(
    stub: EvseSearchServiceAsyncStub, search: messages.SearchEvsesRequest
) -> None:
    """Search until it fails: what serves a connection may outlive the server for a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await asyncio.gather(*(stub.SearchEvses(search, metadata=METADATA) for _ in range(8)))


async def test_health_says_whether_the_database_answers(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    away = "postgresql+asyncpg://nobody@/nothing?host=/nonexistent"
    for url, expected in (
        (mobility_url, health_pb2.HealthCheckResponse.SERVING),
        (away, health_pb2.HealthCheckResponse.NOT_SERVING),
    ):
        provider = await serve(make_settings(database_url=url))
        try:
            async with connected(provider.port, marketplace_identity) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for service in ("", SERVICE):
                    request = health_pb2.HealthCheckRequest(service=service)
                    async for answer in health.Watch(request, timeout=PATIENCE_S):
                        if answer.status == expected:
                            break
        finally:
            await provider.stop(1.0)


async def test_a_stop_lets_a_search_in_flight_end(
    mobility_url: str, make_settings: MakeSettings, marketplace_identity: Identity
) -> None:
    async with open_pool(mobility_url, 1) as pool:
        await _fill(EvseStorage(pool))
    provider = await serve(make_settings(database_url=mobility_url))
    async with connected(provider.port, marketplace_identity) as channel:
        stub = EvseSearchServiceStub(channel)
        connection = await connect_raw(mobility_url)
        try:
            async with connection.transaction():
                # Nobody can read EVSEs for a moment.
                await connection.execute("LOCK TABLE mobility.evse")
                search = stub.SearchEvses(around(50, 10, 1000), metadata=METADATA)
                call = asyncio.ensure_future(search)
                await _somebody_waits(connection)
                stop = asyncio.create_task(provider.stop(10.0))
                await asyncio.sleep(0.1)
                assert not stop.done()
            assert len((await call).evses) == 3
            await stop
        finally:
            await connection.close()


async def _somebody_waits(connection: asyncpg.Connection) -> None:
    """Wait until a query waits for the lock."""
    waiting = (
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"
        " AND relation = 'mobility.evse'::regclass"
    )
    async with asyncio.timeout(PATIENCE_S):
        while not await connection.fetchval(waiting):  # noqa: ASYNC110  # another process waits
            await asyncio.sleep(0.01)


async def test_the_program_serves_says_its_port_and_ends_on_sigterm(
    make_settings: MakeSettings, tmp_path: Path, marketplace_identity: Identity, mobility_url: str
) -> None:
    make_settings(database_url=mobility_url)
    command = (
        "-m",
        "mobility.provider",
        "--config",
        str(config_file(tmp_path, database_url=mobility_url)),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        async with connected(json.loads(line)["port"], marketplace_identity) as channel:
            stub = EvseSearchServiceStub(channel)
            answer = await stub.SearchEvses(around(50, 10, 9), metadata=METADATA)
            assert answer == messages.SearchEvsesResponse()
        process.terminate()
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
