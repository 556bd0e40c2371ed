"""What a requester is told when every provider failed."""

from __future__ import annotations

from itertools import permutations

import pytest

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus, ProviderAnswers
from marketplace.router.merge import ENTRIES_BYTES_MAX, failure_of
from marketplace.router.target import Answer
from tests.merging import target


def failed(reason: int, code: int = 14, number: int = 0) -> Answer:
    return Answer(target(number), AnswerStatus.ANSWER_STATUS_REFUSED, reason=reason, code=code)


REFUSED = ErrorReason.ERROR_REASON_PROVIDER_REFUSED
TIMED_OUT = ErrorReason.ERROR_REASON_PROVIDER_TIMED_OUT


@pytest.mark.parametrize(
    ("failures", "reason", "code"),
    [
        ([(TIMED_OUT, 4), (TIMED_OUT, 4)], TIMED_OUT, Code.DEADLINE_EXCEEDED),
        ([(REFUSED, 5), (REFUSED, 5)], REFUSED, Code.NOT_FOUND),
        ([(REFUSED, 5), (REFUSED, 9)], REFUSED, Code.UNAVAILABLE),
        ([(REFUSED, 5), (TIMED_OUT, 4)], REFUSED, Code.UNAVAILABLE),
        ([(REFUSED, 0)], REFUSED, Code.UNKNOWN),
        ([(REFUSED, 77)], REFUSED, Code.UNKNOWN),
        (
            [(REFUSED, 5), (ErrorReason.ERROR_REASON_IN_DOUBT, 2)],
            ErrorReason.ERROR_REASON_IN_DOUBT,
            Code.UNKNOWN,
        ),
        (
            [(ErrorReason.ERROR_REASON_PROVIDER_EJECTED, 14), (TIMED_OUT, 4)],
            TIMED_OUT,
            Code.DEADLINE_EXCEEDED,
        ),
    ],
)
def test_the_most_telling_reason_speaks_for_all(
    failures: list[tuple[int, int]], reason: int, code: Code
) -> None:
    for order in permutations(failures):
        error = failure_of([failed(*each, number) for number, each in enumerate(order)])
        assert (error.reason, error.code) == (reason, code)


def test_every_reason_that_a_provider_can_fail_for_has_words() -> None:
    for reason in range(80, 90):
        if reason != ErrorReason.ERROR_REASON_BUDGET_EXCEEDED:
            assert failure_of([failed(reason)]).reason == reason


def test_a_failure_lists_its_providers_as_far_as_trailers_go() -> None:
    error = failure_of([failed(TIMED_OUT, 4, number) for number in range(3)])
    (details,) = error.details
    assert isinstance(details, ProviderAnswers)
    assert [entry.provider_id for entry in details.provider_answers] == [
        f"provider-{number}" for number in range(3)
    ]
    many = failure_of([failed(TIMED_OUT, 4, number) for number in range(500)])
    assert isinstance(many, MarketError)
    assert many.metadata == {"providers_asked": "500"}
    assert 0 < many.details[0].ByteSize() <= ENTRIES_BYTES_MAX
