"""Operators and EVSPs read charge detail records; EVSPs that pull acknowledge them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from clearinghouse.answering import Answering, Context
from clearinghouse.cdr_commands import key_of
from clearinghouse.cdr_parts import CdrParts
from clearinghouse.cdr_rendering import MOST_BYTES, render
from clearinghouse.cdr_review import UNDECIDED, Review, take_answers
from clearinghouse.instants import range_of
from clearinghouse.paging import after_number, cut, page_size
from clearinghouse.refusals import not_found
from clearinghouse.storage import Connection, transaction
from clearinghouse.storage_cdr import CdrRow, find, read_many
from clearinghouse.storage_cdr_list import CdrFilter, credit_ids, page
from clearinghouse.storage_delivery import undelivered
from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1 import clearing_service_pb2_grpc as services
from gem.roaming.v1.cdr_clearing_pb2 import CdrKey, CdrState, ClearedCdr
from interceptors.provider_side import market_call

_PULLED = 100
_FIRST = 2**63 - 1


class CdrReadingServicer(services.ClearingServiceServicer):
    """Serves the part of ClearingService that gives records."""

    def __init__(self, parts: CdrParts) -> None:
        self._cdrs = parts

    async def GetChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.GetChargeDetailRecordRequest, context: Context
    ) -> messages.GetChargeDetailRecordResponse:
        """Give one record in its latest revision."""
        async with Answering(context):
            require_valid(request)
            partner_id = market_call().requester_id
            async with self._cdrs.pool.acquire() as connection:
                key = key_of(request.key.operator_id, request.key.cdr_id)
                row = await find(connection, partner_id, key)
                if row is None:
                    raise not_found("charge detail record")
                (record,) = await rendered(connection, [row], partner_id)
        return messages.GetChargeDetailRecordResponse(record=record)

    async def ListChargeDetailRecords(  # noqa: N802  # the rpc's name
        self, request: messages.ListChargeDetailRecordsRequest, context: Context
    ) -> messages.ListChargeDetailRecordsResponse:
        """List records, the latest first; a page ends where the answer would grow too large."""
        async with Answering(context):
            require_valid(request)
            partner_id, size = market_call().requester_id, page_size(request.page)
            wanted = _filter(request)
            async with self._cdrs.pool.acquire() as connection:
                before = after_number(request.page, _FIRST)
                rows = await page(connection, partner_id, wanted, before, size + 1)
                records = await rendered(connection, rows, partner_id)
            fitting = fitting_count(records)
            shown, info = cut(rows, min(size, fitting), lambda row: row.cdr_ref)
        return messages.ListChargeDetailRecordsResponse(records=records[: len(shown)], page=info)

    async def PullChargeDetailRecords(  # noqa: N802  # the rpc's name
        self, request: messages.PullChargeDetailRecordsRequest, context: Context
    ) -> messages.PullChargeDetailRecordsResponse:
        """Give the oldest records that wait for an EVSP, again and again until it has them."""
        async with Answering(context):
            require_valid(request)
            partner_id, size = market_call().requester_id, request.max_count or _PULLED
            async with self._cdrs.pool.acquire() as connection:
                refs = await undelivered(connection, partner_id, size + 1)
                found = await read_many(connection, refs)
                rows = [found[ref] for ref in refs]
                records = await rendered(connection, rows, partner_id)
            count = min(size, fitting_count(records))
        return messages.PullChargeDetailRecordsResponse(
            records=records[:count], more=len(records) > count
        )

    async def AcknowledgeChargeDetailRecords(  # noqa: N802  # the rpc's name
        self, request: messages.AcknowledgeChargeDetailRecordsRequest, context: Context
    ) -> messages.AcknowledgeChargeDetailRecordsResponse:
        """Note that an EVSP has stored records that it pulled."""
        async with Answering(context):
            require_valid(request)
            partner_id = market_call().requester_id
            async with transaction(self._cdrs.pool) as connection:
                known, unknown = await _known(connection, partner_id, request.keys)
                await take_answers(connection, known, partner_id, self._cdrs.clock())
        return messages.AcknowledgeChargeDetailRecordsResponse(unknown_keys=unknown)


async def rendered(
    connection: Connection, rows: Sequence[CdrRow], partner_id: str
) -> list[ClearedCdr]:
    """Give records as a partner sees them."""
    credits_ = await credit_ids(connection, rows)
    return [render(row, partner_id, credits_.get(row.cdr_ref, "")) for row in rows]


def fitting_count(records: Iterable[ClearedCdr]) -> int:
    """Give how many of the first records fit an answer; one always does."""
    count = room = 0
    for record in records:
        room += record.ByteSize() + 8
        if count and room > MOST_BYTES:
            break
        count += 1
    return count


def _filter(request: messages.ListChargeDetailRecordsRequest) -> CdrFilter:
    states = [CdrState.Name(each).removeprefix("CDR_STATE_") for each in request.states]
    since = until = None
    if request.HasField("started"):
        since, until = range_of(request.started, "started")
    return CdrFilter(states, since, until, request.session_id)


async def _known(
    connection: Connection, partner_id: str, keys: Sequence[CdrKey]
) -> tuple[list[Review], list[CdrKey]]:
    """Tell an EVSP's records from what is none of its."""
    known: dict[int, Review] = {}
    unknown = []
    for key in keys:
        row = None
        with suppress(MarketError):
            row = await find(connection, partner_id, key_of(key.operator_id, key.cdr_id))
        if row is None or row.evsp_partner_id != partner_id:
            unknown.append(key)
        else:
            known[row.cdr_ref] = Review(row.cdr_ref, key.revision_number, UNDECIDED)
    return list(known.values()), unknown
