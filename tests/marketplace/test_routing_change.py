"""The text of a notification, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.routing_change import (
    PAYLOAD_MAX_BYTES,
    RoutingChange,
    parse_notification,
    united,
)

_NAMES = st.text(max_size=20)
_CHANGES = st.builds(
    RoutingChange,
    routes=st.frozensets(st.tuples(_NAMES, _NAMES), max_size=5),
    services=st.frozensets(_NAMES, max_size=5),
    certificates=st.frozensets(st.binary(min_size=32, max_size=32), max_size=5),
    partners=st.frozensets(_NAMES, max_size=5),
    owners=st.frozensets(st.tuples(st.integers(0, 9), _NAMES), max_size=5),
    interfaces=st.frozensets(_NAMES, max_size=5),
    everything=st.booleans(),
)


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "7",
        "7 ",
        "7 nonsense",
        "7 []",
        "7 null",
        '7 {"routes": 3}',
        '7 {"routes": [["a"]]}',
        '7 {"certificates": ["xyz"]}',
        '7 {"from a newer worker": 1}',
        "-1 {}",
        "nonsense",
    ],
)
def test_a_notification_that_makes_no_sense_means_everything(payload: str) -> None:
    _, change = parse_notification(payload)
    assert change.everything


@given(st.integers(1, 2**63 - 1), _CHANGES)
def test_a_notification_says_what_was_announced(version: int, change: RoutingChange) -> None:
    assert parse_notification(f"{version} {change.encode()}") == (version, change)


def test_a_change_that_is_too_large_for_a_notification_means_everything() -> None:
    change = RoutingChange(interfaces=frozenset(f"{'ä' * 200}{number}" for number in range(100)))
    assert len(change.encode().encode()) < PAYLOAD_MAX_BYTES
    assert RoutingChange.decode(change.encode()).everything


@given(st.lists(_CHANGES, max_size=5))
def test_changes_unite_to_all_that_any_of_them_says(changes: list[RoutingChange]) -> None:
    whole = united(changes)
    assert whole == united(reversed(changes))
    for change in changes:
        assert change.routes <= whole.routes
        assert change.owners <= whole.owners
        assert change.certificates <= whole.certificates
        assert change.everything <= whole.everything
