"""What requests of the TransactionService mean: conditions on entries of the log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.errors import FieldViolation, MarketError
from gem.common.v1.time_range_pb2 import TimeRange
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.actor import Actor
from marketplace.storage_transaction_filter import EntryFilter, Party, Period, Role, Values

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entry_filter(message: wire.TransactionFilter, actor: Actor) -> EntryFilter:
    """Read a filter; MarketError REQUEST_INVALID where it makes no sense for this actor."""
    return EntryFilter(
        requester_id=message.requester_id,
        provider_id=message.provider_id,
        contract_id=message.contract_id,
        service_id=message.service_id,
        method=message.method,
        call_id=UUID(message.call_id) if message.call_id else None,
        statuses=tuple(message.statuses),
        period=period(message.period, "filter.period"),
        values=_values(message.value) if message.HasField("value") else None,
        party=_party(message, actor),
    )


def period(message: TimeRange, field: str) -> Period:
    """Read a range of time; MarketError REQUEST_INVALID beyond the calendar."""
    start = _instant(message.start_time, field) if message.HasField("start_time") else None
    end = _instant(message.end_time, field) if message.HasField("end_time") else None
    return Period(start, end)


def _instant(message: Timestamp, field: str) -> datetime:
    """Read a time, rounded up to the log's microseconds: exact for both ends of a period."""
    try:
        return _EPOCH + timedelta(seconds=message.seconds, microseconds=-(-message.nanos // 1000))
    except OverflowError:
        violation = FieldViolation(field, "must lie between the years 1 and 9999", "period")
        raise _invalid("The period reaches beyond the calendar.", violation) from None


def _values(message: wire.ValueRange) -> Values:
    return Values(
        message.currency_code,
        message.least_micros if message.HasField("least_micros") else None,
        message.most_micros if message.HasField("most_micros") else None,
    )


def _party(message: wire.TransactionFilter, actor: Actor) -> Party | None:
    if not (message.party_id or message.role or message.counterparty_id):
        return None
    partner_id = message.party_id or (actor.subject_id if actor.is_partner else "")
    if not partner_id:
        violation = FieldViolation("filter.party_id", "must name a partner", "party_id")
        raise _invalid("An operator is no party of transactions.", violation)
    return Party(partner_id, Role(message.role), message.counterparty_id)


def _invalid(text: str, violation: FieldViolation) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_REQUEST_INVALID, text, violations=(violation,))
