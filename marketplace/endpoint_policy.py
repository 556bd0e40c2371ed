"""Which addresses the marketplace may call: endpoints are a way into its operator's network.

A name is resolved by us, every address it has must be allowed, and what is then connected to are
those addresses: a name that means another machine a moment later gains nothing (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Gives the addresses of a host name; raises OSError where it has none.
Resolve = Callable[[str], Awaitable[Sequence[str]]]

RESOLVE_TIMEOUT_S = 3.0
#: Names with more addresses are refused.
ADDRESSES_MAX = 32
#: IPv6 addresses that a gateway turns into the IPv4 one in their last 32 bits (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER_IPV6 = (ipaddress.ip_network("64:ff9b:1::/48"), ipaddress.ip_network("fec0::/10"))


class EndpointRefusedError(Exception):
    """An endpoint may not be called, or nobody knows where it is; `resolved` tells which."""

    def __init__(self, *, resolved: bool) -> None:
        super().__init__("the endpoint is not allowed" if resolved else "no address is known")
        self.resolved = resolved


class EndpointPolicy:
    """Allows public addresses, and those of the networks that the settings name."""

    def __init__(self, networks_allowed: Iterable[str] = ()) -> None:
        """Take networks in CIDR notation; raises ValueError for what is none."""
        self._networks = tuple(map(ipaddress.ip_network, networks_allowed))

    def allows(self, text: str) -> bool:
        """Say whether an address may be called; False for what is none."""
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        meant = _embedded(address)
        if any(each in network for each in {address, meant} for network in self._networks):
            return True
        return _is_public(address) and _is_public(meant)


class EndpointCheck:
    """Finds the addresses of endpoints, and refuses those that the policy does not allow."""

    def __init__(
        self,
        policy: EndpointPolicy | None = None,
        resolve: Resolve | None = None,
        timeout_s: float = RESOLVE_TIMEOUT_S,
    ) -> None:
        self._policy = policy or EndpointPolicy()
        self._resolve = resolve or resolve_name
        self._timeout_s = timeout_s

    def literal(self, endpoint: str) -> tuple[str, ...] | None:
        """Give the address of an endpoint that has one for a host; None where it has a name.

        Raises:
            EndpointRefusedError: the policy does not allow the address.
        """
        host = split_endpoint(endpoint)[0]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        return self._allowed((host,))

    async def addresses(self, endpoint: str) -> tuple[str, ...]:
        """Give the addresses of an endpoint, each once, in the resolver's order.

        Raises:
            EndpointRefusedError: it has none, or one that the policy does not allow.
        """
        known = self.literal(endpoint)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._resolve(split_endpoint(endpoint)[0])
        except (OSError, UnicodeError):
            # TimeoutError is an OSError.
            raise EndpointRefusedError(resolved=False) from None
        return self._allowed(tuple(dict.fromkeys(found)))

    async def refusal(self, endpoint: str) -> MarketError | None:
        """Give why an endpoint cannot be registered; None where it can."""
        try:
            await self.addresses(endpoint)
        except EndpointRefusedError as refused:
            description = (
                "must not lead to an address that this market does not call"
                if refused.resolved
                else "must have a name that can be resolved"
            )
            return MarketError(
                ErrorReason.ERROR_REASON_REQUEST_INVALID,
                "The endpoint is refused.",
                violations=(FieldViolation("endpoint", description, "endpoint_policy"),),
            )
        return None

    def _allowed(self, found: tuple[str, ...]) -> tuple[str, ...]:
        if not found:
            raise EndpointRefusedError(resolved=False)
        if len(found) > ADDRESSES_MAX or not all(map(self._policy.allows, found)):
            raise EndpointRefusedError(resolved=True)
        return found


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Give host and port of a normal endpoint; the host without the brackets of IPv6."""
    host, _, port = endpoint.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def grpc_target(addresses: Sequence[str], endpoint: str) -> str:
    """Give the target of a channel that connects to these addresses and resolves nothing.

    One target has one family: that of the first address, which the resolver prefers.
    """
    port = split_endpoint(endpoint)[1]
    version = ipaddress.ip_address(addresses[0]).version
    same = [each for each in addresses if ipaddress.ip_address(each).version == version]
    form = "[{}]:{}" if version == 6 else "{}:{}"
    return f"ipv{version}:" + ",".join(form.format(each, port) for each in same)


async def resolve_name(host: str) -> list[str]:
    """Ask the machine's resolver."""
    loop = asyncio.get_running_loop()
    flags = socket.AI_ADDRCONFIG
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return [str(entry[4][0]) for entry in found]


def _embedded(address: _Address) -> _Address:
    """Give the IPv4 address that an IPv6 one stands for, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    meant = address.ipv4_mapped or address.sixtofour
    if meant is None and address.teredo is not None:
        meant = address.teredo[1]
    if meant is None and address in _NAT64:
        meant = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return meant or address


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None or address in _NAT64:
            # Only the address inside says anything.
            return _is_public(_embedded(address))
        if address.scope_id is not None or any(address in each for each in _NEVER_IPV6):
            return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )
