"""The marketplace's own services on the same footing as routed calls: parse, validate, serve.

A servicer has one method per rpc, named like it. With one request message:
`async def SuspendContract(self, request, call) -> Response`, or an async generator of responses
where the rpc streams them; where the rpc takes a stream, `request` is an async iterator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import DecodeError, Message

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1 import options_pb2
from interceptors.call import Call, Handler, read_single

#: Finds the broken rules of a message; `foundation.validation.violations`.
Validate = Callable[[Message], tuple[FieldViolation, ...]]

#: What parses has its own limit: 4 MiB of empty sub-messages take 150 MB once parsed.
MAX_CORE_REQUEST_BYTES = 1 << 20

_USERS = frozenset(
    {
        options_pb2.ACCESS_ROLE_ADMINISTRATOR,
        options_pb2.ACCESS_ROLE_BUYER,
        options_pb2.ACCESS_ROLE_SELLER,
        options_pb2.ACCESS_ROLE_VIEWER,
    }
)


class CoreServices:
    """Handlers of the core services by full method, `/package.Service/Method`."""

    def __init__(self, validate: Validate) -> None:
        self._validate = validate
        self._handlers: dict[str, Handler] = {}
        self._access: dict[str, frozenset[int]] = {}
        self._answers_one: set[str] = set()
        self._services: list[ServiceDescriptor] = []

    def add(
        self,
        service: ServiceDescriptor,
        servicer: object,
        access: Iterable[int] = (),
    ) -> None:
        """Register a service; `access` is for services whose proto cannot carry our options.

        Raises AttributeError where the servicer lacks a method, ValueError where nobody may call
        one or it is registered already: a market that starts serves all that its protos say.
        """
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            roles = _roles_of(method, access)
            if not roles or options_pb2.ACCESS_ROLE_UNSPECIFIED in roles:
                raise ValueError(f"{path} says nobody may call it")
            if path in self._handlers:
                raise ValueError(f"{path} is registered already")
            self._handlers[path] = _handler(method, getattr(servicer, method.name), self._validate)
            self._access[path] = roles
            if not method.server_streaming:
                self._answers_one.add(path)
        self._services.append(service)

    def methods(self) -> Mapping[str, Handler]:
        """Give the handlers; a view that follows later additions."""
        return MappingProxyType(self._handlers)

    def access(self) -> Mapping[str, frozenset[int]]:
        """Give the roles that may call each method; a view that follows later additions."""
        return MappingProxyType(self._access)

    def services(self) -> tuple[ServiceDescriptor, ...]:
        return tuple(self._services)

    def answers_one(self, path: str) -> bool:
        """Say whether the method is ours and answers with exactly one message."""
        return path in self._answers_one


def _roles_of(method: MethodDescriptor, access: Iterable[int]) -> frozenset[int]:
    """Give who may call a method: whom it names, and in their sessions the users of a partner.

    What a partner may do its administrator may do, and what changes nothing each of its users.
    """
    options = method.GetOptions()
    roles = frozenset(options.Extensions[options_pb2.access] or access)
    if options_pb2.ACCESS_ROLE_PARTNER not in roles:
        return roles
    reads = options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    return roles | (_USERS if reads else {options_pb2.ACCESS_ROLE_ADMINISTRATOR})


def _handler(method: MethodDescriptor, serve: Any, validate: Validate) -> Handler:
    parse = _parser(method, validate)
    takes_stream, gives_stream = method.client_streaming, method.server_streaming

    async def handle(call: Call) -> None:
        request = _messages(call, parse) if takes_stream else parse(await read_single(call))
        if gives_stream:
            await _write_all(call, serve(request, call))
            return
        response = await serve(request, call)
        await call.wire.write(response.SerializeToString())

    return handle


async def _write_all(call: Call, responses: Any) -> None:
    """Write a servicer's stream; its generator is closed at once however the call ends."""
    try:
        async for response in responses:
            await call.wire.write(response.SerializeToString())
    finally:
        await responses.aclose()


async def _messages(call: Call, parse: Callable[[bytes], Message]) -> AsyncIterator[Message]:
    while (raw := await call.wire.read()) is not None:
        yield parse(raw)


def _parser(method: MethodDescriptor, validate: Validate) -> Callable[[bytes], Message]:
    request_class = message_factory.GetMessageClass(method.input_type)

    def parse(raw: bytes) -> Message:
        if len(raw) > MAX_CORE_REQUEST_BYTES:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
                f"The request is larger than {MAX_CORE_REQUEST_BYTES} bytes.",
            )
        try:
            request: Message = request_class.FromString(raw)
        except DecodeError:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_MALFORMED,
                "The request does not parse as the method's request message.",
            ) from None
        broken = validate(request)
        if broken:
            raise MarketError(
                ErrorReason.ERROR_REASON_REQUEST_INVALID,
                "The request breaks rules of the interface.",
                violations=broken,
            )
        return request

    return parse
