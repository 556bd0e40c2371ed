"""Replays recorded sessions over the market: each party calls for itself, over its own channel.

Contracts, tariffs and agreements first; then authorization, notices and record of each session, a
few sessions at once; then what the settlement came to. A replay that is broken off can simply be
run again: every call's id follows from its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from typing import Any

from grpc import StatusCode, aio

from clearinghouse.replay_cast import Cast, ReplayParty
from clearinghouse.replay_plan import (
    Granted,
    authorize_request,
    notices,
    record_id,
    record_of,
)
from clearinghouse.replay_result import NOT_TOLD, ON_THE_WAY, SENT, ReplayResult, word_of
from clearinghouse.replay_session import RecordedSession
from clearinghouse.request_id import request_id_of
from foundation.bounded_work import several
from foundation.identifiers import owner_key
from gem.common.v1.paging_pb2 import PageRequest
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import settlement_service_pb2 as settlement
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus
from gem.roaming.v1.cdr_clearing_pb2 import (
    CdrState,
    ClearedCdr,
    PlausibilityReason,
    SubmissionStatus,
)
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.clearing_contract_pb2 import RoamingAgreement
from gem.roaming.v1.clearing_contract_service_pb2_grpc import ClearingContractServiceStub
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gem.roaming.v1.settlement_service_pb2_grpc import SettlementServiceStub
from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceStub

_CALL_S = 30.0
_STREAM_S = 3600.0
#: Sessions that are under way at once.
SESSIONS_AT_ONCE = 16
_CONTRACTS_PER_MESSAGE = 200
_RECORDS_PER_MESSAGE = 50
_RECORDS_WAITING = 200
_PAGE = 500
_MOST_PAGES = 10_000
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_POLL_S = 0.2
#: Longest time until a contract in the market is known to the clearing house.
_AGREEMENT_S = 30.0
#: Worth another try: every call here may be repeated.
_PASSING = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED}

Metadata = tuple[tuple[str, str], ...]
Advance = Callable[[int], None]
Call = Callable[..., Awaitable[Any]]


class ReplayFailedError(Exception):
    """The clearing house does not do what a replay needs; the text says what."""


class EarlyEndError(ReplayFailedError):
    """The clearing house ended a stream of records before it had them all."""


class Replay:
    """One replay; `channels` reach the market as each of the cast's partners."""

    def __init__(
        self,
        cast: Cast,
        channels: Mapping[str, aio.Channel],
        *,
        clearing_house: str = "",
        listed: bool = True,
    ) -> None:
        """Make a replay.

        `clearing_house` is its partner id, needed where there are several. `listed` tells it that
        operators' lists decided when the sessions started, as only that can be in the past.
        """
        self._cast = cast
        self._channels = channels
        self._listed = listed
        self._metadata: Metadata = (("gem-provider", clearing_house),) if clearing_house else ()
        self._outcomes: dict[str, str] = {}

    async def prepare(self) -> None:
        """Make agreements, load the customers' contracts and publish the tariffs."""
        cast = self._cast
        for agreement in cast.agreements():
            await self._agree(agreement)
        for evsp in cast.evsps:
            await self._load(evsp)
        for operator in cast.operators.values():
            pricing = TariffServiceStub(self._channels[operator.partner_id])
            published = tariffs.PublishTariffRequest(version=cast.tariff_of(operator))
            published.request_id = request_id_of(published)
            await self._call(pricing.PublishTariff, published)

    async def run(self, sessions: Iterable[RecordedSession], advance: Advance) -> None:
        """Tell the clearing house of all sessions; a refused one has no record.

        Raises:
            aio.AioRpcError: calls fail for longer than it takes to try them several times.
        """
        queues: dict[str, asyncio.Queue[ChargeDetailRecord | None]] = {
            operator.partner_id: asyncio.Queue(_RECORDS_WAITING)
            for operator in self._cast.operators.values()
        }

        async def tell(session: RecordedSession) -> None:
            await self._tell(session, queues)
            advance(1)

        async def tell_all() -> None:
            await several(sessions, tell, SESSIONS_AT_ONCE)
            for queue in queues.values():
                await queue.put(None)

        def work(partner_id: str) -> Awaitable[None]:
            return tell_all() if not partner_id else self._submit(partner_id, queues[partner_id])

        names = ["", *queues]
        await several(names, work, len(names))

    async def wait_for_approvals(self, patience_s: float) -> bool:
        """Wait until no record is on its way; says whether none is, after the patience."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience_s
        for operator in self._cast.operators.values():
            while await self._are_on_the_way(operator):
                if clock() > deadline:
                    return False
                await asyncio.sleep(_POLL_S)
        return True

    async def result(self, sessions: Iterable[RecordedSession]) -> ReplayResult:
        """Ask for the state of every record and each party's balance, and sum up by ourselves."""
        for operator in self._cast.operators.values():
            async for cdr_id, state in self._states(operator):
                key = f"{operator.partner_id}/{cdr_id}"
                if key in self._outcomes:  # others of the same operators do not count
                    self._outcomes[key] = state
        result = ReplayResult()
        for session in sessions:
            key = ""
            if session.is_session:
                operator_id = self._cast.operator_of(session).partner_id
                key = f"{operator_id}/{record_id(session)}"
            result.count(session, self._cast, self._outcomes.get(key, NOT_TOLD))
        ids = {
            (owner_key(operator.owner_id), key.partition("/")[2])
            for operator in self._cast.operators.values()
            for key in self._outcomes
            if key.startswith(f"{operator.partner_id}/")
        }
        for partner_id in self._channels:
            await self._add_balance(partner_id, ids, result)
        return result

    async def _tell(
        self,
        session: RecordedSession,
        queues: Mapping[str, asyncio.Queue[ChargeDetailRecord | None]],
    ) -> None:
        if not session.is_session:
            return
        operator = self._cast.operator_of(session).partner_id
        key = f"{operator}/{record_id(session)}"
        stub = ClearingServiceStub(self._channels[operator])
        asked = authorize_request(session, self._cast, listed=self._listed)
        answer = await self._call(stub.Authorize, asked)
        decision = answer.decision
        if decision.status != AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED:
            name = AuthorizationStatus.Name(decision.status)
            self._outcomes[key] = f"not authorized: {word_of(name)}"
            return
        granted = Granted(decision.authorization_reference, decision.session_id)
        for notice in notices(session, self._cast, granted):
            await self._call(stub.NotifySession, notice)
        self._outcomes[key] = SENT
        record = record_of(session, self._cast, granted, listed=self._listed)
        await queues[operator].put(record)

    async def _submit(
        self, partner_id: str, queue: asyncio.Queue[ChargeDetailRecord | None]
    ) -> None:
        """Hand in an operator's records in one stream, as they come."""
        stub, all_taken = ClearingServiceStub(self._channels[partner_id]), asyncio.Event()
        call = stub.SubmitChargeDetailRecords(
            _batches(queue, all_taken), metadata=self._metadata, timeout=_STREAM_S
        )
        async for answer in call:
            for receipt in answer.receipts:
                if receipt.status == SubmissionStatus.SUBMISSION_STATUS_STORED:
                    continue
                word = word_of(SubmissionStatus.Name(receipt.status))
                self._outcomes[f"{partner_id}/{receipt.cdr_id}"] = word
        if not all_taken.is_set():
            raise EarlyEndError("the clearing house ended a stream before it had every record")

    async def _agree(self, agreement: RoamingAgreement) -> None:
        """Make an agreement, once the clearing house knows of the contract that it follows."""
        stub = ClearingContractServiceStub(self._channels[agreement.operator_partner_id])
        made = contracts.CreateRoamingAgreementRequest(agreement=agreement)
        made.request_id = request_id_of(made)
        clock = asyncio.get_running_loop().time
        deadline = clock() + _AGREEMENT_S
        while True:
            try:
                await self._call(stub.CreateRoamingAgreement, made)
                return
            except aio.AioRpcError as error:
                if error.code() is StatusCode.ALREADY_EXISTS:
                    return  # another replay of the same source made it, with other words
                if error.code() is not StatusCode.FAILED_PRECONDITION or clock() > deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    async def _load(self, evsp: ReplayParty) -> None:
        loaded = list(self._cast.contracts(evsp))
        whole = contracts.LoadCustomerContractsRequest(
            mode=contracts.LOAD_MODE_DELTA, contracts=loaded
        )
        request_id = request_id_of(whole)

        async def messages() -> AsyncIterator[contracts.LoadCustomerContractsRequest]:
            for start in range(0, len(loaded) or 1, _CONTRACTS_PER_MESSAGE):
                part = loaded[start : start + _CONTRACTS_PER_MESSAGE]
                yield contracts.LoadCustomerContractsRequest(
                    request_id=request_id, mode=whole.mode, contracts=part
                )

        stub = ClearingContractServiceStub(self._channels[evsp.partner_id])
        call = stub.LoadCustomerContracts(messages(), metadata=self._metadata, timeout=_STREAM_S)
        async for answer in call:
            for report in answer.reports:
                if report.status == contracts.LOAD_STATUS_REFUSED:
                    raise ReplayFailedError(f"a contract was refused: {report.description}")

    async def _are_on_the_way(self, operator: ReplayParty) -> bool:
        request = clearing.ListChargeDetailRecordsRequest(
            states=ON_THE_WAY, page=PageRequest(page_size=1)
        )
        stub = ClearingServiceStub(self._channels[operator.partner_id])
        answer = await self._call(stub.ListChargeDetailRecords, request)
        return bool(answer.records)

    async def _states(self, operator: ReplayParty) -> AsyncIterator[tuple[str, str]]:
        request = clearing.ListChargeDetailRecordsRequest(page=PageRequest(page_size=_PAGE))
        stub = ClearingServiceStub(self._channels[operator.partner_id])
        async for answer in self._pages(stub.ListChargeDetailRecords, request):
            for cleared in answer.records:
                yield cleared.record.cdr_id, _outcome(cleared)

    async def _add_balance(
        self, partner_id: str, ids: Collection[tuple[str, str]], result: ReplayResult
    ) -> None:
        """Add up a party's statements, as it sees them, as far as they are about these records."""
        stub = SettlementServiceStub(self._channels[partner_id])
        listing = settlement.ListStatementsRequest(page=PageRequest(page_size=_PAGE))
        async for answer in self._pages(stub.ListStatements, listing):
            for statement in answer.statements:
                owed = statement.creditor_partner_id == partner_id
                key = (partner_id, statement.with_tax.currency_code)
                request = settlement.ListStatementLinesRequest(
                    statement_id=statement.statement_id, page=PageRequest(page_size=_PAGE)
                )
                async for page in self._pages(stub.ListStatementLines, request):
                    for line in page.lines:
                        if (owner_key(line.operator_id), line.cdr_id) in ids:
                            result.balances[key] += line.with_tax_micros * (1 if owed else -1)

    async def _pages(self, call: Call, request: Any) -> AsyncIterator[Any]:
        """Call until there is no further page."""
        for _ in range(_MOST_PAGES):
            answer = await self._call(call, request)
            yield answer
            request.page.page_token = answer.page.next_page_token
            if not request.page.page_token:
                return

    async def _call(self, call: Call, request: Any) -> Any:
        """Call, several times where the failure may pass."""
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await call(request, metadata=self._metadata, timeout=_CALL_S)
            except aio.AioRpcError as error:
                if attempt == _ATTEMPTS or error.code() not in _PASSING:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")


async def _batches(
    queue: asyncio.Queue[ChargeDetailRecord | None], all_taken: asyncio.Event
) -> AsyncIterator[clearing.SubmitChargeDetailRecordsRequest]:
    """Give what waits, in messages of bounded size, until there is nothing more."""
    more = True
    while more:
        records: list[ChargeDetailRecord] = []
        while len(records) < _RECORDS_PER_MESSAGE:
            if records and queue.empty():
                break
            record = await queue.get()
            if record is None:
                more = False
                all_taken.set()
                break
            records.append(record)
        if records:
            request = clearing.SubmitChargeDetailRecordsRequest(records=records)
            request.request_id = request_id_of(request)
            yield request


def _outcome(cleared: ClearedCdr) -> str:
    """Give a record's state, of a returned one with every reason."""
    reasons = sorted({word_of(PlausibilityReason.Name(each.reason)) for each in cleared.findings})
    state = word_of(CdrState.Name(cleared.state))
    return f"{state}: {', '.join(reasons)}" if reasons else state
