"""Stamps: the strings of an answer that the router overwrites, found once per response type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gem.options.v1.options_pb2 import Stamp
from marketplace.router.options import stamp_of
from marketplace.router.paths import is_map

_Stamper = Callable[[Any, str, str], None]


def has_stamps(message: Descriptor) -> bool:
    """Whether a message type, or one inside it, has a stamped string."""
    return _reaches_stamp(message, set())


def _reaches_stamp(message: Descriptor, seen: set[str]) -> bool:
    if message.full_name in seen:
        return False
    seen.add(message.full_name)
    return any(
        stamp_of(field) or (field.message_type and _reaches_stamp(field.message_type, seen))
        for field in message.fields
    )


def compile_stamper(message: Descriptor) -> _Stamper:
    """Give a function that writes provider id and contract id over every stamp in an answer."""
    return _Compiler().stamper(message)


class _Compiler:
    """Compiles one function per message type; a type that contains itself calls itself."""

    def __init__(self) -> None:
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
            (_elements(field), self.stamper(inside))
            for field in message.fields
            if (inside := _message_inside(field)) is not None and has_stamps(inside)
        ]
        if not below:
            return write

        def stamp(target: Any, provider_id: str, contract_id: str) -> None:
            write(target, provider_id, contract_id)
            for elements, stamp_element in below:
                for element in elements(target):
                    stamp_element(element, provider_id, contract_id)

        return stamp


def _writer(providers: tuple[str, ...], contracts: tuple[str, ...]) -> _Stamper:
    if len(providers) == len(contracts) == 1:
        # The common element; this runs once for each result.
        (provider,), (contract,) = providers, contracts

        def write_both(target: Any, provider_id: str, contract_id: str) -> None:
            setattr(target, provider, provider_id)
            setattr(target, contract, contract_id)

        return write_both

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
