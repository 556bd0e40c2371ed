"""Stamps: the strings of an answer that the router overwrites, found once per response type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gem.options.v1.options_pb2 import Stamp
from google.protobuf.descriptor import Descriptor, FieldDescriptor

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
            # Found again while being made: looked up when it runs.
            self._made[name] = lambda *arguments: self._made[name](*arguments)
            self._made[name] = self._compile(message)
        return self._made[name]

    def _compile(self, message: Descriptor) -> _Stamper:
        providers = _stamped(message, Stamp.STAMP_PROVIDER_ID)
        contracts = _stamped(message, Stamp.STAMP_CONTRACT_ID)
        lists: list[tuple[str, _Stamper]] = []
        singles: list[tuple[str, _Stamper]] = []
        maps: list[tuple[str, _Stamper]] = []
        for field in message.fields:
            inside = _message_inside(field)
            if inside is not None and has_stamps(inside):
                chosen = maps if is_map(field) else lists if field.is_repeated else singles
                chosen.append((field.name, self.stamper(inside)))

        def stamp(target: Any, provider_id: str, contract_id: str) -> None:
            for name in providers:
                setattr(target, name, provider_id)
            for name in contracts:
                setattr(target, name, contract_id)
            for name, below in lists:
                for element in getattr(target, name):
                    below(element, provider_id, contract_id)
            for name, below in singles:
                if target.HasField(name):
                    below(getattr(target, name), provider_id, contract_id)
            for name, below in maps:
                for value in getattr(target, name).values():
                    below(value, provider_id, contract_id)

        if lists or singles or maps or len(providers) > 1 or len(contracts) > 1:
            return stamp
        return _leaf(providers, contracts)


def _leaf(providers: tuple[str, ...], contracts: tuple[str, ...]) -> _Stamper:
    """The common element, with at most one stamp of each kind: it runs once per result."""
    if providers and contracts:
        (first,), (second,) = providers, contracts

        def stamp_both(target: Any, provider_id: str, contract_id: str) -> None:
            setattr(target, first, provider_id)
            setattr(target, second, contract_id)

        return stamp_both

    def stamp_leaf(target: Any, provider_id: str, contract_id: str) -> None:
        for name in providers:
            setattr(target, name, provider_id)
        for name in contracts:
            setattr(target, name, contract_id)

    return stamp_leaf


def _stamped(message: Descriptor, stamp: int) -> tuple[str, ...]:
    return tuple(field.name for field in message.fields if stamp_of(field) == stamp)


def _message_inside(field: FieldDescriptor) -> Descriptor | None:
    if is_map(field):
        entry: Descriptor = field.message_type
        return entry.fields_by_name["value"].message_type
    return field.message_type
