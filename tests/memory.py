"""Folders for the databases of tests, in memory where there is room: a sync costs nothing there.

What a killed process loses does not depend on it; only a power cut would, and nothing shows that.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

_MEMORY = Path("/dev/shm")
#: Several databases at a time, beside what the machine needs its memory for.
_ROOM_BYTES = 4 << 30


def memory_folder() -> TemporaryDirectory[str]:
    """Make a folder with a short path that is gone after its `with`."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    return TemporaryDirectory(prefix="gem-", dir=_MEMORY if roomy else None)
