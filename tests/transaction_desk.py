"""TransactionService without a network: readers with their roles, and a log to fill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from google.protobuf.message import Message

from foundation.database import open_engine
from foundation.validation import violations
from gem.common.v1.paging_pb2 import PageRequest
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_pb2 import ServiceTransaction
from gem.options.v1.options_pb2 import AccessRole
from interceptors.access import AccessCheck
from interceptors.call import Call, Caller, FailedCall
from interceptors.core_services import CoreServices
from marketplace.router.target import TransactionEntry
from marketplace.storage_transaction_write import write_first
from marketplace.transaction_batch import Batch
from marketplace.transaction_servicer import TransactionServicer
from tests.interceptors.support import make_call
from tests.transaction_log_support import connected

OPERATORS = (AccessRole.ACCESS_ROLE_BUSINESS_OPERATOR, AccessRole.ACCESS_ROLE_TECHNICAL_OPERATOR)
SERVICE = wire.DESCRIPTOR.services_by_name["TransactionService"]
T0_NS = 1_790_000_000_000_000_000
TIMED_OUT = 4


class Reader:
    """The service as one caller sees it; every answer is checked against the catalogue's rules."""

    def __init__(self, core: CoreServices, subject_id: str, role: int) -> None:
        self._core = core
        self._access = AccessCheck(core.access(), lambda _: False)
        self._caller = Caller(subject_id, frozenset({role}), bytes(32))

    async def ask(self, method: str, request: Message) -> Any:
        (answer,) = await self.stream(method, request)
        return answer

    async def stream(self, method: str, request: Message) -> list[Any]:
        call = self.call(method, request)
        await self.served(call)
        answer_class = getattr(wire, f"{method}Response")
        answers = [answer_class.FromString(raw) for raw in call.wire.written]  # type: ignore[attr-defined]  # a MemoryWire
        assert [violations(answer) for answer in answers] == [()] * len(answers)
        return answers

    def call(self, method: str, request: Message) -> Call:
        path = f"/{SERVICE.full_name}/{method}"
        return make_call(request.SerializeToString(), method=path, caller=self._caller)

    async def served(self, call: Call) -> None:
        await self._access(call, self._core.methods()[call.method])

    async def listed(
        self, page_size: int = 1000, order: int = 0, **which: Any
    ) -> list[ServiceTransaction]:
        return await self._all_pages(
            "ListTransactions",
            lambda page: wire.ListTransactionsRequest(
                filter=wire.TransactionFilter(**which),
                page=page,
                order=order,  # type: ignore[arg-type]  # an enum value
            ),
            "transactions",
            page_size,
        )

    async def failed(self, page_size: int = 1000, **which: Any) -> list[Any]:
        return await self._all_pages(
            "ListFailedCalls",
            lambda page: wire.ListFailedCallsRequest(page=page, **which),
            "failed_calls",
            page_size,
        )

    async def totals(self, page_size: int = 1000, **which: Any) -> list[Any]:
        return await self._all_pages(
            "SummarizeTransactions",
            lambda page: wire.SummarizeTransactionsRequest(
                filter=wire.TransactionFilter(**which), page=page
            ),
            "totals",
            page_size,
        )

    async def _all_pages(
        self, method: str, request: Callable[[PageRequest], Message], field: str, page_size: int
    ) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            page = PageRequest(page_size=page_size, page_token=token)
            answer = await self.ask(method, request(page))
            assert len(getattr(answer, field)) <= page_size
            found += getattr(answer, field)
            token = answer.page.next_page_token
            if not token:
                return found


class Desk:
    """Readers of one database, and a way to fill it."""

    def __init__(self, url: str, servicer: TransactionServicer) -> None:
        self._url = url
        self._core = CoreServices(violations)
        self._core.add(SERVICE, servicer)

    def partner(self, partner_id: str) -> Reader:
        return Reader(self._core, partner_id, AccessRole.ACCESS_ROLE_PARTNER)

    def operator(self, role: int = OPERATORS[0]) -> Reader:
        return Reader(self._core, "somebody", role)

    async def keep(self, *records: TransactionEntry | FailedCall) -> None:
        async with connected(self._url) as connection:
            finals = [record for record in records if isinstance(record, TransactionEntry)]
            failed = [record for record in records if isinstance(record, FailedCall)]
            await write_first(connection, uuid4(), Batch(finals=finals, failed=failed))


@asynccontextmanager
async def opened_desk(url: str, pool_size: int = 2) -> AsyncIterator[Desk]:
    """Open the service on a database."""
    engine = open_engine(url, pool_size)
    try:
        yield Desk(url, TransactionServicer(engine))
    finally:
        await engine.dispose()
