"""The clearing house as a caller: one channel to the marketplace, through which EVSPs are reached.

The channel shows the clearing house's own certificate. A renewed certificate file is taken for the
next call; calls in flight end on the channel that they began on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from interceptors.listener_credentials import WatchedFile

#: Between two looks at the certificate file.
_LOOK_EVERY_S = 1.0
#: How long calls may go on on a channel that was replaced.
_RETIRE_S = 60.0
_PROVIDER = "gem-provider"
_log = structlog.get_logger("clearinghouse")

#: Of the connection to the marketplace.
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)


@dataclass(frozen=True, slots=True)
class MarketAccess:
    """Where the marketplace is, and the PEM files with which it is called."""

    address: str
    key_file: Path
    certificate_file: Path
    ca_file: Path
    #: Name in its certificate, where that is not the address's host.
    name: str | None = None


def to_provider(partner_id: str) -> tuple[tuple[str, str], ...]:
    """Give the metadata of a call that one partner shall answer."""
    return ((_PROVIDER, partner_id),)


class MarketClient:
    """Gives the channel to the marketplace; made inside its event loop.

    A stub is made per call: `ContractHolderServiceStub(client.channel())`, with a timeout and
    `metadata=to_provider(evsp_id)`.
    """

    def __init__(self, access: MarketAccess) -> None:
        self._access = access
        self._watched = WatchedFile(access.certificate_file)
        self._channel: grpc.aio.Channel | None = None
        self._looked_s = time.monotonic()
        self._retiring: set[asyncio.Task[None]] = set()

    def channel(self) -> grpc.aio.Channel:
        """Give a channel with the certificate that the file holds now.

        Raises OSError where there is none yet and the files cannot be read.
        """
        if self._channel is None:
            self._channel = self._open()
        elif time.monotonic() - self._looked_s > _LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            if self._watched.changed():
                self._renew()
        return self._channel

    async def close(self) -> None:
        """Close the channel; calls in flight end as cancelled."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    def _open(self) -> grpc.aio.Channel:
        access = self._access
        files: Sequence[Path] = (access.ca_file, access.key_file, access.certificate_file)
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        options: list[tuple[str, str | int]] = list(CHANNEL_OPTIONS)
        if access.name is not None:
            options.append(("grpc.ssl_target_name_override", access.name))
        return grpc.aio.secure_channel(access.address, credentials, options)

    def _renew(self) -> None:
        old = self._channel
        assert old is not None, "a channel that is there is renewed"
        try:
            self._channel = self._open()
        except OSError as error:
            _log.error("certificate not renewed", error=type(error).__name__)
            return
        task = asyncio.create_task(_retire(old))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _retire(channel: grpc.aio.Channel) -> None:
    await channel.close(_RETIRE_S)
