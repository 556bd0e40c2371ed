"""A partner's own server that keeps to its interface, and can be made to break one rule of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from foundation.validation import violations
from interceptors.provider_side import MarketplaceOnly, market_call
from marketplace.conformance_message import valid_message
from marketplace.router.method_rules import InterfaceRules, MethodRules
from tests.identities import TRUST_DOMAIN, Identity

_Context: TypeAlias = aio.ServicerContext[bytes, bytes]


@dataclass
class ConformingProvider(grpc.GenericRpcHandler):
    """Answers valid requests with made-up answers, and refuses invalid ones."""

    rules: InterfaceRules
    #: Names of methods that refuse whatever comes, with a status of their own.
    refuses: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: Names of methods that answer whatever comes.
    careless: set[str] = field(default_factory=set)
    #: Names of methods that answer with these bytes.
    says: dict[str, bytes] = field(default_factory=dict)
    #: Names of methods whose streams stay open.
    lasting: set[str] = field(default_factory=set)
    #: None means that there is no health service.
    health: health_pb2.HealthCheckResponse.ServingStatus.ValueType | None = (
        health_pb2.HealthCheckResponse.SERVING
    )
    #: Method and metadata of each call, in order.
    calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    _server: aio.Server | None = None

    async def start(self, identity: Identity) -> str:
        """Listen with an identity of the tests; gives `host:port`."""
        return await self.listen(identity.key_pem, identity.chain_pem, identity.root_pem)

    async def listen(self, key_pem: bytes, chain_pem: bytes, root_pem: bytes) -> str:
        """Listen with a key, its certificate and whom to trust; gives `host:port`."""
        self._server = aio.server(interceptors=(MarketplaceOnly(TRUST_DOMAIN),))
        self._server.add_generic_rpc_handlers((self,))
        if self.health is not None:
            servicer = health.aio.HealthServicer()
            await servicer.set("", self.health)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        pair = (key_pem, chain_pem)
        credentials = grpc.ssl_server_credentials([pair], root_pem, require_client_auth=True)
        port = self._server.add_secure_port("127.0.0.1:0", credentials)
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server is not None:
            await self._server.stop(0)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Take the methods of the interface."""
        method = self.rules.methods.get(handler_call_details.method)
        if method is None:
            return None
        metadata = dict(handler_call_details.invocation_metadata or ())

        async def serve(requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
            name = method.path.rpartition("/")[2]
            self.calls.append((name, {**metadata, "requester": market_call().requester_id}))
            async for raw in requests:
                await self._check(name, method, raw, context)
                if method.client_streaming and method.server_streaming:
                    yield self._answer(name, method)
            if not (method.client_streaming and method.server_streaming):
                yield self._answer(name, method)
            if name in self.lasting:
                await asyncio.Event().wait()

        return grpc.stream_stream_rpc_method_handler(serve)

    async def _check(self, name: str, method: MethodRules, raw: bytes, context: _Context) -> None:
        if name in self.refuses:
            await context.abort(self.refuses[name], "a text that no report repeats")
        if name in self.careless:
            return
        try:
            request: Message = method.request_class.FromString(raw)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "does not parse")
        if violations(request):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "breaks a rule")

    def _answer(self, name: str, method: MethodRules) -> bytes:
        if name in self.says:
            return self.says[name]
        answer = valid_message(method.response_class, 3)
        assert answer is not None, "the interface of the test has valid answers"
        return answer.SerializeToString()
