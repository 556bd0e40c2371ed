"""The core services as a command calls them: by a certificate, or in the session of a login."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from foundation.certificates import write_secret
from gemarket.client import open_channel
from gemarket.endpoints import Endpoints, NotRunningError, read_endpoints
from gemarket.layout import Layout

R = TypeVar("R", bound=Message)

#: Holds the token of a session in place of the file; not a setting of the market.
TOKEN_VARIABLE = "GEM_SESSION_TOKEN"  # noqa: S105  # the name of a variable
_TOKEN_KEY = "gem-session"  # noqa: S105  # the name of a metadata key
_PACKAGE = "gem.marketplace.v1"
TIMEOUT_S = 60.0


def token_file(layout: Layout) -> Path:
    """Give the file of the session in which commands come; for its owner only."""
    return layout.root / "session.token"


def read_token(layout: Layout) -> str:
    """Give the token of the environment or of the last login; empty without one."""
    given = os.environ.get(TOKEN_VARIABLE, "")
    file = token_file(layout)
    return given or (file.read_text().strip() if file.exists() else "")


def keep_token(layout: Layout, token: str) -> None:
    """Write the token of a login for later commands."""
    file = token_file(layout)
    file.unlink(missing_ok=True)
    write_secret(file, token.encode())


def forget_token(layout: Layout) -> None:
    """Drop the token of the last login."""
    token_file(layout).unlink(missing_ok=True)


class CoreClient:
    """Calls core services by `Service/Method` over one channel."""

    def __init__(self, channel: aio.Channel, token: str = "") -> None:
        self.channel = channel
        self.metadata = ((_TOKEN_KEY, token),) if token else ()

    async def ask(self, method: str, request: Message, response: type[R]) -> R:
        """Call a method; raises `grpc.aio.AioRpcError` as the market ends the call."""
        call: Any = self.channel.unary_unary(_path(method), **_codecs(request, response))
        return await call(request, timeout=TIMEOUT_S, metadata=self.metadata)  # type: ignore[no-any-return]  # of the class that reads it

    async def stream(
        self, method: str, request: Message, response: type[R], timeout_s: float | None = TIMEOUT_S
    ) -> AsyncGenerator[R, None]:
        """Call a method that streams its answers; None waits for as long as they come."""
        call: Any = self.channel.unary_stream(_path(method), **_codecs(request, response))
        answers = call(request, timeout=timeout_s, metadata=self.metadata)
        try:
            async for answer in answers:
                yield answer
        finally:
            answers.cancel()

    async def upload(self, method: str, requests: Iterable[Message], response: type[R]) -> R:
        """Call a method that takes a stream; an error that comes before its end is raised."""
        pending = iter(requests)
        first = next(pending)
        call: Any = self.channel.stream_unary(_path(method), **_codecs(first, response))
        sent = itertools.chain([first], pending)
        return await call(sent, timeout=TIMEOUT_S, metadata=self.metadata)  # type: ignore[no-any-return]  # of the class that reads it


@asynccontextmanager
async def connected(layout: Layout, caller: str) -> AsyncIterator[CoreClient]:
    """Connect as `open_as` does, for calls by `Service/Method`."""
    async with open_as(layout, caller) as channel:
        yield CoreClient(channel)


@asynccontextmanager
async def open_as(layout: Layout, caller: str, otherwise: str = "") -> AsyncIterator[aio.Channel]:
    """Open a channel as a party with a certificate; without a name in the session of a login.

    Without a session it is `otherwise`, or for the empty name the first of the known partners.

    Raises:
        NotRunningError: No market has been started here.
        KeyError: The party is not known here.
    """
    endpoints = read_endpoints(layout.endpoints)
    token = "" if caller else read_token(layout)
    if token:
        made = people_channel(endpoints, token)
    else:
        chosen = caller or otherwise or next(iter(endpoints.partners), "business")
        made = open_channel(endpoints.marketplace, endpoints.party(chosen))
    async with made as channel:
        yield channel


def people_channel(endpoints: Endpoints, token: str = "") -> aio.Channel:
    """Open a channel to the listener for people, in a session if there is a token.

    The channel is to be closed by the caller.

    Raises:
        NotRunningError: The address of the listener is not known.
    """
    if not endpoints.sessions:
        raise NotRunningError("the address of the listener for people is not known")
    credentials = grpc.ssl_channel_credentials(Path(endpoints.ca_file).read_bytes())
    if token:
        session = grpc.metadata_call_credentials(_Session(token))
        credentials = grpc.composite_channel_credentials(credentials, session)
    return aio.secure_channel(endpoints.sessions, credentials)


class _Session(grpc.AuthMetadataPlugin):
    """Puts the token of a session on every call of a channel."""

    def __init__(self, token: str) -> None:
        self._metadata = ((_TOKEN_KEY, token),)

    def __call__(
        self, _context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback
    ) -> None:
        callback(self._metadata, None)


def _path(method: str) -> str:
    return f"/{_PACKAGE}.{method}"


def _codecs(request: Message, response: type[Message]) -> dict[str, Any]:
    return {
        "request_serializer": type(request).SerializeToString,
        "response_deserializer": response.FromString,
    }
