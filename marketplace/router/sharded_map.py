"""An immutable map that is cheap to change: a copy shares all shards but those that differ."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: With 100,000 keys a change copies one shard of about 100 keys and this many references.
SHARDS = 1024


class ShardedMap(Mapping[K, V], Generic[K, V]):
    """A mapping that never changes; `changed` gives another one in the time of one small shard."""

    __slots__ = ("_shards",)

    def __init__(self, items: Iterable[tuple[K, V]] = ()) -> None:
        shards: list[dict[K, V]] = [{} for _ in range(SHARDS)]
        for key, value in items:
            shards[hash(key) % SHARDS][key] = value
        self._shards: tuple[dict[K, V], ...] = tuple(shards)

    def __getitem__(self, key: K) -> V:
        return self._shards[hash(key) % SHARDS][key]

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def changed(self, changes: Mapping[K, V | None]) -> ShardedMap[K, V]:
        """Give a map with these values; None removes a key, also one that is not there."""
        if not changes:
            return self
        shards = list(self._shards)
        fresh: set[int] = set()
        for key, value in changes.items():
            index = hash(key) % SHARDS
            if index not in fresh:
                fresh.add(index)
                shards[index] = dict(shards[index])
            if value is None:
                shards[index].pop(key, None)
            else:
                shards[index][key] = value
        result: ShardedMap[K, V] = ShardedMap.__new__(ShardedMap)
        result._shards = tuple(shards)  # the same class makes its own copy
        return result
