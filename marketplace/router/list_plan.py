"""How one list of the merged answer is made from those of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.router.ordering import UNORDERED, Key, Ordering


@dataclass(frozen=True, slots=True)
class ListPlan:
    """How one repeated field of the response is made from those of the answers."""

    field: str
    #: Gives what makes an element the same thing as another; None where none is.
    identity: Key | None = None
    ordering: Ordering = UNORDERED
    #: Reads the request's ordering enum; None where the request has no say.
    chosen_order: Callable[[Any], int] | None = None
    #: Orders by value of that enum; a value that is not in it leaves `ordering` in force.
    orderings: Mapping[int, Ordering] | None = None
    #: Reads the request's limit; None where there is none.
    limit: Callable[[Any], int] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the elements stay as they come, in contract order."""
        return self == ListPlan(self.field)

    def all_keys(self) -> list[Key]:
        """Give everything that may be compared about elements."""
        orderings = [self.ordering, *(self.orderings or {}).values()]
        found = [key for ordering in orderings for key, _ in ordering.sorts]
        return found if self.identity is None else [self.identity, *found]

    def finish(self, elements: Any, request: Any) -> None:
        """Drop repetitions, sort and cut the concatenated elements in place."""
        if self.identity is not None and len(elements) > 1:
            _drop_repetitions(elements, self.identity.read)
        self.ordering_for(request).sort(elements)
        if self.limit is not None:
            limit = self.limit(request)
            if 0 < limit < len(elements):
                del elements[limit:]

    def ordering_for(self, request: Any) -> Ordering:
        """Give the sort order that a request asks for."""
        if self.chosen_order is None or self.orderings is None:
            return self.ordering
        return self.orderings.get(self.chosen_order(request), self.ordering)


def _drop_repetitions(elements: Any, identity: Callable[[Any], Any]) -> None:
    """Keep the first of the elements that are the same thing; their order stays."""
    identities = list(map(identity, elements))
    if len(set(identities)) == len(identities):
        return
    seen: set[Any] = set()
    is_repetition: list[bool] = []
    for name in identities:
        is_repetition.append(name in seen)
        seen.add(name)
    # A repeated field has no cheap way to drop scattered elements, but sorting is stable and asks
    # for each key once, in order: repetitions go behind, and are cut off.
    flags = iter(is_repetition)
    elements.sort(key=lambda _: next(flags))
    del elements[len(seen) :]
