"""The steps of the demonstration; each says what must hold and fails when it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import Self

from foundation.money import Money, total
from gem.charging.v1 import evse_pb2, evse_search_service_pb2
from gem.charging.v1 import evse_search_service_pb2_grpc as charging
from gem.common.v1 import geo_pb2, money_pb2
from gem.marketplace.v1 import transaction_pb2, transaction_service_pb2_grpc
from gem.marketplace.v1 import transaction_service_pb2 as transactions
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.administration import Connection
from gemarket.console import answers_table, heading, output, reason_name, status_name, table
from gemarket.market import Market
from gemarket.reference import CURRENCY_CODE, REQUESTER, Reference, ReferenceProvider, Standing
from gemarket.supervisor import ChildSpec

BUDGET_MS = 1500
#: Frankfurt am Main, and how far to look from there.
_PLACE = geo_pb2.GeoPoint(latitude_e7=501_109_000, longitude_e7=86_821_000)
_RADIUS_M = 150_000
_MOST_SHOWN = 12
_LIAR = "liar"
#: Calls, a second apart, within which all providers must be back.
_REPAIR_TRIES = 10
_STOP_GRACE_S = 5.0
_Response = evse_search_service_pb2.SearchEvsesResponse


class StepFailedError(Exception):
    """A step of the demonstration did not hold."""


def _must(held: bool, what: str) -> None:
    if not held:
        raise StepFailedError(what)


class Demonstration:
    """Runs the steps against a running market with its reference partners."""

    def __init__(self, market: Market, reference: Reference) -> None:
        self._market = market
        self._reference = reference
        identity = market.layout.partner(REQUESTER.partner_id)
        self._requester = Connection(market.address, identity)
        self._search = charging.EvseSearchServiceStub(self._requester.channel)
        self._log = transaction_service_pb2_grpc.TransactionServiceStub(self._requester.channel)
        self._asked = 0
        self._hung_pid = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._hung_pid:
            os.kill(self._hung_pid, signal.SIGCONT)
        await self._requester.channel.close()

    async def run(self) -> None:
        """Run all steps; raises StepFailedError at the first that does not hold."""
        await self._everybody_joined()
        await self._everybody_answers()
        failed = await self._break_three()
        suspended = await self._suspend(failed)
        await self._show_log()
        await self._repair(failed, suspended)

    async def _ask(self) -> tuple[_Response, float]:
        request = evse_search_service_pb2.SearchEvsesRequest(
            circle=geo_pb2.GeoCircle(center=_PLACE, radius_m=_RADIUS_M),
            ordering=evse_search_service_pb2.EVSE_ORDERING_DISTANCE,
        )
        begun = time.monotonic()
        response: _Response = await self._search.SearchEvses(
            request, timeout=10, metadata=(("gem-budget-ms", str(BUDGET_MS)),)
        )
        self._asked += len(response.provider_answers)
        return response, (time.monotonic() - begun) * 1e3

    async def _everybody_joined(self) -> None:
        output.rule("Who came into the market, and how far, each step through its services")
        standings = await self._reference.standings()
        output.print(_standings_table(standings))
        _must(all(each.registered for each in standings), "every partner is registered")
        offering = [each for each in standings if each.certified is not None]
        _must(len(offering) == len(self._reference.providers), "every operator offers a service")
        for each in offering:
            well = each.certified and each.published and each.contracted
            _must(bool(well), f"{each.partner_id} is certified, published and contracted")

    async def _everybody_answers(self) -> None:
        heading("One call, every contracted provider, one answer")
        response, elapsed_ms = await self._ask()
        _show_evses(response)
        output.print(answers_table(response.provider_answers))
        output.print(f"answered in {elapsed_ms:.0f} ms")
        providers = self._reference.providers
        statuses = [answer.status for answer in response.provider_answers]
        _must(len(statuses) == len(providers), "every contracted provider has an entry")
        _must(set(statuses) == {mesh.ANSWER_STATUS_OK}, "every provider answers")
        _must(len({evse.provider_id for evse in response.evses}) >= 4, "four operators have EVSEs")

    async def _break_three(self) -> Sequence[ReferenceProvider]:
        stopped, hung, lying = list(self._reference.providers.values())[:3]
        heading("One provider is stopped, one hangs, one answers garbage")
        names = [each.operator.partner_id for each in (stopped, hung, lying)]
        output.print("stopped {}, hanging {}, lying {}".format(*names))
        supervisor = self._market.supervisor
        await supervisor.stop(stopped.child_name, _STOP_GRACE_S)
        self._hung_pid = supervisor.pids()[hung.child_name]
        os.kill(self._hung_pid, signal.SIGSTOP)
        await supervisor.stop(lying.child_name, _STOP_GRACE_S)
        identity = self._market.layout.partner(lying.operator.partner_id)
        arguments = (lying.endpoint, str(identity.folder))
        await supervisor.start(ChildSpec(_LIAR, "gemarket.garbage_provider", arguments))

        response, elapsed_ms = await self._ask()
        output.print(answers_table(response.provider_answers))
        output.print(f"answered in {elapsed_ms:.0f} ms, of a budget of {BUDGET_MS} ms")
        by_provider = {answer.provider_id: answer for answer in response.provider_answers}
        _must(elapsed_ms <= BUDGET_MS + 50, "the answer comes within its budget")
        expected = (
            mesh.ANSWER_STATUS_UNREACHABLE,
            mesh.ANSWER_STATUS_TIMED_OUT,
            mesh.ANSWER_STATUS_INVALID_ANSWER,
        )
        for name, status in zip(names, expected, strict=True):
            _must(by_provider[name].status == status, f"{name} is {status_name(status)}")
        rest = [answer for name, answer in by_provider.items() if name not in names]
        well = all(answer.status == mesh.ANSWER_STATUS_OK for answer in rest)
        _must(well and len(response.evses) > 0, "the others' results are kept")
        return (stopped, hung, lying)

    async def _suspend(self, failed: Sequence[ReferenceProvider]) -> ReferenceProvider:
        providers = self._reference.providers.values()
        chosen = next(each for each in providers if each not in failed)
        name = chosen.operator.partner_id
        heading(f"The contract with {name} is suspended; the next call does not ask it")
        await self._requester.suspend(chosen.contract_id)
        response, _ = await self._ask()
        output.print(answers_table(response.provider_answers))
        asked = [answer.provider_id for answer in response.provider_answers]
        _must(name not in asked, "a suspended provider is not asked")
        _must(len(asked) == len(providers) - 1, "all others are asked")
        from_it = [evse for evse in response.evses if evse.provider_id == name]
        _must(not from_it, "nothing of it is in the answer")
        return chosen

    async def _repair(
        self, failed: Sequence[ReferenceProvider], suspended: ReferenceProvider
    ) -> None:
        heading("All are well again, and so is the market")
        _, hung, _ = failed
        os.kill(self._hung_pid, signal.SIGCONT)
        self._hung_pid = 0
        supervisor = self._market.supervisor
        await supervisor.stop(_LIAR, _STOP_GRACE_S)
        children = (self._reference.child(each.operator, each.endpoint) for each in failed)
        await supervisor.start(*(child for child in children if child.name != hung.child_name))
        await self._requester.resume(suspended.contract_id)
        statuses: set[int] = set()
        for _ in range(_REPAIR_TRIES):
            response, _elapsed_ms = await self._ask()
            statuses = {answer.status for answer in response.provider_answers}
            if statuses == {mesh.ANSWER_STATUS_OK}:
                break
            await asyncio.sleep(1.0)  # connections to what was away come back within two seconds
        output.print(answers_table(response.provider_answers))
        _must(statuses == {mesh.ANSWER_STATUS_OK}, "every provider answers again")
        asked = len(response.provider_answers)
        _must(asked == len(self._reference.providers), "the suspended one, too")

    async def _show_log(self) -> None:
        heading("The transaction log of these calls")
        listing = transactions.ListTransactionsRequest()
        page = await self._log.ListTransactions(listing, timeout=10)
        output.print(_entries_table(page.transactions))
        summing = transactions.SummarizeTransactionsRequest()
        totals = (await self._log.SummarizeTransactions(summing, timeout=10)).totals
        output.print(_totals_table(totals))
        entries = len(page.transactions)
        output.print(f"{self._asked} providers asked, {entries} entries")
        _must(entries == self._asked, "every provider asked has exactly one entry")
        value = total(map(_money, (entry.value for entry in page.transactions)), CURRENCY_CODE)
        summed = total(map(_money, (each.value for each in totals)), CURRENCY_CODE)
        output.print(f"{summed} owed for answered calls", highlight=False)
        _must(value == summed and value.amount_micros > 0, "the sums are those of the entries")
        answered = sum(entry.status == mesh.ANSWER_STATUS_OK for entry in page.transactions)
        charged = sum(entry.value.amount_micros > 0 for entry in page.transactions)
        _must(answered == charged, "exactly the answered calls are charged")


def _standings_table(standings: Sequence[Standing]) -> object:
    shown = {True: "yes", False: "no", None: ""}
    rows = (
        (
            each.partner_id,
            shown[each.registered],
            shown[each.certified],
            shown[each.published],
            shown[each.contracted],
        )
        for each in standings
    )
    columns = ("partner", "registered", "certified", "published", "contracted")
    return table("Partners", columns, rows)


def _show_evses(response: _Response) -> None:
    rows = (
        (
            evse.provider_id,
            evse.name or evse.address.city or evse.evse_id,
            f"{evse.distance_m / 1000:.1f}",
            f"{evse.max_power_w / 1000:.0f}" if evse.max_power_w else "not known",
            _price(evse),
        )
        for evse in response.evses[:_MOST_SHOWN]
    )
    columns = ("provider", "charging point", "distance km", "power kW", "price")
    output.print(table("Charging points around Frankfurt am Main", columns, rows))
    hidden = len(response.evses) - _MOST_SHOWN
    if hidden > 0:
        output.print(f"and {hidden} more")
    output.print("[dim]© OpenStreetMap contributors, ODbL; prices where the data states them[/]")


def _price(evse: evse_pb2.Evse) -> str:
    if not evse.tariffs:
        return "not known"
    if not evse.HasField("reference_price") or not evse.reference_price.amount_micros:
        return "free"
    return f"{_money(evse.reference_price)} for 20 kWh"


def _money(wire: money_pb2.Money) -> Money:
    """Read an amount; an entry that costs nothing may state no currency."""
    return Money(wire.amount_micros, wire.currency_code or CURRENCY_CODE)


def _entries_table(entries: Sequence[transaction_pb2.ServiceTransaction]) -> object:
    rows = (
        (
            entry.call_id[:8],
            entry.provider_id,
            status_name(entry.status),
            reason_name(entry.reason),
            f"{entry.duration_us / 1000:.1f}",
            str(entry.item_count),
            str(_money(entry.value)),
        )
        for entry in entries
    )
    columns = ("call", "provider", "status", "reason", "ms", "results", "value")
    return table("Entries", columns, rows)


def _totals_table(totals: Sequence[transaction_pb2.TransactionTotal]) -> object:
    rows = (
        (
            each.provider_id,
            status_name(each.status),
            str(each.transaction_count),
            str(_money(each.value)),
        )
        for each in totals
    )
    return table("Sums", ("provider", "status", "calls", "value"), rows)
