"""What to try next: lines that work as they are pasted."""

from __future__ import annotations

import sys
from pathlib import Path

from gemarket.endpoints import Endpoints
from gemarket.layout import Layout

SEARCH = "gem.charging.v1.EvseSearchService/SearchEvses"
_REQUEST = (
    '{"circle":{"center":{"latitude_e7":501109000,"longitude_e7":86821000},"radius_m":150000}}'
)


def _tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def next_steps(endpoints: Endpoints, layout: Layout) -> str:
    """Give commands for a call, grpcurl, buf curl, health probes and metrics."""
    name = next(iter(endpoints.partners), "business")
    party = endpoints.party(name)
    files = f"--cacert {party.ca_file} --cert {party.certificate_file} --key {party.key_file}"
    short = f"-cacert {party.ca_file} -cert {party.certificate_file} -key {party.key_file}"
    at = endpoints.marketplace
    buf = f"{_tool('buf')} curl --protocol grpc {files}"
    health = "grpc.health.v1.Health/Check"
    lines = [
        "# search as a partner",
        f"{_tool('gemarket')} call {SEARCH} --as {name} --data-dir {layout.root} '{_REQUEST}'",
        "# the same with buf curl, and with grpcurl",
        f"{buf} -d '{_REQUEST}' https://{at}/{SEARCH}",
        f"grpcurl {short} -d '{_REQUEST}' {at} {SEARCH}",
        "# health: the market as a whole, and one interface",
        f"{buf} -d '{{}}' https://{at}/{health}",
        f'grpcurl {short} -d \'{{"service":"{SEARCH.partition("/")[0]}"}}\' {at} {health}',
        (
            f"grpc_health_probe -addr {at} -tls -tls-ca-cert {party.ca_file}"
            f" -tls-client-cert {party.certificate_file} -tls-client-key {party.key_file}"
        ),
        "# metrics, and what to do when something does not connect",
        f"curl -s {endpoints.metrics}",
        f"{_tool('gemarket')} doctor --data-dir {layout.root}",
    ]
    return "\n".join(lines)
