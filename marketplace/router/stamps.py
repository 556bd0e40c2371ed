"""Stamps: the strings of an answer that the router overwrites, found once per response type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gem.options.v1.options_pb2 import Stamp
from marketplace.router.catalogue_rules import types_below
from marketplace.router.options import stamp_of
from marketplace.router.paths import is_map

_Stamper = Callable[[Any, str, str], None]


def stamped_types(message: Descriptor) -> set[str]:
    """Give the names of the types, from a message downwards, in or below which a stamp is."""
    types = types_below(message)
    above: dict[str, set[str]] = {name: set() for name in types}
    pending: list[str] = []
    for name, each in types.items():
        for field in each.fields:
            if field.message_type is not None:
                above[field.message_type.full_name].add(name)
            if stamp_of(field):
                pending.append(name)
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += above[name]
    return found


def compile_stamper(message: Descriptor) -> _Stamper:
    """Give a function that writes provider id and contract id over every stamp in an answer."""
    return _Compiler(stamped_types(message)).stamper(message)


class _Compiler:
    """Compiles one function per message type; a type that contains itself calls itself."""

    def __init__(self, stamped: set[str]) -> None:
        self._stamped = stamped
        self._made: dict[str, _Stamper] = {}

    def stamper(self, message: Descriptor) -> _Stamper:
        name = message.full_name
        if name not in self._made:

            def later(target: Any, provider_id: str, contract_id: str) -> None:
                self._made[name](target, provider_id, contract_id)

            # Found while it is being made, where a type contains itself: looked up when it runs.
            self._made[name] = later
            self._made[name] = self._compile(message)
        return self._made[name]

    def _compile(self, message: Descriptor) -> _Stamper:
        write = _writer(
            _stamped(message, Stamp.STAMP_PROVIDER_ID), _stamped(message, Stamp.STAMP_CONTRACT_ID)
        )
        below = [
            (_elements(field), self._all_stamper(inside))
            for field in message.fields
            if (inside := _message_inside(field)) is not None and inside.full_name in self._stamped
        ]
        if not below:
            return write

        def stamp(target: Any, provider_id: str, contract_id: str) -> None:
            write(target, provider_id, contract_id)
            for elements, stamp_all in below:
                stamp_all(elements(target), provider_id, contract_id)

        return stamp

    def _all_stamper(self, message: Descriptor) -> _Stamper:
        """Give the function that stamps all of some messages of a type."""
        providers = _stamped(message, Stamp.STAMP_PROVIDER_ID)
        contracts = _stamped(message, Stamp.STAMP_CONTRACT_ID)
        inside = (_message_inside(field) for field in message.fields)
        is_leaf = not any(each is not None and each.full_name in self._stamped for each in inside)
        if is_leaf and len(providers) == len(contracts) == 1:
            (provider,), (contract,) = providers, contracts

            def stamp_both(elements: Any, provider_id: str, contract_id: str) -> None:
                # The common element; a call for each would cost as much as the writing.
                for element in elements:
                    setattr(element, provider, provider_id)
                    setattr(element, contract, contract_id)

            return stamp_both
        stamp = self.stamper(message)

        def stamp_all(elements: Any, provider_id: str, contract_id: str) -> None:
            for element in elements:
                stamp(element, provider_id, contract_id)

        return stamp_all


def _writer(providers: tuple[str, ...], contracts: tuple[str, ...]) -> _Stamper:
    def write(target: Any, provider_id: str, contract_id: str) -> None:
        for name in providers:
            setattr(target, name, provider_id)
        for name in contracts:
            setattr(target, name, contract_id)

    return write


def _elements(field: FieldDescriptor) -> Callable[[Any], Iterable[Any]]:
    """Give the function that lists the messages in a field."""
    name = field.name
    if is_map(field):
        return lambda target: getattr(target, name).values()
    if field.is_repeated:
        return attrgetter(name)
    return lambda target: (getattr(target, name),) if target.HasField(name) else ()


def _stamped(message: Descriptor, stamp: int) -> tuple[str, ...]:
    return tuple(field.name for field in message.fields if stamp_of(field) == stamp)


def _message_inside(field: FieldDescriptor) -> Descriptor | None:
    inside = field.message_type
    if inside is not None and is_map(field):
        return inside.fields_by_name["value"].message_type
    return inside
