"""PartnerService over a real database (use cases 1374, 1379, 1380)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1.partner_pb2 import PartnerState
from gem.marketplace.v1.partner_service_pb2 import BlockingContracts
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    PROFILE,
    TECHNICAL,
    ControlPlane,
    fields_of,
)
from tests.interceptors.support import raises

OPERATOR_ID = IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID
PROVIDER_ID = IdentifierKind.IDENTIFIER_KIND_PROVIDER_ID


async def _count(plane: ControlPlane, table: str) -> int:
    async with plane.engine.connect() as connection:
        counted = await connection.scalar(text(f"SELECT count(*) FROM marketplace.{table}"))
    return int(counted or 0)


@pytest.mark.usecase(1374)
@pytest.mark.parametrize(
    ("missing", "field"),
    [
        ({"profile": None}, "profile"),
        ({"profile": {**PROFILE, "company_name": ""}}, "profile.company_name"),
        ({"profile": {**PROFILE, "postal_address": ""}}, "profile.postal_address"),
        ({"profile": {**PROFILE, "country_code": "Germany"}}, "profile.country_code"),
        ({"profile": {**PROFILE, "responsible_person": None}}, "profile.responsible_person"),
        (
            {"profile": {**PROFILE, "responsible_person": {"full_name": "A", "email": "nobody"}}},
            "profile.responsible_person.email",
        ),
        ({"partner_id": "Not A Label"}, "partner_id"),
        ({"roles": [0]}, "roles[0]"),
        ({"request_id": ""}, "request_id"),
    ],
)
async def test_an_incomplete_registration_names_the_field_and_registers_nothing(
    plane: ControlPlane, missing: dict[str, Any], field: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.register(missing.pop("partner_id", "acme"), **missing)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert fields_of(caught.value) == [field]
    assert await _count(plane, "partner") == 0


@pytest.mark.usecase(1374)
async def test_without_the_partner_contract_nothing_is_registered(plane: ControlPlane) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.register("acme", accepted_partner_contract_version=0)
    assert fields_of(caught.value) == ["accepted_partner_contract_version"]
    assert await _count(plane, "partner") == 0


@pytest.mark.usecase(1374)
async def test_a_partner_is_registered_once(plane: ControlPlane) -> None:
    await plane.register("acme")
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await plane.register("acme")
    assert await _count(plane, "partner_event") == 1


async def test_an_identifier_has_one_owner_however_it_is_spelled(plane: ControlPlane) -> None:
    await plane.register("acme", identifiers=[{"kind": OPERATOR_ID, "value": "DE*ABC"}])
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await plane.register("volt", identifiers=[{"kind": OPERATOR_ID, "value": "deabc"}])
    assert await _count(plane, "partner") == 1
    # The same characters as a provider id are another identifier.
    await plane.register("volt", identifiers=[{"kind": PROVIDER_ID, "value": "DE-ABC"}])


async def test_only_the_owner_loses_an_identifier(plane: ControlPlane) -> None:
    identifier = {"kind": OPERATOR_ID, "value": "DE*ABC"}
    await plane.register("acme", identifiers=[identifier])
    await plane.register("volt")
    remove = "PartnerService/RemovePartnerIdentifier"
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await plane.ask(BUSINESS, remove, partner_id="volt", identifier=identifier)
    freed = await plane.ask(BUSINESS, remove, partner_id="acme", identifier=identifier)
    assert not freed.partner.identifiers
    add = "PartnerService/AddPartnerIdentifier"
    given = await plane.ask(BUSINESS, add, partner_id="volt", identifier=identifier)
    assert [item.value for item in given.partner.identifiers] == ["DEABC"]


@pytest.mark.parametrize(
    "method", ["RegisterPartner", "ActivatePartner", "InactivatePartner", "ListPartners"]
)
async def test_a_partner_runs_no_accounts(plane: ControlPlane, method: str) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await plane.ask("acme", f"PartnerService/{method}")


async def test_a_partner_sees_itself_and_nobody_else(plane: ControlPlane) -> None:
    await plane.partner("acme")
    await plane.partner("volt")
    for other in ("volt", "nobody"):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)) as caught:
            await plane.ask("acme", "PartnerService/GetPartner", partner_id=other)
        # Another's and nobody's look the same.
        assert caught.value.message == "There is no such partner, or it is not yours to see."
    found = await plane.ask("acme", "PartnerService/GetPartner")
    assert found.partner.profile.responsible_person.email == "ada@volt.example"


@pytest.mark.usecase(1380)
async def test_a_partner_with_contracts_is_not_inactivated(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    inactivate = "PartnerService/InactivatePartner"
    for party in ("evsp", "volt"):
        with pytest.raises(MarketError) as caught:
            await plane.ask(BUSINESS, inactivate, partner_id=party)
        assert caught.value.reason == ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED
        (blocking,) = caught.value.details
        assert isinstance(blocking, BlockingContracts)
        assert list(blocking.contract_ids) == [contract.contract_id]
    await plane.ask(BUSINESS, "ContractService/TerminateContract", contract_id=contract.contract_id)
    done = await plane.ask(BUSINESS, inactivate, partner_id="volt")
    assert done.partner.state == PartnerState.PARTNER_STATE_INACTIVE


@pytest.mark.usecase(1380, 1485)
async def test_a_contract_and_an_inactivation_at_once_never_both_succeed(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    results: tuple[Any, Any] = await asyncio.gather(
        plane.contract("evsp", service),
        plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="volt"),
        return_exceptions=True,
    )
    assert [isinstance(result, MarketError) for result in results].count(True) == 1


@pytest.mark.usecase(1374, 1379)
async def test_registration_and_activation_are_remembered_with_who_did_it(
    plane: ControlPlane,
) -> None:
    registered = await plane.register("acme", EVSP, EVSE_OPERATOR)
    assert registered.state == PartnerState.PARTNER_STATE_REGISTERED
    assert list(registered.roles) == sorted([EVSP, EVSE_OPERATOR])
    assert not registered.HasField("profile"), "personal data stays out of stored results"
    activated = await plane.ask(BUSINESS, "PartnerService/ActivatePartner", partner_id="acme")
    assert activated.partner.state == PartnerState.PARTNER_STATE_ACTIVE
    await plane.ask(BUSINESS, "PartnerService/SetPartnerRoles", partner_id="acme", roles=[EVSP])
    async with plane.engine.connect() as connection:
        query = "SELECT kind, state, actor FROM marketplace.partner_event ORDER BY position"
        rows = [tuple(row) for row in await connection.execute(text(query))]
    assert rows == [
        ("REGISTERED", "REGISTERED", "operator/business"),
        ("ACTIVATED", "ACTIVE", "operator/business"),
        ("ROLES_SET", "ACTIVE", "operator/business"),
    ]


async def test_partners_are_listed_page_by_page(plane: ControlPlane) -> None:
    for number in range(5):
        await plane.register(f"p{number}", EVSP if number % 2 else EVSE_OPERATOR)
    listed: list[str] = []
    page: dict[str, Any] = {"page_size": 2}
    while True:
        answer = await plane.ask(BUSINESS, "PartnerService/ListPartners", page=page)
        assert len(answer.partners) <= 2
        listed += [partner.partner_id for partner in answer.partners]
        if not answer.page.next_page_token:
            break
        page = {"page_size": 2, "page_token": answer.page.next_page_token}
    assert listed == ["p0", "p1", "p2", "p3", "p4"]
    answer = await plane.ask(BUSINESS, "PartnerService/ListPartners", role=EVSP)
    assert [partner.partner_id for partner in answer.partners] == ["p1", "p3"]
    active = PartnerState.PARTNER_STATE_ACTIVE
    answer = await plane.ask(BUSINESS, "PartnerService/ListPartners", state=active)
    assert not answer.partners
    assert not answer.page.next_page_token


@pytest.mark.parametrize("token", ["%%%", "x", "AA==", "____"])
async def test_a_page_token_that_no_list_gave_is_refused(plane: ControlPlane, token: str) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.ask(BUSINESS, "PartnerService/ListPartners", page={"page_token": token})
    assert fields_of(caught.value) == ["page.page_token"]


@pytest.mark.parametrize("method", ["RegisterPartner", "ActivatePartner", "SetPartnerRoles"])
async def test_accounts_are_not_the_technical_operators(plane: ControlPlane, method: str) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await plane.ask(TECHNICAL, f"PartnerService/{method}")
