"""Every page of docs/guides does what it says, from its first command to its last."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.end_to_end.test_up import ready
from tests.guides.pages import Block, blocks_of, missing_lines, script_of

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
#: Far more than a page takes, also on a machine that does other things.
_PAGE_S = 150.0
_OPTIONS = ("--port", "0", "--session-port", "0", "--metrics-port", "0", "--workers", "1")


@pytest.fixture(scope="module")
async def market(short_tmp_dir: Path) -> AsyncIterator[Path]:
    """Run `gemarket up` with its reference partners, and give its data directory."""
    folder = short_tmp_dir / "guides"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gemarket.main", "up", *_OPTIONS, "--data-dir", str(folder)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        await ready(folder)
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()


def environment(market: Path) -> dict[str, str]:
    """Give what a shell has after `. .venv/bin/activate`, beside a running market."""
    programs = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GEMARKET_DATA_DIR": str(market),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}",
        "PYTHONUNBUFFERED": "1",
    }


async def run(script: str, folder: Path, variables: dict[str, str]) -> tuple[int, str]:
    """Run a page's program with all that it leaves in the background ended with it."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        cwd=folder,
        env=variables,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,
    )
    output = asyncio.create_task(process.stdout.read())  # type: ignore[union-attr]  # a pipe
    try:
        async with asyncio.timeout(_PAGE_S):
            code = await process.wait()
    finally:
        # A page that left nothing in the background has no group any more.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return code, (await output).decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
async def test_a_guide_does_what_it_says(page: Path, market: Path, tmp_path: Path) -> None:
    blocks = blocks_of(page)
    code, output = await run(script_of(blocks), tmp_path, environment(market))
    assert code == 0, output
    assert missing_lines(blocks, output) == [], output


def test_a_line_that_is_not_printed_is_found() -> None:
    blocks = [Block("sh", "", "echo"), Block("text", "", "one\nb…d\nthree\n")]
    assert missing_lines(blocks, "@@ block 0\none\na bird\nthree\n") == []
    assert missing_lines(blocks, "@@ block 0\none\nthree\na bird\n") == ["three"]
    assert missing_lines(blocks, "@@ block 1\none\na bird\nthree\n") == ["one", "b…d", "three"]
