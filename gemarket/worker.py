"""One worker of the marketplace: `python -m gemarket.worker CONFIG`, started by the supervisor.

Reads top to bottom: settings, telemetry, database, certificates, implementations, server.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from foundation.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the supervisor tells a worker."""

    name: str
    #: `host:port` that all workers share.
    address: str
    settings: Settings


def read_config(path: Path) -> WorkerConfig:
    """Read the supervisor's file."""
    raw = json.loads(path.read_text())
    return WorkerConfig(raw["name"], raw["address"], Settings.model_validate(raw["settings"]))
