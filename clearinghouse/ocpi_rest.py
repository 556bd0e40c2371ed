"""What of an OCPI object the market has no field for, as a JSON Patch (RFC 6902).

Reading an object, writing it again and laying the rest over it gives the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One operation: `add`, `replace` or `remove` at a JSON pointer."""

    operation: str
    pointer: str
    value: Any = None

    def as_json(self) -> dict[str, Any]:
        """Give the operation as RFC 6902 has it."""
        given = {"op": self.operation, "path": self.pointer}
        return given if self.operation == "remove" else {**given, "value": self.value}

    @classmethod
    def of_json(cls, source: Mapping[str, Any]) -> Change:
        """Read an operation; raises ValueError where it is none of the three."""
        operation, pointer = source.get("op"), source.get("path")
        if operation not in {"add", "replace", "remove"} or not isinstance(pointer, str):
            raise ValueError("an operation adds, replaces or removes at a JSON pointer")
        return cls(operation, pointer, source.get("value"))


def difference(ours: Any, original: Any, pointer: str = "") -> Iterator[Change]:
    """Give what turns `ours` into `original`; numbers are equal by value, `1` is not `true`."""
    if isinstance(ours, dict) and isinstance(original, dict):
        for key in ours.keys() - original.keys():
            yield Change("remove", _inner(pointer, key))
        for key, value in original.items():
            if key in ours:
                yield from difference(ours[key], value, _inner(pointer, key))
            else:
                yield Change("add", _inner(pointer, key), value)
    elif isinstance(ours, list) and isinstance(original, list) and len(ours) == len(original):
        for number, (one, other) in enumerate(zip(ours, original, strict=True)):
            yield from difference(one, other, _inner(pointer, str(number)))
    elif _kind(ours) != _kind(original) or ours != original:
        yield Change("replace", pointer, original)


def lay_over(ours: Any, changes: Iterable[Change]) -> Any:
    """Give the object with the changes made; one whose place is no longer there is left out."""
    made = deepcopy(ours)
    for change in changes:
        if change.pointer == "":
            made = deepcopy(change.value)
            continue
        *path, last = (_plain(part) for part in change.pointer.split("/")[1:])
        place = made
        for part in path:
            place = _step(place, part)
        if isinstance(place, dict):
            if change.operation == "remove":
                place.pop(last, None)
            else:
                place[last] = deepcopy(change.value)
        elif isinstance(place, list) and last.isdecimal() and int(last) < len(place):
            place[int(last)] = deepcopy(change.value)
    return made


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str | list | dict):
        return type(value).__name__
    return "number"


def _inner(pointer: str, key: str) -> str:
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def _plain(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def _step(place: Any, part: str) -> Any:
    if isinstance(place, dict):
        return place.get(part)
    if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
        return place[int(part)]
    return None
