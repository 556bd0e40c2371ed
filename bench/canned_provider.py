"""Providers that answer every call with the same bytes at once, or never: many in one process."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import uvloop
from grpc import aio

from gemarket.identity import Identity, server_credentials

_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class _Canned(grpc.GenericRpcHandler):
    """Gives the canned answer to whatever is asked; hangs when there is none."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self._handler: _Handler = grpc.unary_unary_rpc_method_handler(self._respond)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        return self._handler

    async def _respond(self, request: bytes, context: _Context) -> bytes:
        if self._answer is None:
            await asyncio.Event().wait()
        assert self._answer is not None
        return self._answer


async def _serve(plan: list[dict[str, Any]]) -> None:
    servers = []
    for provider in plan:
        answer = bytes.fromhex(provider["answer"]) if provider["answer"] is not None else None
        server = aio.server()
        server.add_generic_rpc_handlers([_Canned(answer)])
        credentials = server_credentials(Identity(Path(provider["identity"])))
        server.add_secure_port(provider["address"], credentials)
        await server.start()
        servers.append(server)
    print("ready", flush=True)
    await asyncio.gather(*(server.wait_for_termination() for server in servers))


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(Path(sys.argv[1]).read_text())))
