"""Shows quickly that an answer keeps its interface's rules; what it cannot show is no refusal.

protovalidate spends some ten microseconds on one element of a result, more than all else that is
done with it. Here the rules are checked on columns (see `columns`), all elements of an answer at a
time. Fields that must be there are counted: the bytes are those that the router itself writes, in
which an element has a field once or not at all. Only the lengths of lists inside elements are
looked up one by one. Types with rules across fields go to protovalidate, each message by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, methodcaller
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from protovalidate import CompilationError, EvaluationError, Validator

from buf.validate import validate_pb2
from marketplace.router.columns import Place, column_class, place_of
from marketplace.router.options import field_rules, oneof_is_required, stamp_of
from marketplace.router.value_rules import ValuesCheck, compile_values

#: `check(raw, message)`, where `raw` is what `message` was serialised to: True where the message
#: surely keeps all rules; it has no unknown fields then.
PlainCheck = Callable[[bytes, Any], bool]
#: Gives the messages at one place when somebody has to look at them.
_Elements = Callable[[], Sequence[Any]]

_ANY_LENGTH = (0, 2**63)


class _Doubt(Exception):  # noqa: N818  # no error: the full validation decides
    """The quick check cannot show that the rules hold."""


@dataclass(frozen=True, slots=True)
class _Inside:
    """A field of a place, and what is checked about it."""

    #: Reads the field of one element.
    read: Callable[[Any], Any]
    is_repeated: bool
    #: Least and greatest length of the list in one element.
    bounds: tuple[int, int] = _ANY_LENGTH
    #: Check of the values, for fields that are no messages; None where any will do.
    holds: ValuesCheck | None = None
    #: Check of the place inside, for message fields; None where only protovalidate can.
    place: _PlaceCheck | None = None
    is_message: bool = False

    def lengths(self, elements: Sequence[Any]) -> list[int]:
        """Give how many messages or values each element has in this field."""
        if self.is_repeated:
            return list(map(len, map(self.read, elements)))
        return list(map(self.read, elements))

    def messages(self, elements: Sequence[Any], name: str) -> list[Any]:
        """Give the messages of all elements in this field."""
        if self.is_repeated:
            return list(chain.from_iterable(map(self.read, elements)))
        return [
            getattr(each, name)
            for each, has in zip(elements, self.lengths(elements), strict=True)
            if has
        ]


@dataclass(frozen=True, slots=True)
class _PlaceCheck:
    """What is checked about all elements at one place of an answer."""

    fields: Mapping[str, _Inside]
    #: Singular fields without which an element breaks a rule.
    needed: frozenset[str]
    #: Lists that may not be empty.
    filled: frozenset[str]
    #: Oneofs of which an element needs one.
    oneofs: tuple[Callable[[Any], Any], ...]
    #: Whether it matters here how many elements there are.
    counts: bool


@dataclass(slots=True)
class _Pass:
    """One answer on its way through the checks."""

    has_unknown_fields: bool = False
    #: Messages of types without columns, for protovalidate.
    opaque: list[Any] = field(default_factory=list)

    def look(self, check: _PlaceCheck, column: Any, count: int, elements: _Elements) -> None:
        """Check one place, which has `count` elements. Raises `_Doubt`."""
        if len(UnknownFieldSet(column)):
            self.has_unknown_fields = True
        there: set[str] = set()
        for described, found in column.ListFields():
            name: str = described.name
            inside = check.fields.get(name)
            if inside is None:
                continue
            there.add(name)
            is_needed = name in check.needed
            if inside.is_message:
                total = self._look_inside(name, inside, found, elements, counts=is_needed)
            else:
                total = _check_values(inside, found, elements)
            if is_needed and total != count:
                raise _Doubt
        if not (there >= check.needed and there >= check.filled):
            raise _Doubt
        for chosen in check.oneofs:
            if not all(map(chosen, elements())):
                raise _Doubt

    def _look_inside(
        self, name: str, inside: _Inside, column: Any, elements: _Elements, *, counts: bool
    ) -> int:
        """Check a message field of all elements; give its number of messages if it `counts`."""
        check = inside.place
        total = 0
        if counts or inside.bounds != _ANY_LENGTH or (check is not None and check.counts):
            lengths = inside.lengths(elements())
            low, high = inside.bounds
            if min(lengths) < low or max(lengths) > high:
                raise _Doubt
            total = sum(lengths)
        if check is None:
            self.opaque += inside.messages(elements(), name)
            return total
        listed: list[Any] = []

        def below() -> Sequence[Any]:
            if not listed:
                listed.extend(inside.messages(elements(), name))
            return listed

        self.look(check, column, total, below)
        return total


def _check_values(inside: _Inside, column: Any, elements: _Elements) -> int:
    """Check the values of all elements in one field; give their number."""
    if inside.holds is not None and not inside.holds(column):
        raise _Doubt
    total = len(column)
    low, high = inside.bounds
    if low or total > high:
        lengths = inside.lengths(elements())
        if min(lengths) < low or max(lengths) > high:
            raise _Doubt
    return total


def compile_plain_check(response: Descriptor, validator: Validator) -> PlainCheck:
    """Give the quick check of a response type; one that shows nothing where columns do not help."""
    place = place_of(response)
    if place is None:
        return lambda _raw, _message: False
    columns: Any = column_class(place)
    check = _Compiler(validator).place(place)

    def is_plainly_valid(raw: bytes, message: Any) -> bool:
        passing = _Pass()
        try:
            passing.look(check, columns.FromString(raw), 1, lambda: (message,))
            for each in passing.opaque:
                each.DiscardUnknownFields()
                if validator.collect_violations(each, fail_fast=True):
                    return False
        except (_Doubt, DecodeError, CompilationError, EvaluationError):
            return False
        if passing.has_unknown_fields:
            message.DiscardUnknownFields()
        return True

    return is_plainly_valid


class _Compiler:
    """Compiles the checks of one response type; a field's check of values serves all places."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._values: dict[str, ValuesCheck | None] = {}

    def place(self, place: Place) -> _PlaceCheck:
        """Compile the checks of a place and of all below it."""
        fields = {each.name: self._inside(each, place) for each in place.message.fields}
        needed = frozenset(
            each.name
            for each in place.message.fields
            if not each.is_repeated
            and not stamp_of(each)
            and each.name in self._broken_when_empty(place.message)
        )
        filled = frozenset(name for name, inside in fields.items() if inside.bounds[0])
        return _PlaceCheck(
            fields=fields,
            needed=needed,
            filled=filled,
            oneofs=tuple(
                methodcaller("WhichOneof", oneof.name)
                for oneof in place.message.oneofs
                if oneof_is_required(oneof)
            ),
            counts=bool(needed),
        )

    def _inside(self, each: FieldDescriptor, place: Place) -> _Inside:
        read = attrgetter(each.name) if each.is_repeated else methodcaller("HasField", each.name)
        below = place.columns.get(each.name)
        is_message = each.message_type is not None
        # The router overwrites stamped strings: what a provider put there need not obey any rule.
        has_values = not is_message and not stamp_of(each)
        return _Inside(
            read=read,
            is_repeated=each.is_repeated,
            bounds=_bounds(each),
            holds=self._values_check(each) if has_values else None,
            place=self.place(below) if below is not None else None,
            is_message=is_message,
        )

    def _values_check(self, each: FieldDescriptor) -> ValuesCheck | None:
        if each.full_name not in self._values:
            self._values[each.full_name] = compile_values(each, self._validator)
        return self._values[each.full_name]

    def _broken_when_empty(self, message: Descriptor) -> set[str]:
        """Ask protovalidate itself which fields break a rule by being absent."""
        empty: Message = GetMessageClass(message)()
        found: set[str] = set()
        for violation in self._validator.collect_violations(empty):
            path = violation.proto.field
            assert path is not None, "types with rules of the whole message have no columns"
            found.add(path.elements[0].field_name)
        return found


def _bounds(each: FieldDescriptor) -> tuple[int, int]:
    said = field_rules(each)
    if not each.is_repeated or said.ignore == validate_pb2.IGNORE_ALWAYS:
        return _ANY_LENGTH
    listed = said.repeated
    return listed.min_items, listed.max_items if listed.HasField("max_items") else _ANY_LENGTH[1]
