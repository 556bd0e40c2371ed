"""The part of ServiceRegistryService that keeps files of services (use cases 1478, 1488)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from gem.marketplace.v1 import service_content_pb2 as wire
from interceptors.call import Call
from marketplace.actor import not_found
from marketplace.rendering import enum_member
from marketplace.service import Service
from marketplace.service_content import (
    UPLOAD_IDLE,
    ContentLimits,
    FileKind,
    FileState,
    ServiceFile,
    check_media_type,
    check_room,
    refused,
)
from marketplace.service_content_rendering import KIND, render_event, render_file, render_upload
from marketplace.service_content_upload import ServiceFileUpload, contents
from marketplace.service_registry_servicer import check_visible
from marketplace.storage_command import Commands, Work
from marketplace.storage_paging import page_by_number, page_by_text
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_content import ServiceContentStorage


class ServiceContentServicer:
    """Takes, shows, hands out and deletes files."""

    def __init__(
        self, commands: Commands, make_id: Callable[[], str], limits: ContentLimits
    ) -> None:
        self._commands = commands
        self._make_id = make_id
        self._limits = limits

    async def BeginServiceFileUpload(  # noqa: N802  # the rpc's name
        self, request: wire.BeginServiceFileUploadRequest, call: Call
    ) -> wire.BeginServiceFileUploadResponse:
        """Announce a file; room for it is kept from now on."""
        kind = enum_member(FileKind, wire.ServiceFileKind, KIND, request.kind)
        assert kind is not None, "the interface's own rules refuse the unspecified one"

        async def work(w: Work) -> wire.BeginServiceFileUploadResponse:
            service = await own_service(w, request.service_id)
            check_media_type(request.media_type)
            storage = ServiceContentStorage(w.connection)
            usage = await storage.usage(service.provider_id, service.service_id)
            check_room(request.size_bytes, usage, self._limits)
            file = ServiceFile(
                file_id=self._make_id(),
                service_id=service.service_id,
                provider_id=service.provider_id,
                name=request.name,
                kind=kind,
                media_type=request.media_type,
                size_bytes=request.size_bytes,
                digest=request.digest,
                state=FileState.UPLOADING,
                received_bytes=0,
                expires_at=w.now + UPLOAD_IDLE,
                stored_at=None,
            )
            await storage.begin(file, w.actor.name, w.now)
            return wire.BeginServiceFileUploadResponse(upload=render_upload(file))

        response = wire.BeginServiceFileUploadResponse
        return await self._commands.run(request, call, response, work)

    async def UploadServiceFile(  # noqa: N802  # the rpc's name
        self, requests: AsyncIterator[wire.UploadServiceFileRequest], call: Call
    ) -> wire.UploadServiceFileResponse:
        """Take the next pieces of a file."""
        file = await ServiceFileUpload(self._commands, call).receive(requests)
        return wire.UploadServiceFileResponse(upload=render_upload(file))

    async def GetServiceFileUpload(  # noqa: N802  # the rpc's name
        self, request: wire.GetServiceFileUploadRequest, call: Call
    ) -> wire.GetServiceFileUploadResponse:
        """Say how far an upload is."""
        async with self._commands.read(call) as w:
            file = await ServiceContentStorage(w.connection).get(request.file_id)
            if not w.actor.may_see(file.provider_id):
                raise not_found("file")
        return wire.GetServiceFileUploadResponse(upload=render_upload(file))

    async def ListServiceFiles(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceFilesRequest, call: Call
    ) -> wire.ListServiceFilesResponse:
        """List the stored files of a service by name."""
        page = page_by_text(request.page)
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            storage = ServiceContentStorage(w.connection)
            files, info = await storage.page(page, service.service_id)
        return wire.ListServiceFilesResponse(files=map(render_file, files), page=info)

    async def DownloadServiceFile(  # noqa: N802  # the rpc's name
        self, request: wire.DownloadServiceFileRequest, call: Call
    ) -> AsyncIterator[wire.DownloadServiceFileResponse]:
        """Hand out a stored file from a place on."""
        async with self._commands.read(call) as w:
            file = await ServiceContentStorage(w.connection).get(request.file_id)
            service = await ServiceStorage(w.connection).get(file.service_id)
            check_visible(service, w.actor)
        if file.state is not FileState.STORED:
            raise not_found("file")
        if request.offset_bytes > file.size_bytes:
            raise refused("offset_bytes", "must not lie behind the end of the file")
        yield wire.DownloadServiceFileResponse(file=render_file(file))
        async for piece in contents(self._commands, call, file, request.offset_bytes):
            yield wire.DownloadServiceFileResponse(content=piece)

    async def DeleteServiceFile(  # noqa: N802  # the rpc's name
        self, request: wire.DeleteServiceFileRequest, call: Call
    ) -> wire.DeleteServiceFileResponse:
        """Delete a file, or give an upload up."""

        async def work(w: Work) -> wire.DeleteServiceFileResponse:
            storage = ServiceContentStorage(w.connection)
            file = await storage.get(request.file_id, lock=True)
            if not w.actor.may_see(file.provider_id):
                raise not_found("file")
            file = await storage.remove(file, FileState.DELETED, w.actor.name, w.now)
            return wire.DeleteServiceFileResponse(file=render_file(file))

        response = wire.DeleteServiceFileResponse
        return await self._commands.run(request, call, response, work)

    async def ListServiceFileEvents(  # noqa: N802  # the rpc's name
        self, request: wire.ListServiceFileEventsRequest, call: Call
    ) -> wire.ListServiceFileEventsResponse:
        """List the history of a service's files."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            if not w.actor.may_see(service.provider_id):
                raise not_found("service")
            rows, info = await ServiceContentStorage(w.connection).events(page, service.service_id)
        return wire.ListServiceFileEventsResponse(events=map(render_event, rows), page=info)


async def own_service(w: Work, service_id: str) -> Service:
    """Give a service of the calling partner; MarketError NOT_FOUND for any other."""
    service = await ServiceStorage(w.connection).get(service_id)
    if not w.actor.is_partner or w.actor.subject_id != service.provider_id:
        raise not_found("service")
    return service
