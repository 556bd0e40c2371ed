"""Hands OCPI objects to a clearing house through the market, as one of its partners.

Every command's id follows from its content: an import that is repeated changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from grpc import aio

from clearinghouse.ocpi_session import OcpiSession, notice_of
from clearinghouse.request_id import request_id_of
from foundation.bounded_work import several
from foundation.import_report import Place
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationMethod,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.cdr_clearing_pb2 import SubmissionStatus
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.clearing_contract_pb2 import CustomerContract
from gem.roaming.v1.clearing_contract_service_pb2_grpc import ClearingContractServiceStub
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gem.roaming.v1.tariff_service_pb2_grpc import TariffServiceStub
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from gemarket.console import reason_of

#: Calls that are under way at once.
_CALLS_AT_ONCE = 8
_CONTRACTS_PER_MESSAGE = 200
_RECORDS_PER_MESSAGE = 100
_CALL_S = 30.0
#: A whole stream of any file has to end in this time.
_STREAM_S = 3600.0

Metadata = tuple[tuple[str, str], ...]
Placed = tuple[Place, TariffVersion]
Advance = Callable[[int], None]
T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """What became of the objects that were handed in."""

    #: How many, by what the clearing house said.
    counts: Counter[str] = field(default_factory=Counter)
    #: Place and reason of each that was refused.
    refusals: list[tuple[Place, str]] = field(default_factory=list)

    def refused(self, at: Place, reason: str) -> None:
        """Note a refusal."""
        self.counts["refused"] += 1
        self.refusals.append((at, reason))


@dataclass(frozen=True, slots=True)
class Submission:
    """A partner's connection over which objects are handed in."""

    channel: aio.Channel
    metadata: Metadata
    #: Called with how many objects are done.
    advance: Advance

    async def contracts(
        self, loaded: Sequence[CustomerContract], at: Place, *, full: bool, atomic: bool
    ) -> Outcome:
        """Load customer contracts in one stream."""
        mode = contracts.LOAD_MODE_FULL if full else contracts.LOAD_MODE_DELTA
        outcome = Outcome()

        async def messages() -> AsyncIterator[contracts.LoadCustomerContractsRequest]:
            for number, part in enumerate(_parts(loaded, _CONTRACTS_PER_MESSAGE)):
                request = contracts.LoadCustomerContractsRequest(
                    mode=mode, atomic=atomic, contracts=part
                )
                request.request_id = request_id_of(request, number)
                yield request

        stub = ClearingContractServiceStub(self.channel)
        call = stub.LoadCustomerContracts(messages(), metadata=self.metadata, timeout=_STREAM_S)
        async for answer in call:
            for report in answer.reports:
                if report.status == contracts.LOAD_STATUS_REFUSED:
                    outcome.refused(at / "contracts" / report.item_index, report.description)
                else:
                    outcome.counts[_word(contracts.LoadStatus.Name(report.status))] += 1
            self.advance(len(answer.reports))
            if answer.disabled_count:
                outcome.counts["disabled, not named"] += answer.disabled_count
            if answer.rolled_back:
                outcome.refused(at, "a contract was wrong: the whole load was taken back")
        return outcome

    async def tariffs(self, published: Sequence[Placed]) -> Outcome:
        """Publish versions of tariffs, several at once."""
        stub, outcome = TariffServiceStub(self.channel), Outcome()

        async def publish(placed: Placed) -> None:
            at, version = placed
            version.ClearField("published_time")
            request = tariffs.PublishTariffRequest(version=version)
            request.request_id = request_id_of(request)
            try:
                await stub.PublishTariff(request, metadata=self.metadata, timeout=_CALL_S)
                outcome.counts["published"] += 1
            except aio.AioRpcError as error:
                outcome.refused(at, reason_of(error))
            self.advance(1)

        await several(published, publish, _CALLS_AT_ONCE)
        return outcome

    async def sessions(self, told: Sequence[tuple[Place, OcpiSession]]) -> Outcome:
        """Send notices about sessions; those of one session in the order of their changes."""
        by_session: dict[str, list[tuple[Place, OcpiSession]]] = {}
        for at, session in told:
            by_session.setdefault(session.record.operator_session_id, []).append((at, session))
        outcome = Outcome()

        async def notify(group: list[tuple[Place, OcpiSession]]) -> None:
            reference = ""
            for at, session in sorted(group, key=_changed):
                reference = session.record.authorization_reference or reference
                try:
                    reference = reference or await self._authorize(session)
                    await self._notify(at, session, reference, outcome)
                except aio.AioRpcError as error:
                    outcome.refused(at, reason_of(error))
                self.advance(1)

        await several(by_session.values(), notify, _CALLS_AT_ONCE)
        return outcome

    async def records(self, handed_in: Sequence[tuple[Place, ChargeDetailRecord]]) -> Outcome:
        """Hand in charge detail records in one stream; each is acknowledged by itself."""
        outcome, waiting = Outcome(), iter(handed_in)

        async def messages() -> AsyncIterator[clearing.SubmitChargeDetailRecordsRequest]:
            for part in _parts([record for _, record in handed_in], _RECORDS_PER_MESSAGE):
                request = clearing.SubmitChargeDetailRecordsRequest(records=part)
                request.request_id = request_id_of(request)
                yield request

        stub = ClearingServiceStub(self.channel)
        call = stub.SubmitChargeDetailRecords(messages(), metadata=self.metadata, timeout=_STREAM_S)
        async for answer in call:
            for receipt in answer.receipts:
                at, _ = next(waiting)
                status = _word(SubmissionStatus.Name(receipt.status))
                if receipt.status in _STORED:
                    outcome.counts[status] += 1
                else:
                    texts = [finding.description for finding in receipt.findings]
                    outcome.refused(at, "; ".join([status, *texts]))
            self.advance(len(answer.receipts))
        return outcome

    async def _authorize(self, session: OcpiSession) -> str:
        """Ask for an authorization, or report that of the operator's list, for its reference."""
        record = session.record
        listed = record.authorization_method == AuthorizationMethod.AUTHORIZATION_METHOD_WHITELIST
        request = clearing.AuthorizeRequest(
            evse_id=record.location.evse_id,
            identification=record.identification,
            operator_session_id=record.operator_session_id,
            decided_by=DecidingLayer.DECIDING_LAYER_OPERATOR_LIST
            if listed
            else DecidingLayer.DECIDING_LAYER_UNSPECIFIED,
        )
        request.request_id = request_id_of(request)
        stub = ClearingServiceStub(self.channel)
        answer = await stub.Authorize(request, metadata=self.metadata, timeout=_CALL_S)
        allowed = answer.decision.status == AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
        return answer.decision.authorization_reference if allowed else ""

    async def _notify(
        self, at: Place, session: OcpiSession, reference: str, outcome: Outcome
    ) -> None:
        if not reference:
            outcome.refused(at, "the customer is not authorized")
            return
        notice = notice_of(session, reference)
        if notice is None:
            outcome.counts["not started or invalid"] += 1
            return
        request = clearing.NotifySessionRequest(notice=notice)
        request.request_id = request_id_of(request)
        stub = ClearingServiceStub(self.channel)
        await stub.NotifySession(request, metadata=self.metadata, timeout=_CALL_S)
        outcome.counts["notified"] += 1


_STORED = (
    SubmissionStatus.SUBMISSION_STATUS_STORED,
    SubmissionStatus.SUBMISSION_STATUS_ALREADY_SUBMITTED,
)


def _parts(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _changed(placed: tuple[Place, OcpiSession]) -> tuple[int, int]:
    updated = placed[1].record.updated_time
    return updated.seconds, updated.nanos


def _word(name: str) -> str:
    return (
        name.removeprefix("LOAD_STATUS_")
        .removeprefix("SUBMISSION_STATUS_")
        .lower()
        .replace("_", " ")
    )
