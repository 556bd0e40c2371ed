"""Remembers what was found valid, where the same few values come again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

#: Entries that are remembered for one field; when there are more, all are forgotten.
ENTRIES_MAX = 1024
#: A longer value is checked every time.
LENGTH_MAX = 256


class Remembered:
    """Calls a check for values that are not known to be valid, and once for each.

    The check must give the same verdict for the same value at any time.
    """

    def __init__(self, is_valid: Callable[[Any], bool]) -> None:
        self._is_valid = is_valid
        self._valid: set[Any] = set()

    def __call__(self, values: Iterable[Any]) -> bool:
        """Say whether all values are valid."""
        known = self._valid
        if known.issuperset(values):
            return True
        for value in set(values) - known:
            if not self._is_valid(value):
                return False
            if not isinstance(value, (str, bytes)) or len(value) <= LENGTH_MAX:
                if len(known) >= ENTRIES_MAX:
                    known.clear()
                known.add(value)
        return True
