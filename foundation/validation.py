"""Rules of the schema, checked on messages: protovalidate, with nothing of the message echoed."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import protovalidate
from google.protobuf.descriptor_pb2 import MessageOptions
from google.protobuf.message import Message

from buf.validate import validate_pb2
from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

#: Two classes of descriptors share one shape: those of generated and of dynamic messages.
_Descriptor = Any

#: More are not listed: who sends ten thousand wrong elements learns from the first ones.
MAX_VIOLATIONS = 50
#: Of a larger message only the first violation is looked for; collecting costs time for each.
_FULL_REPORT_BYTES = 65_536
#: Interfaces whose compiled rules are kept, the last used ones.
_MAX_POOLS = 256
#: Rules of a whole message that have no path; their texts are the engine's own.
_ENGINE_RULES = ("message.oneof", "required")
_UNEXPLAINED = "breaks this rule of the interface"

#: The engine keeps compiled rules by the message's full name. Two versions of an interface have
#: equal names and different rules, so every descriptor pool has an engine of its own.
_validators: OrderedDict[object, protovalidate.Validator] = OrderedDict()


def violations(message: Message) -> tuple[FieldViolation, ...]:
    """Give the broken rules of a message, generated or dynamic; empty means valid. Some 7 µs.

    Raises MarketError INTERFACE_INVALID when a rule of the interface itself does not compile.
    """
    descriptor = message.DESCRIPTOR
    collect = partial(_validator_of(descriptor.file.pool).collect_violations, message)
    try:
        found = collect(fail_fast=True)
        if not found:
            return ()
        if message.ByteSize() <= _FULL_REPORT_BYTES:
            found = collect()
    except protovalidate.EvaluationError:
        # A rule that divides by zero, for instance: what cannot be shown to be valid is refused.
        return (FieldViolation("", "a rule cannot be decided for this message", "undecided"),)
    except protovalidate.CompilationError:
        raise MarketError(
            ErrorReason.ERROR_REASON_INTERFACE_INVALID, "a rule of the interface does not compile"
        ) from None
    return tuple(_rendered(descriptor, violation) for violation in found[:MAX_VIOLATIONS])


def require_valid(message: Message) -> None:
    """Raise MarketError REQUEST_INVALID with every broken rule, unless there is none."""
    broken = violations(message)
    if broken:
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "the request breaks rules of the interface",
            violations=broken,
        )


def _validator_of(pool: object) -> protovalidate.Validator:
    validator = _validators.get(pool)
    if validator is not None:
        _validators.move_to_end(pool)
        return validator
    validator = _validators[pool] = protovalidate.Validator()
    while len(_validators) > _MAX_POOLS:
        _validators.popitem(last=False)
    return validator


def _rendered(descriptor: _Descriptor, violation: protovalidate.Violation) -> FieldViolation:
    found = violation.proto
    elements = list(found.field.elements) if found.field else []
    path = ".".join(_path_part(element) for element in elements)
    names = [element.field_name for element in elements]
    text = found.message if _is_own_text(descriptor, names, violation) else _UNEXPLAINED
    return FieldViolation(path, text, found.rule_id)


def _path_part(element: Any) -> str:
    """Give a part of a field's path; a key of a map is the caller's text and is not repeated."""
    if element.subscript is None:
        return str(element.field_name)
    index = element.subscript.value if element.subscript.field == "index" else "*"
    return f"{element.field_name}[{index}]"


def _is_own_text(
    descriptor: _Descriptor, names: list[str], violation: protovalidate.Violation
) -> bool:
    """Say whether the text is the interface's; an expression may compose one from the message."""
    found = violation.proto
    if found.rule is None:
        rules = _message_rules(descriptor, names)
        if any(rule.id == found.rule_id for rule in rules):
            return any(rule.message == found.message for rule in rules)
        return found.rule_id in _ENGINE_RULES
    path = [element.field_name for element in found.rule.elements]
    if "cel" in path:
        return violation.rule_value is not None and found.message == violation.rule_value.message
    return not any(name.startswith(("cel", "[")) for name in path)


def _message_rules(descriptor: _Descriptor, names: list[str]) -> list[validate_pb2.Rule]:
    """Give the expressions of the message type to which the names of fields lead."""
    for name in names:
        field = descriptor.fields_by_name.get(name)
        if field is None:
            break  # a oneof: its rule is the message's
        inner = field.message_type
        assert inner is not None, "a rule of a message is broken by a message"
        descriptor = inner.fields_by_name["value"].message_type if _is_map(inner) else inner
    # Options of a dynamic type are read again with the extensions that this process knows.
    options = MessageOptions.FromString(descriptor.GetOptions().SerializeToString())
    return list(options.Extensions[validate_pb2.message].cel)


def _is_map(descriptor: _Descriptor) -> bool:
    return bool(descriptor.GetOptions().map_entry)
