"""`gemarket import ocpi-locations`: files in, a report of every defect, EVSEs in the database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gem.charging.v1 import evse_pb2
from gemarket.commands.application import application
from mobility.storage import EvseStorage, open_pool
from tests.conftest import MigratedDatabase
from tests.gemarket.test_endpoints import endpoints
from tests.mobility.test_import_ocpi import an_evse, connector, location, tariff

pytestmark = pytest.mark.usecase(1527)


@pytest.fixture
async def market_folder(tmp_path: Path, migrated_database: MigratedDatabase) -> Path:
    """Give a data directory whose market has a database and nothing else."""
    url = await migrated_database("mobility")
    replace(endpoints(), database_url=url).write(tmp_path / "endpoints.json")
    return tmp_path


def write(folder: Path, name: str, content: Any) -> str:
    """Write a file; gives its path."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


async def run(folder: Path, *arguments: str) -> Result:
    """Run the import beside the event loop of the tests."""

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        given = ("import", "ocpi-locations", *arguments, "--data-dir", str(folder))
        return CliRunner().invoke(application, given, env=environment)

    return await asyncio.to_thread(work)


async def count(folder: Path) -> int:
    """Count the EVSEs in the database."""
    url = json.loads((folder / "endpoints.json").read_text())["database_url"]
    async with open_pool(url, 1) as pool:
        rows = await EvseStorage(pool).search("SELECT count(*) FROM mobility.evse", ())
        return int(rows[0][0])


async def prices_of(folder: Path) -> list[int]:
    """Give the price of a kilowatt-hour of each EVSE, in millionths; 0 where it is not known."""
    url = json.loads((folder / "endpoints.json").read_text())["database_url"]
    async with open_pool(url, 1) as pool:
        rows = await EvseStorage(pool).search("SELECT message FROM mobility.evse", ())
    evses = [evse_pb2.Evse.FromString(row["message"]) for row in rows]
    return [e.tariffs[0].components[0].price_micros if e.tariffs else 0 for e in evses]


async def test_a_file_that_does_not_exist_is_refused(market_folder: Path) -> None:
    result = await run(market_folder, str(market_folder / "absent.json"))
    assert result.exit_code == 2
    assert "does not exist" in result.output


async def test_every_defect_is_told_with_its_place_and_the_good_is_kept(
    market_folder: Path,
) -> None:
    content = [
        location(),
        location(publish=False, id="L2"),
        location(id="L3", evses=[an_evse(evse_id="BE*XYZ*E2", status="SLEEPING")]),
        17,
    ]
    result = await run(market_folder, write(market_folder, "some.json", content))
    assert result.exit_code == 0, result.output
    for place, rule, done in (
        ("$[1]", "location.publish", "skipped"),
        ("$[2].evses[0].status", "status.unknown", "kept"),
        ("$[3]", "object.type", "skipped"),
    ):
        (line,) = [line for line in result.stdout.splitlines() if rule in line]
        assert "some.json" in line
        assert place in line
        assert done in line
    assert "2 EVSEs added, 0 updated, of 1 operators" in result.stdout
    assert "2 things skipped, 1 kept in spite of a defect" in result.stdout
    assert await count(market_folder) == 2


async def test_what_is_no_json_is_a_defect_and_the_other_files_are_read(
    market_folder: Path,
) -> None:
    broken = write(market_folder, "broken.json", '{"data": [')
    good = write(market_folder, "good.json", {"status_code": 1000, "data": [location()]})
    result = await run(market_folder, broken, good)
    assert result.exit_code == 0, result.output
    assert "broken.json" in result.stdout
    assert await count(market_folder) == 1


async def test_many_defects_are_cut_unless_all_are_asked_for(market_folder: Path) -> None:
    content = [location(publish=False, id=f"L{number}") for number in range(60)]
    file = write(market_folder, "closed.json", content)
    result = await run(market_folder, file)
    assert result.stdout.count("location.publish") == 50
    assert "and 10 more defects; --all-defects shows them" in result.stdout
    everything = await run(market_folder, file, "--all-defects")
    assert everything.stdout.count("location.publish") == 60


async def test_an_import_that_is_repeated_updates(market_folder: Path) -> None:
    file = write(market_folder, "good.json", [location()])
    assert "1 EVSEs added, 0 updated" in (await run(market_folder, file)).stdout
    assert "0 EVSEs added, 1 updated" in (await run(market_folder, file)).stdout
    assert await count(market_folder) == 1


async def test_tariffs_of_other_files_give_the_prices(market_folder: Path) -> None:
    evse = an_evse(connectors=[connector(tariff_ids=["11"])])
    places = write(market_folder, "places.json", [location(evses=[evse])])
    prices = write(market_folder, "prices.json", [tariff()])
    await run(market_folder, places)
    assert await prices_of(market_folder) == [0]
    priced = await run(market_folder, places, "--tariffs", prices)
    assert priced.exit_code == 0, priced.output
    assert await prices_of(market_folder) == [250_000]
