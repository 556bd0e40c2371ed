"""Bringing records to their EVSPs through the marketplace: at least once, in order per session.

An EVSP that cannot be reached waits as a whole, ever longer, and nothing is given up. A record that
it refuses while others come through is tried a few times and is a dead letter then: it stands until
the clearing house's operator releases it or hands it back (`python -m clearinghouse`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.cdr_rendering import render
from clearinghouse.cdr_review import Review, take_answers
from clearinghouse.market_client import MarketClient, to_provider
from clearinghouse.storage import Pool, transaction
from clearinghouse.storage_cdr import read_many
from clearinghouse.storage_delivery import (
    Claim,
    ClaimedDelivery,
    claim,
    note_failure,
    receiver_answered,
    receiver_failed,
    release,
)
from gem.roaming.v1 import contract_holder_service_pb2 as wire
from gem.roaming.v1.cdr_clearing_pb2 import CdrReview, ClearedCdr
from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceStub

if TYPE_CHECKING:
    from gem.roaming.v1.contract_holder_service_pb2_grpc import ContractHolderServiceAsyncStub

#: What an EVSP says about the record itself; all else is about the way to it.
_OF_THE_RECORD = frozenset(
    {
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.OUT_OF_RANGE,
        StatusCode.DATA_LOSS,
        StatusCode.INTERNAL,
    }
)
_TOO_LARGE = frozenset({"REQUEST_TOO_LARGE", "ANSWER_TOO_LARGE", "ANSWER_INVALID"})
_log = structlog.get_logger("clearinghouse")


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """How much at once, and how patient."""

    batch_max: int = 100
    #: Of one message; a provider takes 1 MiB.
    batch_bytes_max: int = 500_000
    #: Longest wait for an EVSP's answer.
    answer_s: float = 20.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0
    #: Tries of a record that is refused while others come through.
    strikes_max: int = 10

    @property
    def lease(self) -> timedelta:
        """How long a claim holds; nothing is sent in the last part of it."""
        return timedelta(seconds=3 * self.answer_s)


def wait_after(failures: int, limits: DeliveryLimits, fraction: float) -> timedelta:
    """Give how long to wait after so many failures.

    The wait doubles up to its longest; `fraction`, from 0 to 1, spreads it over its second half, so
    that what failed together does not come back together.
    """
    doubled_s = limits.first_wait_s * 2.0 ** min(failures - 1, 30)
    return timedelta(seconds=min(doubled_s, limits.longest_wait_s) * (1 + fraction) / 2)


class NotTakenError(Exception):
    """An EVSP did not take what was sent to it; `refused` says that it is about what was sent."""

    def __init__(self, failure: str, *, refused: bool) -> None:
        super().__init__(failure)
        self.failure = failure
        self.refused = refused


class CdrDelivery:
    """Delivers what is due; several processes may do so at once."""

    def __init__(
        self,
        pool: Pool,
        market: MarketClient,
        clock: Callable[[], datetime],
        limits: DeliveryLimits,
    ) -> None:
        self._pool = pool
        self._market = market
        self._clock = clock
        self._limits = limits
        self._chance = random.SystemRandom()

    async def deliver_batch(self) -> int:
        """Deliver what is due for one EVSP; give how many records were claimed for it."""
        claimed = await claim(self._pool, self._limits.batch_max, self._limits.lease)
        if claimed is None or not claimed.deliveries:
            return 0
        until_s = time.monotonic() + self._limits.answer_s
        for part in self._parts(await self._read(claimed)):
            if time.monotonic() > until_s or not await self._deliver(claimed, part, until_s):
                break
        await release(self._pool, claimed)
        return len(claimed.deliveries)

    async def _read(self, claimed: Claim) -> list[tuple[ClaimedDelivery, ClearedCdr]]:
        async with self._pool.acquire() as connection:
            refs = [each.cdr_ref for each in claimed.deliveries]
            rows = await read_many(connection, refs)
        evsp = claimed.evsp_partner_id
        return [(each, render(rows[each.cdr_ref], evsp)) for each in claimed.deliveries]

    def _parts(
        self, wanted: Sequence[tuple[ClaimedDelivery, ClearedCdr]]
    ) -> list[list[tuple[ClaimedDelivery, ClearedCdr]]]:
        """Cut a batch so that each part fits a message."""
        parts: list[list[tuple[ClaimedDelivery, ClearedCdr]]] = []
        room = 0
        for each in wanted:
            size = each[1].ByteSize()
            if size > room or not parts:
                parts.append([])
                room = self._limits.batch_bytes_max
            parts[-1].append(each)
            room -= size
        return parts

    async def _deliver(
        self, claimed: Claim, part: list[tuple[ClaimedDelivery, ClearedCdr]], until_s: float
    ) -> bool:
        """Deliver some records; False where it is of no use to go on.

        What fails together is tried one by one: who among them is the trouble is not known.
        """
        try:
            reviews = await self._send(claimed.evsp_partner_id, part)
        except NotTakenError as error:
            if len(part) == 1:
                await self._failed(claimed, part[0][0], error)
                return error.refused
            for each in part:
                if time.monotonic() > until_s or not await self._deliver(claimed, [each], until_s):
                    return False
            return True
        answers = [
            Review(each.cdr_ref, each.revision_number, review.verdict, review.text)
            for (each, _), review in zip(part, reviews, strict=True)
        ]
        async with transaction(self._pool) as connection:
            await take_answers(connection, answers, claimed.evsp_partner_id, self._clock())
            await receiver_answered(connection, claimed.evsp_partner_id)
        return True

    async def _send(
        self, evsp: str, part: Sequence[tuple[ClaimedDelivery, ClearedCdr]]
    ) -> list[CdrReview]:
        """Send records to an EVSP and give what it says; raises NotTakenError."""
        records = [record for _, record in part]
        first, last = part[0][0], part[-1][0]
        request_id = f"cdr-{first.delivery_ref}-{last.delivery_ref}-{len(part)}"
        metadata, timeout_s = to_provider(evsp), self._limits.answer_s
        stub: ContractHolderServiceAsyncStub = ContractHolderServiceStub(self._market.channel())
        try:
            if len(part) == 1:
                one = wire.ReceiveChargeDetailRecordRequest(
                    request_id=request_id, record=records[0]
                )
                answer = await stub.ReceiveChargeDetailRecord(
                    one, metadata=metadata, timeout=timeout_s
                )
                reviews = [answer.review]
            else:
                many = wire.ReceiveChargeDetailRecordsRequest(
                    request_id=request_id, records=records
                )
                call = stub.ReceiveChargeDetailRecords(
                    iter([many]), metadata=metadata, timeout=timeout_s
                )
                reviews = [review async for answer in call for review in answer.reviews]
        except aio.AioRpcError as error:
            raise NotTakenError(_failure(error), refused=_is_refusal(error)) from None
        if [_name(review) for review in reviews] != [_name_of(record) for record in records]:
            raise NotTakenError("ANSWER_INVALID", refused=True)
        return reviews

    async def _failed(
        self, claimed: Claim, delivery: ClaimedDelivery, error: NotTakenError
    ) -> None:
        evsp, limits, fraction = claimed.evsp_partner_id, self._limits, self._chance.random()
        failures = (delivery.refusal_count if error.refused else claimed.failure_count) + 1
        wait = wait_after(failures, limits, fraction)
        if failures & (failures - 1) == 0:
            # Of many failures in a row some tell it all.
            _log.info("not delivered", failure=error.failure, failures=failures, evsp=evsp)
        async with transaction(self._pool) as connection:
            await note_failure(
                connection,
                claimed,
                delivery,
                error.failure,
                # Another record goes first when the EVSP is tried again.
                wait if error.refused else 2 * wait,
                refused=error.refused,
                strikes_max=limits.strikes_max,
            )
            if error.refused:
                await receiver_answered(connection, evsp)
            else:
                await receiver_failed(connection, evsp, wait)


def _name(review: CdrReview) -> tuple[str, str, int]:
    return review.operator_id.upper(), review.cdr_id.casefold(), review.revision_number


def _name_of(cleared: ClearedCdr) -> tuple[str, str, int]:
    record = cleared.record
    return record.operator_id.upper(), record.cdr_id.casefold(), cleared.revision_number


def _failure(error: aio.AioRpcError) -> str:
    """Name a failure by its reason, else by its code; the other side's words are not kept."""
    return _reason(error) or error.code().name


def _is_refusal(error: aio.AioRpcError) -> bool:
    return error.code() in _OF_THE_RECORD or _reason(error) in _TOO_LARGE


def _reason(error: aio.AioRpcError) -> str:
    try:
        status: Any = rpc_status.from_call(error)
    except ValueError:
        return ""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info) and info.domain == "gem":
            return str(info.reason)
    return ""
