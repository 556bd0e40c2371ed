"""What a customer may change of his contract, as pure rules (use case 1517)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.customer_contract import HeldTokenRow, HeldVersion, render_contract
from clearinghouse.instants import ALWAYS_UNTIL
from clearinghouse.own_change import changed_by_customer, limits_of
from foundation.errors import MarketError, reason_name
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1.clearing_contract_service_pb2 import ChangeOwnContractRequest
from gem.roaming.v1.identification_pb2 import IdentificationKind, TokenStatus

pytestmark = pytest.mark.usecase(1517)

CARD, OTHER = b"c" * 32, b"o" * 32
VALID, BLOCKED = TokenStatus.TOKEN_STATUS_VALID, TokenStatus.TOKEN_STATUS_BLOCKED
EVERYTHING = [each for each in wire.CustomerChange.values() if each]
LIMITS = wire.ServiceLevel(
    minimum_level="GOLD",
    min_power_w=3_700,
    max_power_w=22_000,
    max_energy_wh=50_000,
    roaming_allowed=True,
    value_added_services=[
        wire.VALUE_ADDED_SERVICE_RESERVATION,
        wire.VALUE_ADDED_SERVICE_GREEN_ENERGY,
    ],
)


def held(
    *allowed: int, level: wire.ServiceLevel | None = LIMITS, by_customer: bool = False
) -> HeldVersion:
    """Give a contract with two cards, of which the second is blocked."""
    content = wire.CustomerContract(
        contract_id="DE-EVS-C00000001",
        customer_changes=allowed,  # type: ignore[arg-type]  # plain numbers
    )
    if level is not None:
        content.service_level.CopyFrom(level)
    rfid = IdentificationKind.IDENTIFICATION_KIND_RFID
    return HeldVersion(
        evsp_id="evsp",
        contract_key="DEEVSC00000001",
        version_number=1,
        active=True,
        content=content.SerializeToString(),
        limits=wire.CustomerContract(service_level=level).SerializeToString(),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        tokens=(
            HeldTokenRow(CARD, rfid, "", VALID, ALWAYS_UNTIL),
            HeldTokenRow(OTHER, rfid, "", BLOCKED, ALWAYS_UNTIL, by_customer),
        ),
    )


def wish(**change: Any) -> ChangeOwnContractRequest:
    return ChangeOwnContractRequest(**change)


def reason(contract: HeldVersion, **change: Any) -> str:
    """Give the reason of a refusal."""
    with pytest.raises(MarketError) as caught:
        changed_by_customer(contract, wish(**change))
    return reason_name(caught.value.reason)


def level(**changes: Any) -> wire.ServiceLevel:
    """Give the EVSP's level with some parts changed."""
    made = wire.ServiceLevel()
    made.CopyFrom(LIMITS)
    for name, value in changes.items():
        made.ClearField(name)  # type: ignore[arg-type]  # names of this message
        made.MergeFrom(wire.ServiceLevel(**{name: value}))
    return made


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({"block_token_hash": CARD}, wire.CUSTOMER_CHANGE_BLOCK_TOKEN),
        ({"roaming_allowed": False}, wire.CUSTOMER_CHANGE_ROAMING),
        ({"language": "de"}, wire.CUSTOMER_CHANGE_LANGUAGE),
        ({"service_level": level(max_power_w=11_000)}, wire.CUSTOMER_CHANGE_LIMITS),
        ({"service_level": level(max_energy_wh=1)}, wire.CUSTOMER_CHANGE_LIMITS),
        (
            {"service_level": level(value_added_services=[])},
            wire.CUSTOMER_CHANGE_VALUE_ADDED_SERVICES,
        ),
        ({"service_level": level(roaming_allowed=False)}, wire.CUSTOMER_CHANGE_ROAMING),
    ],
)
def test_each_change_needs_its_own_permission(change: dict[str, Any], allowed: int) -> None:
    others = [each for each in EVERYTHING if each != allowed]
    assert reason(held(*others), **change) == "ROLE_NOT_ALLOWED"
    changed_by_customer(held(allowed), wish(**change))


@pytest.mark.parametrize(
    "too_much",
    [
        level(max_power_w=22_001),
        level(max_power_w=0),
        level(max_energy_wh=50_001),
        level(max_energy_wh=0),
        level(minimum_level="SILVER"),
        level(min_power_w=0),
        level(value_added_services=[wire.VALUE_ADDED_SERVICE_PARKING]),
    ],
)
def test_nobody_gets_more_than_his_evsp_gives(too_much: wire.ServiceLevel) -> None:
    assert reason(held(*EVERYTHING), service_level=too_much) == "REQUEST_INVALID"


def test_roaming_that_the_evsp_does_not_give_cannot_be_switched_on() -> None:
    closed = held(*EVERYTHING, level=wire.ServiceLevel(roaming_allowed=False))
    assert reason(closed, roaming_allowed=True) == "REQUEST_INVALID"
    still = changed_by_customer(closed, wish(roaming_allowed=False))
    assert not still.service_level.roaming_allowed


def test_a_contract_without_a_level_roams_until_its_customer_says_no_and_yes_again() -> None:
    plain = held(*EVERYTHING, level=None)
    assert limits_of(plain) is None
    off = changed_by_customer(plain, wish(roaming_allowed=False))
    assert off.HasField("service_level")
    assert not off.service_level.roaming_allowed
    now = replace(plain, content=off.SerializeToString())
    assert changed_by_customer(now, wish(roaming_allowed=True)).service_level.roaming_allowed


def test_tokens_are_blocked_and_unblocked_by_who_blocked_them() -> None:
    mine, theirs = held(*EVERYTHING, by_customer=True), held(*EVERYTHING)
    assert reason(mine, block_token_hash=b"x" * 32) == "NOT_FOUND"
    assert reason(theirs, unblock_token_hash=OTHER) == "STATE_NOT_ALLOWED"
    assert reason(theirs, unblock_token_hash=CARD) == "STATE_NOT_ALLOWED"
    blocked = changed_by_customer(mine, wish(block_token_hash=CARD))
    assert [token.status for token in blocked.tokens] == [BLOCKED, BLOCKED]
    back = changed_by_customer(mine, wish(unblock_token_hash=OTHER))
    assert [token.status for token in back.tokens] == [VALID, VALID]


@given(
    max_power_w=st.integers(0, 40_000),
    max_energy_wh=st.integers(0, 80_000),
    services=st.sets(st.sampled_from(range(1, 7))),
    roaming=st.booleans(),
)
def test_a_customer_gets_what_he_chooses_exactly_where_it_is_within_what_his_evsp_gave(
    max_power_w: int, max_energy_wh: int, services: set[int], roaming: bool
) -> None:
    wanted = level(
        max_power_w=max_power_w,
        max_energy_wh=max_energy_wh,
        value_added_services=sorted(services),
        roaming_allowed=roaming,
    )
    before = held(*EVERYTHING)
    within = (
        0 < max_power_w <= LIMITS.max_power_w
        and 0 < max_energy_wh <= LIMITS.max_energy_wh
        and services <= set(LIMITS.value_added_services)
    )
    if not within:
        assert reason(before, service_level=wanted) == "REQUEST_INVALID"
        return
    after = changed_by_customer(before, wish(service_level=wanted)).service_level
    assert after == wanted
    # It can be had back, whatever was chosen.
    chosen = render_contract(before)
    chosen.service_level.CopyFrom(after)
    now = replace(before, content=chosen.SerializeToString(), tokens=())
    back = changed_by_customer(now, wish(service_level=LIMITS))
    assert back.service_level == LIMITS
