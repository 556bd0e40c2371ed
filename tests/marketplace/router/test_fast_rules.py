"""The quick check never passes a message in which protovalidate finds something."""

from __future__ import annotations

from random import Random
from typing import Any

import protovalidate
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.answers import search_answer
from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import contract_service_pb2, partner_service_pb2
from marketplace.router.fast_rules import compile_rules

VALIDATOR = protovalidate.Validator()
TYPES = (
    evse_search_service_pb2.SearchEvsesResponse,
    evse_search_service_pb2.SearchEvsesRequest,
    evse_search_service_pb2.GetEvseRequest,
    partner_service_pb2.RegisterPartnerRequest,
    contract_service_pb2.CreateContractRequest,
)
TEXTS = ("", "A", "EUR", "eur", "DE*ABC*E1", "DE*ABC*E1\n", "x" * 65, "é" * 128, "x" * 300, "DE")
NUMBERS = (0, 1, 3, 6, 7, 9, 10, 50, 1000, 1439, 1440, 1441, 900_000_000, 900_000_001, 2**31 - 1)


def nothing_found(message: Any) -> bool:
    return not VALIDATOR.collect_violations(message)


CHECKS = {kind: compile_rules(kind.DESCRIPTOR, nothing_found) for kind in TYPES}


def fill(message: Any, random: Random, depth: int = 0) -> None:
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.5 or (depth > 3 and field.message_type is not None):
            continue
        if field.is_repeated:
            for _ in range(random.randrange(3)):
                if field.message_type is not None:
                    fill(getattr(message, field.name).add(), random, depth + 1)
                else:
                    getattr(message, field.name).append(scalar(field, random))
        elif field.message_type is not None:
            getattr(message, field.name).SetInParent()
            fill(getattr(message, field.name), random, depth + 1)
        else:
            setattr(message, field.name, scalar(field, random))


def scalar(field: FieldDescriptor, random: Random) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        text = random.choice(TEXTS)
        return text.encode() if field.type == FieldDescriptor.TYPE_BYTES else text
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return random.choice((0, 1, 2, 5, 99))
    signed = field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    return random.choice(NUMBERS) * (random.choice((1, 1, 1, -1)) if signed else 1)


@settings(max_examples=400, deadline=None)
@given(random=st.randoms(use_true_random=False), kind=st.sampled_from(TYPES))
def test_what_passes_the_quick_check_has_no_violation(random: Random, kind: Any) -> None:
    message = kind()
    fill(message, random)
    if CHECKS[kind](message):
        assert nothing_found(message)


@settings(max_examples=300, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_a_valid_answer_with_one_field_changed_passes_only_if_protovalidate_agrees(
    random: Random,
) -> None:
    kind = evse_search_service_pb2.SearchEvsesResponse
    answer = kind.FromString(search_answer("ABC", 3))
    inside: Any = random.choice(answer.evses)
    inside = random.choice((inside, inside.connectors[0], inside.tariffs[0], inside.location))
    plain = [one for one in inside.DESCRIPTOR.fields if not one.is_repeated]
    field = random.choice([one for one in plain if one.message_type is None])
    setattr(inside, field.name, scalar(field, random))
    assert CHECKS[kind](answer) == nothing_found(answer)


def test_an_ordinary_answer_passes_without_asking_protovalidate() -> None:
    def never(_: Any) -> bool:
        pytest.fail("protovalidate was asked")

    kind = evse_search_service_pb2.SearchEvsesResponse
    assert compile_rules(kind.DESCRIPTOR, never)(kind.FromString(search_answer("ABC", 5)))


def test_a_final_newline_does_not_pass_a_pattern() -> None:
    kind = evse_search_service_pb2.SearchEvsesResponse
    answer = kind.FromString(search_answer("ABC", 1))
    answer.evses[0].tariffs[0].currency_code = "EUR\n"
    assert not CHECKS[kind](answer)
