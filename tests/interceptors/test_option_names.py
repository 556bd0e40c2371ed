"""grpc takes options of any name without a word: each of ours is one that its core reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # grpc's core has no types

from clearinghouse.market_client import CHANNEL_OPTIONS
from interceptors.grpc_server import ServerLimits, server_options
from interceptors.provider_server import SERVER_OPTIONS
from marketplace.provider_channels import ChannelLimits, channel_options

_NAMES = {
    name
    for name, _ in (
        *CHANNEL_OPTIONS,
        *SERVER_OPTIONS,
        *server_options(ServerLimits()),
        *channel_options("name", ChannelLimits()),
    )
}


@pytest.fixture(scope="module")
def core() -> bytes:
    """Give the library of grpc's core, which holds the names as texts."""
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted(_NAMES))
def test_an_option_is_known(core: bytes, name: str) -> None:
    assert name.encode() + b"\0" in core


def test_a_name_that_nobody_reads_is_found(core: bytes) -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms\0" not in core
