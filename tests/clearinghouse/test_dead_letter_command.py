"""The clearing house's operator at the command line: dead letters listed, released, returned."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from clearinghouse.__main__ import main
from tests.clearinghouse.clearing import Clearing, numbered
from tests.clearinghouse.clearing_process import write_config
from tests.clearinghouse.contract_holder import ContractHolder, Mode
from tests.identities import MakeIdentity

pytestmark = pytest.mark.usecase(1511)


@pytest.fixture
def config(shared_url: str, make_identity: MakeIdentity, tmp_path: Path) -> Path:
    return write_config(tmp_path, make_identity("clearinghouse"), shared_url, 1)


async def command(config: Path, *arguments: str) -> int:
    """Run a command as a shell would, beside this loop."""
    return await asyncio.to_thread(main, ["--config", str(config), "dead-letters", *arguments])


async def test_what_is_no_dead_letter_is_neither_released_nor_returned(
    clearing: Clearing, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await clearing.check() == 0
    assert await command(config, "list") == 0
    assert await command(config, "release", "7") == 1
    assert await command(config, "return", "7") == 1
    assert listed(capsys) == []


def test_wrong_settings_are_told(config: Path) -> None:
    config.write_text("{}")
    assert main(["--config", str(config), "dead-letters", "list"]) == 2


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Give what was listed; logs are not."""
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_dead_letters_are_listed_released_and_returned(
    clearing: Clearing, holder: ContractHolder, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder.mode = Mode.REFUSE
    records = [numbered(1), numbered(2)]
    await clearing.authorize(*records)
    await clearing.submit(*records)
    await clearing.clear()
    assert await command(config, "list") == 0
    letters = listed(capsys)
    assert [each["cdr_id"] for each in letters] == ["cdr-1", "cdr-2"]
    assert {each["failure"] for each in letters} == {"INVALID_ARGUMENT"}
    assert await command(config, "release", str(letters[0]["number"])) == 0
    assert await command(config, "return", str(letters[1]["number"])) == 0
    holder.mode = Mode.APPROVE
    await clearing.deliver()
    assert await clearing.states() == {"cdr-1": "APPROVED", "cdr-2": "RETURNED"}
    assert await command(config, "list") == 0
    assert listed(capsys) == []


async def test_a_credit_is_not_returned(
    clearing: Clearing, holder: ContractHolder, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = numbered(1)
    await clearing.authorize(record)
    await clearing.submit(record)
    await clearing.clear()
    await clearing.credit("CDR-1", "CREDIT-1")
    holder.mode = Mode.REFUSE
    await clearing.deliver()
    assert await command(config, "list") == 0
    (letter,) = listed(capsys)
    assert await command(config, "return", str(letter["number"])) == 1
    assert (await clearing.states())["credit-1"] == "ACCEPTED"
