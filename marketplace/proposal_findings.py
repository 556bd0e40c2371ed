"""What the formal check of a proposal found: by file, line and rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from foundation.errors import FieldViolation

#: Findings beyond this many are left out.
FINDINGS_MAX = 200
_TEXT_MAX = 300
_LINES_READ_MAX = 2_000
_PROTOC = re.compile(r"(?P<file>[^:]+):(?P<line>\d+):\d+: (?P<text>.*)")
_WARNING = "warning:"

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place."""

    #: Empty means the upload as a whole.
    file: str
    #: From 1 on; 0 where the upload does not say.
    line: int
    element: str
    rule: str
    description: str

    @property
    def place(self) -> str:
        """The place in one text, as `file:line:element` without what is not known."""
        parts = (self.file, str(self.line or ""), self.element)
        return ":".join(part for part in parts if part)


def from_violations(
    violations: Iterable[FieldViolation], lines: Mapping[str, Place]
) -> list[Finding]:
    """Give the catalogue's violations, whose field is `file:element`, with their lines."""
    found = []
    for violation in violations:
        file, _, element = violation.field.partition(":")
        _, line = lines.get(element, (file, 0)) if element else (file, 0)
        found.append(Finding(file, line, element, violation.rule, violation.description))
    return found


def from_protoc(output: str, names: Iterable[str]) -> list[Finding]:
    """Give the compiler's errors; its words quote the author's text to the author, and are cut."""
    known = set(names)
    found = []
    for text in output.splitlines()[:_LINES_READ_MAX]:
        match = _PROTOC.fullmatch(text)
        if match is None or match["file"] not in known or match["text"].startswith(_WARNING):
            continue
        line = min(int(match["line"][:9]), 2**31 - 1)
        found.append(Finding(match["file"], line, "", "protoc", _shown(match["text"])))
    if not found:
        found.append(Finding("", 0, "", "protoc", "the files do not compile"))
    return found[:FINDINGS_MAX]


def from_buf(output: str, names: Iterable[str]) -> list[Finding]:
    """Give the findings of `buf lint` or `buf breaking` in its JSON format."""
    known = set(names)
    found = []
    for text in output.splitlines()[:_LINES_READ_MAX]:
        try:
            said: Any = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if not isinstance(said, dict):
            continue
        file = str(said.get("path", ""))
        found.append(
            Finding(
                file=file if file in known else "",
                line=int(said.get("start_line", 0)) if file in known else 0,
                element="",
                rule=f"buf.{_shown(str(said.get('type', '')))[:60]}",
                description=_shown(str(said.get("message", ""))),
            )
        )
    return found[:FINDINGS_MAX]


def element_lines(descriptor_set: FileDescriptorSet) -> dict[str, Place]:
    """Give the file and line, from 1 on, of each element by its full name."""
    places: dict[str, Place] = {}
    for file in descriptor_set.file:
        lines = {
            tuple(location.path): location.span[0] + 1
            for location in file.source_code_info.location
            if location.span
        }
        for name, path in elements(file):
            places[name] = (file.name, lines.get(path, 0))
    return places


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give the full name and the path of each service, method, message, field, enum and value."""
    prefix = f"{file.package}." if file.package else ""
    path: tuple[int, ...]
    for place, service in enumerate(file.service):
        path = (FileDescriptorProto.SERVICE_FIELD_NUMBER, place)
        yield prefix + service.name, path
        for number, method in enumerate(service.method):
            yield f"{prefix}{service.name}.{method.name}", (*path, 2, number)
    yield from _enums(prefix, (FileDescriptorProto.ENUM_TYPE_FIELD_NUMBER,), file.enum_type)
    pending: list[tuple[str, tuple[int, ...], DescriptorProto]] = [
        (prefix + message.name, (FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, place), message)
        for place, message in enumerate(file.message_type)
    ]
    while pending:
        name, path, message = pending.pop()
        yield name, path
        for number, field in enumerate(message.field):
            yield f"{name}.{field.name}", (*path, 2, number)
        yield from _enums(f"{name}.", (*path, 4), message.enum_type)
        pending += [
            (f"{name}.{inner.name}", (*path, 3, number), inner)
            for number, inner in enumerate(message.nested_type)
        ]


def _enums(
    prefix: str, path: tuple[int, ...], enums: Iterable[EnumDescriptorProto]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for place, enum in enumerate(enums):
        yield prefix + enum.name, (*path, place)
        for number, value in enumerate(enum.value):
            yield f"{prefix}{enum.name}.{value.name}", (*path, place, 2, number)


def _shown(text: str) -> str:
    """Give printable ASCII only, cut: nothing looks like what it is not."""
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text)[:_TEXT_MAX]
