"""A worker's part in checking services and keeping their files."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.settings import Settings
from gemarket.identity import Identity
from gemarket.layout import Layout
from gemarket.limits import endpoint_check
from gemarket.notices import ended
from marketplace.conformance_endpoint import Market
from marketplace.conformance_runner import ConformanceRunner
from marketplace.contract_housekeeping import ContractHousekeeping
from marketplace.router.transport import ProviderTransport
from marketplace.service_content import ContentLimits
from marketplace.service_content_sweep import keep_sweeping, sweep_files
from marketplace.service_registry import RegistryParts


def marketplace_tls(identity: Identity) -> ssl.SSLContext:
    """Give the client's side of mutual TLS as the marketplace, with its certificate of now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(identity.ca_file)
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    context.set_alpn_protocols(["h2"])
    return context


def open_registry_parts(
    stack: AsyncExitStack,
    settings: Settings,
    layout: Layout,
    engine: AsyncEngine,
    transport: ProviderTransport,
) -> RegistryParts:
    """Make what the service registry works with; runs and sweeps end with the stack."""
    asked = settings.services
    endpoints = endpoint_check(asked)
    tls = partial(marketplace_tls, layout.router)
    market = Market(transport, settings.trust_domain, tls, endpoints)
    runner = ConformanceRunner(engine, market)
    sweeping = keep_sweeping(runner.sweep, partial(sweep_files, engine))
    stack.push_async_callback(runner.close)
    stack.callback(asyncio.create_task(sweeping, name="sweep of services").cancel)
    limits = settings.limits
    return RegistryParts(
        runner=runner,
        endpoints=endpoints,
        content=ContentLimits(
            file_bytes=limits.max_service_file_bytes,
            service_bytes=limits.max_service_files_bytes,
            provider_bytes=limits.max_provider_files_bytes,
        ),
        run_age_max=timedelta(days=limits.conformance_run_max_age_days),
        publication_needs_operator=asked.publication_needs_operator,
        publication_needs_certification=asked.publication_needs_certification,
    )


def start_contracts(stack: AsyncExitStack, engine: AsyncEngine) -> None:
    """Start to apply what contracts agree on at its time; it ends with the stack."""
    keeping = asyncio.create_task(ContractHousekeeping(engine).run(), name="contracts")
    stack.push_async_callback(ended, keeping)
