"""The router's certificate towards providers follows its file, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gemarket.identity import Identity
from interceptors.listener_credentials import WatchedFile
from marketplace.provider_channels import MarketplaceCertificate

_POLL_S = 10.0

_log = structlog.get_logger(__name__)


def marketplace_certificate(identity: Identity) -> MarketplaceCertificate:
    """Read the certificate with which the router calls providers."""
    key, chain, roots = identity.read()
    return MarketplaceCertificate(root_pem=roots, key_pem=key, chain_pem=chain)


async def keep_rotating(
    identity: Identity, rotate: Callable[[MarketplaceCertificate], Awaitable[None]]
) -> None:
    """Give the router's channels each renewed certificate; runs until it is cancelled.

    One that cannot be used is tried again: its files may have been only half written.
    """
    watched, pending = WatchedFile(identity.certificate_file), False
    while True:
        await asyncio.sleep(_POLL_S)
        pending = watched.changed() or pending
        if pending:
            try:
                await rotate(marketplace_certificate(identity))
                pending = False
            except (OSError, ValueError) as error:
                _log.error("router_certificate_not_renewed", reason=type(error).__name__)
