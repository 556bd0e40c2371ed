"""Price models: what a month and an answer cost, and which models are refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import example, given
from hypothesis import strategies as st

from foundation.errors import MarketError
from foundation.validation import violations
from gem.marketplace.v1.contract_pb2 import OfferingTerms, PriceModel
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.price import check_tiers, check_unit, price_of, tiers_of, unit_of
from marketplace.price_tiers import Tier, graduated
from marketplace.router.target import Price
from marketplace.router.unit_price import UNITS_MAX, UnitPrice, amount_micros
from marketplace.storage_price import methods_of
from tests.control_plane import TERMS, fields_of
from tests.interfaces import descriptor_set, rpc, service

BODY = """
message Ask { string text = 1 [(buf.validate.field).string.max_len = 100]; }
message Found {
  repeated Item items = 1 [(buf.validate.field).repeated.max_items = 100];
  repeated gem.mesh.v1.ProviderAnswer answers = 2 [(buf.validate.field).repeated.max_items = 100];
}
message Item {
  string name = 1 [(buf.validate.field).string.max_len = 100];
  int64 energy_wh = 2;
}
message Session {
  int64 energy_wh = 1;
  double share = 2;
  Item item = 3;
}
""" + service(rpc(), rpc("Stop", "ROUTE_ONE", response="Session"))
EUR = {"currency_code": "EUR"}


def money(micros: int) -> dict[str, Any]:
    return {"amount_micros": micros, **EUR}


def per_unit(path: str, *methods: str, **fields: Any) -> PriceModel:
    unit = {"field_path": path, "unit_name": "Wh", "methods": methods}
    price = {"unit": unit, "price": money(300_000), "per_unit_count": 1000}
    return PriceModel(per_unit={**price, **fields})  # type: ignore[arg-type]  # nested messages


def tiered(*tiers: tuple[int, int], per_count: int = 1, **fields: Any) -> PriceModel:
    made = [{"from_count": start, "price": money(micros)} for start, micros in tiers]
    price = {"per_count": per_count, "tiers": made, **fields}
    return PriceModel(tiered=price)  # type: ignore[arg-type]  # nested messages


PER_MONTH = PriceModel(per_month={"price": money(9_000_000)})  # type: ignore[arg-type]  # as above


@pytest.fixture(scope="module")
def methods() -> dict[str, MethodDescriptor]:
    return methods_of(descriptor_set(BODY), "acme.test.v1.S")


@pytest.mark.parametrize(
    "wrong",
    [
        PriceModel(),
        PriceModel(per_unit={}),  # type: ignore[arg-type]  # nested messages
        PriceModel(per_month={"price": money(-1)}),  # type: ignore[arg-type]  # as above
        per_unit("energy_wh", per_unit_count=0),
        per_unit("energy_wh", price=money(-1)),
        per_unit("Energy"),
        per_unit("a..b"),
        per_unit(""),
        per_unit("energy_wh", "not a method"),
        per_unit("energy_wh", "Stop", "Stop"),
        tiered(),
        tiered((1, 5)),
        tiered((0, -1)),
        tiered((0, 1), per_count=0),
        tiered((0, 1), tiers=[{"price": {"amount_micros": 1, "currency_code": "euro"}}]),
        tiered(
            (0, 1),
            tiers=[
                {"price": money(1)},
                {"from_count": 5, "price": {"amount_micros": 1, "currency_code": "SEK"}},
            ],
        ),
    ],
)
def test_a_model_that_says_nonsense_breaks_a_rule_of_the_catalogue(wrong: PriceModel) -> None:
    assert violations(wrong)


@pytest.mark.parametrize("good", [per_unit("a.b_c", "Stop"), tiered((0, 1), (5, 0)), PER_MONTH])
def test_a_model_of_each_kind_keeps_the_rules(good: PriceModel) -> None:
    assert violations(good) == ()


@pytest.mark.parametrize("starts", [(0, 0), (0, 10, 10), (0, 20, 10)])
def test_tiers_that_do_not_ascend_are_refused_by_name(starts: tuple[int, ...]) -> None:
    with pytest.raises(MarketError) as refused:
        check_tiers(tiered(*((start, 1) for start in starts)), "offering.price")
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    last = len(starts) - 1
    assert fields_of(refused.value) == [f"offering.price.tiered.tiers[{last}].from_count"]


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (per_unit("nothing"), "field_path"),
        (per_unit("energy_wh"), "field_path"),  # not in every method's answer
        (per_unit("energy_wh", "Search"), "field_path"),
        (per_unit("share", "Stop"), "field_path"),  # no integer
        (per_unit("item", "Stop"), "field_path"),
        (per_unit("item.name", "Stop"), "field_path"),
        (per_unit("energy_wh.deeper", "Stop"), "field_path"),
        (per_unit("answers", "Search"), "field_path"),  # the marketplace writes them
        (per_unit("answers.item_count", "Search"), "field_path"),
        (per_unit("energy_wh", "Stop", "Nothing"), "methods[1]"),
    ],
)
def test_a_unit_that_answers_do_not_have_is_refused_by_name(
    methods: dict[str, MethodDescriptor], model: PriceModel, field: str
) -> None:
    with pytest.raises(MarketError) as refused:
        check_unit(model, methods, "offering.price")
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert fields_of(refused.value) == [f"offering.price.per_unit.unit.{field}"]


@pytest.mark.parametrize(
    "model",
    [
        per_unit("items", "Search"),
        per_unit("items.energy_wh", "Search"),
        per_unit("energy_wh", "Stop"),
        per_unit("item.energy_wh", "Stop"),
        tiered((0, 1), unit={"field_path": "items", "unit_name": "item", "methods": ["Search"]}),
    ],
)
def test_lists_and_integers_are_units(
    methods: dict[str, MethodDescriptor], model: PriceModel
) -> None:
    check_unit(model, methods, "offering.price")


def test_only_some_models_count_units() -> None:
    assert unit_of(PER_MONTH) is None
    assert unit_of(tiered((0, 1))) is None
    assert unit_of(PriceModel(free=PriceModel.Free())) is None
    unit = unit_of(per_unit("energy_wh"))
    assert unit is not None
    assert unit.field_path == "energy_wh"


def test_the_router_gets_of_a_model_what_it_needs() -> None:
    model = per_unit("energy_wh", "Stop")
    rated = UnitPrice(7, "energy_wh", frozenset({"Stop"}), UNITS_MAX, 300_000, 1000)
    assert price_of(model, 7) == Price(0, "EUR", rated)
    model.per_unit.unit.unit_limit = 50
    limited = price_of(model, 7).rated
    assert limited is not None
    assert limited.most_units == 50
    assert price_of(PER_MONTH, 8) == Price(0, "EUR", UnitPrice(8))
    assert price_of(tiered((0, 5)), 9) == Price(0, "EUR", UnitPrice(9))
    unit = {"field_path": "items", "unit_name": "item"}
    assert price_of(tiered((0, 5), unit=unit), 9).rated == UnitPrice(9, "items")
    with pytest.raises(ValueError, match="has a model"):
        price_of(PriceModel())


COUNTS = st.integers(0, 10**12)
PRICES = st.integers(0, 10**12)
PER = st.integers(1, 10**9)


@given(micros=PRICES, count=COUNTS, per=PER)
@example(micros=1, count=1, per=2)
@example(micros=1, count=1, per=3)
def test_an_amount_is_rounded_once_to_the_nearest_from_the_middle_up(
    micros: int, count: int, per: int
) -> None:
    amount = amount_micros(micros, count, per)
    twice_off = 2 * (amount * per - micros * count)
    assert -per < twice_off <= per


@given(micros=PRICES, count=COUNTS, more=COUNTS, per=PER)
def test_more_units_never_cost_less(micros: int, count: int, more: int, per: int) -> None:
    price = UnitPrice(1, "f", price_micros=micros, per_units=per)
    assert price.value_micros(count) <= price.value_micros(count + more)
    assert price.value_micros(0) == price.value_micros(None) == 0


@st.composite
def tier_lists(draw: st.DrawFn) -> list[Tier]:
    """Give tiers that begin at zero and ascend."""
    starts = draw(st.lists(st.integers(1, 10**6), max_size=6, unique=True))
    return [Tier(start, draw(PRICES)) for start in (0, *sorted(starts))]


@given(tiers=tier_lists(), per=PER, count=st.integers(0, 2 * 10**6))
def test_tiers_share_out_all_that_was_used_and_nothing_else(
    tiers: list[Tier], per: int, count: int
) -> None:
    lines = graduated(tiers, per, count)
    assert sum(line.count for line in lines) == count
    assert all(line.count > 0 for line in lines)
    prices = {tier.from_count: tier.price_micros for tier in tiers}
    ends = dict(zip(sorted(prices), [*sorted(prices)[1:], None], strict=True))
    for line in lines:
        end = ends[line.from_count]
        assert end is None or line.from_count + line.count <= end
        assert line.value_micros == amount_micros(prices[line.from_count], line.count, per)


@given(tiers=tier_lists(), per=PER, count=st.integers(0, 10**6), more=st.integers(0, 10**6))
def test_more_use_never_makes_a_month_cheaper(
    tiers: list[Tier], per: int, count: int, more: int
) -> None:
    less, greater = (
        sum(line.value_micros for line in graduated(tiers, per, n)) for n in (count, count + more)
    )
    assert less <= greater


@given(tiers=tier_lists(), count=st.integers(0, 10**6))
def test_tiers_cost_what_one_unit_after_the_other_costs(tiers: list[Tier], count: int) -> None:
    """Against the plain definition, for whole prices, where nothing is rounded."""
    count = min(count, 300)
    small = [Tier(tier.from_count % 200, tier.price_micros) for tier in tiers]
    small = [Tier(0, 5), *sorted(set(small[1:]), key=lambda tier: tier.from_count)]
    starts = [tier.from_count for tier in small]
    if len(set(starts)) < len(starts):
        return
    one_by_one = 0
    for number in range(count):
        one_by_one += [tier.price_micros for tier in small if tier.from_count <= number][-1]
    assert sum(line.value_micros for line in graduated(small, 1, count)) == one_by_one


def test_the_tiers_of_a_model_are_those_of_the_statement() -> None:
    model = tiered((0, 10), (100, 4), (1000, 0), per_count=2)
    assert tiers_of(model.tiered) == [Tier(0, 10), Tier(100, 4), Tier(1000, 0)]
    lines = graduated(tiers_of(model.tiered), 2, 1501)
    assert [(line.count, line.value_micros) for line in lines] == [
        (100, 500),
        (900, 1800),
        (501, 0),
    ]


def test_a_price_is_free_or_per_call_and_never_unset() -> None:
    with pytest.raises(ValueError, match="a price has a model"):
        price_of(PriceModel())
    assert price_of(PriceModel(free=PriceModel.Free())) == Price(0, "EUR")
    assert price_of(OfferingTerms(**TERMS).price) == Price(20_000, "EUR")
