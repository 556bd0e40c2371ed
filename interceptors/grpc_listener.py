"""The grpc.aio server behind `GrpcServer`, made to survive a caller that kills the plain one.

A method path that is not UTF-8 raises in the task with which grpc.aio (1.85) accepts calls, before
any code of ours sees it; the plain server then cancels every call and stops. This one opens a new
acceptor on the same port at once, lets the old one finish its calls, and takes no more calls from
the certificate that did it for a while. A call that arrives in that very moment may be cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # the accepting task has no public handle

_QUARANTINE_S = 600.0
_MAX_QUARANTINED = 10_000
#: Time for the calls of an acceptor that was replaced.
_OLD_GRACE_S = 60.0
#: Acceptors that may finish their calls at once; a further one ends the oldest.
_MAX_OLD = 8

Options = list[tuple[str, int]]


class _Quarantine:
    """Certificates whose calls are dropped unseen, for a while."""

    def __init__(self) -> None:
        self._until_s: dict[bytes, float] = {}

    def add(self, certificate: bytes) -> None:
        if len(self._until_s) >= _MAX_QUARANTINED:
            self._until_s.pop(next(iter(self._until_s)))
        self._until_s[certificate] = time.monotonic() + _QUARANTINE_S

    def holds(self, state: Any) -> bool:
        """Say whether a call that was just accepted comes from a certificate in quarantine."""
        if not self._until_s:
            return False
        until_s = self._until_s.get(_certificate_of(state))
        return until_s is not None and time.monotonic() < until_s


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc]  # grpc's core has no types
    """grpc.aio's own server, which reports the end of its accepting task instead of giving up."""

    def __init__(
        self,
        options: Options,
        handler: grpc.GenericRpcHandler,
        quarantine: _Quarantine,
        on_crash: Callable[[_Acceptor, BaseException], None],
    ) -> None:
        super().__init__(asyncio.get_running_loop(), None, (handler,), None, tuple(options), None)
        self._quarantine = quarantine
        self._on_crash = on_crash
        #: The call that was accepted last, for as long as the accepting task works on it.
        self._newest: Any = None

    def culprit(self) -> bytes:
        """Give the certificate of the call over which the accepting task has just ended."""
        return _certificate_of(self._newest)

    async def _request_call(self) -> Any:
        while True:
            state = await super()._request_call()
            if not self._quarantine.holds(state):
                self._newest = state
                return state
            del state  # without a reader grpc cancels the call

    def _serving_task_crash_handler(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_crash(self, error)


class GrpcListener:
    """Listens with `handler` on its ports until it is stopped."""

    def __init__(self, options: Options, handler: grpc.GenericRpcHandler) -> None:
        self._options = options
        self._handler = handler
        self._quarantine = _Quarantine()
        self._ports: list[tuple[bytes, grpc.ServerCredentials]] = []
        self._old: deque[_Acceptor] = deque()
        self._swaps: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._acceptor = self._new_acceptor()

    def listen(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Bind `host:port` and give the port; RuntimeError where that is not possible."""
        port: int = self._acceptor.add_secure_port(address.encode(), credentials)
        if port == 0:
            raise RuntimeError(f"cannot listen on {address}")
        host = address.rpartition(":")[0]
        self._ports.append((f"{host}:{port}".encode(), credentials))
        return port

    async def start(self) -> None:
        await self._acceptor.start()

    async def stop(self, grace_s: float) -> None:
        """Stop listening; calls in flight have `grace_s` to end, then they are cancelled."""
        self._stopping = True
        acceptors = [self._acceptor, *self._old]
        await asyncio.gather(*(_stop(acceptor, grace_s) for acceptor in acceptors))
        await asyncio.gather(*self._swaps)

    def _new_acceptor(self) -> _Acceptor:
        return _Acceptor(self._options, self._handler, self._quarantine, self._crashed)

    def _crashed(self, acceptor: _Acceptor, error: BaseException) -> None:
        """Put a new acceptor in the place of one that accepts no more."""
        certificate = acceptor.culprit() if isinstance(error, UnicodeDecodeError) else b""
        if certificate:
            self._quarantine.add(certificate)
        structlog.get_logger(__name__).error(
            "accepting ended; listening anew",
            exception=type(error).__qualname__,
            certificate_sha256_of_pem=sha256(certificate).hexdigest() if certificate else None,
        )
        if self._stopping or acceptor is not self._acceptor:
            return
        self._acceptor = self._new_acceptor()
        for address, credentials in self._ports:
            self._acceptor.add_secure_port(address, credentials)
        swap = asyncio.ensure_future(self._swap(acceptor, self._acceptor))
        self._swaps.add(swap)
        swap.add_done_callback(self._swaps.discard)

    async def _swap(self, old: _Acceptor, new: _Acceptor) -> None:
        await new.start()
        self._old.append(old)
        if len(self._old) > _MAX_OLD:
            await _stop(self._old[0], 0.0)
        await _stop(old, _OLD_GRACE_S)
        if old in self._old:
            self._old.remove(old)


async def _stop(acceptor: _Acceptor, grace_s: float) -> None:
    try:
        await acceptor.shutdown(grace_s)
    except UnicodeDecodeError:
        # What ended the accepting task is raised once more by the first attempt to shut down.
        await acceptor.shutdown(grace_s)


def _certificate_of(state: Any) -> bytes:
    """Read the client certificate, in PEM, of a call that was accepted and not yet served."""
    context = cygrpc._ServicerContext(state, None, None, None)  # noqa: SLF001  # see the import
    certificates = context.auth_context().get("x509_pem_cert")
    return certificates[0] if certificates else b""
