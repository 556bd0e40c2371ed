"""`replay`: a season of a city's recorded charging sessions, from authorization to settlement."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from bench.stage import market
from clearinghouse.replay_sample import write_sample
from gemarket.market import Market
from gemarket.recordings import Format, Recording, run_replay
from gemarket.replay_partners import Stage
from gemarket.roaming import HOUSE, Roaming

_RECORDED = "../shared/data/charging-sessions/dundee-2018-06-to-09.csv"
#: As many as the recording has.
SESSIONS = 19_227
_APPROVALS_S = 300.0


async def replay(limit: int = 0) -> Mapping[str, object]:
    """Reach: all of them in 10 minutes, balances zero, no record unexplained."""
    limits = {"partner_max_calls": 1000, "partner_calls_per_s": 1_000_000}
    async with market(2, limits=limits) as running:
        roaming = Roaming(running)
        await roaming.start()
        endpoints = running.endpoints(roaming.identities(), roaming.endpoints())
        recording = _recording(running, limit)
        cast, count = recording.cast(), recording.count()
        stage = Stage(endpoints, running.layout, HOUSE.partner_id)
        begun = time.perf_counter()
        result = await run_replay(recording, cast, stage, patience_s=_APPROVALS_S)
        wall_s = time.perf_counter() - begun
    return {
        "sessions": count,
        "minutes": round(wall_s / 60, 2),
        "per_s": round(count / wall_s, 1),
        "outcomes": dict(result.totals),
        "unexplained": result.unexplained,
        "imbalance_micros": sum(map(abs, result.imbalance().values())),
        "disagreeing": len(result.disagreements(cast)),
    }


def _recording(running: Market, limit: int) -> Recording:
    """Give the recording that SESSIONS names or that lies beside the project, or make one up."""
    path = Path(os.environ.get("SESSIONS", _RECORDED))
    if not path.exists():
        path = running.layout.run / "made-up-sessions.csv"
        with path.open("w", newline="") as file:
            write_sample(file, SESSIONS)
    return Recording(path, Format.of(path), limit)
