"""A small clearing house over mutual TLS, for tests of what calls one; it remembers every call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import message_factory

from gem.common.v1.paging_pb2 import PageInfo
from gem.roaming.v1 import (
    authorization_pb2,
    cdr_clearing_pb2,
    settlement_pb2,
)
from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1 import settlement_service_pb2 as settlement
from gem.roaming.v1 import tariff_service_pb2 as tariffs
from gemarket.endpoints import Endpoints, Party
from tests.identities import TRUST_DOMAIN, Identity, MakeIdentity


@dataclass
class ClearingStandIn:
    """Takes everything, but for customers and ids that it was told to refuse."""

    #: Token or contract ids of customers who may not charge.
    strangers: set[str] = field(default_factory=set)
    #: Ids of tariffs and records that are refused.
    refused: set[str] = field(default_factory=set)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    #: Modules of further services that a stand-in made of this one has methods of.
    more_files: tuple[Any, ...] = ()

    def requests(self, method: str) -> list[Any]:
        """Give the requests of a method in the order in which they came."""
        return [request for name, request in self.calls if name == method]

    @asynccontextmanager
    async def _taken(self, method: str, request: Any, context: Any) -> AsyncIterator[None]:
        self.calls.append((method, request))
        self.metadata.append(dict(context.invocation_metadata()))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        yield
        self.in_flight -= 1

    async def Authorize(self, request: Any, context: Any) -> Any:
        async with self._taken("Authorize", request, context):
            who = request.identification
            known = not {who.token_uid, who.contract_id} & self.strangers
            status = authorization_pb2.AuthorizationStatus
            decision = authorization_pb2.AuthorizationDecision(
                status=status.AUTHORIZATION_STATUS_ALLOWED
                if known
                else status.AUTHORIZATION_STATUS_UNKNOWN,
                deciding_layer=authorization_pb2.DecidingLayer.DECIDING_LAYER_CLEARING_HOUSE_LIST,
                authorization_reference=f"A-{request.operator_session_id}",
                session_id=f"CH-{request.operator_session_id}",
            )
            decision.decided_time.GetCurrentTime()
            return clearing.AuthorizeResponse(decision=decision)

    async def NotifySession(self, request: Any, context: Any) -> Any:
        async with self._taken("NotifySession", request, context):
            if request.notice.operator_session_id in self.refused:
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such session")
            return clearing.NotifySessionResponse()

    async def SubmitChargeDetailRecords(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        async for request in requests:
            async with self._taken("SubmitChargeDetailRecords", request, context):
                receipts = [self._receipt(record) for record in request.records]
            yield clearing.SubmitChargeDetailRecordsResponse(
                request_id=request.request_id, receipts=receipts
            )

    def _receipt(self, record: Any) -> Any:
        status = cdr_clearing_pb2.SubmissionStatus
        if record.cdr_id not in self.refused:
            stored = status.SUBMISSION_STATUS_STORED
            return cdr_clearing_pb2.SubmissionReceipt(cdr_id=record.cdr_id, status=stored)
        finding = cdr_clearing_pb2.PlausibilityFinding(
            reason=cdr_clearing_pb2.PlausibilityReason.PLAUSIBILITY_REASON_EVSE_OPERATOR,
            description="the EVSE is not one of the operator's",
        )
        return cdr_clearing_pb2.SubmissionReceipt(
            cdr_id=record.cdr_id, status=status.SUBMISSION_STATUS_REFUSED, findings=[finding]
        )

    async def ListChargeDetailRecords(self, request: Any, context: Any) -> Any:
        """Give the records that were handed in, one a page."""
        async with self._taken("ListChargeDetailRecords", request, context):
            known = [r for each in self.requests("SubmitChargeDetailRecords") for r in each.records]
            number = int(request.page.page_token or 0)
            state = cdr_clearing_pb2.CdrState.CDR_STATE_APPROVED
            records = [
                cdr_clearing_pb2.ClearedCdr(record=record, state=state)
                for record in known[number : number + 1]
            ]
            token = str(number + 1) if number + 1 < len(known) else ""
            page = PageInfo(next_page_token=token)
            return clearing.ListChargeDetailRecordsResponse(records=records, page=page)

    async def LoadCustomerContracts(
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        number = 0
        async for request in requests:
            async with self._taken("LoadCustomerContracts", request, context):
                reports = []
                for contract in request.contracts:
                    wrong = contract.contract_id in self.refused
                    reports.append(
                        contracts.LoadReport(
                            item_index=number,
                            status=contracts.LOAD_STATUS_REFUSED
                            if wrong
                            else contracts.LOAD_STATUS_CREATED,
                            description="the contract is another's" if wrong else "",
                        )
                    )
                    number += 1
            yield contracts.LoadCustomerContractsResponse(reports=reports)
        full = any(r.mode == contracts.LOAD_MODE_FULL for _, r in self.calls if hasattr(r, "mode"))
        disabled = 2 if full else 0
        yield contracts.LoadCustomerContractsResponse(finished=True, disabled_count=disabled)

    async def StreamCustomerContracts(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Give the loaded contracts with hashes instead of uids."""
        async with self._taken("StreamCustomerContracts", request, context):
            for load in self.requests("LoadCustomerContracts"):
                for contract in load.contracts:
                    for token in contract.tokens:
                        token.token_hash, token.token_uid = token.token_uid.encode(), ""
                yield contracts.StreamCustomerContractsResponse(contracts=load.contracts)

    async def PublishTariff(self, request: Any, context: Any) -> Any:
        async with self._taken("PublishTariff", request, context):
            if request.version.tariff.tariff_id in self.refused:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the tariff is refused")
            return tariffs.PublishTariffResponse(version=request.version)

    async def ListTariffs(self, request: Any, context: Any) -> Any:
        async with self._taken("ListTariffs", request, context):
            versions = [each.version for each in self.requests("PublishTariff")]
            return tariffs.ListTariffsResponse(versions=versions)

    async def RunClearing(self, request: Any, context: Any) -> Any:
        async with self._taken("RunClearing", request, context):
            run = settlement_pb2.ClearingRun(run_id="run-1", period=request.period)
            return settlement.RunClearingResponse(run=run)


@asynccontextmanager
async def clearing_house(
    stand_in: ClearingStandIn, make_identity: MakeIdentity, folder: Path, *partners: str
) -> AsyncIterator[Path]:
    """Serve a stand-in; give a data directory whose partners can call it."""
    server = grpc.aio.server()
    for file in (clearing, contracts, settlement, tariffs, *stand_in.more_files):
        for service in file.DESCRIPTOR.services_by_name.values():
            server.add_generic_rpc_handlers((_handlers(service, stand_in),))
    own = make_identity("market")
    credentials = grpc.ssl_server_credentials(
        [(own.key_pem, own.chain_pem)], own.root_pem, require_client_auth=True
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    parties = {name: _write(folder / name, make_identity(name)) for name in partners}
    ca_file = str(folder / partners[0] / "ca.pem")
    at = f"127.0.0.1:{port}"
    Endpoints(at, "", TRUST_DOMAIN, ca_file, "", parties).write(folder / "endpoints.json")
    try:
        yield folder
    finally:
        await server.stop(1.0)


def _handlers(service: Any, stand_in: ClearingStandIn) -> grpc.GenericRpcHandler:
    """Register the methods that the stand-in has; the others are unimplemented."""
    handlers = {}
    for method in service.methods:
        serve = getattr(stand_in, method.name, None)
        if serve is not None:
            kind = "_".join(
                "stream" if streams else "unary"
                for streams in (method.client_streaming, method.server_streaming)
            )
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            request = message_factory.GetMessageClass(method.input_type)
            answer = message_factory.GetMessageClass(method.output_type)
            handlers[method.name] = make(
                serve,
                request_deserializer=request.FromString,
                response_serializer=answer.SerializeToString,
            )
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _write(folder: Path, identity: Identity) -> Party:
    folder.mkdir()
    files = {
        "key.pem": identity.key_pem,
        "certificate.pem": identity.chain_pem,
        "ca.pem": identity.root_pem,
    }
    for name, pem in files.items():
        (folder / name).write_bytes(pem)
    return Party(*(str(folder / name) for name in files))
