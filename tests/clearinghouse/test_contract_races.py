"""Two processes of a clearing house on one database: what must happen once happens once."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1.clearing_contract_service_pb2 import LoadStatus
from tests.clearinghouse.house import (
    EVSP,
    HOUSE,
    PATIENCE_S,
    House,
    card,
    contract,
    house_settings,
    new_request_id,
    reason_of,
    running_house,
    shows,
)
from tests.clearinghouse.market_stand import MarketStand
from tests.identities import Identity, MakeIdentity

pytestmark = pytest.mark.fault

SECRET = "open sesame"


@pytest.fixture
async def pair(house: House, marketplace_identity: Identity) -> AsyncIterator[tuple[House, House]]:
    """Run a second process' worth of clearing house on the first one's database."""
    settings = house.provider.parts.settings
    async with running_house(settings, house.stand, marketplace_identity) as second:
        yield house, second


async def reasons(*calls: Awaitable[Any]) -> list[str]:
    """Await calls at once; give `OK` or the reason of each refusal, sorted."""
    found = await asyncio.gather(*calls, return_exceptions=True)
    return sorted(
        reason_of(each) if isinstance(each, grpc.aio.AioRpcError) else "OK" for each in found
    )


@pytest.mark.usecase(1514)
async def test_a_contract_created_twice_at_once_is_there_once(pair: tuple[House, House]) -> None:
    found = await reasons(*(house.hold(contract()) for house in pair * 3))
    assert found == ["ALREADY_EXISTS"] * 5 + ["OK"]
    assert await pair[0].pool.fetchval("SELECT count(*) FROM clearinghouse.token") == 1


@pytest.mark.usecase(1514)
async def test_one_command_sent_twice_at_once_is_done_once(pair: tuple[House, House]) -> None:
    request_id = new_request_id()
    answers = await asyncio.gather(
        *(
            house.ask(EVSP, "CreateCustomerContract", contract=contract(), request_id=request_id)
            for house in pair * 3
        )
    )
    assert answers == [answers[0]] * 6


@pytest.mark.usecase(1514)
async def test_a_card_given_to_two_at_once_is_ones(pair: tuple[House, House]) -> None:
    calls = [
        house.hold(contract(f"DE-EVS-C0000000{number}", card()))
        for number, house in enumerate(pair * 3)
    ]
    assert await reasons(*calls) == ["OK"] + ["REQUEST_INVALID"] * 5


@pytest.mark.usecase(1515)
async def test_changes_of_one_version_at_once_are_one_change(pair: tuple[House, House]) -> None:
    made = await pair[0].hold(contract())
    calls = []
    for number, house in enumerate(pair * 3):
        wanted = wire.CustomerContract()
        wanted.CopyFrom(made)
        wanted.language = f"x{number}"
        change = {"contract": wanted, "expected_version_number": 1}
        calls.append(house.ask(EVSP, "ChangeCustomerContract", **change))
    assert await reasons(*calls) == ["CONFLICT"] * 5 + ["OK"]


@pytest.mark.usecase(1500, 1513)
async def test_an_agreement_ends_once_whoever_ends_it(pair: tuple[House, House]) -> None:
    made = await pair[0].agree()
    calls = [
        house.ask(who, "DisableRoamingAgreement", agreement_id=made.agreement_id)
        for house in pair
        for who in ("operator", EVSP)
    ]
    assert await reasons(*calls) == ["OK"] + ["STATE_NOT_ALLOWED"] * 3


@pytest.mark.usecase(1514, 1515)
async def test_loads_at_once_give_sequences_without_gap_or_double(
    pair: tuple[House, House],
) -> None:
    def batch(first: int) -> list[wire.CustomerContract]:
        return [
            contract(f"DE-EVS-C{number:08d}", card(f"{number:08X}"))
            for number in range(first, first + 40)
        ]

    await asyncio.gather(
        pair[0].load(batch(0), batch(40)),
        pair[1].load(batch(80), batch(120)),
        pair[0].hold(contract("DE-EVS-C00009999", card("FFFFFFFF"))),
    )
    rows = await pair[0].pool.fetch(
        "SELECT sequence, recorded_at FROM clearinghouse.customer_contract ORDER BY sequence"
    )
    assert [row["sequence"] for row in rows] == list(range(1, 162))
    times = [row["recorded_at"] for row in rows]
    assert times == sorted(times), "versions have the order of their commits"


@pytest.mark.usecase(1512)
async def test_a_request_sent_to_two_processes_has_one_answer(pair: tuple[House, House]) -> None:
    await pair[0].agree()
    await pair[0].hold(contract())
    request_id = new_request_id()
    answers = await asyncio.gather(
        *(house.authorize(shows(), request_id=request_id) for house in pair * 4)
    )
    assert answers == [answers[0]] * 8


@asynccontextmanager
async def own_database(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    """Run a PostgreSQL that a test may kill."""
    server = EmbeddedPostgres(folder, options={"shared_buffers": "16MB"})
    await asyncio.to_thread(server.start)
    try:
        await migrate(server.url, "clearinghouse")
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.usecase(1502, 1512)
async def test_what_was_answered_is_there_after_the_database_was_killed(
    tmp_path: Path, make_identity: MakeIdentity, stand: MarketStand, marketplace_identity: Identity
) -> None:
    """Whatever was acknowledged before the kill is kept; a repetition has the same answer."""
    async with own_database(tmp_path / "own") as server:
        settings = house_settings(
            tmp_path,
            make_identity(HOUSE),
            database_url=server.url,
            market_address=f"localhost:{stand.port}",
        )
        async with running_house(settings, stand, marketplace_identity) as house:
            await house.agree()
            await house.hold(contract(customer_secret=SECRET))
            given: dict[str, Any] = {}

            async def ask() -> None:
                while True:
                    request_id = new_request_id()
                    given[request_id] = await house.authorize(shows(), request_id=request_id)

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.sleep(0.5)
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGQUIT)
            done, _ = await asyncio.wait(asking, timeout=PATIENCE_S)
            assert {reason_of(task.exception()) for task in done} == {"STORAGE_UNAVAILABLE"}  # type: ignore[arg-type]  # they failed
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            assert given
            for request_id, decision in list(given.items())[-10:]:
                async with asyncio.timeout(PATIENCE_S):
                    assert await _again(house, request_id) == decision
            kept = await house.pool.fetchval(
                "SELECT count(*) FROM clearinghouse.authorization WHERE request_id = ANY($1)",
                list(given),
            )
            assert kept == len(given)


async def _again(house: House, request_id: str) -> Any:
    """Ask until the database is back."""
    while True:
        try:
            return await house.authorize(shows(), request_id=request_id)
        except grpc.aio.AioRpcError as error:
            if reason_of(error) != "STORAGE_UNAVAILABLE":
                raise
            await asyncio.sleep(0.1)


@pytest.mark.torture
@pytest.mark.usecase(1514)
@pytest.mark.parametrize("atomic", [False, True])
async def test_a_hundred_thousand_contracts_are_loaded_in_bounded_memory(
    house: House, atomic: bool
) -> None:
    """The clearing house is in this very process, with the client that sends them."""
    count, size = 100_000, 500
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def requests() -> AsyncIterator[messages.LoadCustomerContractsRequest]:
        for first in range(0, count, size):
            yield messages.LoadCustomerContractsRequest(
                request_id="load",
                mode=messages.LOAD_MODE_FULL,
                atomic=atomic,
                contracts=[
                    contract(f"DE-EVS-C{number:08d}", card(f"{number:08X}"))
                    for number in range(first, first + size)
                ],
            )

    call = house.contracts.LoadCustomerContracts(
        requests(), metadata=house.as_partner(EVSP), timeout=110
    )
    reports = 0
    async for answer in call:
        reports += len(answer.reports)
        created = LoadStatus.LOAD_STATUS_CREATED
        assert all(report.status == created for report in answer.reports)
    assert answer.finished
    assert reports == count
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 150
