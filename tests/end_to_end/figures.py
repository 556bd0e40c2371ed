"""Figures that fault tests measure: `pytest -s` shows them, `docs/faults.md` collects them."""

from __future__ import annotations

import json
import sys


def report(test: str, **figures: object) -> None:
    """Write one JSON object a line to standard error."""
    sys.stderr.write(json.dumps({"fault": test, **figures}) + "\n")
