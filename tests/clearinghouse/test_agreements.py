"""Agreements of operators and EVSPs: who may say what, and that the marketplace has the last word.

Use cases 1497 (create), 1500 (change), 1513 (disable).
"""

from __future__ import annotations

from typing import Any

import pytest

from gem.common.v1.time_range_pb2 import TimeRange
from gem.marketplace.v1 import contract_pb2
from gem.roaming.v1 import clearing_contract_pb2 as wire
from tests.clearinghouse.house import (
    CARD,
    EVSP,
    FUTURE,
    OPERATOR,
    PAST,
    House,
    contract,
    instant,
    new_request_id,
    refused,
    shows,
)

ALLOWED = ("ALLOWED", "CLEARING_HOUSE_LIST")
UNKNOWN = ("UNKNOWN", "CLEARING_HOUSE_LIST")


def agreement(**fields: Any) -> wire.RoamingAgreement:
    values = {"operator_partner_id": OPERATOR, "evsp_partner_id": EVSP, "currency_code": "EUR"}
    return wire.RoamingAgreement(**{**values, **fields})


@pytest.mark.usecase(1497)
@pytest.mark.parametrize(
    ("who", "fields", "reason"),
    [
        ("stranger", {}, "REQUEST_INVALID"),
        (OPERATOR, {}, "STATE_NOT_ALLOWED"),
        (OPERATOR, {"operator_ids": ["DE_ABC"]}, "REQUEST_INVALID"),
        (OPERATOR, {"currency_code": "euro"}, "REQUEST_INVALID"),
        (
            OPERATOR,
            {"validity": TimeRange(start_time=instant(FUTURE), end_time=instant(PAST))},
            "REQUEST_INVALID",
        ),
    ],
)
async def test_an_agreement_that_nobody_made_or_that_breaks_rules_is_not_created(
    house: House, who: str, fields: dict[str, Any], reason: str
) -> None:
    call = house.ask(who, "CreateRoamingAgreement", agreement=agreement(**fields))
    assert await refused(call) == reason
    assert not (await house.ask(OPERATOR, "ListRoamingAgreements")).agreements


@pytest.mark.usecase(1497)
async def test_a_contract_in_the_marketplace_is_an_agreement_and_its_parties_detail_it_once(
    house: House,
) -> None:
    made = await house.agree(operator_ids=["DE*ABC"], broadcast_allowed=True)
    assert (made.version_number, made.operator_ids) == (2, ["DE*ABC"])
    assert made.market_contract_id == f"c-{OPERATOR}-{EVSP}"
    assert made.state == wire.CLEARING_CONTRACT_STATE_ACTIVE
    again = house.ask(OPERATOR, "CreateRoamingAgreement", agreement=agreement())
    assert await refused(again) == "ALREADY_EXISTS"


@pytest.mark.usecase(1497)
async def test_a_repeated_command_has_its_first_result_and_another_under_its_id_is_refused(
    house: House,
) -> None:
    await house.agree()
    (held,) = (await house.ask(EVSP, "ListRoamingAgreements")).agreements
    change = {"agreement": held, "expected_version_number": 2, "request_id": new_request_id()}
    first = await house.ask(EVSP, "ChangeRoamingAgreement", **change)
    assert await house.ask(EVSP, "ChangeRoamingAgreement", **change) == first
    other = {**change, "expected_version_number": 3}
    assert await refused(house.ask(EVSP, "ChangeRoamingAgreement", **other)) == "REQUEST_ID_REUSED"


@pytest.mark.usecase(1500)
async def test_strangers_meet_nobodys_agreements(house: House) -> None:
    made = await house.agree()
    assert not (await house.ask("stranger", "ListRoamingAgreements")).agreements
    for rpc, fields in (
        ("GetRoamingAgreement", {"agreement_id": made.agreement_id}),
        ("ChangeRoamingAgreement", {"agreement": made, "expected_version_number": 2}),
        ("DisableRoamingAgreement", {"agreement_id": made.agreement_id}),
    ):
        assert await refused(house.ask("stranger", rpc, **fields)) == "NOT_FOUND"


@pytest.mark.usecase(1500)
async def test_a_change_on_an_old_version_of_the_parties_or_of_consent_is_refused(
    house: House,
) -> None:
    made = await house.agree()

    async def changed(who: str, version: int = 2, **fields: Any) -> str:
        wanted = wire.RoamingAgreement()
        wanted.CopyFrom(made)
        wanted.MergeFrom(wire.RoamingAgreement(**fields))
        return await refused(
            house.ask(
                who, "ChangeRoamingAgreement", agreement=wanted, expected_version_number=version
            )
        )

    assert await changed(OPERATOR, version=1) == "CONFLICT"
    assert await changed(OPERATOR, evsp_partner_id="stranger") == "REQUEST_INVALID"
    disabled = wire.CLEARING_CONTRACT_STATE_DISABLED
    assert await changed(OPERATOR, state=disabled) == "REQUEST_INVALID"
    assert await changed(OPERATOR, broadcast_allowed=True) == "ROLE_NOT_ALLOWED"
    assert (
        await house.ask(EVSP, "GetRoamingAgreement", agreement_id=made.agreement_id)
    ).agreement == made


@pytest.mark.usecase(1500)
async def test_a_change_takes_effect_on_the_next_question(house: House) -> None:
    made = await house.agree()
    await house.hold(contract())
    assert await house.decided(shows(CARD)) == ALLOWED
    made.operator_ids.append("DE*XYZ")
    await house.ask(OPERATOR, "ChangeRoamingAgreement", agreement=made, expected_version_number=2)
    assert await house.decided(shows(CARD)) == UNKNOWN
    assert await house.decided(shows(CARD), evse_id="DE*XYZ*E5") == ALLOWED


@pytest.mark.usecase(1500)
async def test_an_agreement_whose_time_is_over_is_not_in_force(house: House) -> None:
    made = await house.agree(validity=TimeRange(end_time=instant(PAST)))
    await house.hold(contract())
    assert made.validity.end_time == instant(PAST)
    assert await house.decided(shows(CARD)) == UNKNOWN


@pytest.mark.usecase(1513)
@pytest.mark.parametrize("who", [OPERATOR, EVSP])
async def test_either_party_disables_for_ever_and_requests_are_refused_from_then_on(
    house: House, who: str
) -> None:
    made = await house.agree()
    await house.hold(contract())
    assert await house.decided(shows(CARD)) == ALLOWED
    key = {"agreement_id": made.agreement_id}
    ended = (await house.ask(who, "DisableRoamingAgreement", **key)).agreement
    assert ended.state == wire.CLEARING_CONTRACT_STATE_DISABLED
    assert await house.decided(shows(CARD)) == UNKNOWN
    assert await refused(house.ask(who, "DisableRoamingAgreement", **key)) == "STATE_NOT_ALLOWED"
    change = house.ask(who, "ChangeRoamingAgreement", agreement=made, expected_version_number=3)
    assert await refused(change) == "STATE_NOT_ALLOWED"
    # Not even the marketplace's contract brings it back.
    house.stand.tell(made.market_contract_id, OPERATOR, EVSP)
    await house.follow()
    kept = (await house.ask(EVSP, "GetRoamingAgreement", **key)).agreement
    assert (kept.state, kept.version_number) == (ended.state, 3)


@pytest.mark.usecase(1500, 1513)
async def test_an_agreement_follows_its_contract_through_suspension_to_its_end(
    house: House,
) -> None:
    made = await house.agree()
    await house.hold(contract())
    steps = (
        (contract_pb2.CONTRACT_STATE_SUSPENDED, UNKNOWN),
        (contract_pb2.CONTRACT_STATE_ACTIVE, ALLOWED),
        (contract_pb2.CONTRACT_STATE_TERMINATED, UNKNOWN),
    )
    for state, expected in steps:
        house.stand.tell(made.market_contract_id, OPERATOR, EVSP, state=state)
        await house.follow()
        assert await house.decided(shows(CARD)) == expected
    key = {"agreement_id": made.agreement_id}
    held = (await house.ask(EVSP, "GetRoamingAgreement", **key)).agreement
    assert held.state == wire.CLEARING_CONTRACT_STATE_DISABLED


@pytest.mark.usecase(1497)
async def test_lists_come_in_pages_in_the_order_of_creation(house: House) -> None:
    for number in range(3):
        await house.agree(operator=f"op-{number}")
    first = await house.ask(EVSP, "ListRoamingAgreements", page={"page_size": 2})
    token = first.page.next_page_token
    rest = await house.ask(EVSP, "ListRoamingAgreements", page={"page_token": token})
    found = [each.operator_partner_id for each in (*first.agreements, *rest.agreements)]
    assert found == ["op-0", "op-1", "op-2"]
    assert not rest.page.next_page_token
    wrong = house.ask(EVSP, "ListRoamingAgreements", page={"page_token": "no token"})
    assert await refused(wrong) == "REQUEST_INVALID"
