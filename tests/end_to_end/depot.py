"""A standard interface as its author writes it: compiled here, published while the market runs.

Nothing in the product knows it. It has every route, every merge of items, and all four call kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc import aio

from tests.interfaces import descriptor_set, rpc, service

_MESSAGES = """
message Part {{
  string name = 1 [(buf.validate.field).string.max_len = 100];
  string provider_id = 2
    [(buf.validate.field).string.max_len = 63, (gem.options.v1.stamp) = STAMP_PROVIDER_ID];
}}
message Ask {{ string text = 1 [(buf.validate.field).string.max_len = {text_length}]; }}
message KeyedAsk {{
  string evse_id = 1
    [(buf.validate.field).string.max_len = 48, (gem.options.v1.route_key) = ROUTE_KEY_EVSE_ID];
}}
message Reply {{ repeated Part parts = 1 [(buf.validate.field).repeated.max_items = 100]; }}
message Found {{
  repeated Part parts = 1 [
    (buf.validate.field).repeated.max_items = 1000,
    (gem.options.v1.merge) = {{ rule: MERGE_RULE_CONCAT order_by: ["name"] }}
  ];
  repeated gem.mesh.v1.ProviderAnswer provider_answers = 2
    [(buf.validate.field).repeated.max_items = 1000];
}}
message Seen {{
  repeated Part parts = 1 [(buf.validate.field).repeated.max_items = 1000];
  repeated gem.mesh.v1.ProviderAnswer provider_answers = 2
    [(buf.validate.field).repeated.max_items = 1000];
}}
"""
_HEADER = """
syntax = "proto3";
package {package};
import "buf/validate/validate.proto";
import "gem/mesh/v1/provider_answer.proto";
import "gem/options/v1/options.proto";
"""
_METHODS = (
    rpc("Search", "ROUTE_ALL"),
    rpc("Find", "ROUTE_ONE", response="Reply"),
    rpc("FindFirst", "ROUTE_FIRST", response="Reply"),
    rpc("FindByKey", "ROUTE_BY_KEY", request="KeyedAsk", response="Reply"),
    rpc("Order", "ROUTE_ONE", response="Reply", level="IDEMPOTENT"),
    rpc("Watch", "ROUTE_ALL", response="stream Seen"),
    rpc("Chat", "ROUTE_ONE", request="stream Ask", response="stream Reply"),
)


@dataclass(frozen=True)
class Depot:
    """One published interface `<package>.S` with its messages."""

    package: str
    files: bytes
    pool: descriptor_pool.DescriptorPool

    @property
    def interface(self) -> str:
        """Full name of the service."""
        return f"{self.package}.S"

    def path(self, method: str) -> str:
        """Give a method's path on the wire."""
        return f"/{self.interface}/{method}"

    def message(self, name: str) -> Any:
        """Give the class of a message."""
        descriptor = self.pool.FindMessageTypeByName(f"{self.package}.{name}")
        return message_factory.GetMessageClass(descriptor)

    def reply(self, *names: str) -> bytes:
        """Give what a provider answers; Reply, Found and Seen share the field."""
        raw: bytes = self.message("Reply")(parts=[{"name": name} for name in names])
        return raw.SerializeToString()  # type: ignore[attr-defined,no-any-return]  # dynamic

    def call(self, channel: aio.Channel, method: str, *requests: Any, **options: Any) -> Any:
        """Call a method of any kind with the interface's own messages; gives the stream."""
        found = self.pool.FindServiceByName(self.interface).methods_by_name[method]
        kind: Any = channel.stream_stream if found.client_streaming else channel.unary_stream
        return kind(
            self.path(method),
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(found.output_type).FromString,
        )(iter(requests) if found.client_streaming else requests[0], timeout=10, **options)

    async def one(self, channel: aio.Channel, method: str, request: Any, **options: Any) -> Any:
        """Call a method that answers with one message."""
        (answer,) = [each async for each in self.call(channel, method, request, **options)]
        return answer


@cache
def depot(package: str, text_length: int = 100) -> Depot:
    """Compile the interface into a package, as its author would."""
    body = _MESSAGES.format(text_length=text_length) + service(*_METHODS)
    files = descriptor_set(body, package, header=_HEADER)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(files).file:
        pool.Add(file)
    return Depot(package, files, pool)
