"""A market of one clearing house, small and in memory, that clears what a replay tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc

from foundation.certificates import CertificateAuthority, partner_uri, read_identity
from gem.common.v1.money_pb2 import Money
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import (
    contract_pb2,
    contract_service_pb2,
    partner_pb2,
    partner_service_pb2,
    service_pb2,
    service_registry_service_pb2,
)
from gem.roaming.v1 import cdr_clearing_pb2, settlement_pb2
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import settlement_service_pb2 as settlement
from tests.clearing_stand_in import ClearingStandIn
from tests.identities import TRUST_DOMAIN

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
    """Returns records without an end or with negative energy; EVSPs have to approve the others."""

    authority: CertificateAuthority | None = None
    stored: dict[tuple[str, str], Stored] = field(default_factory=dict)
    evsps: dict[str, str] = field(default_factory=dict)
    #: Calls that fail at first, by method.
    failures: Counter[str] = field(default_factory=Counter)
    #: What operators get too much, in millionths.
    too_much_micros: int = 0
    has_services: bool = True
    ends_early: bool = False
    more_files: tuple[Any, ...] = (
        partner_service_pb2,
        service_registry_service_pb2,
        contract_service_pb2,
    )

    async def GetPartner(self, request: Any, context: Any) -> Any:
        async with self._taken("GetPartner", request, context):
            known = partner_pb2.Partner(
                partner_id=request.partner_id, state=partner_pb2.PARTNER_STATE_ACTIVE
            )
            return partner_service_pb2.GetPartnerResponse(partner=known)

    async def IssueCertificate(self, request: Any, context: Any) -> Any:
        async with self._taken("IssueCertificate", request, context):
            assert self.authority is not None
            uri = partner_uri(TRUST_DOMAIN, request.partner_id)
            issued = self.authority.issue_from_csr(request.certificate_signing_request_pem, uri)
            return partner_service_pb2.IssueCertificateResponse(chain_pem=issued.chain_pem)

    async def ListServices(self, request: Any, context: Any) -> Any:
        async with self._taken("ListServices", request, context):
            found = [service_pb2.Service(service_id=request.interface_name)]
            return service_registry_service_pb2.ListServicesResponse(
                services=found if self.has_services else []
            )

    async def ListContracts(self, request: Any, context: Any) -> Any:
        async with self._taken("ListContracts", request, context):
            known = contract_pb2.Contract(
                contract_id=f"{caller_of(context)}-{request.service_id}",
                state=contract_pb2.CONTRACT_STATE_ACTIVE,
            )
            return contract_service_pb2.ListContractsResponse(contracts=[known])

    async def CreateRoamingAgreement(self, request: Any, context: Any) -> Any:
        async with self._taken("CreateRoamingAgreement", request, context):
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
                    state = State.CDR_STATE_RETURNED if wrong else State.CDR_STATE_FORWARDED
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

    async def PullChargeDetailRecords(self, request: Any, context: Any) -> Any:
        async with self._taken("PullChargeDetailRecords", request, context):
            waiting = [
                cdr_clearing_pb2.ClearedCdr(record=each.record, state=State.CDR_STATE_FORWARDED)
                for each in self.stored.values()
                if each.state == State.CDR_STATE_FORWARDED
                and self._evsp_of(each.record) == caller_of(context)
            ]
            return clearing.PullChargeDetailRecordsResponse(
                records=waiting[:20], more=len(waiting) > 20
            )

    async def ReviewChargeDetailRecord(self, request: Any, context: Any) -> Any:
        async with self._taken("ReviewChargeDetailRecord", request, context):
            stored = self.stored[request.review.operator_id, request.review.cdr_id]
            assert self._evsp_of(stored.record) == caller_of(context)
            stored.state = State.CDR_STATE_APPROVED
            return clearing.ReviewChargeDetailRecordResponse()

    async def AcknowledgeChargeDetailRecords(self, request: Any, context: Any) -> Any:
        async with self._taken("AcknowledgeChargeDetailRecords", request, context):
            return clearing.AcknowledgeChargeDetailRecordsResponse()

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

    async def GetNetting(self, request: Any, context: Any) -> Any:
        async with self._taken("GetNetting", request, context):
            caller, nets = caller_of(context), Counter[str]()
            for each in self.stored.values():
                if each.state == State.CDR_STATE_APPROVED:
                    amount = each.record.total_cost.with_tax_micros
                    if each.operator == caller:
                        nets[each.record.currency_code] += amount + self.too_much_micros
                    elif self._evsp_of(each.record) == caller:
                        nets[each.record.currency_code] -= amount
            positions = [
                settlement_pb2.NetPosition(
                    partner_id=caller, net=Money(amount_micros=micros, currency_code=code)
                )
                for code, micros in nets.items()
            ]
            return settlement.GetNettingResponse(positions=positions)

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
