"""How the answers of one method become one answer, compiled from the options of its response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from marketplace.router.ordering import Ordering, compile_ordering
from marketplace.router.paths import FLOATS, INTEGERS, is_instant, reader, resolve
from marketplace.router.singular_merge import Combine

#: More paths than this in one `distinct_by` are refused.
DISTINCT_PATHS_MAX = 8


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
    identity: Callable[[Any], Any] | None = None
    ordering: Ordering = Ordering()
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
            _drop_repetitions(elements, self.identity)
        ordering = self.ordering
        if self.chosen_order is not None and self.orderings is not None:
            ordering = self.orderings.get(self.chosen_order(request), ordering)
        ordering.sort(elements)
        if self.limit is not None:
            limit = self.limit(request)
            if 0 < limit < len(elements):
                del elements[limit:]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """How the answers of one ALL method merge, field by field."""

    singular: tuple[SingularPlan, ...]
    #: The lists on which there is more to do than to concatenate them.
    lists: tuple[ListPlan, ...]


def _drop_repetitions(elements: Any, identity: Callable[[Any], Any]) -> None:
    """Keep the first of the elements that are the same thing; their order stays."""
    identities = list(map(identity, elements))
    if len(set(identities)) == len(identities):
        return
    seen: set[Any] = set()
    is_repetition = [
        name in seen or seen.add(name) is not None  # add gives None: the first one is none
        for name in identities
    ]
    # A repeated field has no cheap way to drop scattered elements, but sorting is stable and asks
    # for each key once, in order: repetitions go behind, and are cut off.
    flags = iter(is_repetition)
    elements.sort(key=lambda _: next(flags))
    del elements[len(seen) :]


def compile_identity(element: Descriptor, paths: Sequence[str]) -> Callable[[Any], Any] | None:
    """Give the function behind `distinct_by`; None for no paths.

    Raises:
        ValueError: with our own words, where a path names no field fit to identify.
    """
    if len(paths) > DISTINCT_PATHS_MAX:
        raise ValueError(f"an identity has at most {DISTINCT_PATHS_MAX} paths")
    found = [resolve(element, path) for path in paths]
    for path in found:
        if path.leaf.message_type is not None and not is_instant(path.leaf):
            raise ValueError("elements cannot be identified by a message other than a time")
        if path.leaf.cpp_type in FLOATS:
            raise ValueError("elements cannot be identified by a floating-point number")
    if not found:
        return None
    if not any(path.may_be_unset for path in found):
        return attrgetter(*(path.dotted for path in found))
    readers = tuple(reader(path) for path in found)
    return lambda target: tuple(read(target) for read in readers)


def compile_orderings(
    request: Descriptor, element: Descriptor, name: str, order_by: Callable[[Any], Any]
) -> tuple[Callable[[Any], int], dict[int, Ordering]]:
    """Give the reader of the request's ordering enum and the order of each of its values.

    `order_by` gives the paths that a value stands for, or None.

    Raises:
        ValueError: with our own words, where the field is no enum or no value carries an order.
    """
    field = request.fields_by_name.get(name)
    if field is None or field.is_repeated or field.enum_type is None:
        raise ValueError("order_from names no singular enum field of the request")
    orderings = {
        value.number: compile_ordering(element, paths)
        for value, paths in zip(
            field.enum_type.values, map(order_by, field.enum_type.values), strict=True
        )
        if paths is not None
    }
    if not orderings:
        raise ValueError("no value of the enum that order_from names carries order_by_value")
    return attrgetter(name), orderings


def compile_limit(request: Descriptor, name: str) -> Callable[[Any], int]:
    """Give the reader of the request's limit.

    Raises:
        ValueError: with our own words, where the request has no such integer.
    """
    field = request.fields_by_name.get(name)
    if field is None or field.is_repeated or field.cpp_type not in INTEGERS:
        raise ValueError("limit_from names no singular integer field of the request")
    return attrgetter(name)


def compile_counter(response: Descriptor, answers_field: str | None) -> Callable[[Any], int]:
    """Give the function that counts the result elements of one answer."""
    names = [
        field.name for field in response.fields if field.is_repeated and field.name != answers_field
    ]
    if len(names) == 1:
        read = attrgetter(names[0])
        return lambda message: len(read(message))
    return lambda message: sum(map(len, map(getattr, repeat(message), names)))


def is_sortable(field: FieldDescriptor) -> bool:
    """Whether elements of a repeated field have fields of their own to sort and identify by."""
    return field.message_type is not None
