"""Replays recorded sessions over the market: each party calls for itself, over its own channel.

Contracts, tariffs and agreements first; then authorization, notices and record of each session, a
few sessions at once; then the settlement. A replay that is broken off can simply be run again:
every call's id follows from its session.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
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
from clearinghouse.replay_result import ReplayResult
from clearinghouse.replay_session import RecordedSession
from clearinghouse.request_id import request_id_of
from foundation.bounded_work import several
from gem.common.v1.paging_pb2 import PageRequest
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import settlement_pb2
from gem.roaming.v1 import settlement_service_pb2 as settlement
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gem.roaming.v1.authorization_pb2 import AuthorizationStatus
from gem.roaming.v1.cdr_clearing_pb2 import (
    CdrKey,
    CdrReview,
    CdrState,
    CdrVerdict,
    ClearedCdr,
    PlausibilityReason,
    SubmissionStatus,
)
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
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
_POLL_S = 0.5
#: Worth another try: every call here may be repeated.
_PASSING = {StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED}
#: States out of which records come by themselves.
_ON_THE_WAY = (
    CdrState.CDR_STATE_RECEIVED,
    CdrState.CDR_STATE_ACCEPTED,
    CdrState.CDR_STATE_FORWARDED,
    CdrState.CDR_STATE_REVISED,
)

Metadata = tuple[tuple[str, str], ...]
Advance = Callable[[int], None]
Call = Callable[..., Awaitable[Any]]


class EarlyEndError(Exception):
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
            keeping = ClearingContractServiceStub(self._channels[agreement.operator_partner_id])
            made = contracts.CreateRoamingAgreementRequest(agreement=agreement)
            made.request_id = request_id_of(made)
            await self._call(keeping.CreateRoamingAgreement, made)
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

    async def settle(self, patience_s: float) -> str:
        """Approve what EVSPs have not, and once no record is on its way, run the clearing.

        Gives the run's id; empty where there is nobody to settle for. Records that are still on
        their way after the patience are settled by a later run.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience_s
        operators = list(self._cast.operators.values())
        if not operators:
            return ""
        for operator in operators:
            while await self._are_on_the_way(operator) and clock() < deadline:
                for evsp in self._cast.evsps:
                    await self._approve(evsp)
                if await self._are_on_the_way(operator):
                    await asyncio.sleep(_POLL_S)
        request = settlement.RunClearingRequest(
            request_id=uuid.uuid4().hex, netting=settlement_pb2.NETTING_KIND_MULTILATERAL
        )
        request.period.start_time.FromDatetime(self._cast.first_start - timedelta(days=1))
        request.period.end_time.FromDatetime(self._cast.last_end + timedelta(days=1))
        stub = SettlementServiceStub(self._channels[operators[0].partner_id])
        answer = await self._call(stub.RunClearing, request)
        run_id: str = answer.run.run_id
        return run_id

    async def result(self, sessions: Iterable[RecordedSession], run_id: str) -> ReplayResult:
        """Ask for the state of every record and each party's position, and sum up by ourselves."""
        for operator in self._cast.operators.values():
            async for cdr_id, state in self._states(operator):
                key = f"{operator.partner_id}/{cdr_id}"
                if key in self._outcomes:  # others of the same operators do not count
                    self._outcomes[key] = state
        result = ReplayResult(run_id=run_id)
        for session in sessions:
            key = ""
            if session.is_session:
                operator_id = self._cast.operator_of(session).partner_id
                key = f"{operator_id}/{record_id(session)}"
            result.count(session, self._cast, self._outcomes.get(key, "not told"))
        if run_id:
            for partner_id in self._channels:
                await self._add_positions(partner_id, run_id, result)
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
            self._outcomes[key] = f"not authorized: {_word(name)}"
            return
        granted = Granted(decision.authorization_reference, decision.session_id)
        for notice in notices(session, self._cast, granted):
            await self._call(stub.NotifySession, notice)
        self._outcomes[key] = "on its way"
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
                word = _word(SubmissionStatus.Name(receipt.status))
                self._outcomes[f"{partner_id}/{receipt.cdr_id}"] = word
        if not all_taken.is_set():
            raise EarlyEndError("the clearing house ended a stream before it had every record")

    async def _load(self, evsp: ReplayParty) -> None:
        loaded = list(self._cast.contracts(evsp))

        async def messages() -> AsyncIterator[contracts.LoadCustomerContractsRequest]:
            for start in range(0, len(loaded), _CONTRACTS_PER_MESSAGE):
                request = contracts.LoadCustomerContractsRequest(
                    mode=contracts.LOAD_MODE_DELTA,
                    contracts=loaded[start : start + _CONTRACTS_PER_MESSAGE],
                )
                request.request_id = request_id_of(request)
                yield request

        stub = ClearingContractServiceStub(self._channels[evsp.partner_id])
        call = stub.LoadCustomerContracts(messages(), metadata=self._metadata, timeout=_STREAM_S)
        async for answer in call:
            for report in answer.reports:
                if report.status == contracts.LOAD_STATUS_REFUSED:
                    raise ValueError(f"a contract was refused: {report.description}")

    async def _approve(self, evsp: ReplayParty) -> None:
        """Pull what an EVSP has not acknowledged, approve it, and acknowledge it."""
        stub = ClearingServiceStub(self._channels[evsp.partner_id])
        pull = clearing.PullChargeDetailRecordsRequest(max_count=_PAGE)
        more = True
        while more:
            pulled = await self._call(stub.PullChargeDetailRecords, pull)
            more = pulled.more and bool(pulled.records)
            keys = [
                CdrKey(
                    operator_id=each.record.operator_id,
                    cdr_id=each.record.cdr_id,
                    revision_number=each.revision_number,
                )
                for each in pulled.records
            ]

            async def approve(key: CdrKey) -> None:
                review = CdrReview(
                    operator_id=key.operator_id,
                    cdr_id=key.cdr_id,
                    revision_number=key.revision_number,
                    verdict=CdrVerdict.CDR_VERDICT_APPROVED,
                )
                request = clearing.ReviewChargeDetailRecordRequest(review=review)
                request.request_id = request_id_of(request)
                await self._call(stub.ReviewChargeDetailRecord, request)

            await several(keys, approve, SESSIONS_AT_ONCE)
            if keys:
                done = clearing.AcknowledgeChargeDetailRecordsRequest(keys=keys)
                done.request_id = request_id_of(done)
                await self._call(stub.AcknowledgeChargeDetailRecords, done)

    async def _are_on_the_way(self, operator: ReplayParty) -> bool:
        request = clearing.ListChargeDetailRecordsRequest(
            states=_ON_THE_WAY, page=PageRequest(page_size=1)
        )
        stub = ClearingServiceStub(self._channels[operator.partner_id])
        answer = await self._call(stub.ListChargeDetailRecords, request)
        return bool(answer.records)

    async def _states(self, operator: ReplayParty) -> AsyncIterator[tuple[str, str]]:
        request = clearing.ListChargeDetailRecordsRequest(page=PageRequest(page_size=_PAGE))
        stub = ClearingServiceStub(self._channels[operator.partner_id])
        for _ in range(_MOST_PAGES):
            answer = await self._call(stub.ListChargeDetailRecords, request)
            for cleared in answer.records:
                yield cleared.record.cdr_id, _outcome(cleared)
            request.page.page_token = answer.page.next_page_token
            if not request.page.page_token:
                return

    async def _add_positions(self, partner_id: str, run_id: str, result: ReplayResult) -> None:
        stub = SettlementServiceStub(self._channels[partner_id])
        request = settlement.GetNettingRequest(run_id=run_id)
        answer = await self._call(stub.GetNetting, request)
        for position in answer.positions:
            if position.partner_id == partner_id:
                key = (partner_id, position.net.currency_code)
                result.balances[key] += position.net.amount_micros

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
    reasons = sorted({_word(PlausibilityReason.Name(each.reason)) for each in cleared.findings})
    state = _word(CdrState.Name(cleared.state))
    return f"{state}: {', '.join(reasons)}" if reasons else state


def _word(name: str) -> str:
    prefixes = ("PLAUSIBILITY_REASON_", "AUTHORIZATION_STATUS_", "SUBMISSION_STATUS_", "CDR_STATE_")
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name.lower().replace("_", " ")
