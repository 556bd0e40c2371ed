"""A small service, a registry and a market around them, for the tests of the interceptors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from foundation.errors import MarketError, reason_name
from foundation.validation import violations
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1 import options_pb2
from interceptors.access import AccessCheck
from interceptors.admission import Admission, AdmissionLimits
from interceptors.call import Call, Caller, FailedCall, Handler, read_single
from interceptors.certificate import CertificateCheck, CertificateRecord
from interceptors.chain import ChainParts, build_chain, dispatch
from interceptors.core_services import CoreServices
from interceptors.grpc_server import GrpcServer, ServerLimits
from interceptors.live_calls import LiveCalls
from interceptors.metrics import Metrics
from interceptors.session import SessionCheck
from interceptors.status import report_status
from interceptors.telemetry import Telemetry
from interceptors.transaction_log import FailedCallRecorder
from tests.identities import TRUST_DOMAIN, Identity

PARTNER = options_pb2.ACCESS_ROLE_PARTNER
TECHNICAL = options_pb2.ACCESS_ROLE_TECHNICAL_OPERATOR
PUBLIC = options_pb2.ACCESS_ROLE_PUBLIC

ECHO = "/gem.test.v1.ProbeService/Echo"
COUNT = "/gem.test.v1.ProbeService/Count"
COLLECT = "/gem.test.v1.ProbeService/Collect"
CHAT = "/gem.test.v1.ProbeService/Chat"
OPERATE = "/gem.test.v1.ProbeService/Operate"
OPEN = "/gem.test.v1.ProbeService/Open"


def _probe_service() -> ServiceDescriptor:
    """Add `gem.test.v1.ProbeService` to the default pool: all call kinds, and three accesses."""
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(
        name="gem/test/v1/probe_service.proto",
        package="gem.test.v1",
        syntax="proto3",
        dependency=["gem/options/v1/options.proto"],
    )
    message = file.message_type.add(name="Text")
    kind = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="text", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    message.field.add(name="count", number=2, type=kind.TYPE_INT32, label=kind.LABEL_OPTIONAL)
    service = file.service.add(name="ProbeService")
    for name, takes_stream, gives_stream, role in (
        ("Echo", False, False, PARTNER),
        ("Count", False, True, PARTNER),
        ("Collect", True, False, PARTNER),
        ("Chat", True, True, PARTNER),
        ("Operate", False, False, TECHNICAL),
        ("Open", False, False, PUBLIC),
    ):
        text = ".gem.test.v1.Text"
        method = service.method.add(name=name, input_type=text, output_type=text)
        method.client_streaming, method.server_streaming = takes_stream, gives_stream
        method.options.Extensions[options_pb2.access].append(role)
    pool.Add(file)
    return pool.FindServiceByName("gem.test.v1.ProbeService")


PROBE = _probe_service()
Text: Any = message_factory.GetMessageClass(PROBE.file.message_types_by_name["Text"])


class ProbeServicer:
    """Answers with what came; remembers how its calls ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.calls: list[Call] = []

    async def Echo(self, request: Any, call: Call) -> Any:
        self.calls.append(call)
        return request

    Operate = Open = Echo

    async def Count(self, request: Any, call: Call) -> AsyncIterator[Any]:
        self.calls.append(call)
        try:
            for number in range(request.count):
                yield Text(text=request.text, count=number)
        finally:
            self.ends.append("Count")

    async def Collect(self, requests: AsyncIterator[Any], call: Call) -> Any:
        self.calls.append(call)
        texts = [request.text async for request in requests]
        return Text(text=",".join(texts), count=len(texts))

    async def Chat(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        self.calls.append(call)
        try:
            async for request in requests:
                yield request
        finally:
            self.ends.append("Chat")


class MemoryRegistry:
    """A registry whose records the test sets."""

    def __init__(self) -> None:
        self.records: dict[bytes, CertificateRecord] = {}

    def by_fingerprint(self, fingerprint: bytes) -> CertificateRecord | None:
        return self.records.get(fingerprint)

    def register(
        self,
        identity: Identity,
        subject_id: str,
        roles: Iterable[int] = (PARTNER,),
        kind: Any = "partner",
        **state: Any,
    ) -> None:
        """Register an identity as good, or with the state given."""
        fields: dict[str, Any] = {"active": True, "revoked": False, **state}
        fields.setdefault("not_after_s", identity.certificate.not_after.timestamp())
        self.records[identity.fingerprint] = CertificateRecord(
            subject_id=subject_id, kind=kind, roles=frozenset(roles), **fields
        )


class MemoryWire:
    """A wire without a transport."""

    def __init__(self, *messages: bytes) -> None:
        self.unread = list(messages)
        self.written: list[bytes] = []
        self.status: status_pb2.Status | None = None
        self.task: asyncio.Task[Any] | None = None

    async def read(self) -> bytes | None:
        return self.unread.pop(0) if self.unread else None

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    def finish(self, status: status_pb2.Status | None) -> None:
        self.status = status

    def cut(self) -> None:
        if self.task is not None:
            self.task.cancel()


def make_call(*messages: bytes, method: str = ECHO, **fields: Any) -> Call:
    """Make a call on a `MemoryWire`; inside a running loop."""
    now_s = asyncio.get_running_loop().time()
    values: dict[str, Any] = {
        "wire": MemoryWire(*messages),
        "method": method,
        "metadata": {},
        "peer_certificate": None,
        "call_id": uuid4(),
        "started_ns": time.time_ns(),
        "started_s": now_s,
        "deadline_s": now_s + 10.0,
    }
    return Call(**{**values, **fields})


def caller(subject_id: str = "acme", *roles: int) -> Caller:
    """Make a known caller, a partner unless other roles are given."""
    return Caller(subject_id, frozenset(roles or (PARTNER,)), subject_id.encode())


def reason_in(error: grpc.aio.AioRpcError) -> str:
    """Read the reason out of the status of a failed call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            assert status.code == error.code().value[0]
            return str(info.reason)
    return ""


async def refusal(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    """Await a call that must fail; give its code and reason."""
    try:
        result = await awaitable
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_in(error)
    raise AssertionError(f"the call was not refused but gave {result!r}")


def raises(reason: int) -> Callable[[BaseException], bool]:
    """Check for `pytest.raises(MarketError, check=raises(reason))`."""
    return lambda error: (
        isinstance(error, MarketError) and reason_name(error.reason) == reason_name(reason)
    )


def client_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Give what a caller with this identity connects with."""
    return grpc.ssl_channel_credentials(identity.root_pem, identity.key_pem, identity.chain_pem)


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """Give what a server with this identity listens with: callers must show a certificate."""
    return grpc.ssl_server_credentials(
        [(identity.key_pem, identity.chain_pem)], identity.root_pem, require_client_auth=True
    )


def channel(port: int, identity: Identity) -> Any:
    """Open a `grpc.aio.Channel`, for bytes, with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"localhost:{port}", client_credentials(identity), options)


class Listening:
    """A server under test, and where it listens."""

    def __init__(self, server: GrpcServer, live: LiveCalls, port: int) -> None:
        self.server = server
        self.live = live
        self.port = port


@asynccontextmanager
async def listening(
    handle: Handler,
    identity: Identity,
    limits: ServerLimits | None = None,
    answers_one: Callable[[str], bool] = lambda _: False,
    live: LiveCalls | None = None,
) -> AsyncIterator[Listening]:
    """Run a server with `handle` over mTLS; at the end no call may be left."""
    live = LiveCalls() if live is None else live
    server = GrpcServer(handle, live, limits or ServerLimits(), answers_one)
    port = server.listen("127.0.0.1:0", server_credentials(identity))
    await server.start()
    try:
        yield Listening(server, live, port)
    finally:
        await server.drain(0.2)
        assert len(live) == 0
        assert server.held_bytes == 0


async def eventually(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # conditions of the code under test have no event
            await asyncio.sleep(0.005)


class MemorySessions:
    """Sessions that the test sets: callers by token."""

    def __init__(self) -> None:
        self.callers: dict[str, Caller] = {}
        self.trouble: MarketError | None = None

    async def caller_of(self, token: str) -> Caller:
        if self.trouble is not None:
            raise self.trouble
        if token not in self.callers:
            raise not_a_session()
        return self.callers[token]

    async def refused(self, session_ids: Collection[str]) -> dict[str, MarketError]:
        if self.trouble is not None:
            raise self.trouble
        good = {caller.session_id for caller in self.callers.values()}
        return {key: not_a_session() for key in session_ids if key not in good}


def not_a_session() -> MarketError:
    """Give the error for a token that opens no session."""
    return MarketError(ErrorReason.ERROR_REASON_SESSION_NOT_ACCEPTED, "no such session")


class MemoryLog:
    """A log of failed calls that the test reads, and can make fail."""

    def __init__(self) -> None:
        self.failed: list[FailedCall] = []
        self.trouble: Exception | None = None
        self.hangs = False

    async def record_failed(self, failed: FailedCall) -> None:
        if self.trouble is not None:
            raise self.trouble
        if self.hangs:
            await asyncio.Event().wait()
        self.failed.append(failed)


class ProbeMarket:
    """The whole chain around the probe service; routed calls end up in `routed`."""

    def __init__(self, limits: AdmissionLimits | None = None, tracer: Any = None) -> None:
        self.servicer = ProbeServicer()
        self.registry = MemoryRegistry()
        self.log = MemoryLog()
        self.live = LiveCalls()
        self.core = CoreServices(violations)
        self.core.add(PROBE, self.servicer)
        self.routed_methods = {"/gem.test.v1.Routed/Ask"}
        self.metrics = CollectorRegistry()
        self.access = AccessCheck(self.core.access(), self.routed_methods.__contains__)
        self.admission = Admission(limits or AdmissionLimits())
        self.certificate = CertificateCheck(self.registry, TRUST_DOMAIN, self.access.is_public)
        self.recorder = FailedCallRecorder(self.log)
        self.telemetry = Telemetry(Metrics(self.metrics), self.is_known, tracer)
        self.sessions = MemorySessions()
        self.session = SessionCheck(self.sessions, self.access.is_public)
        parts = ChainParts(
            telemetry=self.telemetry,
            status=report_status,
            admission=self.admission,
            session=self.session,
            certificate=self.certificate,
            transaction_log=self.recorder,
            access=self.access,
        )
        self.handle = build_chain(parts, dispatch(self.core.methods(), self.route))

    def is_known(self, method: str) -> bool:
        return method in self.core.methods() or method in self.routed_methods

    async def route(self, call: Call) -> None:
        await call.wire.write(await read_single(call))

    def listening(
        self, identity: Identity, limits: ServerLimits | None = None
    ) -> AbstractAsyncContextManager[Listening]:
        return listening(self.handle, identity, limits, self.core.answers_one, self.live)
