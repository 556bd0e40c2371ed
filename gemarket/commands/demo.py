"""`gemarket demo`: the market's main job on real data, with providers that stop, hang and lie."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from grpc import aio
from rich.markup import escape

from clearinghouse.replay_sample import write_sample
from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from foundation.settings import Settings
from gemarket.console import errors, heading, output, show_failure
from gemarket.demonstration import Demonstration, StepFailedError
from gemarket.endpoints import Endpoints
from gemarket.hints import next_steps
from gemarket.logs import configure_logs
from gemarket.market import Market
from gemarket.options import allowing_loopback, settings_of
from gemarket.recordings import Format, Recording, run_replay
from gemarket.reference import Reference
from gemarket.replay_partners import Stage
from gemarket.replay_tables import show_result
from gemarket.roaming import HOUSE, Roaming
from gemarket.supervisor import ChildFailedError

#: Longest that one printed line may take.
_LINE_S = 30.0
_ROAMING_SESSIONS = 100
#: Longest wait until the EVSPs have approved them.
_APPROVALS_S = 60.0

Once = Annotated[
    bool, typer.Option(envvar="ONCE", help="End after the last step instead of staying up.")
]


Sessions = Annotated[
    Path | None,
    typer.Option(
        envvar="SESSIONS",
        exists=True,
        dir_okay=False,
        help="Recorded sessions: ACN (.json) or Dundee (.csv). Without them some are made up.",
    ),
]


def demo(*, once: Once = False, sessions: Sessions = None) -> None:
    """Start a market with real operators, break some of them, and show what a caller gets.

    Then the first hundred sessions of a recording are authorized, rated, cleared and settled. Ends
    with status 0 only if every step held. The data directory is temporary.
    """
    configure_logs(level=40)
    try:
        with tempfile.TemporaryDirectory(prefix="gemarket-demo-") as folder:
            settings = settings_of(Path(folder), port=0, session_port=0, metrics_port=0, workers=2)
            uvloop.run(_demo(allowing_loopback(settings), once, sessions))
    except aio.AioRpcError as error:
        show_failure(error)
        raise typer.Exit(1) from None
    except (StepFailedError, SettingsError, ChildFailedError, OSError) as error:
        errors.print(f"[red bold]the demonstration failed:[/] {escape(str(error))}")
        raise typer.Exit(1) from None


async def _demo(settings: Settings, once: bool, sessions: Path | None) -> None:
    market = Market(settings)
    try:
        with output.status("starting database, authority, workers and five operators"):
            await market.start()
            reference = Reference(market)
            await reference.start()
        async with Demonstration(market, reference) as demonstration:
            await demonstration.run()
        roaming = Roaming(market)
        with output.status("starting a clearing house"):
            await roaming.start()
        # Only now: the steps replace some of the processes that are listed there.
        endpoints = market.endpoints(
            reference.identities() | roaming.identities(),
            reference.endpoints() | roaming.endpoints(),
        )
        endpoints.write(market.layout.endpoints)
        await _roam(market, endpoints, sessions)
        heading("What to try next")
        lines = next_steps(endpoints, market.layout)
        output.print(lines, highlight=False, soft_wrap=True)
        await _try_lines(lines)
        if not once:
            output.print("[bold]The market stays up; Ctrl-C ends it.[/]")
            await wait_for_stop()
    finally:
        await market.stop()
    output.print("[green bold]every step held[/]")


async def _roam(market: Market, endpoints: Endpoints, sessions: Path | None) -> None:
    """Clear the first sessions of a recording, or of one that is made up."""
    heading(f"Roaming: {_ROAMING_SESSIONS} charging sessions, from their authorization on")
    if sessions is None:
        output.print("[dim]made up; with SESSIONS=FILE those of a recording[/]")
        sessions = market.layout.run / "made-up-sessions.csv"
        with sessions.open("w", newline="") as file:
            write_sample(file, _ROAMING_SESSIONS)
    recording = Recording(sessions, Format.of(sessions), _ROAMING_SESSIONS)
    cast = recording.cast()
    stage = Stage(endpoints, market.layout, HOUSE.partner_id)
    result = await run_replay(recording, cast, stage, patience_s=_APPROVALS_S)
    if not show_result(result, cast):
        raise StepFailedError("the balances are those of the sessions")


async def _try_lines(lines: str) -> None:
    """Run the printed lines whose program is on this machine; each must succeed."""
    commands = [shlex.split(line) for line in lines.splitlines() if not line.startswith("#")]
    here = [command for command in commands if shutil.which(command[0])]
    for command in here:
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        async with asyncio.timeout(_LINE_S):
            await process.communicate()
        if process.returncode:
            raise StepFailedError(f"a printed line does not work: {' '.join(command[:2])} …")
    output.print(f"[dim]{len(here)} of these {len(commands)} lines were tried here, and work[/]")
