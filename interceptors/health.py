"""The standard health service: the marketplace as a whole, and every service that it serves.

While draining everything is NOT_SERVING, so that load balancers go elsewhere before connections
close. An interface is named like its service, for instance `gem.charging.v1.EvseSearchService`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

from grpc_health.v1 import health_pb2

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call

_Status = health_pb2.HealthCheckResponse
_MAX_LISTED = 1000
_MAX_NAME_CHARACTERS = 255
#: How often a watched state is looked at, besides the moments when it is known to change.
_LOOK_S = 1.0

#: The service's descriptor, for `CoreServices.add`; its access is PUBLIC.
SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]


class HealthServicer:
    """Answers from the state of this worker.

    `services()` gives the names of all services that are served now, core and routed;
    `is_ready()` says whether the worker as a whole can serve, for instance has fresh routes.
    """

    def __init__(
        self,
        services: Callable[[], Collection[str]],
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self._services = services
        self._is_ready = is_ready
        self._draining = False
        self._changed = asyncio.Event()

    def enter_drain(self) -> None:
        """Say NOT_SERVING from now on; whoever watches hears of it at once."""
        self._draining = True
        self.notify()

    def notify(self) -> None:
        """Have every watcher look again now, because services came or went."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802  # named like the rpc
        self, request: health_pb2.HealthCheckRequest, _call: Call
    ) -> health_pb2.HealthCheckResponse:
        """Give the state of one service; NOT_FOUND for one that is not served."""
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            raise MarketError(ErrorReason.ERROR_REASON_NOT_FOUND, "No such service is served.")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(  # noqa: N802  # named like the rpc
        self, _request: health_pb2.HealthListRequest, _call: Call
    ) -> health_pb2.HealthListResponse:
        """Give the state of the whole and of the services, of very many the first by name."""
        names = ["", *sorted(self._services())[:_MAX_LISTED]]
        statuses = {name: _Status(status=self._status(name)) for name in names}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(  # noqa: N802  # named like the rpc
        self, request: health_pb2.HealthCheckRequest, _call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Give the state now and whenever it changes; ends when the worker drains."""
        told = None
        while True:
            # Taken before the state is told: what changes while that is sent is seen next time.
            changed, draining = self._changed, self._draining
            status = self._status(request.service)
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            if draining:
                return
            try:
                async with asyncio.timeout(_LOOK_S):
                    await changed.wait()
            except TimeoutError:
                continue

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service and (len(service) > _MAX_NAME_CHARACTERS or service not in self._services()):
            return _Status.SERVICE_UNKNOWN
        serving = self._is_ready() and not self._draining
        return _Status.SERVING if serving else _Status.NOT_SERVING
