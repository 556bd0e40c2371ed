"""Which addresses the marketplace may call, and what it makes of names."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.endpoint_policy import (
    ADDRESSES_MAX,
    EndpointCheck,
    EndpointPolicy,
    EndpointRefusedError,
    grpc_target,
    resolve_name,
    split_endpoint,
)
from tests.control_plane import fields_of

STRICT = EndpointPolicy()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.2.7",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "localhost",
        "2130706433",
        "0177.0.0.1",
        "",
    ],
)
def test_addresses_inside_the_operators_network_are_refused_however_written(address: str) -> None:
    assert not STRICT.allows(address)


@pytest.mark.parametrize(
    "address", ["11.22.33.44", "93.184.216.34", "2a00:1450::1", "64:ff9b::b16:212c"]
)
def test_public_addresses_are_allowed(address: str) -> None:
    assert STRICT.allows(address)


def test_only_the_networks_of_the_settings_are_allowed_besides() -> None:
    policy = EndpointPolicy(["127.0.0.0/8", "::1/128", "10.1.0.0/16"])
    for allowed in ("127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3", "11.22.33.44"):
        assert policy.allows(allowed)
    for refused in ("10.2.0.1", "192.168.0.1", "::2", "::ffff:10.2.0.1", "169.254.169.254"):
        assert not policy.allows(refused)
    with pytest.raises(ValueError, match="has host bits set"):
        EndpointPolicy(["10.1.0.1/16"])


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_judged_alike_in_every_dress(address: ipaddress.IPv4Address) -> None:
    policy = EndpointPolicy(["10.1.0.0/16"])
    plain = policy.allows(str(address))
    for dress in (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | int(address)))):
        assert policy.allows(dress) == plain


@given(st.ip_addresses())
def test_what_is_allowed_is_global_and_one_machine(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if STRICT.allows(str(address)):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_loopback


class Names:
    """A resolver whose answers follow each other; the last one stays."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def _silent(_host: str) -> Sequence[str]:
    await asyncio.Event().wait()
    return ()


@pytest.mark.parametrize(
    ("answer", "resolved"),
    [
        (["11.22.33.44", "127.0.0.1"], True),
        (["::1"], True),
        (["11.22.33.44"] + [f"11.22.33.{n}" for n in range(ADDRESSES_MAX + 1)], True),
        ([], False),
        (OSError("no such name"), False),
        (UnicodeError("label too long"), False),
    ],
)
async def test_a_name_is_refused_unless_all_its_addresses_are_allowed(
    answer: Sequence[str] | Exception, resolved: bool
) -> None:
    check = EndpointCheck(resolve=Names(answer))
    with pytest.raises(EndpointRefusedError) as refused:
        await check.addresses("provider.example:443")
    assert refused.value.resolved is resolved
    refusal = await check.refusal("provider.example:443")
    assert refusal is not None
    assert fields_of(refusal) == ["endpoint"]
    assert "11.22" not in refusal.message + refusal.violations[0].description


async def test_a_resolver_that_says_nothing_is_waited_for_no_longer_than_the_limit() -> None:
    check = EndpointCheck(resolve=_silent, timeout_s=0.02)
    with pytest.raises(EndpointRefusedError) as refused:
        await check.addresses("provider.example:443")
    assert not refused.value.resolved


async def test_an_allowed_name_gives_its_addresses_once_each_in_order() -> None:
    names = Names(["11.22.33.44", "2a00:1450::1", "11.22.33.44"])
    check = EndpointCheck(resolve=names)
    assert await check.addresses("provider.example:443") == ("11.22.33.44", "2a00:1450::1")
    assert await check.refusal("provider.example:443") is None
    assert set(names.asked) == {"provider.example"}


async def test_an_address_is_looked_up_nowhere() -> None:
    names = Names(["127.0.0.1"])
    check = EndpointCheck(EndpointPolicy(["::1/128"]), names)
    assert check.literal("provider.example:1") is None
    assert check.literal("11.22.33.44:1") == ("11.22.33.44",)
    assert await check.addresses("[::1]:1") == ("::1",)
    with pytest.raises(EndpointRefusedError):
        check.literal("127.0.0.1:1")
    assert names.asked == []


def test_a_channel_is_given_addresses_of_one_family_and_no_name() -> None:
    both = ("11.22.33.44", "2a00:1450::1", "11.22.33.45")
    assert grpc_target(both, "a.example:443") == "ipv4:11.22.33.44:443,11.22.33.45:443"
    assert grpc_target(both[1:2], "[2a00:1450::1]:8443") == "ipv6:[2a00:1450::1]:8443"
    assert split_endpoint("[::1]:80") == ("::1", "80")


async def test_the_machines_resolver_finds_this_machine_and_no_strangers() -> None:
    assert set(await resolve_name("localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r"."):
        await resolve_name("no-such-host.invalid")
