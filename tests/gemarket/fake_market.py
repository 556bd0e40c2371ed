"""A market of canned answers: real mutual TLS and the real wire, and nothing behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from typer.testing import CliRunner, Result

from foundation.errors import MarketError, status_of
from gem.common.v1.paging_pb2 import PageInfo
from gemarket.commands.application import application
from gemarket.console import STATUS_KEY
from gemarket.core_client import TOKEN_VARIABLE
from gemarket.endpoints import Endpoints, Party
from gemarket.identity import Identity
from gemarket.layout import Layout

M = TypeVar("M", bound=Message)
#: One call's messages in order; an error ends them.
Turn = Sequence[Message | MarketError | grpc.StatusCode]
_WIDE = {"COLUMNS": "500", "TERM": "dumb", TOKEN_VARIABLE: ""}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it came in."""

    method: str
    requests: list[bytes]
    metadata: dict[str, Any]
    certificate_pem: bytes


class FakeMarket(grpc.GenericRpcHandler):
    """Answers each method with what it was told to, in turn; the last turn goes on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[Asked] = []
        self._turns: dict[str, list[Turn]] = {}

    def reset(self) -> None:
        """Forget answers, calls and sessions."""
        self.calls.clear()
        self._turns.clear()
        (self.folder / "session.token").unlink(missing_ok=True)

    def on(self, method: str, *turns: Message | MarketError | Turn) -> None:
        """Answer a method with a message, an error, or a stream of messages that may break."""
        alone = (Message, MarketError)
        self._turns[method] = [[turn] if isinstance(turn, alone) else turn for turn in turns]

    def asked(self, method: str, kind: type[M]) -> list[M]:
        """Give the first request of each call of a method."""
        calls = [call for call in self.calls if call.method == method]
        return [kind.FromString(call.requests[0]) for call in calls]

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        def serve(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            name = str(details.method).rpartition("/")[2]
            metadata = dict(details.invocation_metadata or ())
            (certificate,) = context.auth_context().get("x509_pem_cert", (b"",))
            self.calls.append(Asked(name, list(requests), metadata, certificate))
            turns = self._turns.get(name, [[grpc.StatusCode.UNIMPLEMENTED]])
            yield from _played(turns.pop(0) if len(turns) > 1 else turns[0], context)

        return grpc.stream_stream_rpc_method_handler(serve)

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> Result:
        """Run `gemarket` at this market."""
        given = (*arguments, "--data-dir", str(self.folder))
        env = {**_WIDE, **environment}
        return CliRunner().invoke(application, given, env=env, input=stdin)

    def good(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed; gives what it printed."""
        result = self.run(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> list[Any]:
        """Run a command that prints JSON; gives the objects."""
        return objects(self.good(*arguments))


def _played(turn: Turn, context: Any) -> Iterator[bytes]:
    for step in turn:
        if isinstance(step, grpc.StatusCode):
            context.abort(step, "broken")
        elif isinstance(step, MarketError):
            status = status_of(step)
            context.set_trailing_metadata(((STATUS_KEY, status.SerializeToString()),))
            context.abort(_CODES[status.code], status.message)
        else:
            yield step.SerializeToString()


def objects(text: str) -> list[Any]:
    """Read the JSON objects that stand one after the other."""
    rest, found = text.strip(), []
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def described(file: FileDescriptor) -> reflection.ServerReflectionResponse:
    """Give a file with all that it imports, as reflection does."""
    found: dict[str, bytes] = {}

    def add(each: FileDescriptor) -> None:
        for dependency in each.dependencies:
            add(dependency)
        found[each.name] = each.serialized_pb

    add(file)
    return reflection.ServerReflectionResponse(
        file_descriptor_response=reflection.FileDescriptorResponse(
            file_descriptor_proto=found.values()
        )
    )


def page(token: str) -> PageInfo:
    """Name the page that comes next."""
    return PageInfo(next_page_token=token)


def serve(market: FakeMarket, listener: Identity, parties: Sequence[str]) -> Callable[[], None]:
    """Start to serve and write `endpoints.json`; gives what ends it.

    The files of each party lie in the folder already, as a running market has them.
    """
    server = grpc.server(ThreadPoolExecutor(4), handlers=[market])
    key, chain, roots = listener.read()
    mutual = grpc.ssl_server_credentials([(key, chain)], roots, require_client_auth=True)
    people = grpc.ssl_server_credentials([(key, chain)])
    port = server.add_secure_port("127.0.0.1:0", mutual)
    session_port = server.add_secure_port("127.0.0.1:0", people)
    server.start()
    layout = Layout(market.folder)
    known = {name: _party(layout.partner(name)) for name in parties}
    operators = {role: _party(layout.operator(role)) for role in ("business", "technical")}
    Endpoints(
        marketplace=f"127.0.0.1:{port}",
        metrics="http://127.0.0.1:1/metrics",
        trust_domain="gem.example",
        ca_file=str(listener.ca_file),
        database_url="postgresql+asyncpg://nobody@/nothing",
        partners=known,
        operators=operators,
        sessions=f"127.0.0.1:{session_port}",
    ).write(layout.endpoints)

    def stop() -> None:
        server.stop(None).wait(5)

    return stop


def _party(identity: Identity) -> Party:
    files = (identity.key_file, identity.certificate_file, identity.ca_file)
    return Party(*map(str, files))
