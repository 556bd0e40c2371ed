"""The quick way to one list: the answers of a call checked at once, and merged as serialised rows.

What is done for one answer costs nearly as much as what is done for all: so they are checked
together, as columns, and their elements are sorted, cut and joined as the bytes that the router
itself serialised, each with its stamps behind it. No message is made for an element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

from gem.options.v1.options_pb2 import Stamp
from marketplace.router.list_plan import ListPlan
from marketplace.router.ordering import Key
from marketplace.router.plain_check import PlainCheck
from marketplace.router.target import Target

#: Targets whose stamps are remembered as bytes.
_SUFFIXES = 4096


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """How the one list of a response is merged, where all its stamps are fields of its elements."""

    list_plan: ListPlan
    #: As `columns.row_class` gives it for the list.
    row_class: Any
    #: Stamped fields of an element, with their `gem.options.v1.Stamp`.
    stamps: Mapping[str, int]
    #: Gives the bytes of an element's stamps: `suffix(provider_id, contract_id)`.
    suffix: Callable[[str, str], bytes]

    def merged(
        self,
        request: Any,
        messages: Sequence[Any],
        targets: Sequence[Target],
        check: PlainCheck,
    ) -> bytes | None:
        """Give the bytes of the merged list of the parsed answers of some targets.

        None where `check` does not show that all answers keep the rules: then each has to be looked
        at by itself. Unknown fields and stamps that a provider wrote are taken out.
        """
        raw, rows = self._rows(messages)
        shown = check(raw, messages, max(map(len, rows), default=0))
        if shown is None:
            return None
        field = self.list_plan.field
        columns = getattr(shown.columns, field)
        if shown.has_unknown_fields or any(getattr(columns, name) for name in self.stamps):
            self._clean(messages)
            raw, rows = self._rows(messages)
        found = _Found(self, columns, shown.read.get(field, {}), messages, targets)
        suffixes = found.of_all(
            [self.suffix(target.provider_id, target.contract_id) for target in targets]
        )
        order = self._order(request, found, range(len(rows)))
        stamped = [rows[n] + suffixes[n] for n in order]
        joined: bytes = self.row_class(rows=stamped).SerializeToString()
        return joined

    def _rows(self, messages: Sequence[Any]) -> tuple[bytes, Sequence[bytes]]:
        """Give the bytes of all answers, one behind the other, and those of all elements.

        The router itself serialised them: no provider's bytes can run into another's.
        """
        raw = b"".join([each.SerializeToString(deterministic=True) for each in messages])
        return raw, self.row_class.FromString(raw).rows[:]

    def _clean(self, messages: Sequence[Any]) -> None:
        """Leave nothing but what the interface describes, and no stamps."""
        for message in messages:
            message.DiscardUnknownFields()
            for element in getattr(message, self.list_plan.field):
                for name in self.stamps:
                    element.ClearField(name)

    def _order(self, request: Any, found: _Found, order: Sequence[int]) -> Sequence[int]:
        """Give the numbers of the elements that stay, in their new order."""
        plan = self.list_plan
        if plan.identity is not None and len(order) > 1 and not found.differ(plan.identity):
            keys = found.keys(plan.identity)
            if len(set(keys)) < len(keys):
                firsts = {keys[n]: n for n in reversed(order)}
                order = sorted(firsts.values())
        if len(order) > 1:
            for key, downwards in reversed(plan.ordering_for(request).sorts):
                order = sorted(order, key=found.keys(key).__getitem__, reverse=downwards)
        if plan.limit is not None and (limit := plan.limit(request)) > 0:
            order = order[:limit]
        return order


class _Found:
    """The elements of all answers, by value."""

    def __init__(
        self,
        plan: RowsPlan,
        columns: Any,
        read: Mapping[str, Any],
        messages: Sequence[Any],
        targets: Sequence[Target],
    ) -> None:
        """`read` has the values that were read already, as `plain_check.Shown` does."""
        self._plan = plan
        self._columns = columns
        self._read = read
        self._lists = [getattr(message, plan.list_plan.field) for message in messages]
        self._counts = list(map(len, self._lists))
        self._targets = targets

    def of_all(self, by_answer: Iterable[Any]) -> list[Any]:
        """Give for each element what is given for each answer."""
        return list(chain.from_iterable(map(repeat, by_answer, self._counts)))

    def differ(self, key: Key) -> bool:
        """Whether all elements surely differ in a key, for they do in the first part of it."""
        if not key.is_plain:
            return False
        values = self._values(key.paths[0])
        return len(set(values)) == len(values)

    def keys(self, key: Key) -> list[Any]:
        """Give a key of each element."""
        if not key.is_plain:
            return list(map(key.read, chain.from_iterable(self._lists)))
        values = [self._values(name) for name in key.paths]
        return values[0] if len(values) == 1 else list(zip(*values, strict=True))

    def _values(self, name: str) -> list[Any]:
        stamp = self._plan.stamps.get(name)
        if stamp is not None:
            is_provider = stamp == Stamp.STAMP_PROVIDER_ID
            return self.of_all(
                target.provider_id if is_provider else target.contract_id
                for target in self._targets
            )
        values: list[Any] | None = self._read.get(name)
        if values is None:
            values = getattr(self._columns, name)[:]
        # An element adds one value or, where it is zero or empty, none.
        if len(values) == sum(self._counts):
            return values
        return [getattr(element, name) for element in chain.from_iterable(self._lists)]


def suffix_maker(element_class: Any, stamps: Mapping[str, int]) -> Callable[[str, str], bytes]:
    """Give what writes the stamps of one element as bytes that stand behind its other fields."""

    @lru_cache(maxsize=_SUFFIXES)
    def suffix(provider_id: str, contract_id: str) -> bytes:
        written = {
            name: provider_id if stamp == Stamp.STAMP_PROVIDER_ID else contract_id
            for name, stamp in stamps.items()
        }
        made: bytes = element_class(**written).SerializeToString()
        return made

    return suffix
