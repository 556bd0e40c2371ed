"""A recording of sessions, and its whole replay: partners, sessions, approvals, settlement."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from grpc import aio
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from clearinghouse.clearing_run import ClearingCommand, Netting, run_clearing
from clearinghouse.provider_settings import read_settings
from clearinghouse.replay import Replay
from clearinghouse.replay_acn import read_acn
from clearinghouse.replay_cast import ACN, DUNDEE, Cast, ReplaySource, make_cast
from clearinghouse.replay_dundee import read_dundee
from clearinghouse.replay_result import ReplayResult
from clearinghouse.replay_session import RecordedSession, first_of
from clearinghouse.storage import open_pool
from gemarket.console import errors
from gemarket.endpoints import Endpoints
from gemarket.identity import Identity, channel_credentials
from gemarket.layout import Layout
from gemarket.replay_partners import Stage, joined
from gemarket.roaming import house_settings_file


class Format(StrEnum):
    """Sources of sessions."""

    ACN = "acn"
    DUNDEE = "dundee"

    @classmethod
    def of(cls, path: Path) -> Format:
        """Tell a file's format by its ending: the one publishes JSON, the other CSV."""
        return cls.ACN if path.suffix == ".json" else cls.DUNDEE


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

    def cast(self) -> Cast:
        """Give all who take part."""
        return make_cast(self.sessions(), self.source)

    def count(self) -> int:
        """Count the sessions."""
        return sum(1 for _ in self.sessions())


async def run_replay(
    recording: Recording, cast: Cast, stage: Stage, *, listed: bool = True, patience_s: float
) -> ReplayResult:
    """Run a replay over mutual TLS through the router, with a bar for each of its parts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=errors))
        parties = len(cast.operators) + len(cast.evsps)
        joining = progress.add_task("partners join", total=parties)
        identities = await stack.enter_async_context(
            joined(cast, stage, lambda: progress.advance(joining))
        )
        channels = {
            name: await stack.enter_async_context(_channel(stage.endpoints, identity))
            for name, identity in identities.items()
        }
        run = Replay(cast, channels, clearing_house=stage.clearing_house, listed=listed)
        await run.prepare()
        telling = progress.add_task("sessions", total=recording.count())
        await run.run(recording.sessions(), lambda done: progress.advance(telling, done))
        settling = progress.add_task("approvals and settlement", total=1)
        await run.wait_for_approvals(patience_s)
        await settle(stage.layout, cast)
        progress.advance(settling)
        return await run.result(recording.sessions())


async def settle(layout: Layout, cast: Cast) -> None:
    """Let the clearing house of this machine settle; one elsewhere settles when it wants to."""
    settings_file = house_settings_file(layout)
    if not cast.operators or not settings_file.exists():
        return
    settings = read_settings(settings_file)
    start, end = cast.first_start, cast.last_end + timedelta(seconds=1)
    command = ClearingCommand(
        settings.partner_id, uuid.uuid4().hex, start, end, Netting.MULTILATERAL
    )
    async with open_pool(settings.database_url, 1) as pool:
        await run_clearing(pool, command, datetime.now(UTC))


def _channel(endpoints: Endpoints, identity: Identity) -> aio.Channel:
    options = (("grpc.use_local_subchannel_pool", 1),)
    return aio.secure_channel(endpoints.marketplace, channel_credentials(identity), options)
