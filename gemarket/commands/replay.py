"""`gemarket replay`: recorded charging sessions as calls of operators and EVSPs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from clearinghouse.replay import ReplayFailedError
from gemarket.commands.ending import ending
from gemarket.console import errors
from gemarket.endpoints import read_endpoints
from gemarket.options import DataDir, layout_of
from gemarket.recordings import Format, Recording, run_replay
from gemarket.replay_partners import Stage
from gemarket.replay_tables import show_result

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE")]


def replay(
    file: File,
    *,
    form: Annotated[Format, typer.Option("--format", help="What the file is.")],
    limit: Annotated[int, typer.Option(min=0, help="First sessions; 0 takes all.")] = 0,
    provider: Annotated[str, typer.Option(help="Partner id of the clearing house.")] = "",
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask anew instead of reporting operators' decisions.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address at which the market reaches the EVSPs of the replay.")
    ] = "127.0.0.1",
    patience_s: Annotated[float, typer.Option(help="Longest wait for approvals.")] = 120.0,
    data_dir: DataDir = None,
) -> None:
    """Replay recorded sessions: authorize, notices, record, rating, settlement."""
    recording = Recording(file, form, limit)
    with ending("gemarket replay", ReplayFailedError):
        layout = layout_of(data_dir)
        stage = Stage(read_endpoints(layout.endpoints), layout, provider, host)
        with errors.status("reading sessions"):
            cast = recording.cast()
        work = run_replay(recording, cast, stage, listed=not ask, patience_s=patience_s)
        result = uvloop.run(work)
    raise typer.Exit(0 if show_result(result, cast) else 1)
