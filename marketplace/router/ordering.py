"""Sort orders of merged elements, as `order_by` and `order_by_value` state them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from marketplace.router.paths import FLOATS, FieldPath, is_instant, reader, resolve

DOWNWARDS = " desc"
#: More terms than this in one order are refused.
TERMS_MAX = 8


@dataclass(frozen=True, slots=True)
class Term:
    """One path of a sort order: its key function and direction.

    An element where the path is unset sorts last in either direction.
    """

    key: Callable[[Any], Any]
    downwards: bool


@dataclass(frozen=True, slots=True)
class Ordering:
    """A sort order; without terms it leaves elements in contract order."""

    terms: tuple[Term, ...] = ()

    def sort(self, elements: Any) -> None:
        """Sort a repeated field in place; equal elements keep their order."""
        for term in reversed(self.terms):
            elements.sort(key=term.key, reverse=term.downwards)


def compile_ordering(element: Descriptor, order_by: Iterable[str]) -> Ordering:
    """Resolve the terms of a sort order against the type of the elements.

    Raises:
        ValueError: with our own words, where a term names no sortable field.
    """
    terms = [_term(element, text) for text in order_by]
    if len(terms) > TERMS_MAX:
        raise ValueError(f"a sort order has at most {TERMS_MAX} terms")
    return Ordering(tuple(terms))


def _term(element: Descriptor, text: str) -> Term:
    downwards = text.endswith(DOWNWARDS)
    path = resolve(element, text.removesuffix(DOWNWARDS))
    if path.leaf.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and not is_instant(path.leaf):
        raise ValueError("elements cannot be sorted by a message other than a time")
    return Term(_key(path, downwards), downwards)


def _key(path: FieldPath, downwards: bool) -> Callable[[Any], Any]:
    read = reader(path)
    is_float = path.leaf.cpp_type in FLOATS
    if not path.may_be_unset and not is_float:
        return read
    unset = (0,) if downwards else (2,)

    def key(element: Any) -> Any:
        value = read(element)
        # NaN compares with nothing, so that a sort by it would depend on the order it came in.
        if value is None or (is_float and value != value):  # noqa: PLR0124  # the test for NaN
            return unset
        return (1, value)

    return key
