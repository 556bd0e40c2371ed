"""A clearing house, small and in memory, that clears what a replay tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc

from foundation.certificates import read_identity
from gem.common.v1.money_pb2 import Money
from gem.common.v1.paging_pb2 import PageInfo
from gem.roaming.v1 import cdr_clearing_pb2, settlement_pb2
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import settlement_service_pb2 as settlement
from tests.clearing_stand_in import ClearingStandIn

State = cdr_clearing_pb2.CdrState


def caller_of(context: Any) -> str:
    """Give the partner id in the caller's certificate."""
    certificate = context.auth_context()["x509_pem_cert"][0]
    return read_identity(certificate, datetime.now(UTC)).subject_id


@dataclass
class Stored:
    operator: str
    record: Any
    state: int


@dataclass
class ReplayStandIn(ClearingStandIn):
    """Returns records without an end or with negative energy; the others are approved at once."""

    stored: dict[tuple[str, str], Stored] = field(default_factory=dict)
    evsps: dict[str, str] = field(default_factory=dict)
    #: Calls that fail at first, by method.
    failures: Counter[str] = field(default_factory=Counter)
    #: What operators get too much, in millionths.
    too_much_micros: int = 0
    ends_early: bool = False

    async def CreateRoamingAgreement(self, request: Any, context: Any) -> Any:
        async with self._taken("CreateRoamingAgreement", request, context):
            if self.failures["CreateRoamingAgreement"]:
                self.failures["CreateRoamingAgreement"] -= 1
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such contract yet")
            assert caller_of(context) == request.agreement.operator_partner_id
            return contracts.CreateRoamingAgreementResponse(agreement=request.agreement)

    async def LoadCustomerContracts(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            async with self._taken("LoadCustomerContracts", request, context):
                for contract in request.contracts:
                    self.evsps[contract.contract_id] = caller_of(context)
            status = (
                contracts.LOAD_STATUS_REFUSED if self.refused else contracts.LOAD_STATUS_CREATED
            )
            reports = [contracts.LoadReport(status=status) for _ in request.contracts]
            yield contracts.LoadCustomerContractsResponse(reports=reports)

    async def NotifySession(self, request: Any, context: Any) -> Any:
        async with self._taken("NotifySession", request, context):
            if self.failures["NotifySession"]:
                self.failures["NotifySession"] -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            return clearing.NotifySessionResponse()

    async def SubmitChargeDetailRecords(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        operator = caller_of(context)
        async for request in requests:
            if self.ends_early:
                return
            async with self._taken("SubmitChargeDetailRecords", request, context):
                for record in request.records:
                    wrong = not record.HasField("end_time") or record.total_energy_milli_wh < 0
                    state = State.CDR_STATE_RETURNED if wrong else State.CDR_STATE_APPROVED
                    key = (record.operator_id, record.cdr_id)
                    self.stored.setdefault(key, Stored(operator, record, state))
                receipts = [
                    cdr_clearing_pb2.SubmissionReceipt(
                        cdr_id=record.cdr_id,
                        status=cdr_clearing_pb2.SubmissionStatus.SUBMISSION_STATUS_STORED,
                    )
                    for record in request.records
                ]
            yield clearing.SubmitChargeDetailRecordsResponse(receipts=receipts)

    async def ListChargeDetailRecords(self, request: Any, context: Any) -> Any:
        async with self._taken("ListChargeDetailRecords", request, context):
            own = [each for each in self.stored.values() if each.operator == caller_of(context)]
            if request.states:
                own = [each for each in own if each.state in set(request.states)]
            first, size = int(request.page.page_token or 0), request.page.page_size
            records = [self._cleared(each) for each in own[first : first + size]]
            token = str(first + size) if first + size < len(own) else ""
            page = PageInfo(next_page_token=token)
            return clearing.ListChargeDetailRecordsResponse(records=records, page=page)

    async def ListStatements(self, request: Any, context: Any) -> Any:
        async with self._taken("ListStatements", request, context):
            statement = settlement_pb2.SettlementStatement(
                statement_id="all",
                creditor_partner_id=next(iter(self.stored.values())).operator
                if self.stored
                else "",
                with_tax=Money(currency_code="GBP"),
            )
            return settlement.ListStatementsResponse(statements=[statement])

    async def ListStatementLines(self, request: Any, context: Any) -> Any:
        """Give the approved records of whoever asks: there is one operator."""
        async with self._taken("ListStatementLines", request, context):
            caller = caller_of(context)
            lines = [
                settlement_pb2.StatementLine(
                    cdr_id=each.record.cdr_id,
                    operator_id=each.record.operator_id,
                    with_tax_micros=each.record.total_cost.with_tax_micros
                    + self.too_much_micros * (each.operator == caller),
                )
                for each in self.stored.values()
                if each.state == State.CDR_STATE_APPROVED
                and caller in (each.operator, self._evsp_of(each.record))
            ]
            return settlement.ListStatementLinesResponse(lines=lines)

    def _cleared(self, stored: Stored) -> Any:
        reason = cdr_clearing_pb2.PlausibilityReason
        found = []
        if not stored.record.HasField("end_time"):
            found.append(reason.PLAUSIBILITY_REASON_FIELD_MISSING)
        if stored.record.total_energy_milli_wh < 0:
            found.append(reason.PLAUSIBILITY_REASON_NEGATIVE)
        return cdr_clearing_pb2.ClearedCdr(
            record=stored.record,
            state=stored.state,  # type: ignore[arg-type]  # an enum value
            findings=[cdr_clearing_pb2.PlausibilityFinding(reason=each) for each in found],
        )

    def _evsp_of(self, record: Any) -> str:
        return self.evsps[record.identification.contract_id]
