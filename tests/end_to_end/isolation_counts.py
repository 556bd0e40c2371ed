"""Counts in answers: each is of the caller's own things, or of what everybody may count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from google.protobuf.message import Message

_P = "gem.marketplace.v1."
_TERMS = "part of the terms, not a count of anything"
_ENTRY = "of one entry, which is shown whole or not at all"
#: Counts that count nobody's things, and why.
UNCOUNTED: Mapping[str, str] = {
    f"{_P}PerUnitPrice.per_unit_count": _TERMS,
    f"{_P}TieredPrice.per_count": _TERMS,
    f"{_P}PriceTier.from_count": _TERMS,
    f"{_P}StatementCharge.from_count": _TERMS,
    f"{_P}ServiceTransaction.item_count": _ENTRY,
    f"{_P}ServiceTransaction.unit_count": _ENTRY,
    f"{_P}ServiceWish.monthly_call_count": "what the author of a request expects",
    f"{_P}Proposal.votes_for_count": "whoever sees a proposal sees its votes",
    f"{_P}Proposal.votes_against_count": "whoever sees a proposal sees its votes",
}
_OWN_ENTRIES = (
    "SELECT count(*) FROM marketplace.service_transaction WHERE $1 IN (requester_id, provider_id)"
)
#: The most that a caller can count, by the count's full name: only what is its own.
_MOST: Mapping[str, str] = {
    **dict.fromkeys(
        (
            f"{_P}TransactionTotal.transaction_count",
            f"{_P}MonthlyStatement.transaction_count",
            f"{_P}MonthlyStatement.failed_count",
            f"{_P}StatementCharge.call_count",
            f"{_P}StatementCharge.unit_count",
            f"{_P}StatementLine.transaction_count",
            f"{_P}ServiceLevel.counted_count",
            f"{_P}ServiceLevel.ok_count",
            f"{_P}ExportTransactionsResponse.written_count",
            f"{_P}ExportTransactionsResponse.total_count",
        ),
        _OWN_ENTRIES,
    ),
    f"{_P}MarkNotificationsReadResponse.marked_count": "SELECT count(*) FROM marketplace.notice"
    " WHERE recipient_id = $1",
    f"{_P}NotifyServiceRequestersResponse.requester_count": "SELECT count(DISTINCT requester_id)"
    " FROM marketplace.contract WHERE provider_id = $1",
}


class _Watched(Protocol):
    database: Any
    known: Any


async def is_own_count(
    tenancy: _Watched, caller: str, holder: Message, name: str, number: int
) -> bool:
    """Say whether a caller may be told a count; one that nobody decided on is refused."""
    if name in _MOST:
        return number <= int(await tenancy.database.fetchval(_MOST[name], caller))
    has: Any = holder
    if name == f"{_P}ServiceRequest.response_count":
        return not has.HasField("response_count") or has.author_id == caller
    if name == f"{_P}ServiceVersion.unchanged_contract_count":
        row = tenancy.known.get(("service", has.service_id))
        return not number or (row is not None and caller in row.owners)
    return False
