"""A provider that answers every call with bytes that mean nothing: the demonstration's liar.

`python -m gemarket.garbage_provider ADDRESS IDENTITY_FOLDER`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import uvloop
from grpc import aio

from foundation.lifetime import wait_for_stop
from gemarket.identity import Identity, server_credentials

_GARBAGE_BYTES = 64
_Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class _Garbage(grpc.GenericRpcHandler):
    """Serves every method."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        return grpc.unary_unary_rpc_method_handler(_respond)


async def _respond(_request: bytes, _context: aio.ServicerContext[Any, Any]) -> bytes:
    # The first byte starts a field of a wire type that does not exist, so nothing parses.
    return b"\x0f" + os.urandom(_GARBAGE_BYTES)


async def _serve(address: str, identity: Identity) -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((_Garbage(),))
    server.add_secure_port(address, server_credentials(identity))
    await server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await wait_for_stop()
    await server.stop(0)


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], Identity(Path(sys.argv[2]))))
