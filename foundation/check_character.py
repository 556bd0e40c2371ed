"""Check characters of contract ids: eMI3's for ISO 15118, and the older one of DIN SPEC 91286."""

from __future__ import annotations

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Pair = tuple[int, int]
Matrix = tuple[Pair, Pair]

#: The two matrices whose powers weigh the positions, the first modulo 2, the second modulo 3.
_FIRST: Matrix = ((0, 1), (1, 1))
_SECOND: Matrix = ((0, 1), (1, 2))


def iso_check_character(identifier: str) -> str:
    """Give the check character of 14 characters, upper case, without separators.

    Every character is a pair modulo 2 and a pair modulo 3. Each pair is multiplied by its matrix to
    the power of its place; the check character is the one whose own part, at place 15, makes both
    sums zero. It shows every single wrong character and every swap of neighbours.
    """
    assert len(identifier) == 14, "country, provider and instance"
    first, second = _weighted_sums(identifier, 1)
    for candidate in _ALPHABET:
        own_first, own_second = _weighted_sums(candidate, 15)
        if _sum(first, own_first, 2) == (0, 0) and _sum(second, own_second, 3) == (0, 0):
            return candidate
    raise AssertionError("the matrices can be inverted, so that one character fits")


def din_check_character(identifier: str) -> str:
    """Give the check character of 11 characters: digits weighed by powers of 2, modulo 11, 10 is X.

    A letter counts as two digits, A as 1 and 0, Z as 3 and 5, each with a weight of its own.
    """
    assert len(identifier) == 11, "country, provider and instance"
    digits = "".join(str(_ALPHABET.index(character)) for character in identifier)
    remainder = sum(int(digit) << place for place, digit in enumerate(digits)) % 11
    return "X" if remainder == 10 else str(remainder)


def _weighted_sums(characters: str, place: int) -> tuple[Pair, Pair]:
    """Sum the pairs of the characters, the first of which stands at `place`."""
    first: Pair = (0, 0)
    second: Pair = (0, 0)
    for offset, character in enumerate(characters):
        value = _ALPHABET.index(character)
        exponent = place + offset
        first = _sum(first, _times((value // 18, value // 9 % 2), _FIRST, exponent, 2), 2)
        second = _sum(second, _times((value // 3 % 3, value % 3), _SECOND, exponent, 3), 3)
    return first, second


def _times(pair: Pair, matrix: Matrix, exponent: int, modulus: int) -> Pair:
    (a, b), (c, d) = matrix
    for _ in range(exponent):
        pair = ((pair[0] * a + pair[1] * c) % modulus, (pair[0] * b + pair[1] * d) % modulus)
    return pair


def _sum(left: Pair, right: Pair, modulus: int) -> Pair:
    return (left[0] + right[0]) % modulus, (left[1] + right[1]) % modulus
