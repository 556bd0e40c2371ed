"""A partner's own server that does what a test says, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc import aio

from gemarket.identity import Identity, server_credentials
from interceptors.provider_side import MarketCall, MarketplaceOnly, market_call

_Context: TypeAlias = aio.ServicerContext[bytes, bytes]
#: Serves one call: the method's path, the request messages, and the context.
Script = Callable[[str, AsyncIterator[bytes], _Context], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One call that reached a provider."""

    path: str
    call: MarketCall
    #: `time.monotonic()` at its begin.
    at_s: float


class ScriptedProvider(grpc.GenericRpcHandler):
    """Serves every method by a script; takes calls from the marketplace only."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.endpoint = ""
        self.partner_id = ""
        self._server: aio.Server | None = None
        self._port = 0

    async def start(self, identity: Identity, trust_domain: str) -> str:
        """Listen with a partner's certificate; a later start listens at the same port."""
        self._server = aio.server(
            interceptors=(MarketplaceOnly(trust_domain),), options=(("grpc.so_reuseport", 0),)
        )
        self._server.add_generic_rpc_handlers((self,))
        address = f"127.0.0.1:{self._port}"
        self._port = self._server.add_secure_port(address, server_credentials(identity))
        await self._server.start()
        self.endpoint = f"127.0.0.1:{self._port}"
        return self.endpoint

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Take whatever is asked, of whichever of the four kinds."""
        path = handler_call_details.method

        async def serve(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            self.asked.append(Asked(path, market_call(), time.monotonic()))
            async for answer in self.script(path, requests, context):
                yield answer

        return grpc.stream_stream_rpc_method_handler(serve)


def answers(message: bytes) -> Script:
    """Answer every call with the same message."""

    async def script(
        _path: str, requests: AsyncIterator[bytes], _context: _Context
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            pass
        yield message

    return script


def hangs() -> Script:
    """Never answer."""

    async def script(
        _path: str, _requests: AsyncIterator[bytes], _context: _Context
    ) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    return script


def refuses(code: grpc.StatusCode) -> Script:
    """Refuse every call with a status of the provider's own."""

    async def script(
        _path: str, _requests: AsyncIterator[bytes], context: _Context
    ) -> AsyncIterator[bytes]:
        await context.abort(code, "the provider says no, and nobody else should hear how")
        yield b""

    return script


def waits_for(gate: asyncio.Event, message: bytes) -> Script:
    """Answer once the gate is open."""

    async def script(
        _path: str, _requests: AsyncIterator[bytes], _context: _Context
    ) -> AsyncIterator[bytes]:
        await gate.wait()
        yield message

    return script
