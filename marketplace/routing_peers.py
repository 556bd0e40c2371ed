"""What the workers tell each other about the routing version that each has applied."""

from __future__ import annotations

from uuid import uuid4

#: A worker that was not heard for so long is gone, or cut off from the database.
SILENT_AFTER_S = 3.0
#: More workers than any market has; further ones are not waited for.
_PEERS_MAX = 1000


class RoutingPeers:
    """The newest version heard from each worker, this one included; time is passed in."""

    def __init__(self) -> None:
        self._own = uuid4().hex
        self._heard: dict[str, tuple[int, float]] = {}

    def word(self, version: int) -> str:
        """Give what this worker says when it has applied a version."""
        return f"{self._own} {version}"

    def hear(self, word: str, now_s: float) -> None:
        """Take in what a worker said; what is not understood counts for nothing."""
        who, _, number = word.partition(" ")
        known = who in self._heard or len(self._heard) < _PEERS_MAX
        if known and number.isdecimal():
            self._heard[who] = (int(number), now_s)

    def all_have(self, version: int, now_s: float) -> bool:
        """Say whether every worker that is not silent has this version or a later one."""
        for who, (_, heard_s) in list(self._heard.items()):
            if now_s - heard_s > SILENT_AFTER_S:
                del self._heard[who]
        return all(applied >= version for applied, _ in self._heard.values())
