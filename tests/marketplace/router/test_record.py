from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.router.ask import IN_DOUBT, OK, REFUSED, TIMED_OUT, pending
from marketplace.router.record import entry_of, intent_of, transaction_id
from marketplace.router.target import Answer
from tests.relay_market import Market, target_of

REQUEST = b"request"
DIGEST = sha256(REQUEST).digest()


def answered(status: int = OK) -> Answer:
    answer = pending(target_of("alpha", price_micros=250), 1_000)
    if status == OK:
        answer.succeed(None, 0)
    else:
        answer.fail(status, 82, 5)
    answer.latency_us, answer.answer_bytes, answer.answer_digest = 1234, 99, b"d" * 32
    answer.item_count = 3
    return answer


@pytest.mark.usecase(1491)
@pytest.mark.parametrize("status", [REFUSED, TIMED_OUT, IN_DOUBT])
def test_an_answer_that_failed_has_no_value(status: int) -> None:
    call = Market().call("Get")
    assert entry_of(call, 0, answered(status), 7, DIGEST).value_micros == 0


@pytest.mark.usecase(1491)
def test_an_entry_says_who_asked_whom_for_what_and_at_which_price() -> None:
    call = Market().call("Get")
    entry = entry_of(call, 0, answered(), len(REQUEST), DIGEST)
    assert entry._asdict() == {
        "transaction_id": call.call_id,
        "call_id": call.call_id,
        "requester_id": "evsp-one",
        "provider_id": "alpha",
        "contract_id": "contract-alpha",
        "service_id": "service-alpha",
        "service_version": "1.2",
        "method": "/gem.relay.v1.RelayService/Get",
        "started_ns": 1_000,
        "duration_us": 1234,
        "status": OK,
        "reason": 0,
        "code": 0,
        "request_bytes": 7,
        "answer_bytes": 99,
        "request_digest": DIGEST,
        "answer_digest": b"d" * 32,
        "item_count": 3,
        "value_micros": 250,
        "currency_code": "EUR",
        "units": None,
        "price_id": None,
    }


def test_an_intent_is_the_entry_without_its_outcome() -> None:
    call = Market().call("Order")
    answer = pending(target_of("alpha"), 1_000)
    intent = intent_of(call, 2, answer, 7, DIGEST)
    assert (intent.status, intent.reason, intent.code, intent.value_micros) == (0, 0, 0, 0)
    final = entry_of(call, 2, answer, 7, DIGEST)
    assert final._replace(status=0, reason=0, code=0) == intent


@given(st.uuids(), st.integers(1, 10_000))
def test_the_providers_of_a_call_have_keys_of_their_own(call_id: UUID, count: int) -> None:
    keys = {transaction_id(call_id, ordinal) for ordinal in range(0, count, max(1, count // 50))}
    assert len(keys) == len(range(0, count, max(1, count // 50)))
    assert transaction_id(call_id, 0) == call_id
