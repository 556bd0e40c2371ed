"""Remembers what was found valid, where the same few values come again and again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

#: Entries that are remembered for one field; when there are more, all are forgotten.
ENTRIES_MAX = 1024
#: A longer value is checked every time.
LENGTH_MAX = 256


class Remembered:
    """Calls a check for the values that are not known to be valid, all at once.

    The check must give the same verdict for the same value at any time.
    """

    def __init__(self, are_valid: Callable[[Collection[Any]], bool]) -> None:
        self._are_valid = are_valid
        self._valid: set[Any] = set()
        #: No value that was ever found valid is shorter; None where values have no length.
        self.shortest: int | None = None

    def __call__(self, values: Iterable[Any]) -> bool:
        """Say whether all values are valid."""
        known = self._valid
        if known.issuperset(values):
            return True
        fresh = set(values) - known
        if not self._are_valid(fresh):
            return False
        for value in fresh:
            is_sized = isinstance(value, (str, bytes))
            if is_sized and (self.shortest is None or len(value) < self.shortest):
                self.shortest = len(value)
            if not is_sized or len(value) <= LENGTH_MAX:
                if len(known) >= ENTRIES_MAX:
                    known.clear()
                known.add(value)
        return True
