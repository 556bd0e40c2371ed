"""Whatever a partner asks of any rpc: a typed refusal or an answer, never a defect or an echo."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gem.roaming.v1 import (
    clearing_contract_service_pb2,
    clearing_service_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
)
from marketplace.conformance_message import invalid_message, valid_message
from tests.clearinghouse.house import EVSP, OPERATOR, PATIENCE_S, House, contract
from tests.end_to_end.figures import report

pytestmark = [pytest.mark.fault, pytest.mark.usecase(1511, 1512, 1514, 1515, 1516, 1517)]
_MODULES = (
    clearing_contract_service_pb2,
    clearing_service_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
)
_EACH = 12
_AT_ONCE = 16
#: In no answer to a request that has it.
MARK = "Xyzzy"
_TEXTS = (MARK, f"{MARK}\0", f"\u202e{MARK}", f"{MARK}'; --", f"../{MARK}", MARK * 12, "\ud7ff")
_NUMBERS = (0, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
DEFECTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DATA_LOSS,
    }
)


def methods() -> Iterator[MethodDescriptor]:
    """Give every method of the clearing house that is no stream."""
    for module in _MODULES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not method.client_streaming and not method.server_streaming:
                    yield method


def spoil(message: Message, random: Random) -> None:
    """Put texts and numbers into a message that no honest program sends."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                continue
            for inside in value if field.is_repeated else [value]:
                spoil(inside, random)
        elif field.is_repeated or random.random() < 0.6:
            continue
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, random.choice(_TEXTS))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
            setattr(message, field.name, random.choice(_NUMBERS))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_INT32:
            setattr(message, field.name, random.choice(_NUMBERS[:4]))


def requests(method: MethodDescriptor, random: Random) -> Iterator[tuple[Message, bool]]:
    """Give requests, each with whether the rules of the schema forbid it."""
    kind: Any = GetMessageClass(method.input_type)
    for _ in range(_EACH):
        seed = random.getrandbits(32)
        valid, invalid = valid_message(kind, seed), invalid_message(kind, seed)
        if invalid is not None:
            yield invalid, True
        if valid is not None:
            yield valid, False
            spoiled = kind()
            spoiled.CopyFrom(valid)
            spoil(spoiled, random)
            yield spoiled, False


async def status_of(
    house: House, method: MethodDescriptor, request: Message, partner_id: str
) -> grpc.StatusCode:
    """Ask, and give the status; a refusal repeats nothing of the request."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    ask: Any = house.channel.unary_unary(path, type(request).SerializeToString)
    try:
        await ask(request, metadata=house.as_partner(partner_id), timeout=PATIENCE_S)
    except grpc.aio.AioRpcError as error:
        told = f"{error.details()} {error.trailing_metadata()}"
        assert MARK.lower() not in told.lower(), (path, told)
        return error.code()
    return grpc.StatusCode.OK


async def test_no_request_meets_a_defect_and_none_is_repeated_to_who_sent_it(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = Random().getrandbits(32)
    random = Random(seed)
    await house.agree()
    await house.hold(contract())
    counts: Counter[str] = Counter()
    for method in methods():
        asked = list(requests(method, random))
        assert asked, method.full_name
        for start in range(0, len(asked), _AT_ONCE):
            batch = asked[start : start + _AT_ONCE]
            who = random.choice((EVSP, OPERATOR, "stranger"))
            codes = await asyncio.gather(
                *(status_of(house, method, request, who) for request, _ in batch)
            )
            counts.update(code.name for code in codes)
            for (request, forbidden), code in zip(batch, codes, strict=True):
                assert code not in DEFECTS, (seed, method.full_name, code, request)
                if forbidden:
                    assert code is grpc.StatusCode.INVALID_ARGUMENT, (seed, method.full_name)
    assert "defect" not in capsys.readouterr().err
    report("whatever is asked", seed=seed, **counts)
