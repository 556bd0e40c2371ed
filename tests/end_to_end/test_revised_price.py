"""A contract's new price over mutual TLS: what is routed, logged, billed and promised then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from grpc import StatusCode

from gem.charging.v1.evse_search_service_pb2_grpc import EvseSearchServiceStub
from gem.marketplace.v1 import statement_pb2
from gem.marketplace.v1.transaction_pb2 import ServiceTransaction
from gem.mesh.v1 import provider_answer_pb2 as mesh
from tests.contracts import framework_terms, time
from tests.end_to_end.charging import evse, found, search, stub
from tests.end_to_end.contract_desk import change, decide
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers, refuses
from tests.end_to_end.test_contracts import Pair, soon
from tests.end_to_end.test_price_models import per_month, per_unit, statement
from tests.end_to_end.whole_market import WholeMarket

ENTRIES = statement_pb2.CHARGE_KIND_ENTRIES
FEE = statement_pb2.CHARGE_KIND_MONTHLY_FEE


@pytest.fixture(scope="module")
async def scripted() -> ScriptedProvider:
    """Give a provider that finds two EVSEs."""
    return ScriptedProvider(answers(found(evse("DE*PRC*E1"), evse("DE*PRC*E2"))))


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket, scripted: ScriptedProvider) -> Pair:
    """Bring in the provider with a service."""
    provider = await whole.provider(scripted)
    service_id = await whole.offer(provider, scripted.endpoint)
    return Pair(whole, await whole.requester(), provider, service_id, scripted.endpoint)


@pytest.fixture
async def pair(trade: Pair) -> Pair:
    """Give the trade with a requester of the test's own."""
    return replace(trade, requester=await trade.whole.requester())


def priced(price: Any, **fields: Any) -> Any:
    """Give terms of the framework at a price."""
    return {**framework_terms(**fields), "price": price}


def proposal(price: Any) -> Any:
    """Give what a change asks for: the same sections at a price."""
    terms = priced(price)
    return {"sections": terms["sections"], "price": terms["price"]}


async def contracted(pair: Pair, price: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a contract of the framework at a price; gives its id."""
    terms = priced(price)
    monkeypatch.setattr("tests.end_to_end.test_contracts.framework_terms", lambda **_: terms)
    return (await pair.accept(await pair.offer())).contract_id


def by_price(entries: Sequence[ServiceTransaction]) -> dict[int, set[tuple[int, int]]]:
    """Give units and value of entries by the number of their price."""
    found_ones: dict[int, set[tuple[int, int]]] = {}
    for entry in entries:
        pair_of = (entry.unit_count, entry.value.amount_micros)
        found_ones.setdefault(entry.price_number, set()).add(pair_of)
    return found_ones


@pytest.mark.usecase(1246, 1247, 1491, 1471)
async def test_from_the_agreed_instant_on_every_worker_routes_by_the_new_price_per_unit(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract_id = await contracted(pair, per_unit(500), monkeypatch)
    at = soon(2)
    fields = {"terms": proposal(per_unit(7)), "effective_time": time(at)}
    await decide(pair.requester, "Accept", await change(pair.provider, contract_id, **fields))
    channels = await pair.whole.channels(pair.requester)

    async def calls(channel: Any) -> None:
        ask: Any = EvseSearchServiceStub(channel)
        while soon(-0.5) < at:
            await ask.SearchEvses(search(), timeout=10)
            await asyncio.sleep(0.05)

    await asyncio.gather(*map(calls, channels.values()))
    for channel in channels.values():
        await channel.close()
    entries = await entries_of(pair.requester)
    slack_s = 0.05
    new = [e for e in entries if e.value.amount_micros == 14]
    old = [e for e in entries if e.value.amount_micros == 1000]
    assert len(new) + len(old) == len(entries)
    assert old
    assert max(e.start_time.ToDatetime(UTC).timestamp() for e in old) < at.timestamp() + slack_s
    assert min(e.start_time.ToDatetime(UTC).timestamp() for e in new) > at.timestamp() - slack_s
    numbers = by_price(entries)
    assert sorted(map(sorted, numbers.values())) == [[(2, 14)], [(2, 1000)]]
    made = await statement(pair.requester, contract_id)
    charged = {c.price_number: c for c in made.charges if c.kind == ENTRIES}
    assert charged.keys() == numbers.keys()
    assert {n: c.price.per_unit.price.amount_micros for n, c in charged.items()} == {
        old[0].price_number: 500,
        new[0].price_number: 7,
    }
    assert made.totals[0].amount_micros == 1000 * len(old) + 14 * len(new)


@pytest.mark.usecase(1471)
async def test_a_revision_to_a_monthly_fee_is_billed_from_the_next_day_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day on which a fee is agreed belongs to the fee that was in force first on it."""
    contract_id = await contracted(pair, per_month(31_000_000), monkeypatch)
    begun = datetime.now(UTC).date()
    asked = await change(pair.provider, contract_id, terms=proposal(per_month(62_000_000)))
    await decide(pair.requester, "Accept", asked)
    await stub(pair.requester).SearchEvses(search(), timeout=10)
    made = await statement(pair.requester, contract_id)
    if datetime.now(UTC).date() != begun:
        pytest.skip("midnight came between")
    (fee,) = [charge for charge in made.charges if charge.kind == FEE]
    assert (fee.days, fee.price.per_month.price.amount_micros) == (1, 31_000_000)
    (entry,) = await entries_of(pair.requester)
    (priced_by,) = [charge for charge in made.charges if charge.kind == ENTRIES]
    assert priced_by.price_number == entry.price_number != fee.price_number
    assert priced_by.price.per_month.price.amount_micros == 62_000_000
    assert made.totals[0] == fee.value


@pytest.mark.usecase(1471)
async def test_a_statement_holds_what_happened_against_the_contracts_promise(
    pair: Pair, scripted: ScriptedProvider
) -> None:
    contract_id = (await pair.accept(await pair.offer())).contract_id
    none_yet = await statement(pair.requester, contract_id)
    assert none_yet.promise.availability_permille == 990
    assert not none_yet.promise.HasField("is_availability_kept"), "nothing says so"
    assert await pair.call() == "OK"
    kept = await statement(pair.provider, contract_id)
    assert kept.promise.is_availability_kept
    assert kept.service_level.availability_permille == 1000
    works, scripted.script = scripted.script, refuses(StatusCode.INTERNAL)
    assert await pair.call() != "OK"
    scripted.script = works
    broken = await statement(pair.requester, contract_id)
    assert broken.service_level.availability_permille == 500
    assert broken.promise.HasField("is_availability_kept")
    assert not broken.promise.is_availability_kept
    statuses = [entry.status for entry in await entries_of(pair.requester)]
    assert statuses.count(mesh.ANSWER_STATUS_OK) == 1
    # What was promised is what stands in the revision in force, not what was on offer once.
    lower = framework_terms(micros=1)
    lower["sections"][3]["service_level"] = {"availability_permille": 400}
    wanted = {"sections": lower["sections"], "price": lower["price"]}
    asked = await change(pair.provider, contract_id, terms=wanted)
    await decide(pair.requester, "Accept", asked)
    revised = await statement(pair.requester, contract_id)
    assert revised.promise.availability_permille == 400
    assert revised.promise.is_availability_kept
