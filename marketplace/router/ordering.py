"""Sort orders of merged elements, as `order_by` and `order_by_value` state them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from marketplace.router.paths import FLOATS, FieldPath, is_instant, reader, resolve

DOWNWARDS = " desc"
#: More terms than this in one order are refused.
TERMS_MAX = 8


@dataclass(frozen=True, slots=True)
class Term:
    """One path of a sort order."""

    path: FieldPath
    downwards: bool


@dataclass(frozen=True, slots=True)
class Key:
    """Something that is compared about elements."""

    #: Gives it for one element.
    read: Callable[[Any], Any]
    #: The dotted paths of what it reads.
    paths: tuple[str, ...]
    #: Whether it is just the values of fields of the element itself, none of which may be unset.
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class Ordering:
    """A sort order. An element where a path is unset sorts last in either direction."""

    #: Keys and directions, most significant first; neighbours differ in direction.
    sorts: tuple[tuple[Key, bool], ...]

    def sort(self, elements: Any) -> None:
        """Sort a repeated field in place; equal elements keep their order."""
        for key, downwards in reversed(self.sorts):
            elements.sort(key=key.read, reverse=downwards)


def plain_key(paths: Sequence[FieldPath]) -> Key:
    """Give the key that consists of the values at some paths, none of which may be unset."""
    names = tuple(path.dotted for path in paths)
    is_flat = all(len(path.fields) == 1 for path in paths)
    return Key(attrgetter(*names), names, is_plain=is_flat)


#: Leaves elements in contract order.
UNORDERED = Ordering(())


def compile_ordering(element: Descriptor, order_by: Iterable[str]) -> Ordering:
    """Resolve the terms of a sort order against the type of the elements.

    Raises:
        ValueError: with our own words, where a term names no sortable field.
    """
    terms = [_term(element, text) for text in order_by]
    if len(terms) > TERMS_MAX:
        raise ValueError(f"a sort order has at most {TERMS_MAX} terms")
    runs = groupby(terms, key=attrgetter("downwards"))
    return Ordering(tuple((_key(list(run), downwards), downwards) for downwards, run in runs))


def _term(element: Descriptor, text: str) -> Term:
    downwards = text.endswith(DOWNWARDS)
    path = resolve(element, text.removesuffix(DOWNWARDS))
    if path.leaf.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and not is_instant(path.leaf):
        raise ValueError("elements cannot be sorted by a message other than a time")
    return Term(path, downwards)


def _key(terms: list[Term], downwards: bool) -> Key:
    """Give one key for neighbouring terms of the same direction."""
    if all(_is_always_set(term.path) for term in terms):
        return plain_key([term.path for term in terms])
    keys = [_value_key(term.path, downwards) for term in terms]
    paths = tuple(term.path.dotted for term in terms)
    if len(keys) == 1:
        return Key(keys[0], paths)
    return Key(lambda element: tuple(key(element) for key in keys), paths)


def _is_always_set(path: FieldPath) -> bool:
    return not path.may_be_unset and path.leaf.cpp_type not in FLOATS


def _value_key(path: FieldPath, downwards: bool) -> Callable[[Any], Any]:
    read = reader(path)
    if _is_always_set(path):
        return read
    is_float = path.leaf.cpp_type in FLOATS
    unset = (0,) if downwards else (2,)

    def key(element: Any) -> Any:
        value = read(element)
        # NaN compares with nothing, so that a sort by it would depend on the order it came in.
        if value is None or (is_float and math.isnan(value)):
            return unset
        return (1, value)

    return key
