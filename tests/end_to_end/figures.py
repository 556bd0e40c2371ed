"""Figures that fault tests measure, shown with `pytest -s` and collected for `docs/faults.md`."""

from __future__ import annotations

import json
import sys


def report(test: str, **figures: object) -> None:
    """Print one JSON object a line."""
    print(json.dumps({"fault": test, **figures}), file=sys.stderr)
