"""Hypothesis strategies for the values of the field: one file for all tests."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from foundation.check_character import iso_check_character

_UPPER_AND_DIGITS = string.ascii_uppercase + string.digits
_LOWER_AND_DIGITS = string.ascii_lowercase + string.digits
_LABEL_CHARACTERS = _LOWER_AND_DIGITS + "-"


def _of(alphabet: str, shortest: int, longest: int | None = None) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=shortest, max_size=longest or shortest)


def partner_ids() -> st.SearchStrategy[str]:
    """Give partner ids: DNS labels of 1 to 40 characters."""
    ends = _of(_LOWER_AND_DIGITS, 1)
    longer = st.tuples(ends, _of(_LABEL_CHARACTERS, 0, 38), ends).map("".join)
    return st.one_of(ends, longer)


def countries() -> st.SearchStrategy[str]:
    """Give two capital letters."""
    return _of(string.ascii_uppercase, 2)


def owner_keys() -> st.SearchStrategy[str]:
    """Give operator and provider ids without separators: `DEABC`."""
    return st.tuples(countries(), _of(_UPPER_AND_DIGITS, 3)).map("".join)


@st.composite
def evse_ids(draw: st.DrawFn) -> str:
    """Give EVSE ids in the strict spelling: `DE*ABC*E1234*5678`."""
    owner = draw(owner_keys())
    groups = draw(st.lists(_of(_UPPER_AND_DIGITS, 1, 6), min_size=1, max_size=4))
    return f"{owner[:2]}*{owner[2:]}*E{'*'.join(groups)}"


@st.composite
def contract_ids(draw: st.DrawFn) -> str:
    """Give contract ids in eMI3's strict spelling, with the right check character."""
    owner = draw(owner_keys())
    instance = "C" + draw(_of(_UPPER_AND_DIGITS, 8))
    return f"{owner[:2]}-{owner[2:]}-{instance}-{iso_check_character(owner + instance)}"


@st.composite
def spelled(draw: st.DrawFn, identifiers: st.SearchStrategy[str], separator: str) -> str:
    """Give another spelling of an identifier: with or without separators, in any case."""
    text = draw(identifiers)
    if draw(st.booleans()):
        text = text.replace(separator, "")
    return draw(st.sampled_from([str.upper, str.lower, str.title]))(text)


def amounts_micros(largest: int = 10**12) -> st.SearchStrategy[int]:
    """Give amounts of money in micros, of both signs."""
    return st.integers(-largest, largest)
