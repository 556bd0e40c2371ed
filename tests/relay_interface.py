"""A small standard interface with every route and call kind, for the tests of the router."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2

from buf.validate import validate_pb2
from gem.options.v1 import options_pb2
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import InterfaceRules, MethodRules

NAME = "gem.relay.v1.RelayService"
_KIND = descriptor_pb2.FieldDescriptorProto
_METHODS = (
    # name, route, command, client streaming, server streaming
    ("Search", options_pb2.ROUTE_ALL, False, False, False),
    ("OrderAll", options_pb2.ROUTE_ALL, True, False, False),
    ("Get", options_pb2.ROUTE_ONE, False, False, False),
    ("Order", options_pb2.ROUTE_ONE, True, False, False),
    ("GetFirst", options_pb2.ROUTE_FIRST, False, False, False),
    ("OrderFirst", options_pb2.ROUTE_FIRST, True, False, False),
    ("GetByKey", options_pb2.ROUTE_BY_KEY, False, False, False),
    ("Watch", options_pb2.ROUTE_ALL, False, False, True),
    ("WatchOne", options_pb2.ROUTE_ONE, False, False, True),
    ("WatchFirst", options_pb2.ROUTE_FIRST, False, False, True),
    ("Upload", options_pb2.ROUTE_ONE, True, True, False),
    ("Chat", options_pb2.ROUTE_ONE, False, True, True),
)

#: Longest name of an item in an answer.
NAME_CHARACTERS_MAX = 100_000


def path(name: str) -> str:
    """Give the path of a method of the interface."""
    return f"/{NAME}/{name}"


def descriptor_set() -> bytes:
    """Give the interface as a publisher would send it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="gem/relay/v1/relay_service.proto",
        package="gem.relay.v1",
        syntax="proto3",
        dependency=[
            "gem/options/v1/options.proto",
            "gem/mesh/v1/provider_answer.proto",
            "buf/validate/validate.proto",
        ],
    )
    item = file.message_type.add(name="Item")
    _limit(_field(item, "name", 1, _KIND.TYPE_STRING), NAME_CHARACTERS_MAX)
    stamped = _field(item, "provider_id", 2, _KIND.TYPE_STRING)
    stamped.options.Extensions[options_pb2.stamp] = options_pb2.STAMP_PROVIDER_ID
    ask = file.message_type.add(name="Ask")
    _limit(_field(ask, "text", 1, _KIND.TYPE_STRING), 100)
    key = _field(ask, "evse_id", 2, _KIND.TYPE_STRING)
    _limit(key, 100)
    keyed = file.message_type.add(name="KeyedAsk")
    key = _field(keyed, "evse_id", 1, _KIND.TYPE_STRING)
    _limit(key, 100)
    key.options.Extensions[options_pb2.route_key] = options_pb2.ROUTE_KEY_EVSE_ID
    for name in ("Answer", "Reply"):
        message = file.message_type.add(name=name)
        items = _field(message, "items", 1, _KIND.TYPE_MESSAGE, ".gem.relay.v1.Item")
        items.label = _KIND.LABEL_REPEATED
    merged = file.message_type[-2]
    entries = _field(
        merged, "provider_answers", 2, _KIND.TYPE_MESSAGE, ".gem.mesh.v1.ProviderAnswer"
    )
    entries.label = _KIND.LABEL_REPEATED
    service = file.service.add(name="RelayService")
    service.options.Extensions[options_pb2.standard_interface].title = "Relay"
    service.options.Extensions[options_pb2.standard_interface].category = "test"
    for name, route, command, takes_stream, gives_stream in _METHODS:
        method = service.method.add(name=name, input_type=".gem.relay.v1.Ask")
        if route == options_pb2.ROUTE_BY_KEY:
            method.input_type = ".gem.relay.v1.KeyedAsk"
        answer = "Answer" if route == options_pb2.ROUTE_ALL else "Reply"
        method.output_type = f".gem.relay.v1.{answer}"
        method.client_streaming, method.server_streaming = takes_stream, gives_stream
        method.options.Extensions[options_pb2.route] = route
        levels = descriptor_pb2.MethodOptions
        method.options.idempotency_level = levels.IDEMPOTENT if command else levels.NO_SIDE_EFFECTS
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def compiled() -> InterfaceRules:
    """Give the interface compiled."""
    (rules,) = compile_interface(descriptor_set())
    return rules


def ask(rules: MethodRules, text: str = "", evse_id: str = "") -> bytes:
    """Give a request of a method."""
    fields = {"evse_id": evse_id} if rules.route_key else {"text": text, "evse_id": evse_id}
    return rules.request_class(**fields).SerializeToString()


def answer(rules: MethodRules, *names: str, provider_id: str = "forged") -> bytes:
    """Give an answer of a method with one item for each name, attributed to somebody."""
    items = [{"name": name, "provider_id": provider_id} for name in names]
    message: Any = rules.response_class
    return message(items=items).SerializeToString()  # type: ignore[no-any-return]  # dynamic


def _field(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    number: int,
    kind: _KIND.Type.ValueType,
    type_name: str = "",
) -> descriptor_pb2.FieldDescriptorProto:
    field = message.field.add(name=name, number=number, type=kind, label=_KIND.LABEL_OPTIONAL)
    if type_name:
        field.type_name = type_name
    return field


def _limit(field: descriptor_pb2.FieldDescriptorProto, most: int) -> None:
    field.options.Extensions[validate_pb2.field].string.max_len = most
