"""Rules of single values, checked for many values of one field at a time.

The common rules of whole numbers, texts and enums are a comparison or two; anything else is left to
protovalidate, on a message that holds nothing but the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from protovalidate import Validator

from buf.validate import validate_pb2
from marketplace.router.columns import compile_file, copy_type, new_file
from marketplace.router.options import field_rules
from marketplace.router.paths import INTEGERS

#: Says whether each of some values, at least one, obeys the rules of its field.
ValuesCheck = Callable[[Any], bool]

#: Valid values that are remembered for each field: the same few currencies come all the time.
REMEMBERED_MAX = 256
_INTEGER_RULES = frozenset({"gt", "gte", "lt", "lte"})
_LENGTH_RULES = frozenset({"min_len", "max_len"})


def compile_values(field: FieldDescriptor, validator: Validator) -> ValuesCheck | None:
    """Give the check of a field's values; of a repeated field, of its items. None: no rules."""
    said = field_rules(field)
    rules = said.repeated.items if field.is_repeated else said
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
    return _remembering(_validating(field, rules, validator))


def _quick(field: FieldDescriptor, rules: Any, names: Set[str]) -> ValuesCheck | None:
    if field.cpp_type in INTEGERS and names <= _INTEGER_RULES:
        return _integers(rules, names)
    if field.type == FieldDescriptor.TYPE_STRING and names <= _LENGTH_RULES:
        return _lengths(rules)
    if field.enum_type is not None and names <= {"defined_only", "not_in"}:
        known = frozenset(field.enum_type.values_by_number)
        if rules.defined_only:
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
        numbers = values[:]
        return min(numbers) >= low and max(numbers) <= high

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


def _validating(
    field: FieldDescriptor, rules: validate_pb2.FieldRules, validator: Validator
) -> ValuesCheck:
    file = new_file(f"values.{field.full_name}")
    column = file.message_type.add(name="Values").field.add(name="values", number=1)
    copy_type(column, field)
    items = column.options.Extensions[validate_pb2.field].repeated.items
    items.CopyFrom(rules)
    items.ClearField("required")
    file.dependency.append(validate_pb2.DESCRIPTOR.name)
    if field.enum_type is not None:
        file.dependency.append(field.enum_type.file.name)
    holder: Callable[..., Message] = compile_file(field.file.pool, file)
    return lambda values: not validator.collect_violations(holder(values=values), fail_fast=True)


def _remembering(check: ValuesCheck) -> ValuesCheck:
    """Ask only about values that are not known to be valid, and about each once."""
    valid: set[Any] = set()

    def check_new(values: Iterable[Any]) -> bool:
        if valid.issuperset(values):
            return True
        fresh = set(values) - valid
        if not check(fresh):
            return False
        if len(valid) + len(fresh) <= REMEMBERED_MAX:
            valid.update(fresh)
        return True

    return check_new
