"""The yardstick: a bare grpc.aio proxy that passes bytes through over mutual TLS, nothing else.

With one upstream it forwards; with several it asks all at once and concatenates the serialised
answers, which for a repeated field is what protobuf calls a merge. No check, no log, no stamps.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import uvloop
from grpc import aio

from gemarket.identity import Identity, channel_credentials, server_credentials

_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class _Proxy(grpc.GenericRpcHandler):
    """Answers every method with the answers of all upstreams, one behind the other."""

    def __init__(self, upstreams: list[aio.Channel], method: str) -> None:
        self._asks: list[aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            upstream.unary_unary(method) for upstream in upstreams
        ]
        forward = self._forward if len(upstreams) == 1 else self._forward_all
        self._handler: _Handler = grpc.unary_unary_rpc_method_handler(forward)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        return self._handler

    async def _forward(self, request: bytes, context: _Context) -> bytes:
        return await self._asks[0](request, timeout=context.time_remaining())

    async def _forward_all(self, request: bytes, context: _Context) -> bytes:
        timeout_s = context.time_remaining()
        asked = (ask(request, timeout=timeout_s) for ask in self._asks)
        return b"".join(await asyncio.gather(*asked))


async def _serve(plan: dict[str, Any]) -> None:
    identity = Identity(Path(plan["identity"]))
    channels = []
    for upstream in plan["upstreams"]:
        name = ("grpc.ssl_target_name_override", upstream["name"])
        options = [name, ("grpc.use_local_subchannel_pool", 1)]
        credentials = channel_credentials(identity)
        channels.append(aio.secure_channel(upstream["address"], credentials, options=options))
    server = aio.server()
    server.add_generic_rpc_handlers([_Proxy(channels, plan["method"])])
    server.add_secure_port(plan["address"], server_credentials(identity))
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1])))
