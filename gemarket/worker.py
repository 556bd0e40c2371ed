"""One worker of the marketplace: `python -m gemarket.worker CONFIG`, started by the supervisor.

Reads top to bottom: settings, telemetry, database, certificates, implementations, server.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import uvloop
from google.protobuf.internal import api_implementation
from prometheus_client import REGISTRY

from foundation.certificates import CertificateAuthority
from foundation.database import connect_raw, open_engine
from foundation.lifetime import wait_for_stop
from foundation.settings import Settings
from gemarket.core import CoreParts, add_health, add_reflection, core_services
from gemarket.layout import Layout
from gemarket.limits import (
    admission_limits,
    channel_limits,
    endpoint_check,
    router_limits,
    server_limits,
    session_limits,
)
from gemarket.logs import configure_logs
from gemarket.notices import open_notices, start_delivery
from gemarket.registry import CurrentRegistry, FreshRoutes, KnownMethods, cut_refused
from gemarket.rotation import keep_rotating, marketplace_certificate
from gemarket.service_parts import open_registry_parts, start_contracts
from gemarket.spans import open_spans
from interceptors.access import AccessCheck
from interceptors.admission import Admission
from interceptors.certificate import CertificateCheck
from interceptors.chain import ChainParts, build_chain, dispatch
from interceptors.grpc_server import GrpcServer
from interceptors.listener_credentials import listener_credentials
from interceptors.live_calls import LiveCalls
from interceptors.metrics import Metrics
from interceptors.session import SessionCheck
from interceptors.status import report_status
from interceptors.telemetry import Telemetry
from interceptors.transaction_log import FailedCallRecorder
from marketplace.open_sessions import OpenSessions
from marketplace.provider_channels import ProviderChannels
from marketplace.router.router import Router
from marketplace.routing_barrier import RoutingBarrier
from marketplace.routing_feed import RoutingFeed
from marketplace.transaction_log import DurableTransactionLog
from marketplace.transaction_log_metrics import TransactionLogMetrics

_POOL_SIZE = 8
#: Allocations between two looks of the collector at the youngest objects: a call makes hundreds,
#: and nearly all of them die by their reference count.
_COLLECT_EVERY = 20_000


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What the supervisor tells a worker."""

    name: str
    #: `host:port` that all workers share.
    address: str
    #: The same of the listener for people.
    session_address: str
    settings: Settings
    database_url: str


def read_config(path: Path) -> WorkerConfig:
    """Read the supervisor's file."""
    raw = json.loads(path.read_text())
    settings = Settings.model_validate(raw["settings"])
    assert settings.database_url is not None, "the supervisor names the database"
    addresses = raw["address"], raw["session_address"]
    return WorkerConfig(raw["name"], *addresses, settings, settings.database_url)


async def serve(config: WorkerConfig) -> None:
    """Run one worker until it is told to stop; what was opened is closed in reverse order."""
    settings, limits = config.settings, config.settings.limits
    layout = Layout(settings.data_dir)
    async with AsyncExitStack() as stack:
        metrics = Metrics(REGISTRY)
        tracer = open_spans(stack, settings.otlp_endpoint, config.name)

        engine = open_engine(config.database_url, _POOL_SIZE)
        stack.push_async_callback(engine.dispose)
        log, recorder = await _open_log(stack, config, layout)
        feed = RoutingFeed(config.database_url)
        await feed.start()
        stack.push_async_callback(feed.stop)
        notices = await open_notices(stack, config.database_url)

        channels = _open_channels(stack, settings, layout)
        lasting = session_limits(limits)
        core = core_services(
            CoreParts(
                engine=engine,
                authority=CertificateAuthority.load(layout.authority),
                barrier=RoutingBarrier(feed),
                session_limits=lasting,
                notices=notices,
                sends_email=settings.smtp is not None,
                services=open_registry_parts(stack, settings, layout, engine, channels),
                left_out=lambda *which: router.leaves_out(*which),  # noqa: PLW0108  # made below
            )
        )
        health = add_health(core, feed, limits.snapshot_max_age_s)
        add_reflection(core, feed)
        known = KnownMethods(core, feed)
        telemetry = Telemetry(metrics, known.is_known, tracer)
        routes = FreshRoutes(feed, limits.snapshot_max_age_s)
        router = Router(routes.current, channels, log, router_limits(limits), telemetry)

        access = AccessCheck(core.access(), known.is_routed)
        check = CertificateCheck(CurrentRegistry(feed), settings.trust_domain, access.is_public)
        sessions = SessionCheck(OpenSessions(engine, lasting), access.is_public)
        admission = Admission(admission_limits(limits))
        parts = ChainParts(
            telemetry=telemetry,
            status=report_status,
            admission=admission,
            session=sessions,
            certificate=check,
            transaction_log=recorder,
            access=access,
        )
        live = LiveCalls()
        feed.on_change.append(lambda change: cut_refused(change, check, live))
        chain = build_chain(parts, dispatch(core.methods(), router.serve))
        server = GrpcServer(chain, live, server_limits(limits), known.answers_one)
        for step in (health.enter_drain, admission.close, notices.enter_drain):
            server.before_drain(step)
        server.listen(config.address, _credentials(settings, layout, mutual=True))
        server.listen(config.session_address, _credentials(settings, layout, mutual=False))
        await server.start()
        rotating = keep_rotating(layout.router, channels.rotate)
        for task in (rotating, check.watch(live), sessions.watch(live)):
            stack.callback(asyncio.create_task(task).cancel)
        start_delivery(stack, settings, config.database_url)
        start_contracts(stack, engine)

        _spare_the_collector()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await wait_for_stop()
        await server.drain(limits.drain_s)
        metrics.write()


async def _open_log(
    stack: AsyncExitStack, config: WorkerConfig, layout: Layout
) -> tuple[DurableTransactionLog, FailedCallRecorder]:
    """Start the transaction log, which ends with the stack, and what records failed calls in it."""
    metrics = TransactionLogMetrics(REGISTRY)
    log = DurableTransactionLog(
        lambda: connect_raw(config.database_url), layout.spill, observe=metrics.update
    )
    recorder = FailedCallRecorder(log)
    metrics.watch_lost(lambda: recorder.lost)
    await log.start()
    stack.push_async_callback(log.close)
    return log, recorder


def _open_channels(stack: AsyncExitStack, settings: Settings, layout: Layout) -> ProviderChannels:
    """Make the transport towards providers; it ends with the stack."""
    certificate = marketplace_certificate(layout.router)
    limits = channel_limits(settings.limits)
    endpoints = endpoint_check(settings.services)
    channels = ProviderChannels(certificate, settings.trust_domain, limits, endpoints=endpoints)
    stack.push_async_callback(channels.close)
    return channels


def _spare_the_collector() -> None:
    """Leave out of garbage collection what was built so far: it lives as long as the worker."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 50)


def _credentials(settings: Settings, layout: Layout, *, mutual: bool) -> grpc.ServerCredentials:
    """Give a listener's credentials: the operator's own certificate, else the authority's."""
    certificate_file = settings.tls.certificate_file or layout.listener.certificate_file
    key_file = settings.tls.key_file or layout.listener.key_file
    roots = layout.authority / "ca.pem" if mutual else None
    return listener_credentials(certificate_file, key_file, roots)


def main() -> None:
    """Run the worker whose configuration file is the only argument."""
    assert api_implementation.Type() == "upb", "the pure-Python protobuf is too slow to serve with"
    configure_logs()
    uvloop.run(serve(read_config(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
