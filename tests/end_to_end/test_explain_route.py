"""ExplainRoute over mutual TLS and from the command line: it says what the router does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode, aio
from typer.testing import CliRunner, Result

from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1 import route_explanation_pb2 as wire
from gem.options.v1.options_pb2 import Route
from gemarket.administration import new_request_id
from gemarket.commands.application import application
from tests.end_to_end.charging import GET, SEARCH, found, reason_of, search, stub
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import Party, WholeMarket

pytestmark = pytest.mark.usecase(1491, 1241)


@dataclass(frozen=True)
class Trade:
    """A requester with a good contract, a suspended and a terminated one, made in this order."""

    requester: Party
    providers: tuple[ScriptedProvider, ...]
    #: By partner id.
    contracts: dict[str, str]
    #: When all three were in force.
    before: datetime
    #: Published, and contracted by somebody else only.
    other: ScriptedProvider
    other_requester: Party

    @property
    def ids(self) -> list[str]:
        """The partner ids of the providers."""
        return [provider.partner_id for provider in self.providers]


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Trade:
    requester, other_requester = await whole.requester(), await whole.requester()
    providers = tuple(ScriptedProvider(answers(found())) for _ in range(3))
    made = await whole.contracted(requester, *providers)
    other = ScriptedProvider(answers(found()))
    await whole.contracted(other_requester, other)
    before = datetime.now(tz=UTC)
    _, suspended, terminated = (made[provider.partner_id] for provider in providers)
    await requester.core.suspend(suspended)
    await requester.core.contracts.TerminateContract(
        contracts.TerminateContractRequest(request_id=new_request_id(), contract_id=terminated),
        timeout=10,
    )
    return Trade(requester, providers, made, before, other, other_requester)


async def explained(
    party: Party,
    method: str = SEARCH,
    *,
    requester_id: str = "",
    at: datetime | None = None,
    key: str = "",
) -> wire.RouteExplanation:
    time = None
    if at is not None:
        time = Timestamp()
        time.FromDatetime(at)
    request = wire.ExplainRouteRequest(requester_id=requester_id, method=method, key=key, time=time)
    return (await party.core.contracts.ExplainRoute(request, timeout=10)).explanation


def rows(explanation: wire.RouteExplanation) -> dict[str, wire.RouteCandidate]:
    return {each.provider_id: each for each in explanation.candidates}


async def refused(asking: object) -> tuple[StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as caught:
        await asking  # type: ignore[misc]  # an awaitable
    return caught.value.code(), reason_of(caught.value)


async def test_strangers_unknown_interfaces_and_the_future_are_refused(
    whole: WholeMarket, trade: Trade
) -> None:
    hidden = (StatusCode.NOT_FOUND, "NOT_FOUND")
    me = trade.requester
    requester_id = me.partner_id
    assert await refused(explained(trade.other_requester, requester_id=requester_id)) == hidden
    assert await refused(explained(me, requester_id=trade.ids[0])) == hidden
    assert await refused(explained(me, "/gem.nothing.v1.NoService/Do")) == hidden
    assert await refused(explained(whole.business)) == hidden
    later = datetime.now(tz=UTC) + timedelta(hours=1)
    invalid = (StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert await refused(explained(me, at=later)) == invalid
    assert await refused(explained(me, "no method")) == invalid


async def test_a_requester_learns_why_each_of_its_contracts_is_asked_or_not(trade: Trade) -> None:
    good, suspended, terminated = trade.ids
    explanation = await explained(trade.requester)
    assert (explanation.route, explanation.reason) == (
        Route.ROUTE_ALL,
        wire.ROUTE_REASON_IN_FORCE,
    )
    found_rows = rows(explanation)
    shown = list(found_rows)
    assert shown[:3] == trade.ids, "contract order, before what has no contract"
    assert (found_rows[good].routed, found_rows[good].place_number) == (True, 1)
    assert found_rows[good].event.kind == "CREATED"
    for name, reason, kind in (
        (suspended, wire.ROUTE_REASON_CONTRACT_SUSPENDED, "SUSPENDED"),
        (terminated, wire.ROUTE_REASON_CONTRACT_TERMINATED, "TERMINATED"),
    ):
        row = found_rows[name]
        assert (row.routed, row.reason, row.event.kind) == (False, reason, kind)
        assert row.contract_id == trade.contracts[name]
        assert row.event.actor == trade.requester.partner_id
        assert row.event.event_time.ToDatetime(tzinfo=UTC) > trade.before
    others = [row for name, row in found_rows.items() if name not in trade.ids]
    assert others, "services that it could contract, of which only the first hundred are shown"
    for other in others:
        assert (other.routed, other.contract_id) == (False, "")
        assert other.reason == wire.ROUTE_REASON_NO_CONTRACT
        assert not other.HasField("event")


async def test_whom_it_says_is_whom_the_router_asks(trade: Trade) -> None:
    """Now, and for the past as the call of that time would have been."""
    before = [len(provider.asked) for provider in trade.providers]
    await stub(trade.requester).SearchEvses(search(), timeout=10)
    asked = [
        provider.partner_id
        for provider, count in zip(trade.providers, before, strict=True)
        if len(provider.asked) > count
    ]
    said = [each.provider_id for each in rows(await explained(trade.requester)).values()]
    routed = [name for name in said if rows(await explained(trade.requester))[name].routed]
    assert routed == asked == trade.ids[:1]
    then = await explained(trade.requester, at=trade.before)
    assert [each.provider_id for each in then.candidates if each.routed] == trade.ids
    assert not any(each.left_out_here for each in then.candidates)


async def test_one_of_several_has_to_be_named_where_one_is_asked(trade: Trade) -> None:
    """By an identifier that nobody owns, a call goes to the one provider there is."""
    then = await explained(trade.requester, GET, at=trade.before, key="SE*NOB*E1")
    under_contract = [each for each in then.candidates if each.contract_id]
    assert {each.reason for each in under_contract} == {wire.ROUTE_REASON_PROVIDER_AMBIGUOUS}
    now = await explained(trade.requester, GET)
    assert [each.provider_id for each in now.candidates if each.routed] == trade.ids[:1]


async def test_a_provider_sees_its_own_row_and_operators_see_all(
    whole: WholeMarket, trade: Trade
) -> None:
    requester_id = trade.requester.partner_id
    provider = await whole.with_certificate(trade.ids[1])
    explanation = await explained(provider, requester_id=requester_id)
    assert list(rows(explanation)) == [trade.ids[1]]
    assert rows(explanation)[trade.ids[1]].reason == wire.ROUTE_REASON_CONTRACT_SUSPENDED
    for party in (whole.business, whole.technical):
        whole_view = await explained(party, requester_id=requester_id)
        assert list(rows(whole_view))[:3] == trade.ids
    hidden = (StatusCode.NOT_FOUND, "NOT_FOUND")
    stranger = await whole.with_certificate(trade.other.partner_id)
    assert await refused(explained(stranger, requester_id=requester_id)) == hidden


async def test_an_endpoint_that_is_left_out_is_said_to_be_by_the_worker_that_does(
    whole: WholeMarket,
) -> None:
    requester = await whole.requester()
    good, gone = (ScriptedProvider(answers(found())) for _ in range(2))
    await whole.contracted(requester, good, gone)
    assert not any(each.left_out_here for each in (await explained(requester)).candidates)
    await gone.stop()
    for _ in range(20):
        await stub(requester).SearchEvses(search(), timeout=10)
        found_rows = rows(await explained(requester))
        if found_rows[gone.partner_id].left_out_here:
            break
    assert found_rows[gone.partner_id].left_out_here
    assert found_rows[gone.partner_id].routed, "it is a target, and gets an entry"
    assert not found_rows[good.partner_id].left_out_here


async def run(whole: WholeMarket, trade: Trade, *arguments: str) -> Result:
    """Run `gemarket explain-route` as the requester."""
    requester = trade.requester
    described = whole.market.endpoints({requester.partner_id: requester.identity})
    described.write(whole.market.layout.endpoints)
    given = ("explain-route", *arguments, "--data-dir", str(whole.market.layout.root))

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        return CliRunner().invoke(application, given, env=environment)

    return await asyncio.to_thread(work)


async def test_the_command_line_explains_as_a_table_and_as_json(
    whole: WholeMarket, trade: Trade
) -> None:
    method = SEARCH[1:]
    for arguments, code, text in (
        (("gem.nothing.v1.NoService/Do",), 1, "NOT_FOUND"),
        ((method, "--at", "yesterday"), 2, "is no time of ISO 8601"),
        ((method, "--as", "nobody"), 2, "is not known here"),
    ):
        failed = await run(whole, trade, *arguments)
        assert (failed.exit_code, text in failed.stderr) == (code, True), failed.output
    table = await run(whole, trade, method)
    assert table.exit_code == 0, table.output
    for text in ("1 asked", "contract suspended by", "contract terminated by", "no contract"):
        assert text in table.stdout
    as_json = json.loads((await run(whole, trade, method, "--json")).stdout)
    assert [each["provider_id"] for each in as_json["candidates"]][:3] == trade.ids
    past = await run(whole, trade, method, "--at", trade.before.isoformat())
    assert "3 asked" in past.stdout
    unknown = await run(whole, trade, f"{method}Not")
    assert "The whole call is refused: method unknown" in unknown.stdout
