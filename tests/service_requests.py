"""Requests for new services as tests write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

#: More than enough for any test.
_LATER = timedelta(days=30)


def moment(instant: datetime) -> Timestamp:
    """Give an instant as a message."""
    made = Timestamp()
    made.FromDatetime(instant)
    return made


def later(ahead: timedelta = _LATER) -> Timestamp:
    """Give a time ahead."""
    return moment(datetime.now(UTC) + ahead)


def wish(**fields: Any) -> dict[str, Any]:
    """Give what is asked for, with other fields in the place of usual ones."""
    values = {
        "title": "Parking at charging points",
        "description": "Says which charging points have a free parking bay.\nWithin a second.",
        "preconditions": "The point is known by its EVSE id.",
        "postconditions": "The bay is reserved.",
        "category": "parking",
        "country_codes": ["DE", "AT"],
        "region": "Alps",
        "monthly_call_count": 100_000,
        "wished_start_time": later(),
    }
    return {**values, **fields}
