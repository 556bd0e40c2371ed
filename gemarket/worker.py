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
from gemarket.core import add_health, add_reflection, core_services
from gemarket.layout import Layout
from gemarket.limits import (
    admission_limits,
    channel_limits,
    router_limits,
    server_limits,
    session_limits,
)
from gemarket.logs import configure_logs
from gemarket.notices import ended, open_notices, start_delivery
from gemarket.registry import CurrentRegistry, FreshRoutes, KnownMethods, cut_refused
from gemarket.rotation import keep_rotating, listener_credentials, marketplace_certificate
from gemarket.spans import open_spans
from interceptors.access import AccessCheck
from interceptors.admission import Admission
from interceptors.certificate import CertificateCheck
from interceptors.chain import ChainParts, build_chain, dispatch
from interceptors.grpc_server import GrpcServer
from interceptors.live_calls import LiveCalls
from interceptors.metrics import Metrics
from interceptors.session import SessionCheck
from interceptors.status import report_status
from interceptors.telemetry import Telemetry
from interceptors.transaction_log import FailedCallRecorder
from marketplace.contract_housekeeping import ContractHousekeeping
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
        log = await _open_log(stack, config, layout)
        feed = RoutingFeed(config.database_url)
        await feed.start()
        stack.push_async_callback(feed.stop)
        notices = await open_notices(stack, config.database_url)

        authority = CertificateAuthority.load(layout.authority)
        channels = _open_channels(stack, settings, layout)

        routes = FreshRoutes(feed, limits.snapshot_max_age_s)
        lasting = session_limits(limits)
        barrier, sends = RoutingBarrier(feed), settings.smtp is not None
        core = core_services(engine, authority, barrier, lasting, notices, sends_email=sends)
        health = add_health(core, feed, limits.snapshot_max_age_s)
        add_reflection(core, feed)
        known = KnownMethods(core, feed)
        telemetry = Telemetry(metrics, known.is_known, tracer)
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
            transaction_log=FailedCallRecorder(log),
            access=access,
        )
        live = LiveCalls()
        feed.on_change.append(lambda change: cut_refused(change, check, live))
        chain = build_chain(parts, dispatch(core.methods(), router.serve))
        server = GrpcServer(chain, live, server_limits(limits), known.answers_one)
        server.before_drain(health.enter_drain)
        server.before_drain(admission.close)
        server.before_drain(notices.enter_drain)
        server.listen(config.address, _credentials(settings, layout, mutual=True))
        server.listen(config.session_address, _credentials(settings, layout, mutual=False))
        await server.start()
        rotating = keep_rotating(layout.router, channels.rotate)
        for task in (rotating, check.watch(live), sessions.watch(live)):
            stack.callback(asyncio.create_task(task).cancel)
        start_delivery(stack, settings, config.database_url)
        keeping = asyncio.create_task(ContractHousekeeping(engine).run(), name="contracts")
        stack.push_async_callback(ended, keeping)

        _spare_the_collector()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await wait_for_stop()
        await server.drain(limits.drain_s)
        metrics.write()


async def _open_log(
    stack: AsyncExitStack, config: WorkerConfig, layout: Layout
) -> DurableTransactionLog:
    """Start the transaction log; it ends with the stack."""
    observe = TransactionLogMetrics(REGISTRY).update
    log = DurableTransactionLog(
        lambda: connect_raw(config.database_url), layout.spill, observe=observe
    )
    await log.start()
    stack.push_async_callback(log.close)
    return log


def _open_channels(stack: AsyncExitStack, settings: Settings, layout: Layout) -> ProviderChannels:
    """Make the transport towards providers; it ends with the stack."""
    certificate = marketplace_certificate(layout.router)
    limits = channel_limits(settings.limits)
    channels = ProviderChannels(certificate, settings.trust_domain, limits)
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
