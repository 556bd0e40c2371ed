"""Reads JSON of unknown quality: whatever is wrong becomes a defect, never an exception."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from mobility.import_report import ImportReport, Place

#: A file with more than this is refused before it is parsed.
LARGEST_FILE_BYTES = 1_073_741_824
#: Elements of one list that are looked at.
MOST_ELEMENTS = 5_000_000
#: Numbers of a greater magnitude, or with more decimal places, are no quantity of ours.
_LARGEST_EXPONENT = 18
_ASSIGNMENT = re.compile(r"\s*(?:(?:var|let|const)\s+)?[A-Za-z_$][\w$.]{0,99}\s*=\s*")


def read_json(text: bytes | str, report: ImportReport, at: Place) -> Any:
    """Parse a file, also one that assigns its JSON to a JavaScript variable.

    Gives None, and notes why, when it is no JSON. Numbers with a fraction become Decimal.
    """
    try:
        decoded = (
            text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
        )
    except UnicodeDecodeError:
        report.skip(at, "file.encoding", "the file is not UTF-8")
        return None
    if len(decoded) > LARGEST_FILE_BYTES:
        report.skip(at, "file.size", "the file is larger than 1 GiB")
        return None
    assignment = _ASSIGNMENT.match(decoded)
    if assignment is not None:
        decoded = decoded[assignment.end() :].rstrip().removesuffix(";")
    try:
        return json.loads(decoded, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, ArithmeticError):
        report.skip(at, "file.json", "the file is not JSON")
        return None


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


class Node:
    """A JSON object with its place; reading a member of the wrong type notes a defect.

    A member that is absent or null reads as None without a defect unless it is required.
    """

    def __init__(self, value: dict[str, Any], at: Place, report: ImportReport) -> None:
        self.value = value
        self.at = at
        self.report = report

    def text(self, key: str, longest: int, required: bool = False) -> str | None:
        """Give a text without blanks around it, None for an empty one; too long a one is cut."""
        value = self.value.get(key)
        if value is None:
            if required:
                self.wrong(key, "missing", "the member is missing")
            return None
        if not isinstance(value, str):
            self.wrong(key, "type", "the member is not a string")
            return None
        value = "".join(letter for letter in value if letter.isprintable()).strip()
        if len(value) > longest:
            self.wrong(key, "length", f"longer than {longest} characters; cut")
            value = value[:longest].rstrip()
        return value or None

    def number(self, key: str, least: int, most: int) -> Decimal | None:
        """Give a number between bounds, also from a string of digits, which is noted."""
        value = self.value.get(key)
        if value is None:
            return None
        number = number_of(value)
        if number is None:
            self.wrong(key, "type", "the member is not a number")
            return None
        if isinstance(value, str):
            self.wrong(key, "type", "the number is written as a string")
        if not least <= number <= most:
            self.wrong(key, "range", f"the number is not between {least} and {most}")
            return None
        return number

    def integer(self, key: str, least: int, most: int) -> int | None:
        """Give a whole number between bounds; a fraction is cut off."""
        number = self.number(key, least, most)
        return None if number is None else int(number)

    def flag(self, key: str) -> bool | None:
        """Give a boolean."""
        value = self.value.get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, "type", "the member is not a boolean")
            return None
        return value

    def node(self, key: str) -> Node | None:
        """Give an object."""
        value = self.value.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, "type", "the member is not an object")
            return None
        return Node(value, self.at / key, self.report)

    def nodes(self, key: str, most: int = MOST_ELEMENTS) -> Iterator[Node]:
        """Give the objects of a list; elements of other types are noted."""
        for position, element in enumerate(self._list(key, most)):
            place = self.at / key / position
            if isinstance(element, dict):
                yield Node(element, place, self.report)
            else:
                self.report.keep(place, f"{key}.type", "the element is not an object; left out")

    def texts(self, key: str, most: int = 1000) -> Iterator[str]:
        """Give the strings of a list; elements of other types are noted."""
        for position, element in enumerate(self._list(key, most)):
            if isinstance(element, str):
                yield element
            else:
                place = self.at / key / position
                self.report.keep(place, f"{key}.type", "the element is not a string; left out")

    def wrong(self, key: str, kind: str, message: str) -> None:
        """Note a defect of a member in spite of which the object is kept."""
        self.report.keep(self.at / key, f"{key}.{kind}", message)

    def _list(self, key: str, most: int) -> list[Any]:
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(key, "type", "the member is not a list")
            return []
        if len(value) > most:
            self.wrong(key, "length", f"more than {most} elements; the rest is left out")
        return value[:most]


def number_of(value: Any) -> Decimal | None:
    """Give a number, or a string that is one, exactly; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value.strip()):
        return Decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    if isinstance(value, int):
        return Decimal(value) if abs(value) < 10**_LARGEST_EXPONENT else None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or abs(value.adjusted()) > _LARGEST_EXPONENT:
        return None
    return value if exponent >= -2 * _LARGEST_EXPONENT else None
