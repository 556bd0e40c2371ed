"""Exact numbers: integers wherever they can be, for a `Fraction` takes fifty times as long."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

Exact: TypeAlias = int | Fraction


def ratio(numerator: Exact, denominator: Exact) -> Exact:
    """Divide exactly; where it comes out even the result is an integer."""
    quotient, rest = divmod(numerator, denominator)
    return Fraction(numerator, denominator) if rest else quotient
