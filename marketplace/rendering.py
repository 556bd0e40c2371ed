"""Small turns from values to messages that several servicers need."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

S = TypeVar("S", bound=StrEnum)


def timestamp(instant: datetime) -> Timestamp:
    """Give an aware instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message


def enum_number(enum: _EnumTypeWrapper[Any], prefix: str, value: StrEnum) -> int:
    """Give the number of the proto value that is named like ours behind the prefix."""
    return int(enum.Value(f"{prefix}_{value.value}"))


def enum_member(
    members: type[S], enum: _EnumTypeWrapper[Any], prefix: str, number: int
) -> S | None:
    """Give our value of a proto number; None for the unspecified one."""
    return members(enum.Name(number).removeprefix(f"{prefix}_")) if number else None
