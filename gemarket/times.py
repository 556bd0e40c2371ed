"""Instants as they are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def instant_of(text: str) -> Timestamp:
    """Read an instant of ISO 8601, in UTC unless it says otherwise; ValueError."""
    made = Timestamp()
    try:
        instant = datetime.fromisoformat(text)
        made.FromDatetime(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        # The first and the last hours of the calendar may lie outside it in UTC.
        raise ValueError(f"{text!r} is no time of ISO 8601, such as 2026-02-01T08:00") from None
    return made
