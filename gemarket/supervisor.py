"""Child processes: started, watched, started again when they die, drained at the end.

Workers are spawned, never forked: grpc does not survive a fork. A child prints one line, `ready` or
an object with its port, when it serves; what else it prints goes to its log file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

READY = (b"ready", b'{"port"')
#: glibc gives the top of its heap back to the kernel as soon as 128 kB of it are free; a call with
#: large answers then takes it page by page again, a fifth of its cost. An operator's own settings
#: come first, and other C libraries know none of these.
KEPT_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_TOP_PAD_": str(4 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
}
#: grpc's core polls in the threads that wait for it, as it long did: its event engine passes each
#: step on to threads of its own, and a call takes a tenth more (docs/decisions/0015). A core that
#: has no other way left than the engine takes it.
OWN_POLLING = {"GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener"}

_log = structlog.get_logger(__name__)


class ChildFailedError(Exception):
    """A child process ended or stayed silent instead of becoming ready."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What one child process runs."""

    name: str
    #: Module for `python -m`, and its arguments.
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One running child and the task that copies its output to the log file."""

    def __init__(self, spec: ChildSpec, log_file: Path) -> None:
        self.spec = spec
        self.restarts = 0
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether there is a process, or was one."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Process id of the current run."""
        assert self._process is not None
        return self._process.pid

    async def start(self, timeout_s: float) -> None:
        """Start the process and wait until it says ready; raises ChildFailedError."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self.spec.module,
            *self.spec.arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**KEPT_MEMORY, **OWN_POLLING, **os.environ, **self.spec.environment},
            start_new_session=True,
        )
        ready = asyncio.Event()
        self._copying = asyncio.create_task(self._copy_output(ready))
        waiting = asyncio.create_task(ready.wait())
        ended = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait(
                (waiting, ended), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
            ended.cancel()
        if not ready.is_set():
            await self.kill()
            message = f"{self.spec.name} did not become ready; see {self._log_file}"
            raise ChildFailedError(message)

    async def ended(self) -> int:
        """Wait for the process to end and give its exit status."""
        assert self._process is not None
        status = await self._process.wait()
        if self._copying is not None:
            await self._copying
        return status

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self.ended()

    async def _copy_output(self, ready: asyncio.Event) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._log_file.open("ab", buffering=0) as log:
            while chunk := await self._process.stdout.read(65536):
                if any(line.startswith(READY) for line in chunk.splitlines()):
                    ready.set()
                log.write(chunk)


class Supervisor:
    """Keeps its children alive until it is stopped."""

    def __init__(
        self,
        logs: Path,
        on_end: Callable[[int], None] = lambda _: None,
        *,
        start_timeout_s: float = 60.0,
    ) -> None:
        self._logs = logs
        self._on_end = on_end
        self._start_timeout_s = start_timeout_s
        self._children: dict[str, Child] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    def pids(self) -> dict[str, int]:
        """Process ids by child name."""
        return {name: child.pid for name, child in self._children.items() if child.started}

    async def start(self, *specs: ChildSpec) -> None:
        """Start children side by side; raises ChildFailedError when one does not become ready."""
        self._logs.mkdir(parents=True, exist_ok=True)
        children = [Child(spec, self._logs / f"{spec.name}.log") for spec in specs]
        self._children.update({child.spec.name: child for child in children})
        await asyncio.gather(*(child.start(self._start_timeout_s) for child in children))
        for child in children:
            self._watching[child.spec.name] = asyncio.create_task(self._watch(child))

    async def stop(self, name: str, grace_s: float) -> None:
        """Stop one child and watch it no more."""
        watching = self._watching.pop(name, None)
        if watching is not None:
            watching.cancel()
        child = self._children.pop(name, None)
        if child is None or not child.started:
            return
        child.terminate()
        try:
            await asyncio.wait_for(child.ended(), grace_s)
        except TimeoutError:
            _log.warning("child_killed", child=name, grace_s=grace_s)
            await child.kill()

    async def close(self, grace_s: float) -> None:
        """Stop all children side by side."""
        await asyncio.gather(*(self.stop(name, grace_s) for name in list(self._children)))

    async def _watch(self, child: Child) -> None:
        delay_s = 0.5
        while True:
            pid = child.pid
            status = await child.ended()
            self._on_end(pid)
            child.restarts += 1
            _log.error("child_ended", child=child.spec.name, exit_status=status)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 30.0)
            try:
                await child.start(self._start_timeout_s)
                delay_s = 0.5
            except ChildFailedError:
                _log.exception("child_not_restarted", child=child.spec.name)
