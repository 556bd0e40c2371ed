"""From a row to a situation, and from a decision to the answer and what is kept of it: pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.authorization import Decision, Reach, decide
from clearinghouse.authorization_record import (
    Shown,
    method_of,
    read_shown,
    render_decision,
    situation_of,
    valid_until,
)
from clearinghouse.authorization_text import display_text
from clearinghouse.customer_contract import ContractReader
from clearinghouse.evsp_question import EvspAnswer
from clearinghouse.instants import ALWAYS_UNTIL
from clearinghouse.token_hash import TokenHashing
from foundation.errors import MarketError
from foundation.identifiers import CheckPolicy
from foundation.validation import violations
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationMethod,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.clearing_contract_pb2 import CustomerContract, ServiceLevel
from gem.roaming.v1.identification_pb2 import (
    Identification,
    IdentificationKind,
    TokenStatus,
    WhitelistPolicy,
)
from tests.clearinghouse.house import by_contract, shows

pytestmark = pytest.mark.usecase(1502, 1512)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LASTING = timedelta(minutes=15)
HASHING = TokenHashing(b"k" * 32)
READER = ContractReader(HASHING, CheckPolicy.WARN)
RFID = IdentificationKind.IDENTIFICATION_KIND_RFID
PAYMENT = IdentificationKind.IDENTIFICATION_KIND_PAYMENT_REFERENCE
PREPAID = IdentificationKind.IDENTIFICATION_KIND_PREPAID
ALLOWED = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
BLOCKED = AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED
LIST = DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST
NOBODY = DecidingLayer.DECIDING_LAYER_UNSPECIFIED
BY_CARD = Shown(RFID, None, b"h" * 32)
#: As the driver reads infinity.
FOREVER = datetime.max  # noqa: DTZ901  # without a zone on purpose
SINCE_EVER = datetime.min  # noqa: DTZ901  # without a zone on purpose


def row(**changes: Any) -> dict[str, Any]:
    """Give a row of somebody who may charge by the list."""
    content = CustomerContract(
        contract_id="DE-EVS-C00000001", language="de", service_level=ServiceLevel(max_power_w=1)
    )
    plain = {
        "now": NOW,
        "evsp_id": "evsp",
        "agreed": True,
        "contract_key": "DEEVSC00000001",
        "version_number": 1,
        "active": True,
        "policy": WhitelistPolicy.WHITELIST_POLICY_ALWAYS,
        "valid_from": SINCE_EVER,
        "valid_until": FOREVER,
        "roaming_allowed": True,
        "content": content.SerializeToString(),
        "has_token": True,
        "status": TokenStatus.TOKEN_STATUS_VALID,
        "expires_at": FOREVER,
        "kind": RFID,
        "blacklisted": False,
        "broadcast_to": None,
        "payment_used": False,
    }
    return {**plain, **changes}


def nobody(**changes: Any) -> dict[str, Any]:
    """Give a row of somebody whom no list has."""
    empty = {name: None for name in row() if name not in {"now", "blacklisted", "payment_used"}}
    return row(**{**empty, **changes})


def answer(**fields: Any) -> EvspAnswer:
    return EvspAnswer("evsp", AuthorizationDecision(status=ALLOWED, **fields), "")


def decided(found: dict[str, Any], shown: Shown = BY_CARD) -> tuple[int, int]:
    outcome = decide(situation_of(found, shown, NOBODY))
    assert isinstance(outcome, Decision)
    return outcome.status, outcome.layer


def test_infinity_of_the_database_is_no_end() -> None:
    contract = situation_of(row(), BY_CARD, NOBODY).contract
    assert contract is not None
    assert (contract.validity.since, contract.validity.until) == (None, None)
    assert contract.token is not None
    assert contract.token.expires_at is None


def test_a_row_without_a_contract_is_a_situation_without_one() -> None:
    found = situation_of(nobody(broadcast_to=["evsp"]), BY_CARD, NOBODY, Reach.UNREACHABLE)
    assert found.contract is None
    assert found.agreement_in_force is None
    assert found.may_broadcast
    assert found.reach is Reach.UNREACHABLE


def test_a_card_that_is_not_the_contracts_blocks_and_none_at_all_does_not() -> None:
    with_other = Shown(RFID, "DEEVSC00000001", b"x" * 32)
    without = row(has_token=False, status=None, expires_at=None, kind=None)
    assert decided(without, with_other) == (BLOCKED, LIST)
    assert decided(without, Shown(RFID, "DEEVSC00000001", None)) == (ALLOWED, LIST)


@pytest.mark.parametrize(
    ("changes", "paid"),
    [
        ({}, True),
        ({"status": TokenStatus.TOKEN_STATUS_NO_CREDIT}, False),
        ({"expires_at": NOW}, False),
        ({"expires_at": NOW + HOUR}, True),
        ({"active": False}, False),
        ({"valid_until": NOW}, False),
        ({"payment_used": True}, False),
    ],
)
def test_a_payment_is_good_only_as_long_as_all_of_it_is(
    changes: dict[str, Any], paid: bool
) -> None:
    shown = Shown(PAYMENT, None, b"h" * 32)
    assert situation_of(row(**changes), shown, NOBODY).payment_valid is paid
    assert situation_of(row(**changes), BY_CARD, NOBODY).payment_valid is None
    assert situation_of(nobody(), shown, NOBODY).payment_valid is False


def test_what_is_shown_is_known_by_contract_else_by_hash() -> None:
    both = by_contract(token_uid="04A1B2C3", kind=RFID)
    assert read_shown(both, READER, HASHING).identity_key == "DEEVSC00000001"
    card = read_shown(shows("04A1B2C3"), READER, HASHING)
    assert card.identity_key == HASHING.token(RFID, "04A1B2C3").hex()
    assert card.payment_hash is None
    paid = Identification(kind=PAYMENT, payment_reference="p", contract_id="DE-EVS-C00000001")
    payment = read_shown(paid, READER, HASHING)
    assert payment.contract_key is None, "a payment has no contract"
    assert payment.payment_hash == payment.token_hash
    prepaid = read_shown(Identification(kind=PREPAID, payment_reference="p"), READER, HASHING)
    assert prepaid.is_payment
    assert prepaid.payment_hash is None, "it serves more than once"
    with pytest.raises(MarketError):
        read_shown(shows("1"), READER, HASHING)


@pytest.mark.parametrize(
    ("kind", "layer", "method"),
    [
        ("RFID", "CLEARING_HOUSE_LIST", "REQUEST"),
        ("RFID", "EVSP", "REQUEST"),
        ("RFID", "EVSE_LIST", "WHITELIST"),
        ("APP", "OPERATOR_LIST", "WHITELIST"),
        ("PHONE", "EVSP", "CALL_CENTRE"),
        ("PREPAID", "OPEN_ACCESS", "OPEN_ACCESS"),
        ("PAYMENT_REFERENCE", "OPEN_ACCESS", "OPEN_ACCESS"),
    ],
)
def test_how_it_came_about_is_said_as_records_say_it(kind: str, layer: str, method: str) -> None:
    found = method_of(
        IdentificationKind.Value(f"IDENTIFICATION_KIND_{kind}"),
        DecidingLayer.Value(f"DECIDING_LAYER_{layer}"),
    )
    assert AuthorizationMethod.Name(found) == f"AUTHORIZATION_METHOD_{method}"


@given(
    contract_h=st.none() | st.integers(1, 100),
    token_h=st.none() | st.integers(1, 100),
    evsp_s=st.none() | st.integers(-(10**9), 10**9),
)
def test_nobody_may_start_after_contract_token_or_evsp_end(
    contract_h: int | None, token_h: int | None, evsp_s: int | None
) -> None:
    minutes = timedelta(minutes=1)
    ends = [NOW + LASTING]
    found = row()
    if contract_h is not None:
        found["valid_until"] = NOW + contract_h * minutes
        ends.append(found["valid_until"])
    if token_h is not None:
        found["expires_at"] = NOW + token_h * minutes
        ends.append(found["expires_at"])
    told = None
    if evsp_s is not None:
        at = int(NOW.timestamp()) + evsp_s
        told = answer(valid_until_time=Timestamp(seconds=at))
        ends.append(datetime.fromtimestamp(at, UTC))
    until = valid_until(found, told, LASTING)
    assert until == max(NOW, min(ends))


@pytest.mark.parametrize("status", [each for each in AuthorizationStatus.values() if each > 1])
def test_a_refusal_says_why_and_nothing_of_contract_or_evsp(status: Any) -> None:
    rendered = render_decision(
        Decision(status, LIST), row(), BY_CARD, None, reference="r", session_id="s", until=NOW
    )
    assert not violations(rendered)
    assert rendered.display_text == display_text(status, "de")
    for name in ("session_id", "contract_id", "evsp_partner_id"):
        assert not getattr(rendered, name)
    assert not rendered.HasField("valid_until_time")
    assert not rendered.HasField("service_level")


def test_an_allowed_customer_gets_what_his_evsp_says_now_before_what_it_said_once() -> None:
    told = answer(service_level=ServiceLevel(max_power_w=7), display_text="Hello")
    fields: dict[str, Any] = {"reference": "r", "session_id": "s", "until": NOW + HOUR}
    by_evsp = render_decision(Decision(ALLOWED, LIST), row(), BY_CARD, told, **fields)
    assert (by_evsp.service_level.max_power_w, by_evsp.display_text) == (7, "Hello")
    by_list = render_decision(Decision(ALLOWED, LIST), row(), BY_CARD, None, **fields)
    assert by_list.service_level.max_power_w == 1
    assert (by_list.contract_id, by_list.session_id) == ("DE-EVS-C00000001", "s")
    paid = Shown(PAYMENT, None, b"h" * 32)
    open_access = render_decision(Decision(ALLOWED, LIST), row(), paid, None, **fields)
    assert (open_access.contract_id, open_access.evsp_partner_id) == ("", "evsp")


@pytest.mark.parametrize("language", ["", "de", "de-AT", "fr", "en-GB", "xx"])
def test_every_status_has_a_text_in_every_language(language: str) -> None:
    texts = {display_text(status, language) for status in AuthorizationStatus.values() if status}
    assert len(texts) == 6
    assert all(0 < len(each) <= 512 for each in texts)
    if language in {"", "xx", "en-GB"}:
        assert "Welcome. You can charge now." in texts


def test_the_aware_infinity_is_what_rows_without_zone_mean() -> None:
    assert valid_until(row(), None, LASTING) == NOW + LASTING
    assert ALWAYS_UNTIL.tzinfo is UTC
