"""Says quickly that a message breaks no rule of its interface; protovalidate says which it breaks.

Every answer is checked against the interface, and protovalidate spends some ten microseconds on an
element of a result, more than all else that is done with it. Here the standard rules of a message
type are turned once into one Python function that visits each field once. What has no translation
(CEL, well-known formats, maps, floats) is left to protovalidate, message type by message type.

The check is one-sided: when `holds(m)` is true, protovalidate finds nothing (a property test says
so); when it is false, protovalidate is asked, and its word counts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pb2, unknown_fields
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate import validate_pb2

Holds = Callable[[Any], bool]

#: Patterns that RE2 and `re` read alike: literals, classes, counts and optional groups between one
#: `^` and one `$`. A group is never repeated, so that matching cannot explode.
_PLAIN_PATTERN = re.compile(r"\^(?:[^\\^$.|()]|\\[*+.?()|-]|\((?!\?)|\|(?!$)|\)(?![*+{]))*\$")
_UNBOUNDED = re.compile(r"(?<!\\)[*+]|,\}")
_MAX_UNBOUNDED = 2
_MAX_MATCHED_LENGTH = 256
#: Texts that a pattern is known to match: the same few currencies and countries come all the time.
_MAX_REMEMBERED = 64

_INTEGER_RULES = frozenset(
    {"int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64"}
    | {"sfixed32", "sfixed64"}
)
_COMPARISONS = {"gt": "<=", "gte": "<", "lt": ">=", "lte": ">", "const": "!="}


class _NoTranslation(Exception):  # noqa: N818  # control flow inside this module, not an error
    """A rule that only protovalidate knows."""


def compile_rules(root: Descriptor, validate: Holds) -> Holds:
    """Make the quick check of a message type.

    `validate` is protovalidate's full answer, for the types whose rules have no translation here.
    """
    return _Compiler(validate).function(root)


@dataclass(slots=True)
class _Body:
    """One function in the making: what it fetches in one go, and its statements."""

    fetched: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def fetch(self, name: str) -> str:
        """Fetch a field with the others; give the local variable's name."""
        self.fetched.append(name)
        return f"v{len(self.fetched) - 1}"


class _Compiler:
    """Translates message types, each once; types may contain themselves."""

    def __init__(self, validate: Holds) -> None:
        self._validate = validate
        self._names: dict[str, str] = {}
        self._relevant: dict[str, bool] = {}
        self._scope: dict[str, Any] = {}

    def function(self, message: Descriptor) -> Holds:
        """Give the check of one message type."""
        made: Holds = self._scope[self._function_name(message)]
        return made

    def _function_name(self, message: Descriptor) -> str:
        known = self._names.get(message.full_name)
        if known is not None:
            return known
        name = f"f{len(self._names)}"
        self._names[message.full_name] = name
        try:
            self._scope[name] = self._translate(name, message)
        except _NoTranslation:
            self._scope[name] = self._validate
        return name

    def _translate(self, name: str, message: Descriptor) -> Holds:
        if _message_rules(message):
            raise _NoTranslation
        body = _Body()
        for oneof in message.oneofs:
            if _oneof_required(oneof):
                body.lines.append(f"if m.WhichOneof({oneof.name!r}) is None: return False")
        for one in message.fields:
            self._field(body, one)
        source = [f"def {name}(m):"]
        if len(body.fetched) == 1:
            source.append(f"    v0 = m.{body.fetched[0]}")
        elif body.fetched:
            names = ", ".join(f"v{index}" for index in range(len(body.fetched)))
            self._scope[f"{name}_fetch"] = operator.attrgetter(*body.fetched)
            source.append(f"    {names} = {name}_fetch(m)")
        source += [f"    {line}" for line in body.lines]
        source.append("    return True")
        exec("\n".join(source), self._scope)  # noqa: S102  # the text is made above, of names only
        made: Holds = self._scope[name]
        return made

    def _field(self, body: _Body, one: FieldDescriptor) -> None:
        rules = _field_rules(one)
        if one.is_repeated:
            self._repeated(body, one, rules)
        elif one.message_type is not None:
            self._message_field(body, one, rules)
        elif one.has_presence:
            checks = self._scalar(one, rules, f"m.{one.name}")
            if rules.required:
                body.lines.append(f"if not m.HasField({one.name!r}): return False")
            if checks:
                body.lines.append(f"if m.HasField({one.name!r}):")
                body.lines += [f"    {check}" for check in checks]
        else:
            self._plain_scalar(body, one, rules)

    def _plain_scalar(self, body: _Body, one: FieldDescriptor, rules: Any) -> None:
        if rules.required:
            body.lines.append(f"if not {body.fetch(one.name)}: return False")
        if self._scalar(one, rules, "v"):
            body.lines += self._scalar(one, rules, body.fetch(one.name))

    def _message_field(self, body: _Body, one: FieldDescriptor, rules: Any) -> None:
        if rules.WhichOneof("type") is not None:
            raise _NoTranslation
        if rules.required:
            body.lines.append(f"if not m.HasField({one.name!r}): return False")
        inner: Any = one.message_type
        if self._has_rules(inner):
            check = f"{self._function_name(inner)}(m.{one.name})"
            present = "" if rules.required else f"m.HasField({one.name!r}) and "
            body.lines.append(f"if {present}not {check}: return False")

    def _repeated(self, body: _Body, one: FieldDescriptor, rules: Any) -> None:
        kind = rules.WhichOneof("type")
        is_map = one.message_type is not None and one.message_type.GetOptions().map_entry
        if (kind is not None or rules.required) and (is_map or kind not in {None, "repeated"}):
            raise _NoTranslation
        if is_map:
            entry: Any = one.message_type
            value = entry.fields_by_name["value"]
            if value.message_type is not None and self._has_rules(value.message_type):
                raise _NoTranslation
            return
        limits = rules.repeated
        each = self._each(one, limits.items)
        if not (each or kind or rules.required):
            return
        name = body.fetch(one.name)
        if rules.required:
            body.lines.append(f"if not {name}: return False")
        if limits.HasField("min_items"):
            body.lines.append(f"if len({name}) < {limits.min_items}: return False")
        if limits.HasField("max_items") or limits.unique or each:
            body.lines.append(f"if {name}:")
            if limits.HasField("max_items"):
                body.lines.append(f"    if len({name}) > {limits.max_items}: return False")
            if limits.unique:
                if one.message_type is not None:
                    raise _NoTranslation
                body.lines.append(f"    if len(set({name})) != len({name}): return False")
            if each:
                body.lines.append(f"    for e in {name}[:]:")
                body.lines += [f"        {check}" for check in each]

    def _each(self, one: FieldDescriptor, items: Any) -> list[str]:
        if one.message_type is None:
            return self._scalar(one, items, "e")
        if items.WhichOneof("type") is not None or items.cel or items.required:
            raise _NoTranslation
        if not self._has_rules(one.message_type):
            return []
        return [f"if not {self._function_name(one.message_type)}(e): return False"]

    def _scalar(self, one: FieldDescriptor, rules: Any, name: str) -> list[str]:
        kind = rules.WhichOneof("type")
        if kind is None:
            return []
        limits = getattr(rules, kind)
        if _has_unknown(limits):
            raise _NoTranslation
        names = {set_field.name for set_field, _ in limits.ListFields()} - {"example"}
        if kind in _INTEGER_RULES:
            return self._integer(limits, names, name)
        if kind == "string":
            return self._string(limits, names, name)
        if kind == "enum":
            return self._enum(one, limits, names, name)
        if kind == "bytes" and names <= {"min_len", "max_len"}:
            return [f"if {check}: return False" for check in _lengths(limits, names, name)]
        if kind == "bool" and names <= {"const"}:
            return [f"if {name} != {limits.const}: return False"] if names else []
        raise _NoTranslation

    def _integer(self, limits: Any, names: set[str], name: str) -> list[str]:
        lower = max((getattr(limits, rule) for rule in names & {"gt", "gte"}), default=None)
        upper = min((getattr(limits, rule) for rule in names & {"lt", "lte"}), default=None)
        if lower is not None and upper is not None and lower >= upper:
            raise _NoTranslation  # an exclusive range, or an odd one
        if not names <= {*_COMPARISONS, "in", "not_in"}:
            raise _NoTranslation
        tests = [
            f"{name} {_COMPARISONS[rule]} {getattr(limits, rule)}"
            for rule in ("gt", "gte", "lt", "lte", "const")
            if rule in names
        ]
        return _refuse([*tests, *self._sets(limits, names, name)])

    def _enum(self, one: FieldDescriptor, limits: Any, names: set[str], name: str) -> list[str]:
        if not names <= {"defined_only", "in", "not_in", "const"}:
            raise _NoTranslation
        tests = self._sets(limits, names, name)
        if limits.defined_only:
            kind: Any = one.enum_type
            known = self._constant(frozenset(kind.values_by_number))
            tests.append(f"{name} not in {known}")
        if "const" in names:
            tests.append(f"{name} != {limits.const}")
        return _refuse(tests)

    def _string(self, limits: Any, names: set[str], name: str) -> list[str]:
        if not names <= {"len", "min_len", "max_len", "pattern", "in", "not_in", "const"}:
            raise _NoTranslation
        tests = [*_lengths(limits, names, name), *self._sets(limits, names, name)]
        if "pattern" in names:
            match = self._constant(_matcher(limits.pattern))
            tests.append(f"not {match}({name})")
        if "const" in names:
            tests.append(f"{name} != {limits.const!r}")
        return _refuse(tests)

    def _sets(self, limits: Any, names: set[str], name: str) -> list[str]:
        tests = []
        if "in" in names:
            tests.append(f"{name} not in {self._constant(frozenset(getattr(limits, 'in')))}")
        if "not_in" in names:
            tests.append(f"{name} in {self._constant(frozenset(limits.not_in))}")
        return tests

    def _constant(self, value: object) -> str:
        name = f"c{len(self._scope)}"
        self._scope[name] = value
        return name

    def _has_rules(self, message: Descriptor) -> bool:
        """Say whether a message type, or one inside it, has any rule."""
        known = self._relevant.get(message.full_name)
        if known is not None:
            return known
        self._relevant[message.full_name] = False  # a type inside itself adds nothing
        found = _message_rules(message) or any(map(_oneof_required, message.oneofs))
        for one in message.fields:
            found = found or bool(_field_rules(one, lenient=True).ByteSize())
            found = found or (one.message_type is not None and self._has_rules(one.message_type))
        self._relevant[message.full_name] = found
        return found


def _refuse(tests: list[str]) -> list[str]:
    return [f"if {' or '.join(tests)}: return False"] if tests else []


def _lengths(limits: Any, names: set[str], name: str) -> list[str]:
    comparisons = {"len": "!=", "min_len": "<", "max_len": ">"}
    return [
        f"len({name}) {sign} {getattr(limits, rule)}"
        for rule, sign in comparisons.items()
        if rule in names
    ]


def _matcher(pattern: str) -> Callable[[str], bool]:
    unbounded = len(_UNBOUNDED.findall(re.sub(r"\[[^\]]*\]", "", pattern)))
    if not _PLAIN_PATTERN.fullmatch(pattern) or unbounded > _MAX_UNBOUNDED:
        raise _NoTranslation
    match = re.compile(pattern[:-1] + r"\Z").match
    seen: set[str] = set()

    def matches(text: str) -> bool:
        if text in seen:
            return True
        found = len(text) <= _MAX_MATCHED_LENGTH and match(text) is not None
        if found and len(seen) < _MAX_REMEMBERED:
            seen.add(text)
        return found

    return matches


def _message_rules(message: Descriptor) -> bool:
    raw = message.GetOptions().SerializeToString()
    options = descriptor_pb2.MessageOptions.FromString(raw)
    return options.HasExtension(validate_pb2.message)


def _oneof_required(oneof: Any) -> bool:
    options = descriptor_pb2.OneofOptions.FromString(oneof.GetOptions().SerializeToString())
    return bool(options.Extensions[validate_pb2.oneof].required)


def _field_rules(one: FieldDescriptor, *, lenient: bool = False) -> Any:
    options = descriptor_pb2.FieldOptions.FromString(one.GetOptions().SerializeToString())
    rules = options.Extensions[validate_pb2.field]
    if not lenient and (rules.ignore or _has_unknown(rules) or _more_cel(rules)):
        raise _NoTranslation
    return rules


def _more_cel(rules: Any) -> bool:
    known = {"ignore", "required"} | {one.name for one in rules.DESCRIPTOR.oneofs[0].fields}
    return any(one.name not in known for one, _ in rules.ListFields())


def _has_unknown(message: Any) -> bool:
    return len(unknown_fields.UnknownFieldSet(message)) > 0
