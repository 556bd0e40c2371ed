"""Conformance runs in the background of a worker: bounded in number, time and sizes.

A run says every few seconds that it is being worked at. One that fell silent, because its worker
died, is abandoned by whichever worker notices first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from foundation.certificates import provider_dns_name, utc_now
from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.certification import EVENT_OF_END, run_notice
from marketplace.conformance import Check, CheckKind, ConformanceState, Outcome, Run, verdict
from marketplace.conformance_checks import CONTRACT, MethodChecks
from marketplace.conformance_endpoint import Market, check_certificate
from marketplace.router.interface import compile_interface
from marketplace.router.target import Price, Target
from marketplace.service import Service
from marketplace.storage_certification import MARKETPLACE, CertificationStorage
from marketplace.storage_command import transaction
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_notice import tell
from marketplace.storage_service import ServiceStorage

_log = structlog.get_logger(__name__)
_RETRY_AFTER_S = 30.0
#: A run that is repeated sends the same requests.
_SEED = 1


@dataclass(frozen=True, slots=True)
class ConformanceLimits:
    """Limits of a worker's runs; times in seconds."""

    at_once: int = 2
    waiting: int = 20
    #: For one call of the endpoint, and for its TLS handshake.
    call_timeout_s: float = 5.0
    #: For one run as a whole.
    run_timeout_s: float = 120.0
    #: How often a run says that it is being worked at, and after what silence it is not.
    alive_every_s: float = 5.0
    silent_after_s: float = 30.0


class ConformanceRunner:
    """Makes the runs of one worker; made and used inside its event loop."""

    def __init__(
        self,
        engine: AsyncEngine,
        market: Market,
        limits: ConformanceLimits | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._market = market
        self._limits = limits or ConformanceLimits()
        self._clock = clock
        self._places = asyncio.Semaphore(self._limits.at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def check_room(self) -> None:
        """Raise MarketError TOO_MANY_CALLS while too many runs wait in this worker."""
        if len(self._tasks) >= self._limits.at_once + self._limits.waiting:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "Too many services are being checked: try again.",
                retry_after_s=_RETRY_AFTER_S,
            )

    def overdue_at(self) -> datetime:
        """Give until when a run that says nothing counts as alive."""
        return self._clock() + timedelta(seconds=self._limits.silent_after_s)

    def start(self, run: Run) -> None:
        """Begin with a run that is written and committed."""
        task = asyncio.create_task(self._run(run), name=f"conformance {run.run_id}")
        self._tasks[run.run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(run.run_id, None))

    async def wait(self, run_id: str) -> None:
        """Wait until a run of this worker is over; at once for one that is not its own."""
        task = self._tasks.get(run_id)
        if task is not None:
            await asyncio.wait({task})

    async def close(self) -> None:
        """Abandon what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> int:
        """Abandon the runs at which nobody works any more; gives how many."""
        async with transaction(self._engine) as connection:
            overdue = await CertificationStorage(connection).overdue(self._clock())
        for run_id in overdue:
            await self._end(run_id, ConformanceState.ABANDONED, [])
        return len(overdue)

    async def _run(self, run: Run) -> None:
        """Make a run and write its end, however it ends."""
        alive = asyncio.create_task(self._stay_alive(run.run_id))
        state, checks = ConformanceState.ABANDONED, []
        try:
            async with self._places:
                checks = await self._checks(run)
                state = verdict(checks)
        except Exception as error:  # noqa: BLE001  # the run is abandoned, the worker goes on
            _log.error("conformance_run_broke", run_id=run.run_id, reason=type(error).__name__)
        finally:
            alive.cancel()
            with suppress(MarketError):  # the sweep ends it later
                await asyncio.shield(self._end(run.run_id, state, checks))

    async def _checks(self, run: Run) -> list[Check]:
        """Make all checks of a run within its time."""
        async with transaction(self._engine) as connection:
            service = await ServiceStorage(connection).get(run.service_id)
            storage = InterfaceStorage(connection)
            row = await storage.get(run.interface_name, run.interface_version)
            files = await storage.descriptor_set(row.publication_id)
        limits, market = self._limits, self._market
        name = provider_dns_name(market.trust_domain, service.provider_id)
        checks = [
            await check_certificate(
                run.endpoint, name, market, self._clock(), limits.call_timeout_s
            )
        ]
        if checks[0].outcome is not Outcome.PASSED:
            return [*checks, _nothing_sent()]
        compiled = await asyncio.to_thread(compile_interface, files)
        (rules,) = (each for each in compiled if each.name == run.interface_name)
        methods = MethodChecks(
            market.transport,
            _target(run, service),
            include_side_effects=run.include_side_effects,
            seed=_SEED,
            call_timeout_s=limits.call_timeout_s,
        )
        try:
            async with asyncio.timeout(limits.run_timeout_s):
                async for check in methods.all(rules):
                    checks.append(check)  # noqa: PERF401  # what came before the time is over counts
        except TimeoutError:
            detail = f"the run took longer than {limits.run_timeout_s:.0f} s: the rest is not done"
            checks.append(Check(CheckKind.VALID_REQUEST, "", Outcome.FAILED, detail))
        return checks

    async def _end(self, run_id: str, state: ConformanceState, checks: list[Check]) -> None:
        async with transaction(self._engine) as connection:
            await end_run(connection, run_id, state, checks, self._clock())

    async def _stay_alive(self, run_id: str) -> None:
        while True:
            await asyncio.sleep(self._limits.alive_every_s)
            try:
                async with transaction(self._engine) as connection:
                    await CertificationStorage(connection).put_off(run_id, self.overdue_at())
            except MarketError:
                _log.warning("conformance_run_not_put_off", run_id=run_id)


async def end_run(
    connection: AsyncConnection,
    run_id: str,
    state: ConformanceState,
    checks: list[Check],
    now: datetime,
) -> None:
    """Write how a run ended, its history, and tell the provider; nothing where it ended before."""
    storage = CertificationStorage(connection)
    run = await storage.end(run_id, state, checks, now)
    if run is None:
        return
    await storage.remember(run.service_id, EVENT_OF_END[state], MARKETPLACE, now, run_id)
    service = await ServiceStorage(connection).get(run.service_id)
    await tell(connection, [run_notice(run, service.provider_id, now)])


def _target(run: Run, service: Service) -> Target:
    return Target(
        contract_id=CONTRACT,
        provider_id=service.provider_id,
        service_id=run.service_id,
        service_version=service.service_version,
        endpoint=run.endpoint,
        price=Price(),
    )


def _nothing_sent() -> Check:
    detail = "not asked: nothing is sent to an endpoint that is not shown to be the provider's"
    return Check(CheckKind.HEALTH, "", Outcome.SKIPPED, detail)
