"""The settings' limits as each part takes them."""

from __future__ import annotations

from datetime import timedelta

from foundation.settings import LimitSettings, ServiceSettings
from interceptors.admission import AdmissionLimits
from interceptors.grpc_server import ServerLimits
from marketplace.endpoint_policy import EndpointCheck, EndpointPolicy
from marketplace.provider_channels import ChannelLimits
from marketplace.router.budget import RouterLimits
from marketplace.session import SessionLimits


def server_limits(limits: LimitSettings) -> ServerLimits:
    """Give the limits of the listener."""
    return ServerLimits(
        max_request_bytes=limits.max_request_bytes,
        max_held_bytes=limits.max_held_bytes,
        request_read_timeout_s=limits.request_read_timeout_s,
        max_call_s=limits.max_call_s,
        max_stream_s=limits.max_stream_s,
    )


def admission_limits(limits: LimitSettings) -> AdmissionLimits:
    """Give the limits of one worker and one party."""
    return AdmissionLimits(
        max_calls=limits.max_calls,
        party_max_calls=limits.partner_max_calls,
        party_calls_per_s=limits.partner_calls_per_s,
    )


def router_limits(limits: LimitSettings) -> RouterLimits:
    """Give the limits of one routed call."""
    return RouterLimits(
        default_budget_s=limits.default_budget_s,
        max_call_s=limits.max_call_s,
        merge_reserve_s=limits.merge_reserve_s,
    )


def session_limits(limits: LimitSettings) -> SessionLimits:
    """Give how long sessions of people last."""
    return SessionLimits(
        idle=timedelta(seconds=limits.session_idle_s),
        longest=timedelta(seconds=limits.session_longest_s),
    )


def endpoint_check(services: ServiceSettings) -> EndpointCheck:
    """Give the policy of addresses, for the registry of services and for calls alike."""
    return EndpointCheck(EndpointPolicy(services.endpoint_networks_allowed))


def channel_limits(limits: LimitSettings) -> ChannelLimits:
    """Give the limits of the connections to providers."""
    return ChannelLimits(max_answer_bytes=limits.max_answer_bytes)
