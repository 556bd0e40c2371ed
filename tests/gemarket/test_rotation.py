"""The router's certificate follows its file, and a bad file changes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gemarket import rotation
from gemarket.identity import Identity
from gemarket.rotation import keep_rotating, marketplace_certificate
from marketplace.provider_channels import MarketplaceCertificate


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """Give files of a certificate that are looked at often."""
    monkeypatch.setattr(rotation, "_POLL_S", 0.002)
    made = Identity(tmp_path / "router")
    made.write(b"key 1", b"chain 1", b"roots 1")
    return made


@asynccontextmanager
async def rotating(
    identity: Identity, fails: int = 0
) -> AsyncIterator[asyncio.Queue[MarketplaceCertificate]]:
    """Rotate beside the test; the first rotations fail. Gives those that came through."""
    seen: asyncio.Queue[MarketplaceCertificate] = asyncio.Queue()
    left = fails

    async def rotate(certificate: MarketplaceCertificate) -> None:
        nonlocal left
        if left:
            left -= 1
            raise ValueError("not a certificate")
        seen.put_nowait(certificate)

    task = asyncio.create_task(keep_rotating(identity, rotate))
    await asyncio.sleep(0.02)
    try:
        yield seen
    finally:
        assert not task.done(), "whatever a file is, the next one is looked at"
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def renew(identity: Identity, number: int) -> None:
    """Write other files, with a time of their own."""
    identity.write(f"key {number}".encode(), f"chain {number}".encode(), b"roots 1")
    os.utime(identity.certificate_file, ns=(number * 10**9, number * 10**9))


def test_the_files_are_read_as_they_are(identity: Identity) -> None:
    made = marketplace_certificate(identity)
    assert (made.key_pem, made.chain_pem, made.root_pem) == (b"key 1", b"chain 1", b"roots 1")
    assert identity.key_file.stat().st_mode & 0o777 == 0o600


async def test_nothing_happens_while_nothing_changes(identity: Identity) -> None:
    async with rotating(identity) as seen:
        await asyncio.sleep(0.02)
        assert seen.empty()


async def test_each_renewed_certificate_is_given_on(identity: Identity) -> None:
    async with rotating(identity) as seen:
        for number in (2, 3):
            renew(identity, number)
            given = await asyncio.wait_for(seen.get(), 5)
            assert given.chain_pem == f"chain {number}".encode()


async def test_a_file_that_could_not_be_used_is_tried_again_and_then_no_more(
    identity: Identity,
) -> None:
    async with rotating(identity, fails=3) as seen:
        renew(identity, 2)
        assert (await asyncio.wait_for(seen.get(), 5)).chain_pem == b"chain 2"
        await asyncio.sleep(0.02)
        assert seen.empty()


async def test_a_certificate_whose_key_comes_late_is_given_on_with_it(identity: Identity) -> None:
    async with rotating(identity) as seen:
        renew(identity, 2)
        identity.key_file.unlink()
        await asyncio.sleep(0.02)
        assert seen.empty()
        identity.key_file.write_bytes(b"key 2")
        assert (await asyncio.wait_for(seen.get(), 5)).key_pem == b"key 2"
