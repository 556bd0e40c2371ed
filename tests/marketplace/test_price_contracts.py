"""Prices from the offering over the contract to the router, kept once and never changed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from asyncpg import RaiseError

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.router.target import Price
from marketplace.router.unit_price import UnitPrice
from marketplace.routing_schedule import in_force
from marketplace.storage_snapshot import SnapshotStorage
from tests.control_plane import EVSE_OPERATOR, EVSP, INTERFACE, TERMS, ControlPlane, fields_of
from tests.transaction_log_support import connected

pytestmark = pytest.mark.usecase(1485)


def money(micros: int, currency_code: str = "EUR") -> dict[str, Any]:
    return {"amount_micros": micros, "currency_code": currency_code}


PER_ITEM = {
    "per_unit": {
        "unit": {"field_path": "items", "unit_name": "item", "methods": ["Search"]},
        "price": money(500),
        "per_unit_count": 1,
    }
}
PER_MONTH = {"per_month": {"price": money(9_000_000, "SEK")}}
TIERED = {
    "tiered": {
        "per_count": 1,
        "tiers": [{"price": money(100)}, {"from_count": 10, "price": money(40)}],
    }
}


def offering(price: dict[str, Any]) -> dict[str, Any]:
    return {**TERMS, "price": price}


async def in_market(plane: ControlPlane) -> None:
    await plane.publish_interface()
    await plane.partner("evsp", EVSP)
    await plane.partner("volt", EVSE_OPERATOR)


async def routed(url: str) -> dict[str, Price]:
    """Give the prices by which the router would route, by contract, however it loads them."""
    async with connected(url) as connection:
        storage, now_s = SnapshotStorage(connection), time.time()
        everything = {
            t.contract_id: t.price for _, _, t in (await storage.everything(now_s)).routes
        }
        name = ("evsp", INTERFACE)
        windows = (await storage.windows([name]))[name]
        some = {target.contract_id: target.price for target in in_force(windows, now_s)}
    assert everything == some
    return everything


@pytest.mark.usecase(1250)
@pytest.mark.parametrize(
    ("price", "field"),
    [
        (
            {"per_unit": {**PER_ITEM["per_unit"], "unit": {"field_path": "x", "unit_name": "x"}}},
            "offering.price.per_unit.unit.field_path",
        ),
        (
            {
                "tiered": {
                    **TIERED["tiered"],
                    "unit": {"field_path": "items", "unit_name": "item", "methods": ["Nothing"]},
                }
            },
            "offering.price.tiered.unit.methods[0]",
        ),
        (
            {"tiered": {"per_count": 1, "tiers": [{"price": money(1)}, {"price": money(2)}]}},
            "offering.price.tiered.tiers[1].from_count",
        ),
    ],
)
async def test_a_service_whose_price_cannot_be_worked_out_is_not_registered(
    plane: ControlPlane, price: dict[str, Any], field: str
) -> None:
    await in_market(plane)
    with pytest.raises(MarketError) as refused:
        await plane.register_service("volt", offering=offering(price))
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert fields_of(refused.value) == [field]
    listed = await plane.ask("volt", "ServiceRegistryService/ListServices")
    assert list(listed.services) == []


@pytest.mark.parametrize(
    ("price", "currency_code", "rated"),
    [
        (PER_ITEM, "EUR", ("items", frozenset({"Search"}), 500)),
        (PER_MONTH, "SEK", ("", frozenset(), 0)),
        (TIERED, "EUR", ("", frozenset(), 0)),
    ],
)
async def test_the_router_knows_the_price_of_a_contract(
    plane: ControlPlane,
    control_plane_url: str,
    price: dict[str, Any],
    currency_code: str,
    rated: tuple[str, frozenset[str], int],
) -> None:
    await in_market(plane)
    service = await plane.service("volt", offering=offering(price))
    contract = await plane.contract("evsp", service)
    found = (await routed(control_plane_url))[contract.contract_id]
    path, methods, micros = rated
    assert found.price_id is not None
    unit_price = UnitPrice(found.price_id, path, methods, price_micros=micros)
    assert found == Price(0, currency_code, unit_price)


async def test_contracts_with_one_price_share_it_and_a_price_per_call_has_no_id(
    plane: ControlPlane, control_plane_url: str
) -> None:
    await in_market(plane)
    await plane.partner("amp", EVSE_OPERATOR)
    contracts = [
        await plane.contract("evsp", await plane.service(provider, offering=offering(price)))
        for provider in ("volt", "amp")
        for price in (PER_ITEM, TERMS["price"])
    ]
    found = await routed(control_plane_url)
    one, simple, same, again = (found[contract.contract_id] for contract in contracts)
    assert one == same
    assert one.price_id is not None
    assert simple == again == Price(20_000, "EUR")
    async with connected(control_plane_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM marketplace.price_model") == 1
        remembered = await connection.fetch("SELECT * FROM marketplace.contract_price")
    assert {row["contract_id"] for row in remembered} == {
        contracts[0].contract_id,
        contracts[2].contract_id,
    }


async def test_what_was_agreed_about_a_price_never_changes_by_itself(
    plane: ControlPlane, control_plane_url: str
) -> None:
    await in_market(plane)
    await plane.contract("evsp", await plane.service("volt", offering=offering(PER_MONTH)))
    changes = (
        "UPDATE marketplace.contract SET price_id = NULL",
        "UPDATE marketplace.price_model SET model = ''",
        "DELETE FROM marketplace.price_model",
        "UPDATE marketplace.contract_price SET effective_at = now()",
        "DELETE FROM marketplace.contract_price",
    )
    async with connected(control_plane_url) as connection:
        for change in changes:
            with pytest.raises(RaiseError, match="never changes"):
                await connection.execute(change)
