"""Texts that match a pattern: enough of RE2's syntax for the patterns of a catalogue.

What is not understood, such as a class of Unicode letters, gives no text; the caller then says that
it found none. Whether a text really matches is for protovalidate to say.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

#: Longest text and pattern; a pattern may ask for a thousand times a thousand letters.
TEXT_LENGTH_MAX = 10_000
PATTERN_LENGTH_MAX = 2_000
_NESTING_MAX = 20
#: Letters beyond the fewest that a repetition asks for.
_MORE_MAX = 3
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_CLASSES = {
    "d": "0123456789",
    "w": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
    "s": " ",
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
#: Tried first in a class that excludes: people's letters rather than signs.
_PREFERRED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

#: Makes one text for a part of the pattern.
_Part = Callable[[Random], str]


class _NotUnderstoodError(Exception):
    """The pattern uses more of the syntax than is known here."""


def text_for(pattern: str, random: Random, *, shortest: bool = False) -> str | None:
    """Give a text for a pattern; None where the pattern is not understood or asks for too much."""
    if len(pattern) > PATTERN_LENGTH_MAX:
        return None
    try:
        return _limited(_Reader(pattern, shortest=shortest).read()(random))
    except _NotUnderstoodError:
        return None


def _limited(text: str) -> str:
    if len(text) > TEXT_LENGTH_MAX:
        raise _NotUnderstoodError
    return text


class _Reader:
    """Reads a pattern once, from left to right."""

    def __init__(self, pattern: str, *, shortest: bool) -> None:
        self._rest = pattern
        self._shortest = shortest
        self._depth = 0

    def read(self) -> _Part:
        part = self._choice()
        if self._rest:
            raise _NotUnderstoodError
        return part

    def _choice(self) -> _Part:
        self._depth += 1
        if self._depth > _NESTING_MAX:
            raise _NotUnderstoodError
        choices = [self._sequence()]
        while self._take("|"):
            choices.append(self._sequence())
        self._depth -= 1
        return lambda random: random.choice(choices)(random)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self._rest and self._rest[0] not in "|)":
            parts.append(self._repeated(self._one()))
        return lambda random: _limited("".join(part(random) for part in parts))

    def _one(self) -> _Part:
        sign = self._next()
        if sign in "^$":
            return lambda _: ""
        if sign == "(":
            return self._group()
        if sign in "[.\\":
            letters = self._letters(sign)
            return lambda random: random.choice(letters)
        if sign in "*+?{":
            raise _NotUnderstoodError
        return lambda _: sign

    def _letters(self, sign: str) -> str:
        if sign == "[":
            return self._class()
        return _PREFERRED if sign == "." else self._escaped()

    def _group(self) -> _Part:
        if self._take("?") and not self._take(":"):
            raise _NotUnderstoodError
        part = self._choice()
        if not self._take(")"):
            raise _NotUnderstoodError
        return part

    def _repeated(self, part: _Part) -> _Part:
        least, most = self._count()
        if (least, most) == (1, 1):
            return part
        if self._take("?"):
            pass  # Lazy or not, the texts are the same.
        upper = least if self._shortest else min(most, least + _MORE_MAX)
        if least > TEXT_LENGTH_MAX or least > most:
            raise _NotUnderstoodError

        def repeat(random: Random) -> str:
            text = ""
            for _ in range(random.randint(least, upper)):
                text = _limited(text + part(random))
            return text

        return repeat

    def _count(self) -> tuple[int, int]:
        for sign, bounds in (("*", (0, 2**31)), ("+", (1, 2**31)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._take("{"):
            return 1, 1
        inside, closed, self._rest = self._rest.partition("}")
        least, comma, most = inside.partition(",")
        if not closed or not least.isdecimal() or (most and not most.isdecimal()):
            raise _NotUnderstoodError
        return int(least[:9]), int(most[:9]) if most else 2**31 if comma else int(least[:9])

    def _escaped(self) -> str:
        sign = self._next()
        if sign in _CLASSES:
            return _CLASSES[sign]
        if sign == "x":
            return self._code()
        if sign in _CONTROLS:
            return _CONTROLS[sign]
        if sign.isalnum():
            raise _NotUnderstoodError
        return sign

    def _code(self) -> str:
        if self._take("{"):
            digits, _, self._rest = self._rest.partition("}")
        else:
            digits, self._rest = self._rest[:2], self._rest[2:]
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):
            raise _NotUnderstoodError from None

    def _class(self) -> str:
        excludes = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]") or not ranges:
            ranges += self._members()
        if not excludes:
            letters = "".join(
                chr(code) for low, high in ranges for code in range(low, min(high, low + 256) + 1)
            )
        else:
            letters = "".join(
                sign
                for sign in _PREFERRED + _PRINTABLE
                if not any(low <= ord(sign) <= high for low, high in ranges)
            )
        if not letters:
            raise _NotUnderstoodError
        return letters

    def _members(self) -> list[tuple[int, int]]:
        first = self._member()
        if len(first) == 1 and self._rest[:1] == "-" and self._rest[1:2] not in ("]", ""):
            self._next()
            last = self._member()
            if len(last) != 1 or last < first:
                raise _NotUnderstoodError
            return [(ord(first), ord(last))]
        return [(ord(sign), ord(sign)) for sign in first]

    def _member(self) -> str:
        sign = self._next()
        if sign == "[" and self._rest[:1] == ":":
            raise _NotUnderstoodError
        return self._escaped() if sign == "\\" else sign

    def _take(self, sign: str) -> bool:
        if not self._rest.startswith(sign):
            return False
        self._rest = self._rest[1:]
        return True

    def _next(self) -> str:
        if not self._rest:
            raise _NotUnderstoodError
        sign, self._rest = self._rest[0], self._rest[1:]
        return sign
