"""Search of partners, what others see of one, and histories (1373, 1377), on a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_search_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, TECHNICAL, ControlPlane, fields_of
from tests.interceptors.support import raises
from tests.partner_office import Office, profile_of

ACTIVE, REGISTERED = partner_pb2.PARTNER_STATE_ACTIVE, partner_pb2.PARTNER_STATE_REGISTERED
BY_NAME = wire.PARTNER_ORDER_COMPANY_NAME
START = datetime(2026, 1, 1, tzinfo=UTC)
_DE_ABC = {"kind": IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID, "value": "DE*ABC"}


#: Criteria, and who meets them, in order.
CRITERIA: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({}, ["alpha", "beta", "gamma", "omega"]),
    ({"text": "no such company"}, []),
    ({"text": "zETA"}, ["alpha"]),
    ({"text": "GAM"}, ["gamma"]),
    # Signs that PostgreSQL's patterns have are signs here.
    ({"text": "%_"}, ["gamma"]),
    ({"text": "_"}, ["gamma"]),
    ({"states": [REGISTERED]}, ["omega"]),
    ({"states": [REGISTERED, ACTIVE], "roles": [EVSP]}, ["alpha", "gamma", "omega"]),
    ({"roles": [EVSE_OPERATOR]}, ["beta", "gamma"]),
    ({"identifier": "de-abc"}, ["beta"]),
    ({"identifier": "DE*XYZ"}, []),
    ({"country_codes": ["AT", "CH"]}, ["gamma"]),
    ({"register_period": {"start_time": START + timedelta(days=2)}}, ["gamma", "omega"]),
    ({"register_period": {"end_time": START + timedelta(days=1)}}, ["alpha"]),
    ({"order": BY_NAME, "states": [ACTIVE]}, ["gamma", "beta", "alpha"]),
    ({"order": wire.PARTNER_ORDER_LATEST_REGISTERED}, ["omega", "gamma", "beta", "alpha"]),
)  # fmt: skip


@pytest.fixture
async def office(plane: ControlPlane) -> Office:
    """Give a market of four partners, registered a day apart; one is not active."""
    plane.now = START
    await plane.partner("alpha", EVSP, profile=profile_of("a@a.example", company_name="Zeta AG"))
    plane.now = START + timedelta(days=1)
    await plane.partner("beta", EVSE_OPERATOR, identifiers=[_DE_ABC])
    plane.now = START + timedelta(days=2)
    austrian = profile_of("g@g.example", company_name="50%_Strom", country_code="AT")
    await plane.partner("gamma", EVSP, EVSE_OPERATOR, profile=austrian)
    plane.now = START + timedelta(days=3)
    await plane.register("omega", EVSP)
    return Office(plane)


async def search(office: Office, who: str = BUSINESS, **criteria: Any) -> list[str]:
    found = await office.ask(who, "SearchPartners", **criteria)
    return [partner.partner_id for partner in found.partners]


@pytest.mark.usecase(1373)
async def test_operators_find_partners_by_each_criterion(office: Office) -> None:
    for criteria, expected in CRITERIA:
        for who in (BUSINESS, TECHNICAL):
            assert await search(office, who, **criteria) == expected, criteria


@pytest.mark.usecase(1373)
async def test_operators_find_providers_and_requesters_of_services(plane: ControlPlane) -> None:
    office = Office(plane)
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    await plane.partner("idle")
    assert await search(office, activity=wire.PARTNER_ACTIVITY_SERVICE_PROVIDER) == ["volt"]
    assert await search(office, activity=wire.PARTNER_ACTIVITY_SERVICE_REQUESTER) == ["evsp"]
    await plane.ask(BUSINESS, "ContractService/TerminateContract", contract_id=contract.contract_id)
    assert await search(office, activity=wire.PARTNER_ACTIVITY_SERVICE_REQUESTER) == []


@pytest.mark.usecase(1373)
async def test_pages_give_each_partner_once_in_every_order(office: Office) -> None:
    for order in wire.PartnerOrder.values():
        whole = await search(office, order=order)
        paged: list[str] = []
        page: dict[str, Any] = {"page_size": 1}
        while True:
            answer = await office.ask(BUSINESS, "SearchPartners", order=order, page=page)
            paged += [partner.partner_id for partner in answer.partners]
            if not answer.page.next_page_token:
                break
            page = {"page_size": 1, "page_token": answer.page.next_page_token}
        assert paged == whole
        assert len(whole) == 4


@pytest.mark.usecase(1373)
async def test_a_token_of_another_list_is_refused(office: Office) -> None:
    first = await office.ask(BUSINESS, "SearchPartners", page={"page_size": 1})
    for order, token in (
        (BY_NAME, first.page.next_page_token),
        (0, "%%%"),
        (0, "UEFSVE5FUl9JRDo="),
        (0, "UEFSVE5FUl9JRDpub2JvZHk="),
        (0, "UEFSVE5FUl9JRDoA"),
    ):
        with pytest.raises(MarketError) as caught:
            await office.ask(BUSINESS, "SearchPartners", order=order, page={"page_token": token})
        assert fields_of(caught.value) == ["page.page_token"]


@pytest.mark.usecase(1373)
async def test_a_search_is_one_message_that_can_be_kept_and_sent_again(office: Office) -> None:
    kept = wire.SearchPartnersRequest(
        text="a", states=[ACTIVE], roles=[EVSP], country_codes=["DE"], order=3  # type: ignore[arg-type,list-item]  # numbers
    ).SerializeToString()  # fmt: skip
    again = wire.SearchPartnersRequest.FromString(kept)
    (answer,) = await office.plane.send(BUSINESS, "PartnerService/SearchPartners", again)
    assert [partner.partner_id for partner in answer.partners] == ["alpha"]


@pytest.mark.usecase(1373, 1377)
async def test_a_partner_finds_active_ones_by_what_is_public_and_sees_no_more(
    office: Office,
) -> None:
    assert await search(office, "alpha") == ["alpha", "beta", "gamma"]
    assert await search(office, "alpha", text="omega") == []
    found = await office.ask("alpha", "SearchPartners", roles=[EVSE_OPERATOR], text="beta")
    (beta,) = found.partners
    assert {field.name for field, _ in beta.ListFields()} == {
        "partner_id",
        "company_name",
        "country_code",
        "roles",
    }
    assert (await office.ask("alpha", "GetPartnerSummary", partner_id="beta")).partner == beta
    seen = (await office.ask(BUSINESS, "GetPartnerSummary", partner_id="beta")).partner
    assert (seen.state, [item.value for item in seen.identifiers]) == (ACTIVE, ["DEABC"])
    for hidden in ("omega", "nobody"):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
            await office.ask("alpha", "GetPartnerSummary", partner_id=hidden)


@pytest.mark.usecase(1373)
async def test_a_partner_cannot_find_out_by_searching_what_it_may_not_see(office: Office) -> None:
    for field, value in {
        "states": [ACTIVE],
        "identifier": "DE*ABC",
        "register_period": {"start_time": START},
        "activity": wire.PARTNER_ACTIVITY_SERVICE_PROVIDER,
    }.items():
        with pytest.raises(MarketError) as caught:
            await search(office, "alpha", **{field: value})
        assert fields_of(caught.value) == [field]


@pytest.mark.usecase(1377)
async def test_a_partner_reads_its_own_history_and_contract_and_nobody_elses(
    office: Office,
) -> None:
    roles = {"partner_id": "alpha", "roles": [EVSE_OPERATOR]}
    await office.ask(BUSINESS, "SetPartnerRoles", **roles)
    added = {"partner_id": "alpha", "identifier": {**_DE_ABC, "value": "DE*QQQ"}}
    await office.ask(BUSINESS, "AddPartnerIdentifier", **added)
    for who in ("alpha", BUSINESS):
        events = await office.events("alpha", who)
        names = [wire.PartnerEventKind.Name(event.kind) for event in events]
        assert [name.removeprefix("PARTNER_EVENT_KIND_") for name in names] == [
            "REGISTERED",
            "ACTIVATED",
            "ROLES_SET",
            "IDENTIFIER_ADDED",
        ]
        assert {event.actor for event in events} == {"operator/business"}
        assert events[-1].detail == "DEQQQ"
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await office.events("beta", "alpha")
    own = await office.ask("alpha", "GetPartner")
    assert own.partner.revision == 3
    assert own.partner_contract.text.startswith("Between the operator")


@pytest.mark.usecase(1374, 1377)
async def test_a_version_of_the_partner_contract_follows_another_and_binds_who_accepts_it(
    office: Office,
) -> None:
    publish, accept = "PublishPartnerContract", "AcceptPartnerContract"
    words = {"title": "Second", "text": "All new."}
    conflict = raises(ErrorReason.ERROR_REASON_CONFLICT)
    with pytest.raises(MarketError, check=conflict):
        await office.ask(BUSINESS, publish, version=3, **words)
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)):
        await office.ask("alpha", accept, version=1)
    made = await office.ask(BUSINESS, publish, version=2, **words)
    assert (made.partner_contract.version, made.partner_contract.text) == (2, "")
    with pytest.raises(MarketError, check=conflict):
        await office.ask(BUSINESS, publish, version=2, **words)
    # The older text stays readable, for anybody.
    texts = [
        (await office.ask("anybody", "GetPartnerContract", version=version)).partner_contract.text
        for version in (0, 1, 2)
    ]
    assert texts[0] == texts[2] == "All new."
    assert texts[1].startswith("Between the operator")
    listed = await office.ask("anybody", "ListPartnerContracts", page={"page_size": 1})
    assert [each.version for each in listed.partner_contracts] == [2, 1]
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await office.ask("anybody", "GetPartnerContract", version=3)
    with pytest.raises(MarketError) as caught:
        await office.apply("delta", accepted_partner_contract_version=1)
    assert caught.value.metadata == {"current_version": "2"}
    told = await office.rows(
        "SELECT recipient_id FROM marketplace.notice"
        " WHERE kind = 'PARTNER_CONTRACT_PUBLISHED' ORDER BY 1"
    )
    assert [row.recipient_id for row in told] == ["alpha", "beta", "gamma"]

    assert (await office.ask("alpha", "GetPartner")).partner_contract.version == 1
    with pytest.raises(MarketError) as caught:
        await office.ask("alpha", accept, version=1)
    assert fields_of(caught.value) == ["version"]
    await office.ask("alpha", accept, version=2)
    assert (await office.ask("alpha", "GetPartner")).partner_contract.text == "All new."
    assert (await office.events("alpha"))[-1].detail == "version 2"


@pytest.mark.usecase(1373)
@pytest.mark.parametrize("instant", [{"seconds": 2**62}, {"seconds": -(2**62)}, {"nanos": -1}])
async def test_a_period_outside_of_the_calendar_is_refused(
    plane: ControlPlane, instant: dict[str, int]
) -> None:
    for side in ("start_time", "end_time"):
        with pytest.raises(MarketError) as caught:
            await search(Office(plane), register_period={side: instant})
        assert fields_of(caught.value) == ["register_period"]
