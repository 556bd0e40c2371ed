"""Calls of any core rpc that is for partners, with all that comes back laid open."""

from __future__ import annotations

import importlib
import io
import pkgutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio

import gem.marketplace.v1 as package
from gem.options.v1 import options_pb2
from tests.end_to_end.whole_market import Party

#: A stream that waits for more is read for so long.
_WATCH_S = 0.15
_TIMEOUT_S = 20.0
_ENDLESS = frozenset({"WatchNotifications"})


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method that partners may call."""

    path: str
    request: type[Message]
    response: type[Message]
    is_read: bool

    @property
    def name(self) -> str:
        """The method's name alone."""
        return self.path.rpartition("/")[2]


def partner_rpcs() -> dict[str, Rpc]:
    """Give every core method whose access options name partners, by its name."""
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.endswith("_service_pb2"):
            continue
        file = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
        for service in file.services_by_name.values():
            for method in service.methods:
                options = method.GetOptions()
                if options_pb2.ACCESS_ROLE_PARTNER not in options.Extensions[options_pb2.access]:
                    continue
                found[method.name] = Rpc(
                    f"/{service.full_name}/{method.name}",
                    GetMessageClass(method.input_type),
                    GetMessageClass(method.output_type),
                    options.idempotency_level == options.NO_SIDE_EFFECTS,
                )
    return found


@dataclass(slots=True)
class Outcome:
    """How a call ended: its status, the messages, and what a refusal says."""

    code: StatusCode = StatusCode.OK
    messages: list[Message] = field(default_factory=list)
    #: Text and details of a refusal.
    refusal: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Say whether the call did what it was asked for."""
        return self.code is StatusCode.OK

    def texts(self) -> list[str]:
        """Give every text that the caller has in hand now, also inside archives."""
        pieces = b"".join(_pieces(self.messages))
        inside = [text for message in self.messages for text in texts_of(message)]
        return [*inside, *self.refusal, *(_unpacked(pieces))]


async def call(party: Party, rpc: Rpc, requests: Sequence[Message]) -> Outcome:
    """Call a method of any kind over the partner's own connection."""
    outcome = Outcome()
    method: Any = party.core.channel.stream_stream(
        rpc.path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=rpc.response.FromString,
    )
    endless = rpc.name in _ENDLESS
    stream = method(iter(requests), timeout=_WATCH_S if endless else _TIMEOUT_S)
    try:
        async for message in stream:
            outcome.messages.append(message)
    except aio.AioRpcError as error:
        if not (endless and error.code() is StatusCode.DEADLINE_EXCEEDED):
            outcome.code = error.code()
            outcome.refusal.append(error.details() or "")
            for _, value in error.trailing_metadata() or ():
                outcome.refusal.append(_readable(value))
    return outcome


def texts_of(message: Message) -> Iterator[str]:
    """Give every text and every piece of bytes in a message, however deep."""
    for known, value in message.ListFields():
        is_list = known.is_repeated and not hasattr(value, "keys")
        for each in value if is_list else [value]:
            if isinstance(each, Message):
                yield from texts_of(each)
            elif isinstance(each, str | bytes):
                yield _readable(each)
                if isinstance(each, bytes) and len(each) == 32:
                    yield each.hex()
            elif hasattr(each, "items"):
                yield str(dict(each))


def numbers_of(message: Message) -> Iterator[tuple[Message, str, int]]:
    """Give every count in a message: what has it, the field's full name, and the number."""
    for known in message.DESCRIPTOR.fields:
        value = getattr(message, known.name)
        if known.message_type is not None and not hasattr(value, "keys"):
            items = value if known.is_repeated else [value] * message.HasField(known.name)
            for each in items:
                yield from numbers_of(each)
        elif known.name.endswith(("_count", "total", "_size")) and not known.is_repeated:
            yield message, known.full_name, value


def _readable(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _pieces(messages: Sequence[Message]) -> Iterator[bytes]:
    """Give the bytes that a stream hands out in pieces."""
    for message in messages:
        for _, value in message.ListFields():
            if isinstance(value, bytes):
                yield value


def _unpacked(content: bytes) -> list[str]:
    if not content.startswith(b"PK\x03\x04"):
        return [_readable(content)] if content else []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [_readable(archive.read(name)) + name for name in archive.namelist()]
