"""Requests made from an interface's own rules: valid ones, and ones that break a rule (1501).

Made at random from a seed, so that a run can be repeated, and shown to be what they have to be by
the rules themselves: what is not found in some tries is not made. Work for a thread, not for the
event loop: the rules are a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from buf.validate import validate_pb2
from foundation.errors import MarketError
from foundation.validation import violations
from marketplace.conformance_value import Values, broken
from marketplace.router.options import field_rules, message_rules, oneof_is_required

#: Attempts at a valid message; the first is as empty as the rules allow.
TRIES = 40
#: Changes of a valid message that are tried to break a rule.
BREAKS_MAX = 400
#: Below this depth only what is required is set, and nothing below the second.
_DEPTH_WANTED, _DEPTH_MAX = 4, 12
_ITEMS_MORE = 2
_ITEMS_MAX = 2_000
_UNIQUE_TRIES = 10
#: Some instant: what depends on the time of day is not for a deterministic message.
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)

_TIMESTAMP, _DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
_WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in (
        *("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64"),
    )
)


def valid_message(kind: type[Message], seed: int = 0, now: datetime = EPOCH) -> Message | None:
    """Give a message that obeys every rule; None where some tries found none."""
    for number in range(TRIES):
        maker = _Maker(_random(seed, number), now, share=number / TRIES)
        made = maker.message(_descriptor(kind), 0)
        if made is not None and _obeys(made):
            return made
    return None


def invalid_message(kind: type[Message], seed: int = 0, now: datetime = EPOCH) -> Message | None:
    """Give a message that parses and breaks a rule; None where no rule was found to be broken."""
    start = valid_message(kind, seed, now) or kind()
    maker = _Maker(_random(seed, 0), now, share=0.0)
    for number, made in enumerate(_changed(start, maker, 0)):
        if number >= BREAKS_MAX:
            break
        if not _obeys(made):
            return made
    for number in range(TRIES):
        wild = _Maker(_random(seed, number), now, share=0.7, heeds=False)
        found = wild.message(_descriptor(kind), 0)
        if found is not None and not _obeys(found):
            return found
    return None


def _random(seed: int, number: int) -> Random:
    return Random(f"{seed}.{number}")  # noqa: S311  # not a secret: it has to be the same again


def _descriptor(kind: type[Message] | Message) -> Descriptor:
    return cast("Descriptor", kind.DESCRIPTOR)


def _obeys(message: Message) -> bool:
    try:
        return not violations(message)
    except MarketError:
        return False


class _Maker:
    """Makes one message; `share` of what need not be set is set."""

    def __init__(self, random: Random, now: datetime, *, share: float, heeds: bool = True) -> None:
        self._random = random
        self._share = share
        self._heeds = heeds
        self._values = Values(random, now, plain=share == 0)

    def rules_of(self, field: FieldDescriptor) -> validate_pb2.FieldRules:
        """Give the rules that hold for a field."""
        rules = field_rules(field)
        ignored = rules.ignore == validate_pb2.IGNORE_ALWAYS or not self._heeds
        return validate_pb2.FieldRules() if ignored else rules

    def message(self, descriptor: Descriptor, depth: int) -> Message | None:
        """Give a message, which may still break a rule that ties fields together."""
        if depth > _DEPTH_MAX:
            return None
        made = GetMessageClass(descriptor)()
        left_out = self._left_out(descriptor)
        for field in descriptor.fields:
            if field.name in left_out or field.containing_oneof is not None:
                continue
            if not self._set(made, field, self.rules_of(field), depth):
                return None
        for oneof in descriptor.oneofs:
            if not self._choose(made, oneof, left_out, depth):
                return None
        return made

    def _left_out(self, descriptor: Descriptor) -> set[str]:
        """Name what groups of exclusive fields leave out: all but one, or all."""
        out: set[str] = set()
        for group in message_rules(descriptor).oneof:
            names = list(group.fields)
            keep = self._random.choice(names) if group.required or self._wanted(0) else ""
            out |= set(names) - {keep}
        return out

    def _choose(self, made: Message, oneof: OneofDescriptor, out: set[str], depth: int) -> bool:
        fields = [field for field in oneof.fields if field.name not in out]
        needed = oneof_is_required(oneof) and self._heeds
        proto3_optional = len(oneof.fields) == 1 and oneof.name.startswith("_")
        if proto3_optional and fields:
            return self._set(made, fields[0], self.rules_of(fields[0]), depth)
        if not fields or not (needed or self._wanted(depth)):
            return not needed
        self._random.shuffle(fields)
        return any(self._fill(made, field, self.rules_of(field), depth) for field in fields)

    def _set(
        self, made: Message, field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int
    ) -> bool:
        """Set a field where it has to be set or is wanted; False where no value is known."""
        implicit = not field.is_repeated and not field.has_presence
        ruled = implicit and bool(rules.ListFields())
        needed = rules.required or rules.repeated.min_items > 0 or rules.map.min_pairs > 0
        if not (needed or ruled or self._wanted(depth)):
            return True
        return self._fill(made, field, rules, depth) or not (needed or ruled)

    def _wanted(self, depth: int) -> bool:
        return depth < _DEPTH_WANTED and self._random.random() < self._share

    def _fill(
        self, made: Message, field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int
    ) -> bool:
        if _is_map(field):
            return self._fill_map(made, field, rules, depth)
        if field.is_repeated:
            return self._fill_list(made, field, rules, depth)
        value = self.value(field, rules, depth)
        if value is None:
            return False
        put(made, field, value)
        return True

    def value(self, field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int) -> Any:
        """Give a value of a field, or of one item of it; None where none is known."""
        inside = field.message_type
        if inside is None:
            return self._values.scalar(field, rules)
        if inside.full_name == _TIMESTAMP:
            return _as_own(inside, self._values.timestamp(rules))
        if inside.full_name == _DURATION:
            return _as_own(inside, self._values.duration(rules))
        if inside.full_name in _WRAPPERS:
            value = self._values.scalar(inside.fields_by_name["value"], rules)
            return None if value is None else GetMessageClass(inside)(value=value)
        return self.message(inside, depth + 1)

    def _count(self, least: int, rules: validate_pb2.FieldRules, most: int) -> int:
        more = 0 if self._share == 0 else self._random.randint(0, _ITEMS_MORE)
        return min(max(least, int(rules.required)) + more, most)

    def _fill_list(
        self, made: Message, field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int
    ) -> bool:
        said = rules.repeated
        most = said.max_items if said.HasField("max_items") else _ITEMS_MAX
        items: list[Any] = []
        for _ in range(min(self._count(said.min_items, rules, most), _ITEMS_MAX)):
            value = self.value(field, said.items, depth)
            for _ in range(_UNIQUE_TRIES if said.unique else 0):
                if value not in items:
                    break
                value = self.value(field, said.items, depth)
            if value is None:
                return False
            items.append(value)
        getattr(made, field.name).extend(items)
        return True

    def _fill_map(
        self, made: Message, field: FieldDescriptor, rules: validate_pb2.FieldRules, depth: int
    ) -> bool:
        assert field.message_type is not None
        entry = field.message_type.fields_by_name
        said, target = rules.map, getattr(made, field.name)
        most = said.max_pairs if said.HasField("max_pairs") else _ITEMS_MAX
        for _ in range(min(self._count(said.min_pairs, rules, most), _ITEMS_MAX)):
            key = self._values.scalar(entry["key"], said.keys)
            value = self.value(entry["value"], said.values, depth)
            if key is None or value is None:
                return False
            if entry["value"].message_type is not None:
                target[key].CopyFrom(value)
            else:
                target[key] = value
        return len(target) >= said.min_pairs


def _as_own(descriptor: Descriptor, value: Message) -> Message:
    """Give a message as one of the interface's own pool, which has classes of its own."""
    return GetMessageClass(descriptor).FromString(value.SerializeToString())


def put(made: Message, field: FieldDescriptor, value: Any) -> None:
    """Write the value of a singular field."""
    if field.message_type is not None:
        getattr(made, field.name).CopyFrom(value)
    else:
        setattr(made, field.name, value)


def _changed(message: Message, maker: _Maker, depth: int) -> Iterator[Message]:
    """Give copies of a message with one change each, the plain changes first."""
    fields = [field for field in _descriptor(message).fields if not _is_map(field)]
    for field in fields:
        if field.is_repeated:
            continue
        cleared = _copy(message)
        cleared.ClearField(field.name)
        yield cleared
        if field.message_type is None:
            for value in broken(field, maker.rules_of(field)):
                made = _copy(message)
                put(made, field, value)
                yield made
    for field in fields:
        if field.is_repeated:
            yield from _changed_list(message, field, maker)
        elif field.message_type is not None and depth < _DEPTH_WANTED:
            inside = maker.value(field, maker.rules_of(field), depth)
            if message.HasField(field.name):
                inside = getattr(message, field.name)
            for changed in _changed(inside, maker, depth + 1) if inside is not None else ():
                made = _copy(message)
                put(made, field, changed)
                yield made


def _changed_list(message: Message, field: FieldDescriptor, maker: _Maker) -> Iterator[Message]:
    rules = maker.rules_of(field).repeated
    if rules.min_items:
        made = _copy(message)
        made.ClearField(field.name)
        yield made
    if field.message_type is None:
        for value in broken(field, rules.items):
            made = _copy(message)
            getattr(made, field.name).append(value)
            yield made
    item = maker.value(field, rules.items, 0)
    if item is not None and rules.HasField("max_items") and rules.max_items < _ITEMS_MAX:
        made = _copy(message)
        getattr(made, field.name).extend([item] * (rules.max_items + 1))
        yield made
    if item is not None and field.message_type is not None:
        for changed in _changed(item, maker, _DEPTH_WANTED):
            made = _copy(message)
            getattr(made, field.name).append(changed)
            yield made


def _copy(message: Message) -> Message:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _is_map(field: FieldDescriptor) -> bool:
    inside = field.message_type
    return field.is_repeated and inside is not None and inside.GetOptions().map_entry
