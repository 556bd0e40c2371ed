"""Has hostile files compiled and checked in a child process with limits of its own.

Whatever an upload does to a compiler, it does it to a process that ends; the market waits, with a
bound on time, on output and on how many compile at once.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.new_interface import NewInterface
from marketplace.proposal_examination import BEGUN
from marketplace.proposal_findings import Finding

_CHILD = "marketplace.proposal_examination"
#: What the child's environment keeps of ours: no setting, no credential.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")
_OUTPUT_BYTES_MAX = 16 << 20
#: How often a child is started that ends before it has read its task.
_STARTS_MAX = 3
_RETRY_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class CompilerLimits:
    """Limits of one examination and of all that run at once."""

    #: Processor time of each process.
    cpu_s: int = 10
    #: From the start to the answer.
    wall_s: float = 30.0
    #: Address space of each process; a Go program reserves much more than it uses.
    memory_bytes: int = 2 << 30
    #: Largest file that a process writes.
    file_bytes: int = 16 << 20
    at_once: int = 2
    waiting: int = 8


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of an upload: the compiled set where it compiles, and all findings."""

    descriptor_set: bytes
    digest: bytes
    interfaces: tuple[NewInterface, ...]
    findings: tuple[Finding, ...]


class ProposalCompiler:
    """Examines uploads; at most so many at once as its limits say."""

    def __init__(self, limits: CompilerLimits | None = None, python: str = sys.executable) -> None:
        self._limits = limits or CompilerLimits()
        self._python = python
        self._running = asyncio.Semaphore(self._limits.at_once)
        self._waiting = 0

    async def examine(
        self, sources: Mapping[str, bytes | bytearray], descriptor_set: bytes | bytearray
    ) -> Examination:
        """Compile and check an upload.

        Raises:
            MarketError: TOO_MANY_CALLS while too many others wait.
        """
        task = {
            "task": "examine",
            "sources": {name: _text(content) for name, content in sources.items()},
            "descriptor_set": _text(descriptor_set),
        }
        said = await self._run(task)
        return Examination(
            descriptor_set=_bytes(said.get("descriptor_set", "")),
            digest=_bytes(said.get("digest", "")),
            interfaces=tuple(map(_interface, said.get("interfaces", ()))),
            findings=_findings(said),
        )

    async def compare(
        self, descriptor_set: bytes, published: Sequence[tuple[str, bytes]]
    ) -> tuple[Finding, ...]:
        """Find what a set takes from callers of published interfaces.

        `published` has the name of each interface and the descriptor set of its version.
        """
        task = {
            "task": "compare",
            "descriptor_set": _text(descriptor_set),
            "published": [[name, _text(raw)] for name, raw in published],
        }
        return _findings(await self._run(task))

    async def _run(self, task: dict[str, Any]) -> dict[str, Any]:
        if self._waiting >= self._limits.waiting:
            raise MarketError(
                ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                "Too many proposals are being checked: try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._waiting += 1
        try:
            async with self._running:
                raw = await asyncio.to_thread(json.dumps, {**task, "limits": asdict(self._limits)})
                return await self._begun_child(raw.encode())
        finally:
            self._waiting -= 1

    async def _begun_child(self, task: bytes) -> dict[str, Any]:
        """Give what a child says that began; one that never did says nothing of the files."""
        for _ in range(_STARTS_MAX):
            if (said := await self._child(task)) is not None:
                return said
        raise MarketError(
            ErrorReason.ERROR_REASON_DRAINING,
            "The files could not be checked now: try again.",
            retry_after_s=_RETRY_AFTER_S,
        )

    async def _child(self, task: bytes) -> dict[str, Any] | None:
        with tempfile.TemporaryDirectory(prefix="gem-proposal-") as scratch:
            child = await asyncio.create_subprocess_exec(
                *(self._python, "-P", "-m", _CHILD),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=scratch,
                env=_environment(scratch),
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(self._limits.wall_s):
                    output = await _talk(child, task)
                    code = await child.wait()
            except TimeoutError:
                output, code = BEGUN, -1
            finally:
                await _end(child)
        begun, _, answer = output.partition(b"\n")
        if begun != BEGUN:
            return None
        if code != 0 or not answer:
            return {"findings": [asdict(_gave_up(self._limits))]}
        said: dict[str, Any] = await asyncio.to_thread(json.loads, answer)
        return said


async def _talk(child: asyncio.subprocess.Process, task: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    # A child that ended already has a closed pipe, which uvloop calls a RuntimeError.
    with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
        child.stdin.write(task)
        await child.stdin.drain()
        child.stdin.close()
    output = bytearray()
    while chunk := await child.stdout.read(1 << 16):
        output += chunk
        if len(output) > _OUTPUT_BYTES_MAX:
            return BEGUN
    return bytes(output)


async def _end(child: asyncio.subprocess.Process) -> None:
    """End the child and all that it started, however the wait for it ended."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    await asyncio.shield(child.wait())


def _environment(scratch: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "HOME": scratch, "BUF_CACHE_DIR": scratch, "TMPDIR": scratch}


def _gave_up(limits: CompilerLimits) -> Finding:
    text = (
        f"the files take more than {limits.cpu_s} s of processor time or"
        f" {limits.memory_bytes >> 20} MiB to compile and check"
    )
    return Finding("", 0, "", "set.limits", text)


def _findings(said: dict[str, Any]) -> tuple[Finding, ...]:
    return tuple(Finding(**finding) for finding in said.get("findings", ()))


def _interface(said: dict[str, Any]) -> NewInterface:
    return NewInterface(
        interface_name=said["interface_name"],
        title=said["title"],
        category=said["category"],
        implemented_by=tuple(said["implemented_by"]),
        called_by=tuple(said["called_by"]),
        methods=tuple(said["methods"]),
        shape=_bytes(said["shape"]),
    )


def _text(raw: bytes | bytearray) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
