"""How the answers of one method become one answer; `merge_compile` makes it from the options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.router.ordering import UNORDERED, Key, Ordering
from marketplace.router.singular_merge import Combine
from marketplace.router.target import Answer

#: The elements that one answer adds to a list, and their columns where it has some.
_Part = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class SingularPlan:
    """How one singular field of the response is worked out from those of the answers."""

    field: str
    #: Writes the field of the merged answer: `combine(merged, messages in contract order)`.
    combine: Combine


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


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """How a list is merged as serialised elements, which costs half of what messages do.

    For responses in which one list of messages comes before all other fields.
    """

    list_plan: ListPlan
    #: As `columns.row_class` gives it for the list.
    row_class: Any
    #: Whether the elements have columns of their own in the columns of an answer.
    has_columns: bool

    def merged(self, request: Any, answers: Sequence[Answer]) -> bytes:
        """Give the bytes of the merged list: those that `ListPlan.finish` would come to.

        Every row is what the router itself serialised: no provider's bytes can run into others.
        """
        rows: list[bytes] = []
        parts: list[_Part] = []
        name = self.list_plan.field
        for answer in answers:
            elements = getattr(answer.message, name)
            if elements:
                rows += self.row_class.FromString(answer.canonical).rows
                is_known = self.has_columns and answer.columns is not None
                parts.append((elements, getattr(answer.columns, name) if is_known else None))
        order = self._order(request, parts, range(len(rows)))
        merged: bytes = self.row_class(rows=[rows[n] for n in order]).SerializeToString()
        return merged

    def _order(self, request: Any, parts: Sequence[_Part], order: Sequence[int]) -> Sequence[int]:
        """Give the numbers of the elements that stay, in their new order."""
        plan = self.list_plan
        if plan.identity is not None and len(order) > 1:
            keys = _keys(plan.identity, parts)
            if len(set(keys)) < len(keys):
                firsts = {keys[n]: n for n in reversed(order)}
                order = sorted(firsts.values())
        if len(order) > 1:
            for key, downwards in reversed(plan.ordering_for(request).sorts):
                order = sorted(order, key=_keys(key, parts).__getitem__, reverse=downwards)
        if plan.limit is not None and (limit := plan.limit(request)) > 0:
            order = order[:limit]
        return order


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How the answers of one ALL method merge, field by field."""

    singular: tuple[SingularPlan, ...]
    #: The lists on which there is more to do than to concatenate them.
    lists: tuple[ListPlan, ...]
    #: A quicker way to the same bytes; None where the response does not lend itself to it.
    rows: RowsPlan | None = None


def _keys(key: Key, parts: Sequence[_Part]) -> list[Any]:
    """Give the keys of all elements, from columns where these have a value for each element."""
    found: list[Any] = []
    for elements, columns in parts:
        if columns is not None and key.fields:
            values = [getattr(columns, name)[:] for name in key.fields]
            # An element adds one value or, where it is zero or empty, none.
            if all(len(each) == len(elements) for each in values):
                found += values[0] if len(values) == 1 else zip(*values, strict=True)
                continue
        found += map(key.read, elements)
    return found


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
