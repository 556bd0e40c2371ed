"""What has no field is kept as changes: laid over again they give the object as it was."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.ocpi_rest import Change, difference, lay_over
from tests.json_values import json_values


def same(one: Any, other: Any) -> bool:
    """Compare as JSON does: `true` is no number."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize(
    ("ours", "original", "changes"),
    [
        ({}, {"a": 1}, [Change("add", "/a", 1)]),
        ({"a": 1}, {}, [Change("remove", "/a")]),
        ({"a": 1}, {"a": 2}, [Change("replace", "/a", 2)]),
        ({"a": 1}, {"a": True}, [Change("replace", "/a", True)]),
        ({"a": 0}, {"a": False}, [Change("replace", "/a", False)]),
        ({"a": {}}, {"a": []}, [Change("replace", "/a", [])]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [Change("replace", "/a/1", 3)]),
        ({"a": [1]}, {"a": [1, 3]}, [Change("replace", "/a", [1, 3])]),
        ({}, {"a/b~c": None}, [Change("add", "/a~1b~0c", None)]),
        ({"a": 1}, 7, [Change("replace", "", 7)]),
    ],
)
def test_every_difference_is_one_change(ours: Any, original: Any, changes: list[Change]) -> None:
    assert list(difference(ours, original)) == changes
    assert same(lay_over(ours, changes), original)


@pytest.mark.parametrize(
    ("ours", "original"),
    [
        ({"a": Decimal("2.50")}, {"a": Decimal("2.5")}),
        ({"a": 2}, {"a": Decimal("2.0")}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_numbers_and_another_order_are_no_difference(ours: Any, original: Any) -> None:
    assert list(difference(ours, original)) == []


@settings(max_examples=60)
@given(json_values(), json_values())
def test_any_object_comes_back_from_any_other(ours: Any, original: Any) -> None:
    before = json.dumps(ours)
    changes = list(difference(ours, original))
    assert same(lay_over(ours, changes), original)
    assert json.dumps(ours) == before, "what was written is not touched"
    assert [Change.of_json(json.loads(json.dumps(c.as_json()))) for c in changes] == changes


@settings(max_examples=40)
@given(json_values(), json_values(), json_values())
def test_changes_of_one_object_never_fail_on_another(one: Any, other: Any, third: Any) -> None:
    lay_over(third, difference(one, other))


@given(st.sampled_from(["move", "copy", "test", "", None, 3]))
def test_an_operation_that_is_not_ours_is_refused(operation: Any) -> None:
    with pytest.raises(ValueError, match="adds, replaces or removes"):
        Change.of_json({"op": operation, "path": "/a"})
