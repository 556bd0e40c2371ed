"""Shows quickly that an answer keeps its interface's rules; what it cannot show is no refusal.

protovalidate spends some ten microseconds on one element of a result, more than all else that is
done with it. Here the rules are checked on columns (see `columns`), all elements of an answer, or
of all answers of a call, at a time. Fields that must be there are counted: the bytes are those that
protobuf writes itself, in which an element has a field once or not at all. Only what counting
cannot tell, such as the length of one element's list, is looked up element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, methodcaller
from typing import Any, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from protovalidate import CompilationError, EvaluationError, Validator

from marketplace.router.columns import Place, column_class, place_of
from marketplace.router.options import oneof_is_required, stamp_of
from marketplace.router.value_rules import (
    ANY_LENGTH,
    ValuesCheck,
    broken_when_empty,
    compile_messages,
    compile_values,
    list_bounds,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """Messages that surely keep all rules, apart from unknown fields."""

    #: Their values, as `columns` describes.
    columns: Any
    has_unknown_fields: bool
    #: Those that were looked at, by field and field inside it, as lists: reading them takes longer
    #: than looking at them.
    read: Mapping[str, Any]


class PlainCheck(Protocol):
    """Shows that messages of one type keep its rules; None where it cannot show it."""

    def __call__(
        self, raw: bytes, messages: Sequence[Any], longest_bytes: int = ...
    ) -> Shown | None:
        """`raw` is what the messages were serialised to, one behind the other.

        No element of their lists is longer than `longest_bytes`.
        """


def shows_nothing(raw: bytes, messages: Sequence[Any], longest_bytes: int = 0) -> Shown | None:
    """Be the check of a type that columns do not help with."""


class _Doubt(Exception):  # noqa: N818  # no error: the full validation decides
    """The quick check cannot show that the rules hold."""


@dataclass(frozen=True, slots=True)
class _Column:
    """What is checked about one field of all elements at a place."""

    #: Gives the field of one element; of a singular message, whether it is set.
    read: Callable[[Any], Any]
    #: Check of the values; None where any will do.
    holds: ValuesCheck | None
    #: Whether an element without the field breaks a rule.
    is_needed: bool
    #: Least and greatest length of the list in one element; None where any will do.
    bounds: tuple[int, int] | None
    #: Check of the messages inside, where they have columns themselves.
    inside: _PlaceCheck | None
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class _PlaceCheck:
    """What is checked about all elements at one place of an answer."""

    columns: Mapping[str, _Column]
    #: Number of columns that are needed, or have a least length.
    needed: int
    #: Each gives the member of a oneof that an element needs.
    oneofs: tuple[Callable[[Any], Any], ...]
    #: Whether it matters how many elements there are.
    counts: bool

    def look_at(
        self,
        columns: Any,
        count: int,
        elements: _Elements,
        longest_bytes: int,
        read: dict[str, Any],
    ) -> bool:
        """Check the elements at this place; say whether any has unknown fields.

        `count` is their number where that matters; none is longer than `longest_bytes`. What was
        looked at is added to `read`. Raises `_Doubt`.
        """
        found_unknown = len(UnknownFieldSet(columns)) > 0
        needed = 0
        known = self.columns
        for described, container in columns.ListFields():
            name = described.name
            column = known.get(name)
            if column is None:
                continue
            if column.inside is not None:
                below: dict[str, Any] = {}
                read[name] = below
                inside = _look_inside(column, container, count, elements, longest_bytes, below)
                found_unknown = found_unknown or inside
            else:
                read[name] = values = container[:]
                if column.holds is not None and not column.holds(values):
                    raise _Doubt
                if column.is_needed and len(values) != count:
                    raise _Doubt
                if column.bounds is not None and not _are_short(column, values, longest_bytes):
                    _check_lengths(column, elements.all())
            needed += column.is_needed or (column.bounds is not None and column.bounds[0] > 0)
        if needed != self.needed:
            raise _Doubt
        if self.oneofs and not all(all(map(one, elements.all())) for one in self.oneofs):
            raise _Doubt
        return found_unknown


class _Elements:
    """The elements at one place, looked up only where columns do not tell enough."""

    __slots__ = ("_above", "_found", "_read")

    def __init__(
        self,
        found: Sequence[Any] | None,
        above: _Elements | None = None,
        read: Callable[[Any], Any] | None = None,
    ) -> None:
        """`found` are they, or `read` gives those of each element of `above`."""
        self._found = found
        self._above = above
        self._read = read

    def all(self) -> Sequence[Any]:
        """Give them, each of its own."""
        if self._found is None:
            assert self._above is not None, "given at the start, or below others"
            assert self._read is not None, "given with what is above"
            self._found = [each for one in self._above.all() for each in self._read(one)]
        return self._found


#: Elements that are messages inside others: their columns tell all.
_NOT_READ = _Elements(())


def _look_inside(
    column: _Column,
    columns: Any,
    count: int,
    elements: _Elements,
    longest_bytes: int,
    read: dict[str, Any],
) -> bool:
    """Check a message field that has columns itself; say whether it has unknown fields."""
    check = column.inside
    assert check is not None, "the caller has seen it"
    found = 0
    if column.is_repeated:
        if check.counts or column.bounds is not None:
            found = _check_lengths(column, elements.all())
        below = _Elements(None, elements, column.read)
        return check.look_at(columns, found, below, longest_bytes, read)
    if column.is_needed or check.counts:
        found = _how_many(column, columns, count, elements)
        if column.is_needed and found != count:
            raise _Doubt
    return check.look_at(columns, found, _NOT_READ, longest_bytes, read)


def _how_many(column: _Column, columns: Any, count: int, elements: _Elements) -> int:
    """Give the number of elements in which a plain message is set."""
    # Each message adds at most one value to each of its columns: a column as long as the list of
    # elements says that all of them have the message.
    for _, values in columns.ListFields():
        if len(values) == count:
            return count
    return sum(map(column.read, elements.all()))


def _are_short(column: _Column, values: Any, longest_bytes: int) -> bool:
    """Whether the list in no element can be too long, without looking at one."""
    low, high = column.bounds or ANY_LENGTH
    if low:
        return False
    if len(values) <= high:
        return True
    # Each text or message takes its own length and at least two bytes more, each number one.
    taken = 1
    if isinstance(values[0], (bytes, str)):
        shortest = getattr(column.holds, "shortest", None)
        taken = (min(map(len, values)) if shortest is None else shortest) + 2
    return longest_bytes // taken <= high


def _check_lengths(column: _Column, elements: Sequence[Any]) -> int:
    """Check how long the list in each element is; give the sum."""
    lengths = list(map(len, map(column.read, elements)))
    low, high = column.bounds or ANY_LENGTH
    if min(lengths) < low or max(lengths) > high:
        raise _Doubt
    return sum(lengths)


def compile_plain_check(response: Descriptor, validator: Validator) -> PlainCheck:
    """Give the quick check of a response type; one that shows nothing where columns do not help."""
    place = place_of(response)
    if place is None:
        return shows_nothing
    columns: Any = column_class(place)
    check = _Compiler(validator).place(place)

    def plain_check(
        raw: bytes, messages: Sequence[Any], longest_bytes: int = ANY_LENGTH[1]
    ) -> Shown | None:
        try:
            found = columns.FromString(raw)
            elements = _Elements(messages)
            read: dict[str, Any] = {}
            unknown = check.look_at(found, len(messages), elements, longest_bytes, read)
        except (_Doubt, DecodeError, CompilationError, EvaluationError):
            return None
        return Shown(found, unknown, read)

    return plain_check


class _Compiler:
    """Compiles the checks of one response type; a field's check of values serves all places."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._checks: dict[str, ValuesCheck | None] = {}

    def place(self, place: Place) -> _PlaceCheck:
        """Compile the checks of a place and of all below it."""
        broken = broken_when_empty(place.message, self._validator)
        columns = {
            each.name: self._column(each, place, is_broken=each.name in broken)
            for each in place.message.fields
        }
        is_needed = [
            column.is_needed or (column.bounds is not None and column.bounds[0] > 0)
            for column in columns.values()
        ]
        oneofs = [oneof.name for oneof in place.message.oneofs if oneof_is_required(oneof)]
        return _PlaceCheck(
            columns={name: column for name, column in columns.items() if _says_anything(column)},
            needed=sum(is_needed),
            oneofs=tuple(methodcaller("WhichOneof", name) for name in oneofs),
            counts=any(is_needed),
        )

    def _column(self, each: FieldDescriptor, place: Place, *, is_broken: bool) -> _Column:
        below = place.inside.get(each.name)
        # The router overwrites stamped strings: what a provider put there need not obey any rule.
        is_stamped = bool(stamp_of(each))
        return _Column(
            read=attrgetter(each.name) if each.is_repeated else methodcaller("HasField", each.name),
            holds=None if is_stamped or below is not None else self._check(each),
            is_needed=is_broken and not is_stamped and not each.is_repeated,
            bounds=list_bounds(each),
            inside=self.place(below) if below is not None else None,
            is_repeated=each.is_repeated,
        )

    def _check(self, each: FieldDescriptor) -> ValuesCheck | None:
        inside = each.message_type
        name = each.full_name if inside is None else inside.full_name
        if name not in self._checks:
            self._checks[name] = (
                compile_values(each, self._validator)
                if inside is None
                else compile_messages(inside, self._validator)
            )
        return self._checks[name]


def _says_anything(column: _Column) -> bool:
    return bool(column.holds or column.is_needed or column.bounds or column.inside)
