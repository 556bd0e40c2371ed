"""Where the data lies that nobody on the project wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Beside the repository, or where SHARED_DATA says.
FOLDER = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test, with the reason, where a file or folder of the shared data is not there."""
    absent = [name for name in names if not (FOLDER / name).exists()]
    return pytest.mark.skipif(bool(absent), reason="the shared data is not here")
