"""Prices per unit, per month and in tiers, over mutual TLS (use cases 1250, 1485, 1491, 1471)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from typer.testing import CliRunner

from gem.common.v1.money_pb2 import Money
from gem.marketplace.v1 import statement_pb2
from gem.marketplace.v1 import transaction_service_pb2 as log
from gem.marketplace.v1.contract_pb2 import PriceModel
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.administration import ServicePlan
from gemarket.commands.application import application
from tests.end_to_end.charging import detail_of, evse, found, reason_of, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket

EVSES = {"field_path": "evses", "unit_name": "EVSE", "methods": ["SearchEvses"]}


def money(micros: int) -> Money:
    return Money(amount_micros=micros, currency_code="EUR")


def per_unit(micros: int, per_units: int = 1, **unit: Any) -> PriceModel:
    price = {"unit": {**EVSES, **unit}, "price": money(micros), "per_unit_count": per_units}
    return PriceModel(per_unit=price)  # type: ignore[arg-type]  # nested messages


def tiered(**unit: Any) -> PriceModel:
    tiers = [{"price": money(1000)}, {"from_count": 4, "price": money(10)}]
    return PriceModel(tiered={"tiers": tiers, "per_count": 1, **unit})  # type: ignore[arg-type]  # as above


def per_month(micros: int) -> PriceModel:
    return PriceModel(per_month={"price": money(micros)})  # type: ignore[arg-type]  # as above


async def offered(party: Party, endpoint: str, price: PriceModel) -> str:
    """Register a service at a price; gives its id."""
    request = ServicePlan(party.partner_id, "Priced", EVSE_SEARCH, endpoint).request()
    request.offering.price.CopyFrom(price)
    response = await party.core.services.RegisterService(request, timeout=10)
    return response.service.service_id


async def contracted(
    whole: WholeMarket, requester: Party, price: PriceModel, *evses: str
) -> tuple[Party, str]:
    """Bring in a provider that always finds these, at a price; gives it and the contract's id."""
    provider = ScriptedProvider(answers(found(*map(evse, evses))))
    party = await whole.provider(provider)
    service_id = await offered(party, provider.endpoint, price)
    await whole.technical.core.publish_service(service_id)
    return party, await requester.core.ensure_contract(service_id)


async def statement(party: Party, contract_id: str) -> statement_pb2.MonthlyStatement:
    month = f"{datetime.now(tz=UTC):%Y-%m}"
    request = log.GetMonthlyStatementRequest(contract_id=contract_id, month=month)
    made = (await party.log.GetMonthlyStatement(request, timeout=10)).statement
    assert sum(c.value.amount_micros for c in made.charges) == sum(
        total.amount_micros for total in made.totals
    )
    return made


@pytest.mark.usecase(1250)
@pytest.mark.parametrize(
    ("price", "field"),
    [
        (per_unit(5, field_path="nothing"), "offering.price.per_unit.unit.field_path"),
        (per_unit(5, methods=[]), "offering.price.per_unit.unit.field_path"),
        (per_unit(5, methods=["FindEvses"]), "offering.price.per_unit.unit.methods[0]"),
        (per_unit(-5), "offering.price.per_unit.price"),
        (per_unit(5, per_units=0), "offering.price.per_unit.per_unit_count"),
        (
            tiered(tiers=[{"price": money(1)}, {"from_count": 0, "price": money(2)}]),
            "offering.price.tiered.tiers[1].from_count",
        ),
    ],
)
async def test_a_price_that_cannot_be_worked_out_is_refused_by_its_field(
    whole: WholeMarket, price: PriceModel, field: str
) -> None:
    operator = await whole.operator()
    with pytest.raises(aio.AioRpcError) as refused:
        await offered(operator, "127.0.0.1:1", price)
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value) == "REQUEST_INVALID"
    violated = detail_of(refused.value, error_details_pb2.BadRequest).field_violations
    assert field in [violation.field for violation in violated]


@pytest.mark.usecase(1491, 1485, 1471)
async def test_each_provider_is_paid_by_what_its_own_answer_held(whole: WholeMarket) -> None:
    """The merged answer is cut to one result: what each provider gave is what it is paid for."""
    requester = await whole.requester()
    cheap, one = await contracted(whole, requester, per_unit(500, 3), "DE*AAA*E1", "DE*AAA*E2")
    dear, two = await contracted(whole, requester, per_unit(7000), "DE*BBB*E1")
    bad, three = await contracted(
        whole, requester, per_unit(9, unit_limit=1), "DE*CCC*E1", "DE*CCC*E2"
    )
    answer = await stub(requester).SearchEvses(search(limit=1), timeout=10)
    assert len(answer.evses) == 1
    by_provider = {entry.provider_id: entry for entry in await entries_of(requester)}
    assert by_provider[cheap.partner_id].value == money(333)
    assert by_provider[cheap.partner_id].unit_count == 2
    assert by_provider[dear.partner_id].value == money(7000)
    refused = by_provider[bad.partner_id]
    assert (refused.status, refused.value) == (mesh.ANSWER_STATUS_INVALID_ANSWER, money(0))
    assert not refused.HasField("unit_count")
    assert "C" not in answer.evses[0].evse_id[3:6]
    for contract_id, owed in ((one, 333), (two, 7000), (three, 0)):
        made = await statement(requester, contract_id)
        assert list(made.totals) == list(made.values) == [money(owed)]
        (charge,) = made.charges
        assert (
            charge.price_number
            == {e.contract_id: e for e in by_provider.values()}[contract_id].price_number
        )
    assert await statement(cheap, one) == await statement(whole.business, one)


@pytest.mark.usecase(1471)
async def test_tiers_and_fees_are_on_the_statement_and_not_in_the_entries(
    whole: WholeMarket,
) -> None:
    requester = await whole.requester()
    evses = ("DE*AAA*E1", "DE*AAA*E2", "DE*AAA*E3")
    _, by_calls = await contracted(whole, requester, tiered(), *evses)
    _, by_units = await contracted(whole, requester, tiered(unit=EVSES), *evses)
    _, by_month = await contracted(whole, requester, per_month(30_000_000), *evses)
    for _ in range(5):
        await stub(requester).SearchEvses(search(), timeout=10)
    assert {entry.value.amount_micros for entry in await entries_of(requester)} == {0}
    calls = await statement(requester, by_calls)
    tiers = [c for c in calls.charges if c.kind == statement_pb2.CHARGE_KIND_TIER]
    assert [(c.from_count, c.call_count, c.value.amount_micros) for c in tiers] == [
        (0, 4, 4000),
        (4, 1, 10),
    ]
    units = await statement(requester, by_units)
    tiers = [c for c in units.charges if c.kind == statement_pb2.CHARGE_KIND_TIER]
    assert [(c.from_count, c.unit_count, c.value.amount_micros) for c in tiers] == [
        (0, 4, 4000),
        (4, 11, 110),
    ]
    assert units.totals[0] == money(4110)
    month = await statement(requester, by_month)
    (fee,) = [c for c in month.charges if c.kind == statement_pb2.CHARGE_KIND_MONTHLY_FEE]
    assert 1 <= fee.days <= 2, "the contract began just now"
    assert month.totals[0] == fee.value
    assert fee.price.per_month.price == money(30_000_000)


@pytest.mark.usecase(1471)
async def test_the_command_line_shows_what_is_owed(whole: WholeMarket) -> None:
    requester = await whole.requester()
    _, contract_id = await contracted(whole, requester, tiered(unit=EVSES), "DE*AAA*E1")
    for _ in range(6):
        await stub(requester).SearchEvses(search(), timeout=10)
    described = whole.market.endpoints({requester.partner_id: requester.identity})
    described.write(whole.market.layout.endpoints)
    month, root = f"{datetime.now(tz=UTC):%Y-%m}", str(whole.market.layout.root)
    arguments = ["transactions", "statement", contract_id, month, "--data-dir", root]

    def shown() -> str:
        environment = {"COLUMNS": "200", "TERM": "dumb"}
        result = CliRunner().invoke(application, arguments, env=environment)
        assert result.exit_code == 0, result.output
        return result.stdout

    text = await asyncio.to_thread(shown)
    for expected in ("tier from 0", "0.004000 EUR", "tier from 4", "owed", "0.004020 EUR"):
        assert expected in text
