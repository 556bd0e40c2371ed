"""Many answers' values become one value, by every rule."""

from __future__ import annotations

import math
from typing import Any

import pytest

from marketplace.router.merge import merge
from tests.merging import bad, found, merged, search


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("sum32", [1, 2, 3], 6),
        ("sum32", [2**31 - 1, 1], 2**31 - 1),
        ("sum32", [-(2**31), -1], -(2**31)),
        ("sum32", [2**31 - 1, 5, -(2**31)], 4),
        ("sum64", [2**63 - 1, 2**63 - 1], 2**63 - 1),
        ("sumu32", [2**32 - 1, 1], 2**32 - 1),
        ("sumu64", [2**64 - 1, 1], 2**64 - 1),
        ("sumd", [0.1] * 10, 1.0),
        ("sumd", [1.7e308, 1.7e308], 1.7976931348623157e308),
        ("sumd", [-1.7e308, -1.7e308], -1.7976931348623157e308),
        ("sumd", [1.7e308, 1.7e308, -1.7e308], 1.7e308),
        ("sumf", [3e38, 3e38], 3.4028234663852886e38),
        ("sumo", [None, None], None),
        ("sumo", [None, 0], 0),
        ("least", [5, 0, 3], 3),
        ("least_set", [5, 0, 3], 0),
        ("least_set", [5, None, 3], 3),
        ("most", [1.5, math.nan, 2.5], 2.5),
        ("most", [math.nan, math.nan], 0.0),
        ("first", ["", "b", "c"], "b"),
        ("raw", [b"", b"x"], b"x"),
        ("any_true", [False, True], True),
        ("any_true", [False, False], False),
        ("any_set", [None, None], None),
        ("any_set", [None, False], False),
        ("all_true", [True, True], True),
        ("all_true", [True, False], False),
        ("all_set", [True, None], False),
    ],
)
def test_a_rule_makes_one_value_of_many(field: str, values: list[Any], expected: Any) -> None:
    raws = [found(**{field: value}) for value in values]
    result = merged(*raws)
    if expected is None:
        assert not result.HasField(field)
    else:
        value = getattr(result, field)
        assert math.isclose(value, expected) if isinstance(value, float) else value == expected


def test_sums_of_what_is_no_number_are_no_number_and_never_an_error() -> None:
    assert math.isnan(merged(found(sumd=math.nan), found(sumd=1.0)).sumd)
    assert math.isnan(merged(found(sumd=math.inf), found(sumd=-math.inf)).sumd)


def test_nobody_saying_anything_is_not_all_true() -> None:
    result = merge(search(), search().request_class(), [bad(0)])
    assert result.all_true is False
    assert not result.HasField("all_set")


def test_the_first_message_that_was_set_is_taken_whole() -> None:
    result = merged(
        found(), found(first_item={"name": "b"}), found(first_item={"name": "c", "size": 3})
    )
    item = result.first_item
    assert (item.name, item.size, item.provider_id) == ("b", 0, "provider-1")


def test_the_latest_is_taken_and_ties_go_to_contract_order() -> None:
    def quote(text: str, **at: int) -> bytes:
        return found(quote={"text": text} | ({"at": at} if at else {}))

    assert merged(quote("a", seconds=1), quote("b", seconds=3), quote("c")).quote.text == "b"
    assert merged(quote("a", seconds=3), quote("b", seconds=3)).quote.text == "a"
    assert merged(quote("a", seconds=3), quote("b", seconds=3, nanos=1)).quote.text == "b"
    assert merged(quote("a"), quote("b", seconds=-5)).quote.text == "b"
    assert merged(quote("a"), quote("b")).quote.text == "a"
    assert not merged(found(), found()).HasField("quote")
    times = [found(newest={"seconds": 1}), found(newest={"seconds": 2}), found()]
    assert merged(*times).newest.seconds == 2
    assert merged(found(last={"nanos": 9}), found(last={"seconds": 1})).last.seconds == 1
