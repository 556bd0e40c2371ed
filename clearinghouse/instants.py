"""Instants and ranges between messages and the database, where an open end is infinity."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from clearinghouse.refusals import invalid
from gem.common.v1.time_range_pb2 import TimeRange

#: `-infinity` and `infinity` of PostgreSQL as the driver takes them.
ALWAYS_SINCE = datetime.min.replace(tzinfo=UTC)
ALWAYS_UNTIL = datetime.max.replace(tzinfo=UTC)


def stored(instant: datetime) -> datetime:
    """Give an instant as the driver reads it: its infinities have no zone."""
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def timestamp(instant: datetime) -> Timestamp:
    """Give an aware instant as a message."""
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message


def instant_of(message: Timestamp, field: str) -> datetime:
    """Give a message's instant; MarketError REQUEST_INVALID where no calendar has it."""
    try:
        found: datetime = message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise invalid(field, "an instant of the years 1 to 9999", "timestamp") from None
    return found


def range_of(message: TimeRange, field: str) -> tuple[datetime, datetime]:
    """Give both ends of a range; an open one is `ALWAYS_SINCE` or `ALWAYS_UNTIL`."""
    since, until = ALWAYS_SINCE, ALWAYS_UNTIL
    if message.HasField("start_time"):
        since = instant_of(message.start_time, f"{field}.start_time")
    if message.HasField("end_time"):
        until = instant_of(message.end_time, f"{field}.end_time")
    return since, until


def fill_range(message: TimeRange, since: datetime, until: datetime) -> None:
    """Write a range; open ends stay unset."""
    if since != ALWAYS_SINCE:
        message.start_time.CopyFrom(timestamp(since))
    if until != ALWAYS_UNTIL:
        message.end_time.CopyFrom(timestamp(until))
