"""Units of answers: read by compiled paths, billed by each provider's own verified answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from marketplace.router.ask import INVALID_ANSWER, OK
from marketplace.router.method_rules import MethodRules
from marketplace.router.rating import counted
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Price, Target, TransactionEntry
from marketplace.router.unit_price import VALUE_MAX_MICROS, UnitPrice
from marketplace.router.units import READERS_MAX, compile_units
from marketplace.router.verify import InvalidAnswer
from tests.interfaces import interface, method, rpc, service
from tests.relay_market import REQUESTER, FakeStream, Market, gives, refused

BODY = """
message Ask { string text = 1; }
message Found {
  repeated Item items = 1;
  repeated gem.mesh.v1.ProviderAnswer answers = 2;
  sint64 delta = 3 [(gem.options.v1.merge) = { rule: MERGE_RULE_SUM }];
}
message Item {
  string name = 1;
  sint64 energy_wh = 2;
  string provider_id = 3 [(gem.options.v1.stamp) = STAMP_PROVIDER_ID];
}
message Session {
  sint64 energy_wh = 1;
  Part part = 2;
  repeated Part parts = 3;
  uint64 big = 4;
  map<string, Item> named = 5;
}
message Part { repeated Item items = 1; sint32 minutes = 2; repeated sint32 numbers = 3; }
""" + service(
    rpc(),
    rpc("Stop", "ROUTE_ONE", response="Session"),
    "rpc Meter(Ask) returns (stream Session) { option idempotency_level = NO_SIDE_EFFECTS; }",
)
STOP, SEARCH = method(BODY, "Stop"), method(BODY)


def priced(path: str, *methods: str, **fields: Any) -> UnitPrice:
    values: dict[str, Any] = {"price_micros": 300, "per_units": 1000, **fields}
    return UnitPrice(7, path, frozenset(methods), **values)


def session(**fields: Any) -> Any:
    return STOP.response_class(**fields)


@pytest.mark.parametrize(
    ("path", "message", "units"),
    [
        ("energy_wh", {}, 0),
        ("energy_wh", {"energy_wh": 1500}, 1500),
        ("big", {"big": 2**40}, 2**40),
        ("part.minutes", {}, 0),
        ("part.minutes", {"part": {"minutes": 7}}, 7),
        ("parts", {"parts": [{}, {}]}, 2),
        ("parts.minutes", {"parts": [{"minutes": 7}, {}, {"minutes": 5}]}, 12),
        ("parts.items", {"parts": [{"items": [{}, {}]}, {}, {"items": [{}]}]}, 3),
        ("parts.items.energy_wh", {"parts": [{"items": [{"energy_wh": 4}, {"energy_wh": 6}]}]}, 10),
        ("part.numbers", {"part": {"numbers": [-1, -2, -3]}}, 3),
    ],
)
def test_a_path_counts_a_list_or_adds_up_an_integer(
    path: str, message: dict[str, Any], units: int
) -> None:
    assert STOP.unit_readers[path] is STOP.unit_readers[path], "compiled once"
    assert counted(STOP, priced(path, most_units=2**64), session(**message), None) == units


@pytest.mark.parametrize(
    "path", ["nothing", "named", "energy_wh.x", "part", "parts.items.name", ".".join("a" * 20)]
)
def test_a_path_to_nothing_that_counts_is_refused_and_counts_nothing(path: str) -> None:
    descriptor: Any = STOP.response_class.DESCRIPTOR
    with pytest.raises(ValueError, match=r"\w"):
        compile_units(descriptor, path)
    assert counted(STOP, priced(path), session(energy_wh=5), None) is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("energy_wh", {"energy_wh": -1}),
        ("energy_wh", {"energy_wh": 1001}),
        ("parts.minutes", {"parts": [{"minutes": -1}, {"minutes": 900}]}),
        ("parts.minutes", {"parts": [{"minutes": 900}, {"minutes": 900}]}),
    ],
)
def test_units_below_zero_or_beyond_what_was_agreed_make_an_answer_invalid(
    path: str, message: dict[str, Any]
) -> None:
    with pytest.raises(InvalidAnswer):
        counted(STOP, priced(path, most_units=1000), session(**message), None)


def test_no_answer_is_worth_more_than_money_can_be() -> None:
    price = priced("energy_wh", price_micros=10**12, per_units=1)
    most = VALUE_MAX_MICROS // 10**12
    assert counted(STOP, price, session(energy_wh=most), None) == most
    with pytest.raises(InvalidAnswer):
        counted(STOP, price, session(energy_wh=most + 1), None)


def test_only_methods_that_are_priced_are_counted() -> None:
    assert counted(STOP, priced("energy_wh", "Search"), session(energy_wh=5), None) is None
    assert counted(STOP, priced("energy_wh", "Search", "Stop"), session(energy_wh=5), None) == 5
    assert counted(STOP, priced(""), session(energy_wh=5), None) is None


def test_the_readers_of_a_method_are_bounded() -> None:
    rules = interface(BODY + " ").methods[STOP.path]
    for number in range(3 * READERS_MAX):
        assert rules.unit_readers[f"nothing_{number}"] is None
        assert len(rules.unit_readers) <= READERS_MAX


@given(energies=st.lists(st.integers(-5, 10**6), max_size=20))
def test_a_sum_over_a_list_is_what_plain_python_adds_up(energies: list[int]) -> None:
    message = session(part={"items": [{"energy_wh": each} for each in energies]})
    if min(energies, default=0) < 0:
        with pytest.raises(InvalidAnswer):
            counted(STOP, priced("part.items.energy_wh"), message, None)
    else:
        assert counted(STOP, priced("part.items.energy_wh"), message, None) == sum(energies)


def market_of(*providers: tuple[str, UnitPrice | None]) -> Market:
    """Give a market of the interface above, each provider with its price or 1,000 a call."""
    market = Market()
    targets = [
        Target(f"c-{name}", name, f"s-{name}", "1", name, Price(0 if rated else 1000, "EUR", rated))
        for name, rated in providers
    ]
    routes = [(REQUESTER, interface(BODY).name, target) for target in targets]
    market.snapshot = RoutingSnapshot(1, interfaces=[interface(BODY)], routes=routes)
    return market


async def called(market: Market, rules: MethodRules) -> list[bytes]:
    call = market.call("Get", b"")
    call.method = rules.path
    await market.router.serve(call)
    return market.wire.sent


def billed(entries: list[TransactionEntry]) -> dict[str, tuple[int, int | None, int | None]]:
    return {e.provider_id: (e.value_micros, e.units, e.price_id) for e in entries}


def found(*energies: int, delta: int = 0) -> bytes:
    items = [{"name": f"n{n}", "energy_wh": each} for n, each in enumerate(energies)]
    raw: bytes = SEARCH.response_class(items=items, delta=delta).SerializeToString()
    return raw


@pytest.mark.usecase(1491)
@pytest.mark.parametrize("delta", [0, 3], ids=["as rows", "each by itself"])
async def test_each_provider_of_a_merged_call_is_paid_for_its_own_answer(delta: int) -> None:
    """The merged list may be cut or made distinct; what a provider gave stays what it gave."""
    elements, energy = priced("items", per_units=1), priced("items.energy_wh")
    market = market_of(("alpha", elements), ("beta", energy), ("gamma", None), ("delta", energy))
    market.providers.behaviours = {
        "alpha": gives(found(1, 1, 1, delta=delta)),
        "beta": gives(found(4000, 6001)),
        "gamma": gives(found(9)),
        "delta": gives(b"\xff"),
    }
    (merged,) = await called(market, SEARCH)
    answer: Any = SEARCH.response_class.FromString(merged)
    assert len(answer.items) == 6
    assert billed(market.log.entries) == {
        "alpha": (900, 3, 7),
        "beta": (3000, 10_001, 7),
        "gamma": (1000, None, None),
        "delta": (0, None, 7),
    }


@pytest.mark.usecase(1491)
@pytest.mark.parametrize("delta", [0, 3], ids=["as rows", "each by itself"])
async def test_an_answer_with_negative_units_fails_alone_and_costs_nothing(delta: int) -> None:
    energy = priced("items.energy_wh")
    market = market_of(("alpha", energy), ("beta", energy))
    market.providers.behaviours = {
        "alpha": gives(found(5, -1, delta=delta)),
        "beta": gives(found(2000)),
    }
    (merged,) = await called(market, SEARCH)
    answer: Any = SEARCH.response_class.FromString(merged)
    assert [item.provider_id for item in answer.items] == ["beta"]
    assert [entry.status for entry in answer.answers] == [INVALID_ANSWER, OK]
    assert billed(market.log.entries) == {"alpha": (0, None, 7), "beta": (600, 2000, 7)}


@pytest.mark.usecase(1491)
async def test_a_refusal_has_no_units() -> None:
    market = market_of(("alpha", priced("energy_wh", "Stop", "Meter")))

    async def refuses(_: bytes) -> bytes:
        raise refused()

    market.providers.behaviours = {"alpha": refuses}
    with pytest.raises(MarketError):
        await called(market, STOP)
    assert billed(market.log.entries) == {"alpha": (0, None, 7)}


@pytest.mark.usecase(1491)
async def test_the_messages_of_a_stream_are_added_up() -> None:
    market = market_of(("alpha", priced("energy_wh", "Stop", "Meter", most_units=10_000)))

    async def meter(stream: FakeStream) -> AsyncIterator[bytes]:
        await stream.requests.get()
        for energy_wh in (1000, 0, 2500):
            yield session(energy_wh=energy_wh).SerializeToString()

    market.providers.streams = {"alpha": meter}
    assert len(await called(market, method(BODY, "Meter"))) == 3
    assert billed(market.log.entries) == {"alpha": (1050, 3500, 7)}


@pytest.mark.usecase(1491)
async def test_a_stream_that_goes_beyond_what_was_agreed_ends_and_costs_nothing() -> None:
    market = market_of(("alpha", priced("energy_wh", most_units=3000)))

    async def meter(stream: FakeStream) -> AsyncIterator[bytes]:
        await stream.requests.get()
        while True:
            yield session(energy_wh=1000).SerializeToString()

    market.providers.streams = {"alpha": meter}
    with pytest.raises(MarketError):
        await called(market, method(BODY, "Meter"))
    assert len(market.wire.sent) == 3
    assert billed(market.log.entries) == {"alpha": (0, None, 7)}


@pytest.mark.usecase(1491)
@pytest.mark.parametrize("rated", [UnitPrice(9), UnitPrice(9, "energy_wh")])
async def test_under_a_fee_or_tiers_an_entry_has_its_units_and_no_value(rated: UnitPrice) -> None:
    market = market_of(("alpha", rated))
    market.providers.behaviours = {"alpha": gives(session(energy_wh=70).SerializeToString())}
    await called(market, STOP)
    assert billed(market.log.entries) == {"alpha": (0, 70 if rated.field_path else None, 9)}
