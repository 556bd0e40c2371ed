"""Files of OCPI objects: one object, a list, or a response that wraps either; and their times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.import_report import DefectReport, Place
from foundation.json_reader import Node, number_of, read_json

#: Status codes of OCPI responses below this are successes.
_FIRST_FAILURE = 2000
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|\+00:00)?"
)


def ocpi_objects(data: bytes | str, file_name: str, report: DefectReport) -> Iterator[Node]:
    """Give the objects of a file in any of its forms; whatever else it holds is noted."""
    whole = Place(file_name)
    root = read_json(data, report, whole)
    if isinstance(root, dict) and ("data" in root or "status_code" in root):
        status = number_of(root.get("status_code"))
        if status is None or status >= _FIRST_FAILURE:
            report.keep(whole / "status_code", "response.status", "not a successful response")
        root, whole = root.get("data"), whole / "data"
    if isinstance(root, dict):
        yield Node(root, whole, report)
    elif isinstance(root, list):
        for position, element in enumerate(root):
            if isinstance(element, dict):
                yield Node(element, whole / position, report)
            else:
                report.skip(whole / position, "object.type", "the element is not an object")
    elif root is not None:
        report.skip(whole, "file.form", "the file holds no object and no list")


def timestamp_of(node: Node, key: str) -> Timestamp | None:
    """Give an OCPI DateTime, which is in UTC with or without saying so; None, noted, if none."""
    text = node.text(key, 40)
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    if match is not None:
        try:
            time = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
        except ValueError:
            time = None
        if time is not None and 1970 <= time.year < 9999:
            nanos = int((match[2] or "").ljust(9, "0"))
            return Timestamp(seconds=int(time.timestamp()), nanos=nanos)
    node.wrong(key, "value", "not a time of RFC 3339 in UTC; left out")
    return None


def minute_of(text: str) -> int | None:
    """Give the minute of the day of a clock time `HH:MM`, up to 24:00; None when it is none."""
    match = re.fullmatch(r"([0-9]{2}):([0-9]{2})", text)
    if match is None or int(match[2]) > 59:
        return None
    minute = int(match[1]) * 60 + int(match[2])
    return minute if minute <= 1440 else None
