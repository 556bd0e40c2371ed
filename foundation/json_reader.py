"""Reads JSON of unknown quality: whatever is wrong becomes a defect, never an exception."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NoReturn

from foundation.import_report import DefectReport, Place

#: A file with more than this is refused before it is parsed.
LARGEST_FILE_BYTES = 1_073_741_824
#: Elements of one list that are looked at.
MOST_ELEMENTS = 5_000_000
#: Numbers of a greater magnitude, or with more decimal places, are no quantity of ours.
_LARGEST_EXPONENT = 18
_ASSIGNMENT = re.compile(r"\s*(?:(?:var|let|const)\s+)?[A-Za-z_$][\w$.]{0,99}\s*=\s*")


def read_json(text: bytes | str, report: DefectReport, at: Place) -> Any:
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

    A member that is absent or null reads as None without a defect unless it is required. What was
    never asked for is told by `unread`.
    """

    def __init__(self, value: dict[str, Any], at: Place, report: DefectReport) -> None:
        self.value = value
        self.at = at
        self.report = report
        self._seen: set[str] = set()
        self._children: list[Node] = []

    def get(self, key: str) -> Any:
        """Give a member as it stands; None where it is absent."""
        self._seen.add(key)
        return self.value.get(key)

    def text(self, key: str, longest: int, required: bool = False) -> str | None:
        """Give a text without blanks around it, None for an empty one; too long a one is cut."""
        value = self.get(key)
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
        value = self.get(key)
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

    def scaled(self, key: str, factor: int, most: int) -> int | None:
        """Give a number times a factor as an integer, exactly; from minus to plus `most`.

        A number that is written as a string, or is finer than the factor, is noted and none.
        """
        return self._integer(key, factor, most, exact=True)

    def rounded(self, key: str, factor: int, most: int, *, tell: bool = True) -> int | None:
        """Give a number times a factor, rounded half up, which is noted unless `tell` is False."""
        return self._integer(key, factor, most, exact=False, tell=tell)

    def _integer(
        self, key: str, factor: int, most: int, *, exact: bool, tell: bool = True
    ) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        number = None if isinstance(value, str) else number_of(value)
        if number is None:
            self.wrong(key, "type", "the member is not a number, or not one of a possible size")
            return None
        if abs(number) > most:
            self.wrong(key, "range", "the number is beyond what is possible")
            return None
        scaled = number * factor
        whole = int(scaled.to_integral_value(ROUND_HALF_UP))
        if scaled != whole and (exact or tell):
            self.wrong(key, "precision", "the number has more decimals than are kept")
        return None if exact and scaled != whole else whole

    def flag(self, key: str) -> bool | None:
        """Give a boolean."""
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, "type", "the member is not a boolean")
            return None
        return value

    def node(self, key: str) -> Node | None:
        """Give an object."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, "type", "the member is not an object")
            return None
        return self._child(value, self.at / key)

    def nodes(self, key: str, most: int = MOST_ELEMENTS) -> Iterator[Node]:
        """Give the objects of a list; elements of other types are noted."""
        for position, element in enumerate(self._list(key, most)):
            place = self.at / key / position
            if isinstance(element, dict):
                yield self._child(element, place)
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

    def unread(self) -> Iterator[Place]:
        """Give the places of members, here and further in, that nobody asked for."""
        for key in self.value:
            if key not in self._seen:
                yield self.at / key
        for child in self._children:
            yield from child.unread()

    def _child(self, value: dict[str, Any], at: Place) -> Node:
        child = Node(value, at, self.report)
        self._children.append(child)
        return child

    def _list(self, key: str, most: int) -> list[Any]:
        value = self.get(key)
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
