"""A recording of charging sessions, cleared through a whole market by its command."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clearinghouse.replay_sample import write_sample
from clearinghouse.storage import open_pool
from gemarket.endpoints import read_endpoints
from gemarket.recordings import Format, Recording, run_replay
from gemarket.replay_partners import NoClearingHouseError, Stage
from gemarket.roaming import HOUSE, Roaming
from tests.end_to_end.whole_market import WholeMarket, running_market
from tests.external_data import FOLDER, needs

_COUNT = 80
_LEDGER = "SELECT count(*), count(DISTINCT cdr_ref) FROM clearinghouse.booking"


@pytest.fixture(scope="module")
async def roaming_market() -> AsyncIterator[WholeMarket]:
    async with running_market(1) as whole:
        roaming = Roaming(whole.market)
        await roaming.start()
        market = whole.market
        endpoints = market.endpoints(roaming.identities(), roaming.endpoints())
        endpoints.write(market.layout.endpoints)
        yield whole


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sessions") / "sessions.csv"
    with path.open("w", newline="") as file:
        write_sample(file, _COUNT)
    return path


def stage_of(whole: WholeMarket, clearing_house: str = HOUSE.partner_id) -> Stage:
    layout = whole.market.layout
    return Stage(read_endpoints(layout.endpoints), layout, clearing_house)


@pytest.mark.usecase(1502, 1511, 1512, 1513, 1514)
async def test_a_recording_is_cleared_by_the_command_and_again_changes_nothing(
    roaming_market: WholeMarket, sessions: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemarket.main", "replay", str(sessions), "--format", "dundee"),
        *("--data-dir", str(roaming_market.market.layout.root)),
        stdout=PIPE,
        stderr=PIPE,
    )
    printed, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"balances add up to zero, and agree with our own sums" in printed
    lines = [line.replace("│", " ").split() for line in printed.decode().splitlines()]
    (every,) = [line for line in lines if line[:3] == ["every", "session", "once"]]
    assert int(every[3]) == _COUNT == sum(map(int, every[4:])), "each has one outcome"
    (total,) = [line for line in lines if line[:1] == ["all"]]
    assert total[-2:] == ["0.00", "GBP"]

    recording = Recording(sessions, Format.of(sessions), 0)
    cast = recording.cast()
    async with open_pool(roaming_market.market.database_url, 1) as pool:
        before = await pool.fetchrow(_LEDGER)
        result = await run_replay(recording, cast, stage_of(roaming_market), patience_s=30.0)
        assert await pool.fetchrow(_LEDGER) == before, "nothing is booked twice"
    assert before is not None
    assert before[0] == before[1]
    assert result.totals["approved"] > _COUNT / 2
    assert sum(result.totals.values()) == _COUNT
    assert not {"on its way", "not told"} & set(result.totals), "every record is explained"
    assert set(result.imbalance().values()) == {0}
    assert not result.disagreements(cast)


async def test_without_the_clearing_house_that_is_named_nothing_is_replayed(
    roaming_market: WholeMarket, sessions: Path
) -> None:
    recording = Recording(sessions, Format.DUNDEE, 3)
    nowhere = stage_of(roaming_market, "nowhere")
    with pytest.raises(NoClearingHouseError, match="nobody offers"):
        await run_replay(recording, recording.cast(), nowhere, patience_s=1.0)


@pytest.mark.external_data
@needs("charging-sessions")
@pytest.mark.parametrize("name", ["acn-office-1.json", "dundee-2018-06-to-09.csv"])
async def test_recorded_sessions_are_cleared_with_balances_of_zero(
    roaming_market: WholeMarket, name: str
) -> None:
    path = FOLDER / "charging-sessions" / name
    recording = Recording(path, Format.of(path), 40)
    cast = recording.cast()
    result = await run_replay(recording, cast, stage_of(roaming_market), patience_s=30.0)
    assert sum(result.totals.values()) == 40
    assert result.totals["approved"] > 30
    assert set(result.imbalance().values()) == {0}
    assert not result.disagreements(cast)
