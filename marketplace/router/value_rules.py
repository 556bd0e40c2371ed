"""Rules of single values, checked for many values of one field at a time.

The common rules of whole numbers, texts and enums are a comparison or two. Anything else is left to
protovalidate, and its verdict remembered where time does not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from protovalidate import Validator

from buf.validate import validate_pb2
from marketplace.router.catalogue_rules import types_below
from marketplace.router.columns import compile_file, copy_type, new_file, row_class
from marketplace.router.options import field_rules, message_rules
from marketplace.router.paths import INTEGERS
from marketplace.router.remembered import Remembered

#: Says whether each of some values, at least one, obeys the rules of its field.
ValuesCheck = Callable[[Any], bool]

_INTEGER_RULES = frozenset({"gt", "gte", "lt", "lte"})
_LENGTH_RULES = frozenset({"min_len", "max_len"})
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})
_TIME_RULES = frozenset({"lt_now", "gt_now", "within"})
#: Least and greatest length of a list without a rule about it.
ANY_LENGTH = (0, 2**63)


def list_bounds(field: FieldDescriptor) -> tuple[int, int] | None:
    """Give the least and greatest length of a repeated field's list; None where any will do."""
    said = field_rules(field)
    if not field.is_repeated or said.ignore == validate_pb2.IGNORE_ALWAYS:
        return None
    listed = said.repeated
    highest = listed.max_items if listed.HasField("max_items") else ANY_LENGTH[1]
    return None if (listed.min_items, highest) == ANY_LENGTH else (listed.min_items, highest)


def broken_when_empty(message: Descriptor, validator: Validator) -> set[str]:
    """Ask protovalidate itself which fields and oneofs break a rule by being absent."""
    empty: Message = GetMessageClass(message)()
    found: set[str] = set()
    for violation in validator.collect_violations(empty):
        path = violation.proto.field
        assert path is not None, "only of types without rules of the whole message"
        found.add(path.elements[0].field_name)
    return found


def compile_values(field: FieldDescriptor, validator: Validator) -> ValuesCheck | None:
    """Give the check of a field's values; of a repeated field, of its items. None: no rules."""
    said = field_rules(field)
    rules = said.repeated.items if field.is_repeated else _when_set(said)
    kind = rules.WhichOneof("type")
    others = {rule.name for rule, _ in rules.ListFields()} - {kind, "required"}
    if said.ignore == validate_pb2.IGNORE_ALWAYS or (kind is None and not others):
        return None
    if kind is not None and not others:
        said_of_kind = getattr(rules, kind)
        names = {rule.name for rule, _ in said_of_kind.ListFields()} - {"example"}
        quick = _quick(field, said_of_kind, names)
        if quick is not None:
            return quick
    holder = _holder(field, rules)

    def are_valid(values: Iterable[Any]) -> bool:
        return not validator.collect_violations(holder(values=values), fail_fast=True)

    # To a memory, 0.0 and -0.0 are one value; to a rule they may be two.
    is_fixed = not _depends_on_time(rules) and field.cpp_type not in _FLOATS
    return Remembered(are_valid) if is_fixed else are_valid


def _when_set(said: validate_pb2.FieldRules) -> validate_pb2.FieldRules:
    """Give the rules of a singular field's value where it has one.

    A field that may be ignored is ignored when it is not set: a zero that is set obeys its rules.
    """
    rules = validate_pb2.FieldRules()
    rules.CopyFrom(said)
    rules.ClearField("ignore")
    return rules


def compile_messages(message: Descriptor, validator: Validator) -> ValuesCheck:
    """Give the check of serialised messages of a type; one with unknown fields does not pass.

    They are to be serialised by protobuf itself: a field once, and nothing for what is unset.
    """
    rows, parse = row_class(1), _list_class(message).FromString

    def are_valid(raws: Iterable[bytes]) -> bool:
        raw = rows(rows=raws).SerializeToString()
        parsed: Message = parse(raw)
        parsed.DiscardUnknownFields()
        if parsed.ByteSize() != len(raw):
            return False  # one had unknown fields
        return not validator.collect_violations(parsed, fail_fast=True)

    types = types_below(message).values()
    rules: list[Message] = [field_rules(each) for kind in types for each in kind.fields]
    rules += map(message_rules, types)
    return are_valid if any(map(_depends_on_time, rules)) else Remembered(are_valid)


def _depends_on_time(rules: Message) -> bool:
    """Whether a verdict of today may be another tomorrow."""
    for field, value in rules.ListFields():
        if field.name in _TIME_RULES or (isinstance(value, str) and "now" in value):
            return True
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message) and _depends_on_time(each):
                return True
    return False


def _quick(field: FieldDescriptor, rules: Any, names: Set[str]) -> ValuesCheck | None:
    if field.cpp_type in INTEGERS and names <= _INTEGER_RULES:
        return _integers(rules, names)
    if field.type == FieldDescriptor.TYPE_STRING and names <= _LENGTH_RULES:
        return _lengths(rules)
    if field.enum_type is not None and names <= {"defined_only", "not_in"} and rules.defined_only:
        known = frozenset(field.enum_type.values_by_number)
        return (known - frozenset(rules.not_in)).issuperset
    return None


def _integers(rules: Any, names: Set[str]) -> ValuesCheck | None:
    lowest = [rules.gte] if "gte" in names else []
    lowest += [rules.gt + 1] if "gt" in names else []
    highest = [rules.lte] if "lte" in names else []
    highest += [rules.lt - 1] if "lt" in names else []
    low, high = max(lowest, default=-(2**63)), min(highest, default=2**64)
    if low > high:
        return None  # protovalidate takes a range that is turned round for its outside

    def check(values: Any) -> bool:
        return bool(min(values) >= low and max(values) <= high)

    return check


def _lengths(rules: Any) -> ValuesCheck:
    low = rules.min_len
    high = rules.max_len if rules.HasField("max_len") else 2**63
    if not low:
        return lambda values: max(map(len, values)) <= high

    def check(values: Iterable[str]) -> bool:
        lengths = list(map(len, values))
        return min(lengths) >= low and max(lengths) <= high

    return check


def _holder(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Callable[..., Message]:
    """Give a message type that holds nothing but values with these rules."""
    file = new_file(f"values.{field.full_name}")
    column = file.message_type.add(name="Values").field.add(name="values", number=1)
    copy_type(column, field)
    items = column.options.Extensions[validate_pb2.field].repeated.items
    items.CopyFrom(rules)
    items.ClearField("required")
    file.dependency.append(validate_pb2.DESCRIPTOR.name)
    if field.enum_type is not None:
        file.dependency.append(field.enum_type.file.name)
    assert field.containing_type is not None, "an extension has no column"
    return compile_file(field.containing_type.file.pool, file)


def _list_class(message: Descriptor) -> Any:
    """Give a message type that holds nothing but messages of a type."""
    file = new_file(f"lists.{message.full_name}")
    file.message_type.add(name="List").field.add(
        name="values",
        number=1,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{message.full_name}",
    )
    file.dependency.append(message.file.name)
    return compile_file(message.file.pool, file)
