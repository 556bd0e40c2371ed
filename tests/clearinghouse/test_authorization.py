"""The decision order and every cell of the whitelist table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse.authorization import (
    WHITELIST,
    AskEvsp,
    Decision,
    HeldContract,
    HeldToken,
    Reach,
    Situation,
    answered,
    by_list,
    decide,
)
from clearinghouse.plausibility_context import Validity
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus, DecidingLayer
from gem.roaming.v1.identification_pb2 import TokenStatus, WhitelistPolicy

few = settings(max_examples=60, deadline=None)
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def status(name: str) -> AuthorizationStatus.ValueType:
    return AuthorizationStatus.Value(f"AUTHORIZATION_STATUS_{name}")


def layer(name: str) -> DecidingLayer.ValueType:
    return DecidingLayer.Value(f"DECIDING_LAYER_{name}")


def policy(name: str) -> WhitelistPolicy.ValueType:
    return WhitelistPolicy.Value(f"WHITELIST_POLICY_{name}")


def token(name: str = "VALID", **more: Any) -> HeldToken:
    return HeldToken(TokenStatus.Value(f"TOKEN_STATUS_{name}"), **more)


def contract(named: str = "ALWAYS", **changes: Any) -> HeldContract:
    return replace(HeldContract(policy(named), Validity(), token()), **changes)


def situation(**changes: Any) -> Situation:
    plain = Situation(
        now=NOW,
        blacklisted=False,
        decided_by=layer("UNSPECIFIED"),
        agreement_in_force=True,
        contract=contract(),
        reach=Reach.REACHABLE,
    )
    return replace(plain, **changes)


def decided(**changes: Any) -> tuple[str, str] | AskEvsp:
    """Give the decision in words: `("ALLOWED", "EVSP")`."""
    decision = decide(situation(**changes))
    if isinstance(decision, AskEvsp):
        return decision
    return (
        AuthorizationStatus.Name(decision.status).removeprefix("AUTHORIZATION_STATUS_"),
        DecidingLayer.Name(decision.layer).removeprefix("DECIDING_LAYER_"),
    )


ASK = AskEvsp()
BY_LIST = ("ALLOWED", "CLEARING_HOUSE_LIST")
REFUSED_BY_LIST = ("BLOCKED", "CLEARING_HOUSE_LIST")
AWAY = ("NOT_ALLOWED", "EVSP_UNREACHABLE")

#: Policy, reach, what is decided about a valid token, what about a blocked one.
CELLS = [
    ("ALWAYS", Reach.REACHABLE, BY_LIST, REFUSED_BY_LIST),
    ("ALWAYS", Reach.UNREACHABLE, BY_LIST, REFUSED_BY_LIST),
    ("ALLOWED", Reach.REACHABLE, BY_LIST, ASK),
    ("ALLOWED", Reach.UNREACHABLE, BY_LIST, REFUSED_BY_LIST),
    ("ALLOWED_OFFLINE", Reach.REACHABLE, ASK, ASK),
    ("ALLOWED_OFFLINE", Reach.UNREACHABLE, BY_LIST, REFUSED_BY_LIST),
    ("NEVER", Reach.REACHABLE, ASK, ASK),
    ("NEVER", Reach.UNREACHABLE, AWAY, AWAY),
]


@pytest.mark.usecase(1502, 1512)
@pytest.mark.parametrize(("named", "reach", "valid", "blocked"), CELLS)
def test_each_cell_of_the_whitelist_table(
    named: str, reach: Reach, valid: Any, blocked: Any
) -> None:
    assert decided(contract=contract(named), reach=reach) == valid
    held = contract(named, token=token("BLOCKED"))
    assert decided(contract=held, reach=reach) == blocked


def test_the_table_has_a_cell_for_every_policy() -> None:
    policies = set(WhitelistPolicy.values()) - {policy("UNSPECIFIED")}
    assert set(WHITELIST) == {(each, reach) for each in policies for reach in Reach}
    assert {(policy(named), reach) for named, reach, _, _ in CELLS} == set(WHITELIST)


@pytest.mark.parametrize("reach", Reach)
@pytest.mark.parametrize("named", ["ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER"])
@pytest.mark.parametrize("listed", ["UNSPECIFIED", "EVSE_LIST", "OPERATOR_LIST"])
def test_a_blacklisted_identity_is_denied_at_once(reach: Reach, named: str, listed: str) -> None:
    found = decided(
        blacklisted=True, contract=contract(named), reach=reach, decided_by=layer(listed)
    )
    assert found == ("BLOCKED", "BLACKLIST")


@pytest.mark.parametrize("listed", ["EVSE_LIST", "OPERATOR_LIST"])
def test_the_lists_of_the_operator_come_before_the_clearing_house(listed: str) -> None:
    assert decided(decided_by=layer(listed), agreement_in_force=False) == ("ALLOWED", listed)


def test_another_layer_cannot_be_reported_as_the_operators() -> None:
    assert decided(decided_by=layer("EVSP"), contract=contract("NEVER")) == ASK


@pytest.mark.parametrize("named", ["ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER"])
@pytest.mark.parametrize("agreement", [False, None])
def test_without_a_contract_of_the_partners_no_customer_may_charge(
    named: str, agreement: bool | None
) -> None:
    found = decided(agreement_in_force=agreement, contract=contract(named))
    assert found == ("NOT_ALLOWED", "ROAMING_AGREEMENT")


def test_a_customer_whom_no_list_has_is_asked_about() -> None:
    assert decided(contract=None) == ASK
    assert decided(contract=None, reach=Reach.UNREACHABLE) == AWAY


def test_only_those_who_opted_in_are_asked_about_somebody_unknown() -> None:
    unknown: dict[str, Any] = {"contract": None, "agreement_in_force": None}
    nobody = ("UNKNOWN", "CLEARING_HOUSE_LIST")
    assert decided(**unknown) == nobody
    assert decided(**unknown, may_broadcast=True) == AskEvsp(broadcast=True)
    assert decided(**unknown, may_broadcast=True, reach=Reach.UNREACHABLE) == nobody
    assert decided(may_broadcast=True, contract=None) == ASK


def test_open_access_is_decided_by_the_payment() -> None:
    assert decided(payment_valid=True, contract=None) == ("ALLOWED", "OPEN_ACCESS")
    assert decided(payment_valid=False, contract=None) == ("NO_CREDIT", "OPEN_ACCESS")
    assert decided(payment_valid=True, blacklisted=True) == ("BLOCKED", "BLACKLIST")


LISTED = [
    ({}, "ALLOWED"),
    ({"token": None}, "ALLOWED"),
    ({"token": token("BLOCKED")}, "BLOCKED"),
    ({"token": token("NO_CREDIT")}, "NO_CREDIT"),
    ({"token": token("UNSPECIFIED")}, "BLOCKED"),
    ({"token": token(expires_at=NOW)}, "EXPIRED"),
    ({"token": token(expires_at=NOW + HOUR)}, "ALLOWED"),
    ({"token": token("BLOCKED", expires_at=NOW - HOUR)}, "EXPIRED"),
    ({"validity": Validity(until=NOW)}, "EXPIRED"),
    ({"validity": Validity(since=NOW + HOUR)}, "NOT_ALLOWED"),
    ({"validity": Validity(since=NOW, until=NOW + HOUR)}, "ALLOWED"),
    ({"roaming_allowed": False}, "NOT_ALLOWED"),
    ({"disabled": True}, "BLOCKED"),
]


@pytest.mark.parametrize(("changes", "expected"), LISTED)
def test_the_list_says_why_somebody_may_not_charge(changes: dict[str, Any], expected: str) -> None:
    assert by_list(contract(**changes), NOW) == status(expected)
    found = decided(contract=contract("ALWAYS", **changes))
    assert found == (expected, "CLEARING_HOUSE_LIST")


@pytest.mark.usecase(1516)
@pytest.mark.parametrize("named", ["ALWAYS", "ALLOWED", "ALLOWED_OFFLINE", "NEVER"])
@pytest.mark.parametrize("reach", Reach)
def test_a_disabled_contract_is_denied_without_a_question(named: str, reach: Reach) -> None:
    held = contract(named, disabled=True)
    assert decided(contract=held, reach=reach) == REFUSED_BY_LIST


@pytest.mark.parametrize(
    ("said", "expected"),
    [("ALLOWED", "ALLOWED"), ("NO_CREDIT", "NO_CREDIT"), ("UNSPECIFIED", "UNKNOWN")],
)
def test_the_answer_of_the_evsp_is_the_decision(said: str, expected: str) -> None:
    decision = answered(status(said))
    assert decision == Decision(status(expected), layer("EVSP"))
    assert decision.allowed == (expected == "ALLOWED")


CONTRACTS = st.builds(
    HeldContract,
    policy=st.sampled_from(WhitelistPolicy.values()),
    validity=st.builds(
        Validity,
        since=st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR]),
        until=st.none() | st.sampled_from([NOW - HOUR, NOW + HOUR]),
    ),
    token=st.none() | st.builds(HeldToken, st.sampled_from(TokenStatus.values())),
    roaming_allowed=st.booleans(),
    disabled=st.booleans(),
)
SITUATIONS = st.builds(
    Situation,
    now=st.just(NOW),
    blacklisted=st.booleans(),
    decided_by=st.sampled_from(DecidingLayer.values()),
    agreement_in_force=st.none() | st.booleans(),
    contract=st.none() | CONTRACTS,
    reach=st.sampled_from(Reach),
    payment_valid=st.none() | st.booleans(),
    may_broadcast=st.booleans(),
)


@few
@given(SITUATIONS)
def test_an_evsp_that_cannot_be_reached_is_never_to_be_asked(given_one: Situation) -> None:
    decision = decide(replace(given_one, reach=Reach.UNREACHABLE))
    assert isinstance(decision, Decision)
    assert decision.status != status("UNSPECIFIED")
    assert decision.layer != layer("UNSPECIFIED")


@few
@given(SITUATIONS)
def test_nobody_charges_by_a_list_that_refuses_him(given_one: Situation) -> None:
    decision = decide(given_one)
    if isinstance(decision, Decision) and decision.layer == layer("CLEARING_HOUSE_LIST"):
        held = given_one.contract
        assert decision.allowed == (held is not None and by_list(held, NOW) == status("ALLOWED"))


@few
@given(SITUATIONS)
def test_a_blacklisted_identity_never_charges(given_one: Situation) -> None:
    decision = decide(replace(given_one, blacklisted=True))
    assert decision == Decision(status("BLOCKED"), layer("BLACKLIST"))
