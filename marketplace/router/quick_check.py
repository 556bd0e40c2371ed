"""Shows quickly that one message keeps its interface's rules; what it cannot show is no refusal.

protovalidate spends ten microseconds on a request, and four times that in a busy worker, where its
code is never in the caches. Here only what a message has set is looked at: each value by the check
of its field (see `value_rules`), and whether all is there that has to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from protovalidate import CompilationError, EvaluationError, Validator

from marketplace.router.columns import stands_alone
from marketplace.router.options import message_rules, oneof_is_required
from marketplace.router.paths import is_map
from marketplace.router.value_rules import (
    broken_when_empty,
    compile_values,
    list_bounds,
)

#: Says whether a message surely keeps all rules.
KeepsRules = Callable[[Any], bool]


def in_doubt(_value: Any) -> bool:
    """Be the check of what has rules of another kind."""
    return False


@dataclass(slots=True)
class _TypeCheck:
    """Checks messages of one type; filled in after it is made, for types may contain themselves."""

    #: Checks of the fields that are set, by name; a field without rules has none.
    fields: Mapping[str, KeepsRules] = field(default_factory=dict)
    #: Fields whose absence breaks a rule.
    needed: frozenset[str] = frozenset()
    #: Each gives the member of a oneof that has to have one.
    oneofs: tuple[Callable[[Any], Any], ...] = ()

    def __call__(self, message: Any) -> bool:
        known, needed = self.fields, self.needed
        found = 0
        for described, value in message.ListFields():
            name = described.name
            check = known.get(name)
            if check is not None and not check(value):
                return False
            found += name in needed
        return found == len(needed) and all(one(message) for one in self.oneofs)


class QuickChecks:
    """Compiles the quick checks of one interface: each type once, however many methods take it."""

    def __init__(self, validator: Validator) -> None:
        self._validator = validator
        self._made: dict[str, KeepsRules] = {}
        #: Those that wait to be filled in: types may lie deeper in each other than calls can.
        self._empty: list[tuple[_TypeCheck, Descriptor]] = []

    def compiled(self, message: Descriptor) -> KeepsRules:
        """Give the quick check of a type whose rules are known to run."""
        check = self._type(message)
        while self._empty:
            self._fill(*self._empty.pop())

        def keeps_rules(checked: Any) -> bool:
            try:
                return check(checked)
            except (CompilationError, EvaluationError):
                return False

        return keeps_rules

    def _type(self, message: Descriptor) -> KeepsRules:
        name = message.full_name
        if name not in self._made:
            if message_rules(message).ListFields():
                self._made[name] = in_doubt
            else:
                self._made[name] = check = _TypeCheck()
                self._empty.append((check, message))
        return self._made[name]

    def _fill(self, check: _TypeCheck, message: Descriptor) -> None:
        made = ((each.name, self._field(each)) for each in message.fields)
        check.fields = {name: found for name, found in made if found is not None}
        broken = broken_when_empty(message, self._validator)
        check.needed = frozenset(each.name for each in message.fields if each.name in broken)
        oneofs = [oneof.name for oneof in message.oneofs if oneof_is_required(oneof)]
        check.oneofs = tuple(methodcaller("WhichOneof", name) for name in oneofs)

    def _field(self, each: FieldDescriptor) -> KeepsRules | None:
        """Give the check of a field that is set; None where it has no rule at all."""
        if is_map(each) or not stands_alone(each):
            return in_doubt
        if each.message_type is not None:
            below = self._type(each.message_type)
            return (
                _list(each, lambda values: all(map(below, values))) if each.is_repeated else below
            )
        holds = compile_values(each, self._validator)
        if each.is_repeated:
            return _list(each, holds)
        return None if holds is None else lambda value: holds((value,))


def _list(each: FieldDescriptor, holds: KeepsRules | None) -> KeepsRules | None:
    bounds = list_bounds(each)
    if bounds is None:
        return holds
    low, high = bounds

    def check(values: Any) -> bool:
        return low <= len(values) <= high and (holds is None or holds(values))

    return check
