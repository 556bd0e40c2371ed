"""A certificate is revoked while its connection lives: no further call, and its streams are cut."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from grpc import StatusCode, aio

from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_service_pb2 as partners
from gem.mesh.v1 import provider_answer_pb2 as mesh
from gemarket.administration import new_request_id
from tests.end_to_end.charging import reason_of
from tests.end_to_end.depot import Depot, depot
from tests.end_to_end.figures import report
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.load import until
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.end_to_end.whole_market import Party, WholeMarket

pytestmark = pytest.mark.fault


async def revoke(whole: WholeMarket, party: Party) -> None:
    """Revoke the certificate that a party's connection shows."""
    leaf = x509.load_pem_x509_certificate(party.identity.certificate_file.read_bytes())
    request = partners.RevokeCertificateRequest(
        request_id=new_request_id(),
        fingerprint=leaf.fingerprint(hashes.SHA256()),
        reason=partner_pb2.REVOCATION_REASON_KEY_COMPROMISED,
    )
    await whole.business.core.partners.RevokeCertificate(request, timeout=10)


async def echo(_path: str, requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    """Answer each message with an empty one."""
    async for _ in requests:
        yield b""


async def talking(shop: Depot, channel: aio.Channel) -> Any:
    """Open a conversation and have it answered once."""
    talk: Any = channel.stream_stream(
        shop.path("Chat"),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=shop.message("Reply").FromString,
    )(timeout=30)
    await talk.write(shop.message("Ask")(text="hello"))
    assert await talk.read() is not aio.EOF
    return talk


async def is_refused(shop: Depot, channel: aio.Channel) -> bool:
    """Call once; say whether the connection's certificate is refused as revoked."""
    try:
        await shop.one(channel, "Search", shop.message("Ask")())
    except aio.AioRpcError as error:
        return reason_of(error) == "CERTIFICATE_REVOKED"
    return False


async def test_a_revoked_certificate_is_refused_and_cut_on_every_worker(
    whole: WholeMarket,
) -> None:
    shop = depot("acme.revoked.v1")
    await whole.technical.core.publish_interface(shop.files)
    requester, provider = await whole.requester(), ScriptedProvider(echo)
    await whole.contracted(requester, provider, interface=shop.interface)
    renewed = await whole.with_certificate(requester.partner_id)
    channels = await whole.channels(requester)
    talks = [await talking(shop, channel) for channel in channels.values()]
    survivor = await talking(shop, renewed.core.channel)

    await revoke(whole, requester)
    revoked_s = time.monotonic()
    for channel in channels.values():
        await until(lambda: is_refused(shop, channel), 5, "the certificate is refused")  # noqa: B023 - awaited here
    latest_s = time.monotonic() - revoked_s
    for talk in talks:
        assert await asyncio.wait_for(talk.code(), 5) is StatusCode.UNAUTHENTICATED
    cut_s = time.monotonic() - revoked_s
    assert latest_s < 1.0
    assert cut_s < 1.0

    await survivor.write(shop.message("Ask")(text="still here"))
    assert await survivor.read() is not aio.EOF, (
        "the partner's other certificate is as good as ever"
    )
    await survivor.done_writing()
    assert await survivor.read() is aio.EOF
    assert await survivor.code() is StatusCode.OK
    for channel in channels.values():
        await channel.close()
    streams = [entry for entry in await entries_of(renewed) if entry.method == shop.path("Chat")]
    assert sorted(entry.status for entry in streams) == [
        mesh.ANSWER_STATUS_OK,
        mesh.ANSWER_STATUS_CANCELLED,
        mesh.ANSWER_STATUS_CANCELLED,
    ]
    report("certificate revoked", refused_ms=latest_s * 1e3, cut_ms=cut_s * 1e3)
