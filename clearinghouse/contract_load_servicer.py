"""Many customers' contracts at once: loads, streams, and the whitelist of an instant (1514, 1515).

What passes through is never held in memory as a whole: loads wait in staging tables, streams are
read page by page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from clearinghouse.answering import Answering, Context
from clearinghouse.contract_rpcs import ContractRpcs
from clearinghouse.customer_contract import HeldVersion, render_contract
from clearinghouse.customer_contract_servicer import snapshot
from clearinghouse.instants import instant_of
from clearinghouse.parts import Parts
from clearinghouse.refusals import invalid
from clearinghouse.storage import Connection
from clearinghouse.storage_contract_staging import Batch, ContractStaging
from clearinghouse.storage_customer_contract import CustomerContractStorage
from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1.clearing_contract_service_pb2 import LoadMode
from interceptors.provider_side import market_call

#: Most contracts of one load, and longest time of one.
CONTRACTS_MAX = 1_000_000
_STREAM_S = 1800.0
#: Contracts in one message of an answer; with 100 tokens each they stay below 1 MiB.
_PAGE = 100
_REPORTS_PAGE = 1000
_BUSY_RETRY_S = 5.0
_Requests = AsyncIterator[messages.LoadCustomerContractsRequest]
_Report = messages.LoadCustomerContractsResponse


@dataclass(slots=True)
class _Load:
    """One load under way."""

    load_id: UUID
    evsp_id: str
    mode: int
    atomic: bool
    request_id: str
    count: int = 0

    def batch(self, first: int) -> Batch:
        """Give what was loaded from `first` on."""
        return Batch(self.load_id, self.evsp_id, first, self.count - 1)

    def check_same(self, message: messages.LoadCustomerContractsRequest) -> None:
        """Refuse a message that belongs to another load, or one too many."""
        now = (message.request_id, message.mode, message.atomic)
        if now != (self.request_id, self.mode, self.atomic):
            raise invalid("mode", "the same in every message of the stream", "same")
        if self.count + len(message.contracts) > CONTRACTS_MAX:
            raise invalid("contracts", f"at most {CONTRACTS_MAX} in a load", "max_items")


class ContractLoadServicer(ContractRpcs):
    """Serves the part of ClearingContractService that is about many contracts."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._free = asyncio.Semaphore(parts.settings.loads_max)

    async def LoadCustomerContracts(  # noqa: N802  # the rpc's name
        self, requests: _Requests, context: Context
    ) -> AsyncIterator[_Report]:
        """Load contracts of the calling EVSP: all or what changed, together or one by one."""
        async with Answering(context, _STREAM_S), self._turn() as connection:
            load, messages_ = await self._begun(requests)
            if load is None:
                raise MarketError(
                    ErrorReason.ERROR_REASON_REQUEST_COUNT, "A load has one message at least."
                )
            reports = self._atomic if load.atomic else self._each
            async with aclosing(reports(connection, load, messages_)) as made:
                async for report in made:
                    yield report

    async def StreamCustomerContracts(  # noqa: N802  # the rpc's name
        self, request: messages.StreamCustomerContractsRequest, context: Context
    ) -> AsyncIterator[messages.StreamCustomerContractsResponse]:
        """Give the calling EVSP's contracts in the order of their changes, to the last one."""
        evsp_id = market_call().requester_id
        async with Answering(context, _STREAM_S):
            require_valid(request)
            after, more = request.since_sequence, True
            while more:
                async with snapshot(self._parts) as storage:
                    page = await storage.following(evsp_id, after, _PAGE)
                    more = len(page) == _PAGE
                    last = page[-1].sequence if more else await storage.last_sequence(evsp_id)
                after = max(after, last)
                first_time = request.since_sequence == 0
                shown = [held for held in page if held.active or not first_time]
                contracts = map(render_contract, shown)
                yield messages.StreamCustomerContractsResponse(
                    contracts=contracts, up_to_sequence=after
                )

    async def GetWhitelist(  # noqa: N802  # the rpc's name
        self, request: messages.GetWhitelistRequest, context: Context
    ) -> AsyncIterator[messages.GetWhitelistResponse]:
        """Give the calling EVSP's contracts as they were in force at an instant."""
        evsp_id = market_call().requester_id
        async with Answering(context, _STREAM_S):
            require_valid(request)
            at = instant_of(request.at_time, "at_time")
            async with self._parts.pool.acquire() as connection, connection.transaction():
                now = await CustomerContractStorage(connection).settle(evsp_id)
            if at > now:
                raise invalid("at_time", "must not be in the future", "past")
            page: tuple[HeldVersion, ...] = ()
            after, more = "", True
            while more:
                async with snapshot(self._parts) as storage:
                    page = await storage.in_force_at(evsp_id, at, after, _PAGE)
                more = len(page) == _PAGE
                after = page[-1].contract_key if page else after
                yield messages.GetWhitelistResponse(contracts=map(render_contract, page))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Connection]:
        """Lend a connection for a load, if not too many are lent."""
        if self._free.locked():
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "As many loads as may be are under way.",
                retry_after_s=_BUSY_RETRY_S,
            )
        async with self._free, self._parts.pool.acquire() as connection:
            yield connection

    async def _begun(self, requests: _Requests) -> tuple[_Load | None, _Requests]:
        """Read the first message, which says how; give it back as the first of all."""
        checked = self._checked(requests)
        async for first in checked:
            load = _Load(
                load_id=uuid4(),
                evsp_id=market_call().requester_id,
                mode=first.mode,
                atomic=first.atomic,
                request_id=first.request_id,
            )
            return load, _behind(first, checked)
        return None, checked

    async def _checked(self, requests: _Requests) -> _Requests:
        """Give valid messages, each in time."""
        source = aiter(requests)
        while True:
            try:
                async with asyncio.timeout(self._parts.settings.load_idle_s):
                    message = await anext(source, None)
            except TimeoutError:
                raise MarketError(
                    ErrorReason.ERROR_REASON_BUDGET_EXCEEDED, "The load's next message is late."
                ) from None
            if message is None:
                return
            require_valid(message)
            yield message

    async def _stage(
        self,
        staging: ContractStaging,
        load: _Load,
        message: messages.LoadCustomerContractsRequest,
    ) -> Batch:
        load.check_same(message)
        first = load.count
        load.count += len(message.contracts)
        batch = load.batch(first)
        read = [self._parts.reader.try_read(each) for each in message.contracts]
        drafts = await self._parts.owners.checked(staging.connection, load.evsp_id, read)
        await staging.stage(batch, drafts)
        return batch

    async def _each(
        self, connection: Connection, load: _Load, requests: _Requests
    ) -> AsyncGenerator[_Report, None]:
        """Write each message's contracts by themselves."""
        staging = ContractStaging(connection)
        try:
            async for message in requests:
                async with connection.transaction():
                    batch = await self._stage(staging, load, message)
                    await staging.apply(batch)
                    rows = await staging.reports(batch)
                    await staging.forget_tokens(load.load_id)
                yield _Report(reports=map(_report, rows))
            disabled = 0
            if load.mode == LoadMode.LOAD_MODE_FULL:
                async with connection.transaction():
                    disabled = await staging.disable_unnamed(load.load_id, load.evsp_id)
            yield _Report(finished=True, disabled_count=disabled)
        finally:
            await staging.forget(load.load_id)

    async def _atomic(
        self, connection: Connection, load: _Load, requests: _Requests
    ) -> AsyncGenerator[_Report, None]:
        """Write everything or nothing, once everything is there."""
        staging = ContractStaging(connection)
        transaction = connection.transaction()
        await transaction.start()
        done = False
        try:
            async for message in requests:
                await self._stage(staging, load, message)
            everything = load.batch(0)
            await staging.apply(everything)
            refused = await staging.refused(load.load_id)
            disabled = 0
            if load.mode == LoadMode.LOAD_MODE_FULL and not refused:
                disabled = await staging.disable_unnamed(load.load_id, load.evsp_id)
            pages = [page async for page in _pages(staging, everything)]
            await staging.forget(load.load_id)
            if not refused:
                await transaction.commit()
                done = True
        finally:
            if not done:
                await transaction.rollback()
        for page in pages:
            yield page
        yield _Report(finished=True, rolled_back=refused, disabled_count=disabled)


async def _pages(staging: ContractStaging, batch: Batch) -> AsyncIterator[_Report]:
    """Give the reports of a whole load."""
    for first in range(0, batch.last + 1, _REPORTS_PAGE):
        last = min(first + _REPORTS_PAGE - 1, batch.last)
        rows = await staging.reports(Batch(batch.load_id, batch.evsp_id, first, last))
        yield _Report(reports=map(_report, rows))


async def _behind(first: messages.LoadCustomerContractsRequest, rest: _Requests) -> _Requests:
    yield first
    async for message in rest:
        yield message


def _report(row: asyncpg.Record) -> messages.LoadReport:
    found: Any = messages.LoadReport(
        item_index=row["item_index"], field=row["field"], description=row["description"]
    )
    found.status = row["outcome"]
    return found  # type: ignore[no-any-return]  # enum fields take plain numbers
