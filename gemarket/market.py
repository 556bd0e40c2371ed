"""A whole market on one machine: database, authority, workers on one port, metrics.

Read top to bottom it is what `gemarket up` does: database, certificates, schemas, workers.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import socket
from typing import IO
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import SettingsError
from foundation.settings import Settings
from gemarket.endpoints import Endpoints, Party
from gemarket.identity import Identity
from gemarket.layout import Layout
from gemarket.ports import hold_port
from gemarket.preparation import (
    OPERATOR_ROLES,
    open_authority,
    prepare_database,
    public_names,
    renew_market_identities,
)
from gemarket.supervisor import ChildSpec, Supervisor

_RENEWAL_CHECK_S = 3600.0
#: What a worker may take beyond its drain to close its pools and flush its log.
_CLOSING_S = 10.0


class Market:
    """Starts, keeps and stops the market of one data directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.layout = Layout(settings.data_dir.absolute())
        self.supervisor = Supervisor(self.layout.logs, self._child_ended)
        self.database_url = settings.database_url or ""
        self._database: EmbeddedPostgres | None = None
        self._held_port: socket.socket | None = None
        self._held_session_port: socket.socket | None = None
        self._lock: IO[str] | None = None
        self._metrics: WSGIServer | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that all workers share."""
        assert self._held_port is not None
        port: int = self._held_port.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """`host:port` of the listener."""
        return f"{self.settings.host}:{self.port}"

    @property
    def session_address(self) -> str:
        """`host:port` of the listener for people."""
        assert self._held_session_port is not None
        return f"{self.settings.host}:{self._held_session_port.getsockname()[1]}"

    async def start(self) -> None:
        """Start everything; raises SettingsError, OSError or ChildFailedError with the reason."""
        self._take_lock()
        await asyncio.to_thread(self._start_database)
        self.authority = open_authority(self.layout, self.settings.trust_domain)
        renew_market_identities(self.layout, self.authority, public_names(self.settings))
        await prepare_database(self.database_url, self.layout, self.authority)
        self._held_port = hold_port(self.settings.host, self.settings.port)
        self._held_session_port = hold_port(self.settings.host, self.settings.session_port)
        self._start_metrics()
        await self.supervisor.start(*map(self._worker, range(self.settings.workers)))
        self._renewing = asyncio.create_task(self._keep_renewing())

    async def stop(self) -> None:
        """Drain and stop everything, the database last; nothing where `start` was refused."""
        if self._lock is None:
            return
        self.layout.endpoints.unlink(missing_ok=True)
        if self._renewing is not None:
            self._renewing.cancel()
        await self.supervisor.close(self.settings.limits.drain_s + _CLOSING_S)
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.shutdown)
            self._metrics.server_close()
        for held in (self._held_port, self._held_session_port):
            if held is not None:
                held.close()
        if self._database is not None:
            await asyncio.to_thread(self._database.stop)
        self._lock.close()

    def endpoints(
        self, partners: dict[str, Identity] | None = None, providers: dict[str, str] | None = None
    ) -> Endpoints:
        """Describe the running market for `endpoints.json`."""
        operators = {role: _party(self.layout.operator(role)) for role in OPERATOR_ROLES}
        known = {name: _party(identity) for name, identity in (partners or {}).items()}
        return Endpoints(
            marketplace=self.address,
            metrics=f"http://{self.settings.host}:{self.metrics_port}/metrics",
            trust_domain=self.settings.trust_domain,
            ca_file=str(self.layout.authority / "ca.pem"),
            database_url=self.database_url,
            partners=known,
            operators=operators,
            providers=providers or {},
            processes=self.supervisor.pids(),
            sessions=self.session_address,
        )

    @property
    def metrics_port(self) -> int:
        """Port of `/metrics`."""
        assert self._metrics is not None
        return int(self._metrics.server_port)

    def _take_lock(self) -> None:
        self.layout.run.mkdir(parents=True, exist_ok=True)
        lock = (self.layout.run / "market.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise SettingsError("data_dir", "another market runs in this data directory") from None
        self._lock = lock
        # A market that was killed could not remove it.
        self.layout.endpoints.unlink(missing_ok=True)

    def _start_database(self) -> None:
        if not self.database_url:
            self._database = EmbeddedPostgres(self.layout.root)
            self.database_url = self._database.start()

    def _start_metrics(self) -> None:
        shutil.rmtree(self.layout.metrics, ignore_errors=True)
        self.layout.metrics.mkdir(parents=True)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self.layout.metrics))  # type: ignore[no-untyped-call]  # untyped upstream
        port = self.settings.metrics_port
        self._metrics, _ = start_http_server(port, self.settings.host, registry)

    def _worker(self, index: int) -> ChildSpec:
        config = self.layout.run / f"worker-{index}.json"
        content = {
            "name": f"worker-{index}",
            "address": self.address,
            "session_address": self.session_address,
            "settings": self.settings.model_dump(mode="json")
            | {"database_url": self.database_url, "data_dir": str(self.layout.root)},
        }
        config.touch(mode=0o600)
        config.write_text(json.dumps(content))
        environment = {
            "PROMETHEUS_MULTIPROC_DIR": str(self.layout.metrics),
            # A worker forks only to start another program; gRPC's own handlers are in the way.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
        }
        return ChildSpec(f"worker-{index}", "gemarket.worker", (str(config),), environment)

    def _child_ended(self, pid: int) -> None:
        mark_process_dead(pid, str(self.layout.metrics))  # type: ignore[no-untyped-call]  # untyped upstream

    async def _keep_renewing(self) -> None:
        """Renew certificates in their last third; the workers see the new files by themselves."""
        while True:
            await asyncio.sleep(_RENEWAL_CHECK_S)
            names = public_names(self.settings)
            renew_market_identities(self.layout, self.authority, names)


def _party(identity: Identity) -> Party:
    return Party(str(identity.key_file), str(identity.certificate_file), str(identity.ca_file))
