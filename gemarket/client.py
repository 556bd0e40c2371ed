"""A client for any routed method: learns the messages by reflection, speaks JSON."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from gemarket.endpoints import Party
from gemarket.identity import Identity, channel_credentials

_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_MAX_FILES = 500


class UnknownMethodError(ValueError):
    """The market knows no such method, or the name is not of the form SERVICE/METHOD."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method as reflection describes it."""

    path: str
    request_class: Any
    response_class: Any
    client_streaming: bool
    server_streaming: bool


def open_channel(address: str, party: Party) -> aio.Channel:
    """Open a channel to the market as `party`; to be closed by the caller."""
    from pathlib import Path  # noqa: PLC0415

    identity = Identity(Path(party.certificate_file).parent)
    return aio.secure_channel(address, channel_credentials(identity))


class ReflectionClient:
    """Asks a server for the descriptors of its services."""

    def __init__(self, channel: aio.Channel) -> None:
        self._ask = channel.stream_stream(
            _REFLECTION,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    async def services(self) -> list[str]:
        """List the full names of all services."""
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        async for response in self._ask(iter([request])):
            return [service.name for service in response.list_services_response.service]
        return []

    async def pool_for(self, symbol: str) -> descriptor_pool.DescriptorPool:
        """Give a pool with the file of `symbol` and all that it imports."""
        files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        pending = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)]
        while pending and len(files) < _MAX_FILES:
            async for response in self._ask(iter(pending)):
                if response.HasField("error_response"):
                    message = f"the market knows no {symbol!r}; `gemarket call --list` names all"
                    raise UnknownMethodError(message)
                for raw in response.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                    files[file.name] = file
            pending = [
                reflection_pb2.ServerReflectionRequest(file_by_filename=name)
                for name in sorted(_missing(files.values()))
            ]
        return _pool_of(files)


def _missing(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> set[str]:
    present = {file.name for file in files}
    return {name for file in files for name in file.dependency} - present


def _pool_of(
    files: dict[str, descriptor_pb2.FileDescriptorProto],
) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        for dependency in files[name].dependency:
            add(dependency)
        pool.Add(files[name])

    for name in files:
        add(name)
    return pool


async def find_method(channel: aio.Channel, name: str) -> Method:
    """Find SERVICE/METHOD by reflection; raises UnknownMethodError."""
    service_name, slash, method_name = name.strip("/").rpartition("/")
    if not slash:
        message = f"{name!r} is not of the form package.Service/Method"
        raise UnknownMethodError(message)
    pool = await ReflectionClient(channel).pool_for(service_name)
    service = pool.FindServiceByName(service_name)
    method = service.methods_by_name.get(method_name)
    if method is None:
        known = ", ".join(sorted(service.methods_by_name))
        message = f"{service_name} has no method {method_name!r}; it has: {known}"
        raise UnknownMethodError(message)
    return Method(
        f"/{service_name}/{method_name}",
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
        method.client_streaming,
        method.server_streaming,
    )


def parse_requests(method: Method, text: str) -> list[Any]:
    """Parse JSON, one request or several concatenated ones; raises ValueError with the reason."""
    decoder, requests, rest = json.JSONDecoder(), [], text.strip() or "{}"
    while rest:
        value, end = decoder.raw_decode(rest)
        pool = method.request_class.DESCRIPTOR.file.pool
        try:
            request = json_format.ParseDict(value, method.request_class(), descriptor_pool=pool)
        except json_format.ParseError as error:
            raise ValueError(str(error)) from error
        requests.append(request)
        rest = rest[end:].lstrip()
    if len(requests) != 1 and not method.client_streaming:
        message = f"the method takes one request, {len(requests)} were given"
        raise ValueError(message)
    return requests


async def invoke(
    channel: aio.Channel,
    method: Method,
    requests: list[Any],
    *,
    timeout_s: float | None,
    metadata: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[Any]:
    """Call the method, of whatever kind, and give its answers one by one.

    Raises `grpc.aio.AioRpcError` as the market ends the call.
    """
    # A request that is sent as a stream hides why a call was refused before it was read: grpc.aio
    # then reports its own failure to send. So only methods that stream requests are called so.
    kind: Any = channel.stream_stream if method.client_streaming else channel.unary_stream
    call = kind(
        method.path,
        request_serializer=method.request_class.SerializeToString,
        response_deserializer=method.response_class.FromString,
    )(
        iter(requests) if method.client_streaming else requests[0],
        timeout=timeout_s,
        metadata=metadata,
    )
    async for answer in call:
        yield answer


def to_json(message: Any) -> str:
    """Render an answer as JSON with the field names of the proto."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        descriptor_pool=message.DESCRIPTOR.file.pool,
    )
