"""State machines as tables: which step leads from which state to which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

S = TypeVar("S", bound=StrEnum)
T = TypeVar("T", bound=StrEnum)


def advance(table: Mapping[tuple[S, T], S], state: S, step: T, refusal: str) -> S:
    """Give the state after the step.

    Raises:
        MarketError: STATE_NOT_ALLOWED with `refusal` as its text where the table has no such step.
    """
    after = table.get((state, step))
    if after is None:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            refusal,
            metadata={"state": state.value, "step": step.value},
        )
    return after
