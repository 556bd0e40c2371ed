"""`gemarket replay`: recorded charging sessions as calls of operators and EVSPs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer
import uvloop
from grpc import aio
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clearinghouse.replay import EarlyEndError, Replay
from clearinghouse.replay_acn import read_acn
from clearinghouse.replay_cast import ACN, DUNDEE, Cast, ReplaySource, make_cast
from clearinghouse.replay_dundee import read_dundee
from clearinghouse.replay_result import ReplayResult
from clearinghouse.replay_session import RecordedSession, first_of
from gemarket.console import errors, output, show_failure
from gemarket.endpoints import Endpoints, NotRunningError, read_endpoints
from gemarket.identity import Identity, channel_credentials
from gemarket.layout import Layout
from gemarket.options import DataDir, layout_of
from gemarket.replay_partners import NoClearingHouseError, join
from gemarket.replay_tables import classes_table, parties_table

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE")]


class Format(StrEnum):
    """Sources of sessions."""

    ACN = "acn"
    DUNDEE = "dundee"


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of recorded sessions; it is read anew for every pass, so that memory stays flat."""

    path: Path
    form: Format
    limit: int

    @property
    def source(self) -> ReplaySource:
        """What its parties need."""
        return ACN if self.form is Format.ACN else DUNDEE

    def sessions(self) -> Iterator[RecordedSession]:
        """Read the sessions; raises ValueError where the file is not one of its kind."""
        read: Callable[[TextIO], Iterator[RecordedSession]] = (
            read_acn if self.form is Format.ACN else read_dundee
        )
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from first_of(read(file), self.limit)


def replay(
    file: File,
    *,
    form: Annotated[Format, typer.Option("--format", help="What the file is.")],
    limit: Annotated[int, typer.Option(min=0, help="First sessions; 0 takes all.")] = 0,
    provider: Annotated[str, typer.Option(help="Partner id of the clearing house.")] = "",
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask anew instead of reporting operators' decisions.")
    ] = False,
    patience_s: Annotated[float, typer.Option(help="Longest wait for approvals.")] = 120.0,
    data_dir: DataDir = None,
) -> None:
    """Replay recorded sessions: authorize, notices, record, rating, settlement."""
    recording = Recording(file, form, limit)
    try:
        layout = layout_of(data_dir)
        endpoints = read_endpoints(layout.endpoints)
        with errors.status("reading sessions"):
            cast = make_cast(recording.sessions(), recording.source)
            count = sum(1 for _ in recording.sessions())
        work = run_replay(recording, cast, count, endpoints, layout, provider, not ask, patience_s)
        result = uvloop.run(work)
    except aio.AioRpcError as error:
        show_failure(error)
        raise typer.Exit(1) from None
    except (
        *(NotRunningError, NoClearingHouseError, EarlyEndError),
        *(KeyError, ValueError, OSError),
    ) as error:
        text = error.args[0] if error.args else type(error).__name__
        errors.print(f"[red]gemarket replay:[/] {escape(str(text))}", highlight=False)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if show_result(result, cast) else 1)


async def run_replay(
    recording: Recording,
    cast: Cast,
    count: int,
    endpoints: Endpoints,
    layout: Layout,
    clearing_house: str,
    listed: bool,
    patience_s: float,
) -> ReplayResult:
    """Run a replay over mutual TLS through the router, with a bar for each of its parts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=errors))
        parties = len(cast.operators) + len(cast.evsps)
        joining = progress.add_task("partners join", total=parties)
        identities = await join(
            cast, endpoints, layout, clearing_house, lambda: progress.advance(joining)
        )
        channels = {
            name: await stack.enter_async_context(_channel(endpoints, identity))
            for name, identity in identities.items()
        }
        run = Replay(cast, channels, clearing_house=clearing_house, listed=listed)
        await run.prepare()
        telling = progress.add_task("sessions", total=count)
        await run.run(recording.sessions(), lambda done: progress.advance(telling, done))
        settling = progress.add_task("settlement", total=1)
        run_id = await run.settle(patience_s)
        progress.advance(settling)
        return await run.result(recording.sessions(), run_id)


def show_result(result: ReplayResult, cast: Cast) -> bool:
    """Print the closing tables; says whether everything adds up."""
    output.print(classes_table(result))
    output.print(parties_table(result, cast))
    unbalanced = {code: micros for code, micros in result.imbalance().items() if micros}
    wrong = result.disagreements(cast)
    if unbalanced:
        output.print("[red]the balances do not add up to zero[/]")
    for partner_id, micros in wrong.items():
        output.print(f"[red]{partner_id} gets {micros} micros more than our own sum[/]")
    if not unbalanced and not wrong:
        output.print("balances add up to zero, and agree with our own sums")
    sys.stdout.flush()
    return not unbalanced and not wrong


def _channel(endpoints: Endpoints, identity: Identity) -> aio.Channel:
    options = (("grpc.use_local_subchannel_pool", 1),)
    return aio.secure_channel(endpoints.marketplace, channel_credentials(identity), options)
