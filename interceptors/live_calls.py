"""Registry of calls in flight: what a drain waits for and what a revocation cuts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from foundation.errors import MarketError
from interceptors.call import Call


class LiveCalls:
    """Every call between its first byte and its end; for one event loop."""

    def __init__(self) -> None:
        self._calls: dict[int, Call] = {}
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls.values()))

    def add(self, call: Call) -> None:
        self._calls[id(call)] = call

    def remove(self, call: Call) -> None:
        del self._calls[id(call)]
        if self._empty is not None and not self._calls:
            self._empty.set()

    def cut(self, call: Call, error: MarketError) -> None:
        """End one call with `error` instead of what its handler would say; the first cut counts."""
        if call.cut_by is None:
            call.cut_by = error
            call.wire.cut()

    def cut_where(self, error_for: Callable[[Call], MarketError | None]) -> int:
        """Cut every call for which an error is given; answers how many."""
        count = 0
        for call in self:
            error = error_for(call)
            if error is not None and call.cut_by is None:
                self.cut(call, error)
                count += 1
        return count

    def cut_subject(self, subject_id: str, error: MarketError) -> int:
        """Cut all calls of a partner or operator; answers how many."""
        return self.cut_where(lambda call: error if _subject_of(call) == subject_id else None)

    def cut_fingerprint(self, fingerprint: bytes, error: MarketError) -> int:
        """Cut all calls that came with one certificate; answers how many."""
        return self.cut_where(
            lambda call: error if call.caller and call.caller.fingerprint == fingerprint else None
        )

    async def wait_empty(self, timeout_s: float) -> bool:
        """Wait until no call is in flight; answers whether that came true in time."""
        if not self._calls:
            return True
        self._empty = asyncio.Event()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            self._empty = None
        return True


def _subject_of(call: Call) -> str | None:
    return call.caller.subject_id if call.caller else None
