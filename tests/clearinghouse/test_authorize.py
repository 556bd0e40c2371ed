"""Whether a customer may charge, as operators ask it: refusals, lists, EVSPs, payments.

Use cases 1502 and 1512.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from gem.common.v1.time_range_pb2 import TimeRange
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod, AuthorizationStatus
from gem.roaming.v1.identification_pb2 import Identification, IdentificationKind, Token
from tests.clearinghouse.house import (
    CARD,
    CONTRACT,
    EVSE,
    EVSP,
    OPERATOR,
    OTHER_EVSP,
    PAST,
    House,
    by_contract,
    card,
    contract,
    hours,
    instant,
    new_request_id,
    refused,
    shows,
)
from tests.clearinghouse.market_stand import hangs, says

pytestmark = pytest.mark.usecase(1502, 1512)

LIST = "CLEARING_HOUSE_LIST"
ALLOWED, UNKNOWN = ("ALLOWED", LIST), ("UNKNOWN", LIST)
PREPAID = IdentificationKind.IDENTIFICATION_KIND_PREPAID
PAYMENT = IdentificationKind.IDENTIFICATION_KIND_PAYMENT_REFERENCE
PHONE = IdentificationKind.IDENTIFICATION_KIND_PHONE
GUEST = IdentificationKind.IDENTIFICATION_KIND_GUEST


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"identification": shows(), "evse_id": "no EVSE"}, "REQUEST_INVALID"),
        ({"identification": shows("12"), "evse_id": EVSE}, "REQUEST_INVALID"),
        ({"identification": by_contract("no contract id"), "evse_id": EVSE}, "REQUEST_INVALID"),
        ({"identification": Identification(kind=PHONE), "evse_id": EVSE}, "REQUEST_INVALID"),
        ({"identification": shows(), "evse_id": EVSE, "request_id": ""}, "REQUEST_INVALID"),
        ({"identification": shows("with\0nul", kind=GUEST), "evse_id": EVSE}, ""),
        (
            {"identification": shows(), "evse_id": EVSE, "operator_session_id": "a\0b"},
            "REQUEST_INVALID",
        ),
    ],
)
async def test_wrong_data_is_refused_and_nothing_is_decided(
    house: House, fields: dict[str, Any], reason: str
) -> None:
    if not reason:
        # A NUL in what is only hashed harms nobody: no such token is known.
        assert await house.decided(fields["identification"]) == UNKNOWN
        return
    assert await refused(house.ask(OPERATOR, "Authorize", **fields)) == reason
    assert await house.pool.fetchval("SELECT count(*) FROM clearinghouse.authorization") == 0


async def test_without_an_agreement_a_customer_is_as_unknown_as_a_stranger(house: House) -> None:
    await house.hold(contract())
    assert await house.decided(shows(CARD)) == UNKNOWN
    assert await house.decided(shows("FFFFFFFF")) == UNKNOWN
    # Whose a provider id is everybody may know; whether the customer exists shows in nothing.
    agreement = ("NOT_ALLOWED", "ROAMING_AGREEMENT")
    assert await house.decided(by_contract(CONTRACT)) == agreement
    assert await house.decided(by_contract("DE-EVS-C99999999")) == agreement


async def test_a_customer_of_the_list_may_charge_and_the_answer_says_by_what(house: House) -> None:
    await house.agree()
    level = wire.ServiceLevel(
        minimum_level="GOLD",
        max_power_w=22_000,
        roaming_allowed=True,
        value_added_services=[wire.VALUE_ADDED_SERVICE_GREEN_ENERGY],
    )
    held = await house.hold(contract(service_level=level, language="de-AT"))
    decision = await house.authorize(shows("04:a1:b2:c3"), operator_session_id="theirs")
    assert decision.service_level == level
    assert decision.contract_id == held.contract_id == CONTRACT
    assert decision.evsp_partner_id == EVSP
    assert decision.display_text.startswith("Willkommen")
    assert decision.session_id
    lasting = decision.valid_until_time.ToDatetime(UTC) - decision.decided_time.ToDatetime(UTC)
    assert 899 <= lasting.total_seconds() <= 901
    (row,) = await house.pool.fetch("SELECT * FROM clearinghouse.authorization")
    assert row["authorization_reference"] == decision.authorization_reference
    assert (row["contract_version"], row["operator_session_id"]) == (1, "theirs")
    assert (row["evse_key"], row["operator_key"]) == ("DEABCE1", "DEABC")


async def test_a_customer_is_refused_for_the_reason_that_his_contract_gives(house: House) -> None:
    await house.agree()
    now = datetime.now(UTC)
    cases: list[tuple[Token, dict[str, Any], str]] = [
        (card("00000001", "BLOCKED"), {}, "BLOCKED"),
        (card("00000002", "NO_CREDIT"), {}, "NO_CREDIT"),
        (card("00000003", expiry_time=instant(PAST)), {}, "EXPIRED"),
        (card("00000004"), {"validity": TimeRange(end_time=instant(PAST))}, "EXPIRED"),
        (
            card("00000005"),
            {"validity": TimeRange(start_time=instant(now + hours(1)))},
            "NOT_ALLOWED",
        ),
        (
            card("00000006"),
            {"service_level": wire.ServiceLevel(roaming_allowed=False)},
            "NOT_ALLOWED",
        ),
    ]
    for number, (token, fields, expected) in enumerate(cases):
        await house.hold(contract(f"DE-EVS-C0000000{number}", token, **fields))
        decision = await house.authorize(shows(token.token_uid))
        assert (decision.status, decision.session_id) == (
            wire_status(expected),
            "",
        ), expected
        assert not decision.contract_id
        assert not decision.evsp_partner_id
        assert not decision.HasField("service_level")
        assert decision.authorization_reference
        assert decision.display_text


def wire_status(name: str) -> int:
    return AuthorizationStatus.Value(f"AUTHORIZATION_STATUS_{name}")


async def test_a_token_that_is_not_the_contracts_is_nobodys(house: House) -> None:
    await house.agree()
    await house.hold(contract())
    both = by_contract(CONTRACT, token_uid="FFFFFFFF", kind=shows().kind)
    assert await house.decided(both) == ("BLOCKED", LIST)
    assert await house.decided(by_contract(CONTRACT.replace("-", "").lower())) == ALLOWED


async def test_a_repetition_gets_the_first_answer_and_a_reused_id_none(house: House) -> None:
    await house.agree()
    await house.hold(contract())
    request_id = new_request_id()
    answers = await asyncio.gather(
        *(house.authorize(shows(), request_id=request_id) for _ in range(4))
    )
    assert answers == [answers[0]] * 4
    assert await house.pool.fetchval("SELECT count(*) FROM clearinghouse.authorization") == 1
    other = house.authorize(shows("FFFFFFFF"), request_id=request_id)
    assert await refused(other) == "REQUEST_ID_REUSED"
    # Ids are the operator's own.
    await house.agree(operator="other-operator")
    theirs = await house.authorize(shows(), operator="other-operator", request_id=request_id)
    assert theirs.authorization_reference != answers[0].authorization_reference


async def test_what_an_operators_list_decided_is_kept_and_the_blacklist_goes_before_it(
    house: House,
) -> None:
    await house.agree()
    await house.hold(contract())
    assert await house.decided(shows("FFFFFFFF"), decided_by=2) == ("ALLOWED", "EVSE_LIST")
    entry = wire.BlacklistEntry(identification=shows(), reason=wire.BLACKLIST_REASON_STOLEN)
    added = (await house.ask(EVSP, "AddToBlacklist", entry=entry)).entry
    assert await house.decided(shows(), decided_by=3) == ("BLOCKED", "BLACKLIST")
    await house.ask(EVSP, "RemoveFromBlacklist", entry_id=added.entry_id)
    assert await house.decided(shows(), decided_by=3) == ("ALLOWED", "OPERATOR_LIST")


@pytest.mark.parametrize("policy", ["NEVER", "ALLOWED_OFFLINE"])
async def test_the_evsp_decides_where_its_policy_says_so(house: House, policy: str) -> None:
    await house.agree()
    await house.hold(contract(policy=policy))
    house.stand.holders[EVSP] = says("NO_CREDIT", display_text="Top up, please.")
    decision = await house.authorize(shows())
    assert (decision.status, decision.display_text) == (wire_status("NO_CREDIT"), "Top up, please.")
    house.stand.holders[EVSP] = says("ALLOWED", service_level=wire.ServiceLevel(max_power_w=7))
    decision = await house.authorize(shows())
    assert (decision.contract_id, decision.service_level.max_power_w) == (CONTRACT, 7)
    (_, asked), _ = house.stand.asked
    assert (asked.contract_id, asked.identification.token_uid) == (CONTRACT, CARD)
    assert asked.operator_partner_id == OPERATOR
    (session,) = await house.pool.fetch(
        "SELECT evsp_session_id FROM clearinghouse.authorization WHERE session_id IS NOT NULL"
    )
    assert session["evsp_session_id"] == "theirs"


@pytest.mark.fault
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("NEVER", ("NOT_ALLOWED", "EVSP_UNREACHABLE")),
        ("ALLOWED_OFFLINE", ALLOWED),
    ],
)
@pytest.mark.parametrize("away", ["hangs", "no contract", "no marketplace"])
async def test_an_evsp_that_does_not_answer_is_decided_about_within_the_budget(
    house: House, policy: str, expected: tuple[str, str], away: str
) -> None:
    await house.agree()
    await house.hold(contract(policy=policy))
    if away == "hangs":
        house.stand.holders[EVSP] = hangs
    if away == "no marketplace":
        await house.stand.stop()
    started = asyncio.get_running_loop().time()
    assert await house.decided(shows()) == expected
    assert asyncio.get_running_loop().time() - started < 5


async def test_an_evsp_that_stores_no_contracts_is_asked_each_time(house: House) -> None:
    """The alternative of use cases 1497 and 1514: the full round trip."""
    await house.agree()
    house.stand.holders[EVSP] = says("ALLOWED", contract_id="DE-EVS-C00000077")
    house.stand.owners["DEEVS"] = EVSP
    house.stand.holders[OTHER_EVSP] = says("ALLOWED")
    assert await house.decided(by_contract("DE-EVS-C00000077")) == ("ALLOWED", "EVSP")
    assert [evsp_id for evsp_id, _ in house.stand.asked] == [EVSP]
    house.stand.owners["DEOTH"] = OTHER_EVSP
    refusal = ("NOT_ALLOWED", "ROAMING_AGREEMENT")
    assert await house.decided(by_contract("DE-OTH-C00000001")) == refusal
    assert len(house.stand.asked) == 1


async def test_an_unknown_card_is_shown_to_nobody_who_did_not_agree_to_it(house: House) -> None:
    await house.agree()
    await house.agree(evsp=OTHER_EVSP)
    for evsp_id in (EVSP, OTHER_EVSP, "third"):
        house.stand.holders[evsp_id] = says("ALLOWED")
    assert await house.decided(shows()) == UNKNOWN
    assert not house.stand.asked


async def test_an_unknown_card_is_asked_about_among_evsps_that_opted_in(house: House) -> None:
    await house.agree(broadcast_allowed=True)
    await house.agree(evsp=OTHER_EVSP, broadcast_allowed=True)
    await house.agree(evsp="third")
    house.stand.holders = {
        EVSP: hangs,
        OTHER_EVSP: says("ALLOWED", contract_id="DE-OTH-C00000001"),
        "third": says("ALLOWED"),
    }
    decision = await house.authorize(shows())
    assert (decision.evsp_partner_id, decision.contract_id) == (OTHER_EVSP, "DE-OTH-C00000001")
    assert {evsp_id for evsp_id, _ in house.stand.asked} == {EVSP, OTHER_EVSP}
    house.stand.holders = {EVSP: says("UNKNOWN"), OTHER_EVSP: says("EXPIRED")}
    assert await house.decided(shows()) == ("EXPIRED", "EVSP")
    house.stand.holders = {EVSP: says("UNKNOWN"), OTHER_EVSP: hangs}
    assert await house.decided(shows()) == ("UNKNOWN", "EVSP")


async def test_an_evsp_asks_for_its_own_customers_at_its_own_evses(house: House) -> None:
    own = wire.ServiceLevel(roaming_allowed=False, max_power_w=11_000)
    await house.hold(contract(service_level=own))
    assert await house.decided(shows(), operator=EVSP) == ALLOWED
    assert await house.decided(shows(), operator=OTHER_EVSP) == UNKNOWN


async def test_a_call_centre_authorizes_who_it_knows(house: House) -> None:
    """Feature 1277."""
    await house.agree()
    await house.hold(contract(CONTRACT, card("+49 170 1234567", kind=PHONE)))
    by_number = Identification(kind=PHONE, token_uid="+49 170 1234567", payment_reference="case 7")
    by_id = Identification(kind=PHONE, contract_id=CONTRACT, payment_reference="case 8")
    assert await house.decided(by_number) == ALLOWED
    assert await house.decided(by_id) == ALLOWED
    only_case = Identification(kind=PHONE, payment_reference="case 9")
    assert await house.decided(only_case) == UNKNOWN
    methods = await house.pool.fetch("SELECT method FROM clearinghouse.authorization")
    assert {row["method"] for row in methods} == {
        AuthorizationMethod.AUTHORIZATION_METHOD_CALL_CENTRE
    }


async def test_open_access_is_paid_before_or_by_a_payment_that_serves_once(house: House) -> None:
    """Feature 1701: without a contract, and every such answer is kept."""
    await house.agree()
    await house.hold(
        contract(CONTRACT, card("voucher", kind=PREPAID), card("payment", kind=PAYMENT))
    )
    refusal = ("NO_CREDIT", "OPEN_ACCESS")
    prepaid = Identification(kind=PREPAID, payment_reference="voucher")
    payment = Identification(kind=PAYMENT, payment_reference="payment")
    nothing = Identification(kind=PAYMENT, payment_reference="nothing")
    assert await house.decided(nothing) == refusal
    assert await house.decided(Identification(kind=PAYMENT, payment_reference="voucher")) == refusal
    for _ in range(2):
        decision = await house.authorize(prepaid)
        assert (decision.contract_id, decision.evsp_partner_id) == ("", EVSP)
    once = await asyncio.gather(*(house.decided(payment) for _ in range(4)))
    assert sorted(once) == [("ALLOWED", "OPEN_ACCESS"), refusal, refusal, refusal]
    assert await house.decided(payment) == refusal
    kept = await house.pool.fetch(
        "SELECT kind, method, identity_key FROM clearinghouse.authorization"
    )
    assert len(kept) == 9
    assert {row["method"] for row in kept} == {AuthorizationMethod.AUTHORIZATION_METHOD_OPEN_ACCESS}
    assert all(len(row["identity_key"]) == 64 for row in kept)


async def test_a_guest_charges_by_a_number_that_ends(house: House) -> None:
    await house.agree()
    ends = datetime.now(UTC) + hours(0.1)
    guest = card("4711", kind=GUEST, expiry_time=instant(ends))
    await house.hold(contract(CONTRACT, guest))
    decision = await house.authorize(shows("4711", kind=GUEST))
    assert decision.valid_until_time.ToDatetime(UTC) == ends
    endless = contract("DE-EVS-C00000002", card("4712", kind=GUEST))
    assert await refused(house.hold(endless)) == "REQUEST_INVALID"


@pytest.mark.fault
async def test_an_answer_is_given_only_once_it_is_stored(house: House) -> None:
    await house.agree()
    await house.hold(contract())
    async with house.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE clearinghouse.authorization IN EXCLUSIVE MODE")
        call = asyncio.ensure_future(house.authorize(shows()))
        done, _ = await asyncio.wait((call,), timeout=0.3)
        assert not done
    decision = await call
    text = "SELECT authorization_reference FROM clearinghouse.authorization"
    kept = await house.pool.fetchval(text)
    assert decision.authorization_reference == kept


@pytest.mark.fault
async def test_nothing_that_is_stored_or_logged_shows_a_card(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    await house.agree()
    await house.hold(contract(customer_secret="open sesame"))
    house.stand.holders[EVSP] = hangs
    await house.authorize(shows())
    tables = await house.pool.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'clearinghouse'"
    )
    stored = ""
    for row in tables:
        rows = await house.pool.fetch(f"SELECT * FROM clearinghouse.{row['tablename']}")
        stored += repr([tuple(each) for each in rows])
    assert "sesame" not in stored
    assert CARD not in stored
    assert CARD.encode().hex() not in stored
    assert CARD not in "".join(capsys.readouterr())
