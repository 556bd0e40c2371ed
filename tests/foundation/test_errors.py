from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from foundation.errors import (
    CODE_OF,
    Code,
    FieldViolation,
    MarketError,
    SettingsError,
    reason_name,
    status_of,
)
from gem.mesh.v1 import error_reason_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason


def _detail(error: MarketError, wanted: type[Message]) -> Message | None:
    for packed in status_of(error).details:
        found = wanted()
        if packed.Unpack(found):
            return found
    return None


def test_every_reason_has_a_code_and_no_code_is_without_a_reason() -> None:
    assert set(CODE_OF) == set(ErrorReason.values()) - {ErrorReason.ERROR_REASON_UNSPECIFIED}


def test_the_codes_are_those_of_grpc() -> None:
    grpc = pytest.importorskip("grpc")
    assert {code.name: code.value[0] for code in grpc.StatusCode} == {
        code.name: code.value for code in Code
    }


@pytest.mark.parametrize("reason", sorted(CODE_OF))
def test_a_reason_travels_with_its_code_and_without_its_prefix(reason: int) -> None:
    error = MarketError(reason, "our words")
    status = status_of(error)
    assert (status.code, status.message) == (CODE_OF[reason], "our words")
    info = _detail(error, error_details_pb2.ErrorInfo)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("gem", reason_name(reason))
    assert not info.reason.startswith("ERROR_REASON_")


def test_the_code_can_be_set_where_a_reason_has_several() -> None:
    reason = ErrorReason.ERROR_REASON_PROVIDER_REFUSED
    assert status_of(MarketError(reason, "x", code=Code.NOT_FOUND)).code == Code.NOT_FOUND


def test_details_are_only_there_where_they_fit() -> None:
    bare = MarketError(ErrorReason.ERROR_REASON_INTERNAL, "x")
    assert len(status_of(bare).details) == 1


def test_violations_waiting_time_resource_and_metadata_reach_the_caller() -> None:
    error = MarketError(
        ErrorReason.ERROR_REASON_RATE_EXCEEDED,
        "x",
        violations=(FieldViolation("area.radius_m", "must be positive", "int32.gt"),),
        retry_after_s=1.25,
        resource=("contract", "c1"),
        metadata={"incident": "42"},
        details=(error_details_pb2.Help(),),
    )
    bad = _detail(error, error_details_pb2.BadRequest)
    assert isinstance(bad, error_details_pb2.BadRequest)
    (violation,) = bad.field_violations
    assert (violation.field, violation.reason) == ("area.radius_m", "int32.gt")
    retry = _detail(error, error_details_pb2.RetryInfo)
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 250_000_000)
    resource = _detail(error, error_details_pb2.ResourceInfo)
    assert isinstance(resource, error_details_pb2.ResourceInfo)
    assert (resource.resource_type, resource.resource_name) == ("contract", "c1")
    info = _detail(error, error_details_pb2.ErrorInfo)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert dict(info.metadata) == {"incident": "42"}
    assert _detail(error, error_details_pb2.Help) is not None


def test_an_unknown_reason_is_a_programmers_error() -> None:
    with pytest.raises(KeyError):
        MarketError(9999, "x")


def test_the_comment_of_every_reason_names_the_code_that_the_table_gives() -> None:
    source = Path(__file__).parents[2] / "proto" / error_reason_pb2.DESCRIPTOR.name
    entry = re.compile(r"((?: *//.*\n)+) *ERROR_REASON_(\w+) = [0-9]+;")
    comments = {name: text for text, name in entry.findall(source.read_text())}
    wrong = [
        reason_name(reason)
        for reason, code in CODE_OF.items()
        if code.name not in comments[reason_name(reason)].replace("\n", " ")
    ]
    assert wrong == []


def test_a_refused_setting_names_its_key_first() -> None:
    error = SettingsError("port", "is taken")
    assert (error.key, str(error)) == ("port", "port: is taken")
