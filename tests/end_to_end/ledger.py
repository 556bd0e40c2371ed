"""Reads the transaction log as a party sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gem.common.v1 import paging_pb2
from gem.marketplace.v1 import transaction_pb2, transaction_service_pb2
from tests.end_to_end.whole_market import Party

_PAGES_MAX = 1000
_PAGE_SIZE = 1000


async def entries_of(party: Party) -> list[transaction_pb2.ServiceTransaction]:
    """Give every entry that a party sees, the oldest first, over as many pages as it takes."""
    found: list[transaction_pb2.ServiceTransaction] = []
    page = paging_pb2.PageRequest(page_size=_PAGE_SIZE)
    for _ in range(_PAGES_MAX):
        request = transaction_service_pb2.ListTransactionsRequest(page=page)
        response = await party.log.ListTransactions(request, timeout=20)
        found += response.transactions
        if not response.page.next_page_token:
            break
        page.page_token = response.page.next_page_token
    return sorted(found, key=lambda entry: entry.start_time.ToNanoseconds())


async def statuses_of(party: Party) -> Mapping[int, int]:
    """Count a requester's entries by status."""
    return Counter(entry.status for entry in await entries_of(party))


async def failed_calls_of(party: Party) -> list[tuple[str, int]]:
    """Give method and reason of each call of a party that reached no provider."""
    request = transaction_service_pb2.ListFailedCallsRequest()
    response = await party.log.ListFailedCalls(request, timeout=20)
    return [(call.method, call.reason) for call in response.failed_calls]
