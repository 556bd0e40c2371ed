"""Rules that an interface has to keep before it is published, apart from compiling its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from gem.mesh.v1.provider_answer_pb2 import ProviderAnswer
from gem.options.v1 import options_pb2
from gem.options.v1.options_pb2 import Stamp
from marketplace.router.findings import Findings
from marketplace.router.options import (
    field_rules,
    merge_of,
    message_rules,
    stamp_of,
    standard_interface_of,
)

TITLE_LENGTH_MAX = 200
#: A rule runs for every message of a call, in the marketplace's own process.
EXPRESSION_LENGTH_MAX = 1_000
EXPRESSIONS_PER_MESSAGE_MAX = 20
#: Rules of a whole set that take long to compile: CEL expressions and patterns.
COSTLY_RULES_MAX = 300
#: Message types that a request or response leads to.
TYPES_MAX = 200

ANSWER_TYPE = ProviderAnswer.DESCRIPTOR.full_name
_EXPRESSIONS = frozenset({"expression", "cel_expression"})
_PATTERNS = frozenset({"pattern"})
_LOOPS = re.compile(
    r"\.\s*(all|exists|exists_one|existsOne|map|filter|transformList|transformMap"
    r"|transformMapEntry|sortBy)\s*\("
)
_SEARCHES = re.compile(r"\bin\b|\bunique\b|\bcontains\b|\bmatches\b|\bjoin\b|\bsplit\b|\breplace\b")


def types_below(message: Descriptor) -> dict[str, Descriptor]:
    """Give a message type and all that its fields lead to, by full name."""
    found: dict[str, Descriptor] = {}
    pending = [message]
    while pending:
        each = pending.pop()
        if each.full_name not in found:
            found[each.full_name] = each
            pending += [field.message_type for field in each.fields if field.message_type]
    return found


def check_service(service: ServiceDescriptor, findings: Findings) -> None:
    """Check what a service says about itself."""
    said = standard_interface_of(service)
    assert said is not None, "only standard interfaces are checked"
    for text, rule in ((said.title, "service.title"), (said.category, "service.category")):
        if not 0 < len(text) <= TITLE_LENGTH_MAX:
            findings.about(service, rule, f"needs 1 to {TITLE_LENGTH_MAX} characters")
    known = set(options_pb2.PartnerRole.values()) - {0}
    if not known.issuperset((*said.implemented_by, *said.called_by)):
        findings.about(service, "service.roles", "names a role that does not exist")


class TypeCheck:
    """Checks the message types of a set, each once."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._seen: set[str] = set()
        self._costly = 0

    def are_bounded(self, *messages: Descriptor) -> bool:
        """Check types and all below them; say whether they are few enough to go on with."""
        for message in messages:
            types = types_below(message)
            if len(types) > TYPES_MAX:
                self._findings.about(
                    message, "types.count", f"a message leads to at most {TYPES_MAX} types"
                )
                return False
            for name in types.keys() - self._seen:
                self._seen.add(name)
                self._check(types[name])
        return True

    def _check(self, message: Descriptor) -> None:
        expressions = list(_texts(message_rules(message), _EXPRESSIONS))
        for field in message.fields:
            _check_stamp(field, self._findings)
            rules = field_rules(field)
            expressions += _texts(rules, _EXPRESSIONS)
            self._costly += len(list(_texts(rules, _PATTERNS)))
        self._costly += len(expressions)
        _check_expressions(message, expressions, self._findings)
        if self._costly > COSTLY_RULES_MAX:
            self._findings.add(
                "", "rules.total", f"a set has at most {COSTLY_RULES_MAX} patterns and CEL rules"
            )


def check_answer_type(
    response: Descriptor, allowed: FieldDescriptor | None, findings: Findings
) -> None:
    """Refuse provider answers anywhere but in the one field where the marketplace writes them."""
    for message in types_below(response).values():
        for field in message.fields:
            inside = field.message_type
            if inside is not None and inside.full_name == ANSWER_TYPE and field != allowed:
                findings.about(
                    field,
                    "response.provider_answers",
                    "provider answers belong at the top of the response of a ROUTE_ALL method only",
                )


def check_no_merge(response: Descriptor, findings: Findings) -> None:
    """Refuse merge options where no merge takes place, so that none is silently without effect."""
    for field in response.fields:
        if merge_of(field) is not None:
            findings.about(
                field, "merge.without_effect", "only unary ROUTE_ALL methods merge their answers"
            )


def _check_stamp(field: FieldDescriptor, findings: Findings) -> None:
    stamp = stamp_of(field)
    if not stamp:
        return
    if stamp not in Stamp.values():
        findings.about(field, "stamp.known", "this stamp does not exist")
    if field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
        findings.about(field, "stamp.string", "a stamp is written over a singular string only")
    if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
        findings.about(field, "stamp.oneof", "a stamp inside a oneof would displace the others")


def _texts(rules: Message, names: Set[str]) -> Iterator[str]:
    """Give every text in some fields of validation rules, however deep."""
    for field, value in rules.ListFields():
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message):
                yield from _texts(each, names)
            elif field.name in names:
                yield each


def _check_expressions(message: Descriptor, expressions: list[str], findings: Findings) -> None:
    """Bound what the rules of one message may cost: they run on a provider's or caller's data."""
    if len(expressions) > EXPRESSIONS_PER_MESSAGE_MAX:
        findings.about(
            message, "rules.count", f"a message has at most {EXPRESSIONS_PER_MESSAGE_MAX} CEL rules"
        )
    for expression in expressions:
        loops = len(_LOOPS.findall(expression))
        if len(expression) > EXPRESSION_LENGTH_MAX:
            findings.about(
                message,
                "rules.length",
                f"a CEL rule has at most {EXPRESSION_LENGTH_MAX} characters",
            )
        elif loops > 1 or (loops and _SEARCHES.search(expression)):
            findings.about(
                message, "rules.cost", "a CEL rule runs through one list at most, and but once"
            )
