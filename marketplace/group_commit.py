"""Group commit: records of concurrent calls become durable in one write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from marketplace.transaction_batch import Batch, Kind, Record


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """How records gather."""

    #: Records in one write, at most; what one caller hands over together is never split.
    batch_records: int = 512
    #: Records that wait for the writer, at most; what would be more is refused. Callers wait for
    #: their records, so that this is only reached far above the limits of admission.
    pending_records: int = 50_000
    #: How long the writer waits for more records while many arrive.
    linger_s: float = 0.002
    #: The writer lingers only when its last batch had at least this many waiting callers.
    linger_from: int = 4


@dataclass(slots=True)
class _Waiting:
    kind: Kind
    records: Sequence[Record]
    done: asyncio.Future[None]


class GroupCommit:
    """Gathers records and hands them in batches to `write`, one batch at a time.

    `write` makes a batch durable or raises; what it raises, every caller of that batch gets.
    """

    def __init__(self, write: Callable[[Batch], Awaitable[None]], limits: GroupLimits) -> None:
        self._write = write
        self._limits = limits
        self._waiting: deque[_Waiting] = deque()
        self._pending = 0
        self._last_callers = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def pending(self) -> int:
        """Number of records that are not durable yet."""
        return self._pending

    def submit(self, kind: Kind, records: Sequence[Record]) -> asyncio.Future[None]:
        """Take records over; the future is done when they are durable.

        It has what the write raised, or BufferError at once where too many records wait. Records
        are written also when nobody awaits the future any more.
        """
        done = asyncio.get_running_loop().create_future()
        if self._pending + len(records) > self._limits.pending_records:
            done.set_exception(BufferError("too many records wait for the transaction log"))
            return done
        self._waiting.append(_Waiting(kind, records, done))
        self._pending += len(records)
        self._idle.clear()
        self._wake.set()
        return done

    async def flush(self) -> None:
        """Return when nothing is pending."""
        while self._pending:
            await self._idle.wait()

    async def run(self) -> None:
        """Write batches until cancelled; one task runs this."""
        limits = self._limits
        while True:
            await self._wake.wait()
            if self._last_callers >= limits.linger_from and self._pending < limits.batch_records:
                await asyncio.sleep(limits.linger_s)
            batch, callers = self._take()
            await self._commit(batch, callers)

    def _take(self) -> tuple[Batch, list[_Waiting]]:
        """Take the next callers, as many as fit into one batch and at least one."""
        batch, limit = Batch(), self._limits.batch_records
        lists, size = batch.lists(), 0
        callers: list[_Waiting] = []
        while self._waiting:
            size += len(self._waiting[0].records)
            if callers and size > limit:
                break
            caller = self._waiting.popleft()
            lists[caller.kind].extend(caller.records)
            callers.append(caller)
        if not self._waiting:
            self._wake.clear()
        return batch, callers

    async def _commit(self, batch: Batch, callers: list[_Waiting]) -> None:
        failure: BaseException | None = None
        try:
            await self._write(batch)
        except Exception as error:  # noqa: BLE001  # every caller of the batch gets it
            failure = error
        except asyncio.CancelledError:
            failure = ConnectionError("the log was closed while the write went on")
            raise
        finally:
            self._settle(len(batch), callers, failure)

    def _settle(self, size: int, callers: list[_Waiting], failure: BaseException | None) -> None:
        self._last_callers = len(callers)
        self._pending -= size
        if not self._pending:
            self._idle.set()
        for caller in callers:
            if caller.done.done():  # its call was cancelled
                continue
            if failure is None:
                caller.done.set_result(None)
            else:
                caller.done.set_exception(failure)
