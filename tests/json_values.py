"""JSON that nobody would write, for importers that must not fail on any."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["", "0", "-1", "400;230", "50kW", "24/7", "2020-01-01T00:00:00Z", "07:00"]),
)


def json_values() -> st.SearchStrategy[Any]:
    """Give scalars, lists and objects, nested a few levels."""
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=8,
    )
