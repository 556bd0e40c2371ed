"""The marketplace as endpoints under test meet it, with certificates of the tests' authority."""

from __future__ import annotations

import functools
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from foundation.certificates import CertificateAuthority, marketplace_uri
from gemarket.identity import Identity as IdentityFolder
from gemarket.options import LOOPBACK_NETWORKS
from gemarket.service_parts import marketplace_tls
from marketplace.conformance_endpoint import Market
from marketplace.conformance_runner import ConformanceLimits, ConformanceRunner
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.provider_channels import MarketplaceCertificate, ProviderChannels
from tests.identities import TRUST_DOMAIN, Identity, identity_of

#: Times that let a test with a silent endpoint end soon.
SHORT = ConformanceLimits(call_timeout_s=0.4, run_timeout_s=5.0, alive_every_s=0.1)


def tls_of(identity: Identity) -> ssl.SSLContext:
    """Give the marketplace's side of mutual TLS; its key lies in a folder for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        files = IdentityFolder(Path(folder))
        files.write(identity.key_pem, identity.chain_pem, identity.root_pem)
        return marketplace_tls(files)


@asynccontextmanager
async def conformance_market(
    authority: CertificateAuthority, endpoints: EndpointCheck | None = None
) -> AsyncIterator[Market]:
    """Open the marketplace's transport towards providers."""
    identity = identity_of(authority, marketplace_uri(TRUST_DOMAIN))
    certificate = MarketplaceCertificate(
        root_pem=identity.root_pem, key_pem=identity.key_pem, chain_pem=identity.chain_pem
    )
    endpoints = endpoints or EndpointCheck(EndpointPolicy(LOOPBACK_NETWORKS))
    channels = ProviderChannels(certificate, TRUST_DOMAIN, endpoints=endpoints)
    try:
        yield Market(channels, TRUST_DOMAIN, functools.partial(tls_of, identity), endpoints)
    finally:
        await channels.close()


def runner_of(
    engine: AsyncEngine, market: Market, clock: Callable[[], datetime]
) -> ConformanceRunner:
    """Make a runner that gives up soon."""
    return ConformanceRunner(engine, market, SHORT, clock)
