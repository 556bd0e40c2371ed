"""An EVSP that takes and approves every record, as a process: `bench.contract_holder JSON`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import uvloop
from grpc import aio

from gem.roaming.v1 import contract_holder_service_pb2 as wire
from gem.roaming.v1 import contract_holder_service_pb2_grpc as services
from gem.roaming.v1.cdr_clearing_pb2 import CdrReview, CdrVerdict, ClearedCdr
from gemarket.identity import Identity, server_credentials
from interceptors.provider_side import MarketplaceOnly


class ApprovingHolder(services.ContractHolderServiceServicer):
    """Approves at once."""

    async def ReceiveChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: wire.ReceiveChargeDetailRecordRequest, context: Any
    ) -> wire.ReceiveChargeDetailRecordResponse:
        """Approve one record."""
        (review,) = _approved([request.record])
        return wire.ReceiveChargeDetailRecordResponse(review=review)

    async def ReceiveChargeDetailRecords(  # noqa: N802  # the rpc's name
        self, request_iterator: AsyncIterator[wire.ReceiveChargeDetailRecordsRequest], context: Any
    ) -> AsyncIterator[wire.ReceiveChargeDetailRecordsResponse]:
        """Approve message by message."""
        async for request in request_iterator:
            yield wire.ReceiveChargeDetailRecordsResponse(
                request_id=request.request_id, reviews=_approved(request.records)
            )


def _approved(records: Iterable[ClearedCdr]) -> list[CdrReview]:
    return [
        CdrReview(
            cdr_id=each.record.cdr_id,
            operator_id=each.record.operator_id,
            revision_number=each.revision_number,
            verdict=CdrVerdict.CDR_VERDICT_APPROVED,
        )
        for each in records
    ]


async def _serve(plan: dict[str, str]) -> None:
    server = aio.server(interceptors=(MarketplaceOnly(plan["trust_domain"]),))
    holder = ApprovingHolder()  # type: ignore[abstract]  # nobody asks it anything else
    services.add_ContractHolderServiceServicer_to_server(holder, server)
    credentials = server_credentials(Identity(Path(plan["identity"])))
    server.add_secure_port(plan["address"], credentials)
    await server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))
