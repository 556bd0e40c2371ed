"""`kill -9` of the clearing house and of PostgreSQL at random instants: each record once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from clearinghouse.storage import DATABASE_ERRORS, Pool, open_pool
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import (
    AUTHORIZATION_COLUMNS,
    accounts,
    authorization_row,
    numbered,
)
from tests.clearinghouse.clearing_process import ClearingProcess, calling, send, write_config
from tests.clearinghouse.contract_holder import ContractHolder, HolderMarket, Mode
from tests.conftest import fresh_database
from tests.identities import Identity, MakeIdentity

pytestmark = [pytest.mark.usecase(1511), pytest.mark.fault]
_PATIENCE_S = 60.0
_RECORDS = 120


class Run:
    """One clearing house under fire: its records, its process, and what it acknowledged."""

    def __init__(self, config: Path, identity: Identity, pool: Pool, holder: ContractHolder):
        self.config = config
        self.identity = identity
        self.pool = pool
        self.holder = holder
        self.acknowledged: set[str] = set()
        self.kills = 0
        self.breaks = 0

    async def authorize(self, records: list[ChargeDetailRecord]) -> None:
        """Let the sessions have been authorized."""
        rows = [authorization_row(record) for record in records]
        await self.pool.copy_records_to_table(
            "authorization",
            schema_name="clearinghouse",
            columns=AUTHORIZATION_COLUMNS,
            records=rows,
        )

    async def send_all(self, records: list[ChargeDetailRecord], process: ClearingProcess) -> None:
        """Send records until each is acknowledged; those that are not are sent again."""
        async with calling(process.port, self.identity) as stub:
            while True:
                open_ = [each for each in records if each.cdr_id not in self.acknowledged]
                if not open_:
                    return
                try:
                    await send(stub, open_, self.acknowledged)
                except grpc.aio.AioRpcError:
                    self.breaks += 1
                    await asyncio.sleep(0.05)
                    if process.process.returncode is not None:
                        return

    async def settled(self, expected: int) -> None:
        """Wait until all is cleared; what a dead process had claimed is claimed again at once."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                try:
                    await self.pool.execute(
                        "UPDATE clearinghouse.delivery SET next_at = now()"
                        " WHERE state = 'WAITING' AND next_at > now() + interval '5 seconds'"
                    )
                    if await self.pool.fetchval(_SETTLED) >= expected:
                        return
                except DATABASE_ERRORS:
                    pass
                await asyncio.sleep(0.1)


_SETTLED = "SELECT count(*) FROM clearinghouse.cdr WHERE state IN ('APPROVED', 'RETURNED')"


def mixture(chance: random.Random, number: int) -> list[ChargeDetailRecord]:
    """Give records in disorder: some implausible, some twice, some months old."""
    records = [numbered(each) for each in range(number)]
    for record in chance.sample(records, number // 10):
        record.total_energy_milli_wh = -1
    return [*chance.sample(records, number), *chance.choices(records, k=number // 4)]


def held(run: Run, records: list[ChargeDetailRecord], counts: dict[str, int]) -> None:
    """Hold what the EVSP has against what the clearing house says."""
    names = {record.cdr_id for record in records}
    implausible = {record.cdr_id for record in records if record.total_energy_milli_wh < 0}
    assert run.acknowledged == names
    assert counts == {"APPROVED": len(names - implausible), "RETURNED": len(implausible)}
    assert {name[1] for name in run.holder.kept} == names - implausible


async def killed(run: Run, seed: int, kills: int) -> None:
    """Send records while the process is killed at random instants, then clear to the end."""
    chance = random.Random(seed)
    records = mixture(chance, _RECORDS)
    await run.authorize([numbered(each) for each in range(_RECORDS)])
    process = await ClearingProcess.start(run.config)
    try:
        for _ in range(kills):
            run.holder.mode = chance.choice((Mode.APPROVE, Mode.ACKNOWLEDGE_THEN_DIE, Mode.DOWN))
            sending = asyncio.create_task(run.send_all(records, process))
            await asyncio.sleep(chance.uniform(0.0, 0.4))
            await process.kill()
            await sending
            process = await ClearingProcess.start(run.config)
        run.holder.mode = Mode.APPROVE
        await run.send_all(records, process)
        await run.settled(_RECORDS)
    finally:
        await process.kill()
    held(run, records, await accounts(run.pool, run.acknowledged))


@pytest.fixture
async def run(
    postgres: EmbeddedPostgres,
    holders_market: HolderMarket,
    holder: ContractHolder,
    make_identity: MakeIdentity,
    marketplace_identity: Identity,
    tmp_path: Path,
) -> AsyncIterator[Run]:
    """Give a clearing house's settings and a fresh, durable database."""
    async for url in fresh_database(postgres, "template0"):
        await migrate(url, "clearinghouse")
        identity = make_identity("clearinghouse")
        config = write_config(tmp_path, identity, url, holders_market.port)
        async with open_pool(url, 2) as pool:
            yield Run(config, marketplace_identity, pool, holder)


async def test_a_clearing_house_that_is_killed_loses_and_doubles_nothing(run: Run) -> None:
    await killed(run, seed=1511, kills=1)


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(50))
async def test_a_clearing_house_that_is_killed_again_and_again(run: Run, seed: int) -> None:
    await killed(run, seed, kills=3)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 50))]
)
async def test_two_get_the_same_records_and_one_is_killed(run: Run, seed: int) -> None:
    chance = random.Random(seed)
    records = mixture(chance, _RECORDS)
    await run.authorize([numbered(each) for each in range(_RECORDS)])
    victim, other = await asyncio.gather(*(ClearingProcess.start(run.config) for _ in range(2)))
    try:
        sending = [asyncio.create_task(run.send_all(records, each)) for each in (victim, other)]
        await asyncio.sleep(chance.uniform(0.0, 0.5))
        await victim.kill()
        await asyncio.gather(*sending)
        await run.settled(_RECORDS)
    finally:
        await victim.kill()
        await other.kill()
    held(run, records, await accounts(run.pool, run.acknowledged))


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_a_postgresql_that_is_killed_again_and_again(
    holders_market: HolderMarket,
    holder: ContractHolder,
    make_identity: MakeIdentity,
    marketplace_identity: Identity,
    tmp_path: Path,
    short_tmp_dir: Path,
) -> None:
    chance = random.Random(1511)
    database = EmbeddedPostgres(short_tmp_dir / "killed", options={"shared_buffers": "32MB"})
    await asyncio.to_thread(database.start)
    try:
        await migrate(database.url, "clearinghouse")
        identity = make_identity("clearinghouse")
        config = write_config(tmp_path, identity, database.url, holders_market.port)
        async with open_pool(database.url, 2) as pool:
            run = Run(config, marketplace_identity, pool, holder)
            records = mixture(chance, _RECORDS)
            await run.authorize([numbered(each) for each in range(_RECORDS)])
            process = await ClearingProcess.start(config)
            try:
                for _ in range(20):
                    sending = asyncio.create_task(run.send_all(records, process))
                    await asyncio.sleep(chance.uniform(0.0, 0.5))
                    await asyncio.to_thread(database.kill)
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(database.start)
                    await sending
                await run.settled(_RECORDS)
            finally:
                await process.kill()
            held(run, records, await accounts(pool, run.acknowledged))
    finally:
        await asyncio.to_thread(database.stop)
