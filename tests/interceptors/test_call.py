"""Call ids, and reading the one message of a call that takes one."""

from __future__ import annotations

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import new_call_id, read_single
from tests.interceptors.support import make_call, raises

COUNT = ErrorReason.ERROR_REASON_REQUEST_COUNT


@pytest.mark.parametrize("messages", [(), (b"a", b"b")], ids=["none", "two"])
async def test_a_method_that_takes_one_message_refuses_none_and_two(
    messages: tuple[bytes, ...],
) -> None:
    with pytest.raises(MarketError, check=raises(COUNT)):
        await read_single(make_call(*messages))


async def test_an_empty_message_is_a_message() -> None:
    call = make_call(b"")
    assert await read_single(call) == b""
    assert call.single_request


def test_call_ids_are_version_7_sort_by_time_and_do_not_repeat() -> None:
    start_ns = 1_700_000_000_000_000_000
    ids = [new_call_id(start_ns + number * 1_000_000) for number in range(1000)]
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
    assert sorted(ids) == ids
    assert ids[0].int >> 80 == start_ns // 1_000_000
    assert len({new_call_id(start_ns) for _ in range(10_000)}) == 10_000


async def test_the_time_left_is_never_negative() -> None:
    call = make_call(deadline_s=10.0)
    assert (call.remaining_s(4.0), call.remaining_s(11.0)) == (6.0, 0.0)
