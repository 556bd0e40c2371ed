"""Commands of the control plane take effect once, and say so when the storage is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from foundation.certificates import CertificateAuthority
from foundation.errors import MarketError
from gem.marketplace.v1.contract_pb2 import ContractState
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, PROFILE, ControlPlane, control_plane
from tests.interceptors.support import raises

SUSPEND = "ContractService/SuspendContract"
REUSED = raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)


async def _version(plane: ControlPlane) -> int:
    async with plane.engine.connect() as connection:
        query = text("SELECT version FROM marketplace.routing_version")
        return int(await connection.scalar(query) or 0)


async def test_a_request_id_serves_one_command_only(plane: ControlPlane) -> None:
    one, two = await plane.market("volt", "watt")
    contracts = [await plane.contract("evsp", service) for service in (one, two)]
    await plane.ask("evsp", SUSPEND, contract_id=contracts[0].contract_id, request_id="r")
    with pytest.raises(MarketError, check=REUSED):
        await plane.ask("evsp", SUSPEND, contract_id=contracts[1].contract_id, request_id="r")
    # The same fields in another command are other content.
    resume = "ContractService/ResumeContract"
    with pytest.raises(MarketError, check=REUSED):
        await plane.ask("evsp", resume, contract_id=contracts[0].contract_id, request_id="r")


async def test_request_ids_of_two_callers_have_nothing_to_do_with_each_other(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service, request_id="r")
    terminate = "ContractService/TerminateContract"
    ended = await plane.ask("volt", terminate, contract_id=contract.contract_id, request_id="r")
    assert ended.contract.state == ContractState.CONTRACT_STATE_TERMINATED


async def test_a_repeated_command_gives_its_first_result_and_changes_nothing(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service, request_id="make")
    wanted: dict[str, Any] = {"contract_id": contract.contract_id, "request_id": "stop"}
    first = await plane.ask("evsp", SUSPEND, **wanted)
    await plane.ask("evsp", "ContractService/ResumeContract", contract_id=contract.contract_id)
    version = await _version(plane)
    assert await plane.ask("evsp", SUSPEND, **wanted) == first
    assert await plane.contract("evsp", service, request_id="make") == contract
    found = await plane.ask("evsp", "ContractService/GetContract", contract_id=contract.contract_id)
    assert found.contract.state == ContractState.CONTRACT_STATE_ACTIVE
    assert await _version(plane) == version


async def test_repetitions_at_once_make_one_thing(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    made = await asyncio.gather(
        *(plane.contract("evsp", service, request_id="make") for _ in range(4))
    )
    assert len({contract.contract_id for contract in made}) == 1


async def test_a_command_that_failed_can_be_tried_again_with_its_id(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    with pytest.raises(MarketError):
        await plane.contract("evsp", service, section_ids=["price"], request_id="r")
    contract = await plane.contract("evsp", service, request_id="r")
    assert contract.state == ContractState.CONTRACT_STATE_ACTIVE


async def test_a_command_that_fails_changes_no_route(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    version = await _version(plane)
    with pytest.raises(MarketError):
        await plane.contract("evsp", service, section_ids=["price"])
    assert await _version(plane) == version


@pytest.mark.fault
async def test_without_its_database_the_control_plane_is_unavailable(
    authority: CertificateAuthority,
) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with control_plane(nowhere, authority) as plane:
        for method, wanted in (
            (SUSPEND, {"contract_id": "c"}),
            ("ContractService/ListContracts", {}),
        ):
            with pytest.raises(MarketError) as caught:
                await plane.ask("evsp", method, **wanted)
            assert caught.value.reason == ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE
            assert caught.value.retry_after_s


@pytest.mark.fault
async def test_a_connection_that_dies_under_a_command_leaves_it_to_be_repeated(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    wanted: dict[str, Any] = {"contract_id": contract.contract_id, "request_id": "r"}
    async with plane.engine.begin() as holder:
        await holder.execute(text("SELECT 1 FROM marketplace.contract FOR UPDATE"))
        waiting = asyncio.create_task(plane.ask("evsp", SUSPEND, **wanted))
        kill = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        killed = 0
        while not killed:
            # Its own transaction each time: activity is shown as it was at the first look.
            async with plane.engine.connect() as killer:
                killed = int(await killer.scalar(kill) or 0)
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STORAGE_UNAVAILABLE)):
            await waiting
    suspended = await plane.ask("evsp", SUSPEND, **wanted)
    assert suspended.contract.state == ContractState.CONTRACT_STATE_SUSPENDED


@pytest.mark.parametrize(
    ("who", "method", "wanted"),
    [
        ("evsp", "ContractService/GetContract", {"contract_id": "\0"}),
        ("evsp", "ContractService/ListContracts", {"service_id": "a\0b"}),
        ("evsp", SUSPEND, {"contract_id": "\0"}),
        ("evsp", "ContractService/CreateContract", {"offering_id": "\0", "accepted": True}),
        ("evsp", "ServiceRegistryService/ListServices", {"interface_name": "\0"}),
        ("evsp", "InterfaceCatalogService/GetInterface", {"interface_name": "\0"}),
        (BUSINESS, "PartnerService/GetPartner", {"partner_id": "\0"}),
        (
            BUSINESS,
            "PartnerService/RegisterPartner",
            {
                "partner_id": "acme",
                "profile": {**PROFILE, "company_name": "a\0b"},
                "roles": [1],
                "accepted_partner_contract_version": 1,
            },
        ),
    ],
)
async def test_a_nul_in_a_text_is_the_callers_fault(
    plane: ControlPlane, who: str, method: str, wanted: dict[str, Any]
) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await plane.ask(who, method, **wanted)
