"""Limits and options of the channels to providers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Limits of the connections to providers. Times are in seconds, sizes in bytes."""

    max_answer_bytes: int = 1 << 20
    #: Endpoints connected at the same time; beyond that the one unused for longest is closed.
    max_channels: int = 2000
    #: A channel that nobody used for so long is closed.
    idle_s: float = 300.0
    #: How long calls in flight may take to end on a channel that is being replaced.
    retire_s: float = 60.0
    #: Methods of one endpoint whose callables are kept.
    max_methods: int = 500
    #: A name is resolved and checked again once its channel is used after so long.
    recheck_s: float = 30.0
    #: The same for a channel that does not connect.
    failed_recheck_s: float = 1.0


def channel_options(target_name: str, limits: ChannelLimits) -> list[tuple[str, str | int]]:
    """Give the options of a channel to the partner whose certificate carries `target_name`."""
    return [
        ("grpc.ssl_target_name_override", target_name),
        ("grpc.max_receive_message_length", limits.max_answer_bytes),
        # Only uncompressed answers: what is announced is what it takes.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_metadata_size", 8192),
        ("grpc.absolute_max_metadata_size", 16384),
        # Else two partners at one address would share a connection, and its one certificate check.
        ("grpc.use_local_subchannel_pool", 1),
        # A provider that stopped without a word is found in 15 s.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # The router alone decides what is asked again.
        ("grpc.enable_retries", 0),
        # Neither the environment nor a provider's DNS decides how it is reached.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
    ]
