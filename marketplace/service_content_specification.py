"""The part of ServiceRegistryService about service specifications (use cases 1487, 1489)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import interface_catalog_service_pb2 as catalog
from gem.marketplace.v1 import service_content_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.interface_download import PART_BYTES
from marketplace.proposal_compiler import Examination, ProposalCompiler
from marketplace.proposal_findings import FINDINGS_MAX, Finding, element_lines
from marketplace.proposal_likeness import shape
from marketplace.proposal_rendering import render_finding
from marketplace.proposal_upload import read_upload
from marketplace.proto_source import source_tree
from marketplace.router.interface import compile_interface
from marketplace.service import Service
from marketplace.service_content import FileKind, ServiceFile
from marketplace.service_content_rendering import render_file, render_specification
from marketplace.service_content_servicer import own_service
from marketplace.service_content_upload import contents
from marketplace.service_registry_servicer import check_visible
from marketplace.storage_command import Commands, Work, conflict
from marketplace.storage_interface import InterfaceStorage
from marketplace.storage_paging import MOST_SIZE, Page
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_content import ServiceContentStorage
from marketplace.storage_service_specification import ServiceSpecificationStorage

_Requests = AsyncIterator[wire.UploadServiceSpecificationRequest]


class ServiceSpecificationServicer:
    """Takes specifications that keep to the standard interface, and hands them out."""

    def __init__(self, commands: Commands, compiler: ProposalCompiler) -> None:
        self._commands = commands
        self._compiler = compiler

    async def UploadServiceSpecification(  # noqa: N802  # the rpc's name
        self, requests: _Requests, call: Call
    ) -> wire.UploadServiceSpecificationResponse:
        """Check an upload against the service's standard interface; store it, or show findings."""
        header = wire.ServiceSpecificationHeader()
        upload = await read_upload(self._as_proposal(requests, header, call))
        async with self._commands.read(call) as w:
            service = await own_service(w, header.service_id)
            published = await _published(w, service)
        found = await self._compiler.examine(upload.sources, b"")
        findings = list(found.findings)
        if not findings:
            findings = await self._differences(found, service, published)
        shown = [render_finding(finding) for finding in findings[:FINDINGS_MAX]]

        async def work(w: Work) -> wire.UploadServiceSpecificationResponse:
            now_there = await ServiceStorage(w.connection).locked(service.service_id)
            if _interface(now_there) != _interface(service):
                raise conflict()
            if shown:
                return wire.UploadServiceSpecificationResponse(findings=shown)
            row = await ServiceSpecificationStorage(w.connection).add(
                now_there,
                header.description,
                (found.descriptor_set, found.digest),
                w.actor.subject_id,
                w.now,
            )
            rendered = render_specification(row)
            return wire.UploadServiceSpecificationResponse(specification=rendered)

        header.content_digest = upload.command().header.content_digest
        command = wire.UploadServiceSpecificationRequest(
            request_id=upload.request_id, header=header
        )
        response = wire.UploadServiceSpecificationResponse
        return await self._commands.run(command, call, response, work)

    async def DownloadServiceDocuments(  # noqa: N802  # the rpc's name
        self, request: wire.DownloadServiceDocumentsRequest, call: Call
    ) -> AsyncIterator[wire.DownloadServiceDocumentsResponse]:
        """Hand out the interface's sources and the files of a service."""
        response = wire.DownloadServiceDocumentsResponse
        async with self._commands.read(call) as w:
            service = await ServiceStorage(w.connection).get(request.service_id)
            check_visible(service, w.actor)
            files = await _files(w, service, all_files=request.all_files)
            said = await ServiceSpecificationStorage(w.connection).newest(service.service_id)
            # One that was uploaded for another version of the interface is of no use any more.
            if said is not None and _interface(said) != _interface(service):
                said = None
            raw = (await _published(w, service)) if said is None else said.descriptor_set
        documents = wire.ServiceDocuments(
            interface_name=service.interface_name,
            interface_version=service.interface_version,
            specification=None if said is None else render_specification(said),
            files=map(render_file, files),
        )
        yield response(contents=documents)
        for name, text in (await asyncio.to_thread(source_tree, raw)).items():
            content = text.encode()
            for start in range(0, len(content), PART_BYTES):
                piece = content[start : start + PART_BYTES]
                yield response(source_part=catalog.SourcePart(name=name, content=piece))
        for file in files:
            yield response(file=render_file(file))
            async for piece in contents(self._commands, call, file, 0):
                yield response(content=piece)

    async def _as_proposal(
        self, requests: _Requests, header: wire.ServiceSpecificationHeader, call: Call
    ) -> AsyncIterator[catalog.ProposeInterfaceRequest]:
        """Give the upload as one of a proposal, with the same limits; fills `header`.

        Another's service is refused before its files are read.
        """
        async for request in requests:
            as_proposal = catalog.ProposeInterfaceRequest(request_id=request.request_id)
            if request.WhichOneof("part") == "header":
                if header.service_id:
                    raise _second_header()
                header.CopyFrom(request.header)
                async with self._commands.read(call) as w:
                    await own_service(w, header.service_id)
                as_proposal.header.content_digest = header.content_digest
            elif request.HasField("source_part"):
                as_proposal.source_part.CopyFrom(request.source_part)
            yield as_proposal

    async def _differences(
        self, found: Examination, service: Service, published: bytes
    ) -> list[Finding]:
        """Compare what was uploaded with the standard interface: equal, names and all."""
        name = service.interface_name
        mine = [each for each in found.interfaces if each.interface_name == name]
        if not mine:
            text = "the files do not declare the standard interface of the service"
            return [Finding("", 0, name, "specification.interface", text)]
        sent = await asyncio.to_thread(_with_json_names, found.descriptor_set)
        standing = await asyncio.to_thread(_with_json_names, published)
        findings = list(await self._compiler.compare(sent, [(name, standing)]))
        standard = await asyncio.to_thread(_shape, published, name)
        if mine[0].shape != standard:
            lines = element_lines(FileDescriptorSet.FromString(found.descriptor_set))
            file, line = lines.get(name, ("", 0))
            text = (
                f"differs from version {service.interface_version} of the standard interface in"
                " methods, messages or rules"
            )
            findings.append(Finding(file, line, name, "specification.shape", text))
        return findings


async def _published(w: Work, service: Service) -> bytes:
    storage = InterfaceStorage(w.connection)
    row = await storage.get(service.interface_name, service.interface_version)
    return await storage.descriptor_set(row.publication_id)


async def _files(w: Work, service: Service, *, all_files: bool) -> list[ServiceFile]:
    page: Page[str] = Page(MOST_SIZE, None)
    files, _ = await ServiceContentStorage(w.connection).page(page, service.service_id)
    return [file for file in files if all_files or file.kind is FileKind.SPECIFICATION]


def _interface(of: object) -> tuple[object, object]:
    return getattr(of, "interface_name", None), getattr(of, "interface_version", None)


def _with_json_names(descriptor_set: bytes) -> bytes:
    """Give a set with the JSON names that compilers write and publishers may have left out."""
    files = FileDescriptorSet.FromString(descriptor_set)
    pending = [message for file in files.file for message in file.message_type]
    while pending:
        message = pending.pop()
        pending += message.nested_type
        for field in message.field:
            first, *words = field.name.split("_")
            camel = first + "".join(word[:1].upper() + word[1:] for word in words)
            field.json_name = field.json_name or camel
    return files.SerializeToString()


def _shape(descriptor_set: bytes, name: str) -> bytes:
    (rules,) = (each for each in compile_interface(descriptor_set) if each.name == name)
    return shape(rules)


def _second_header() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "An upload has one header.",
        violations=(FieldViolation("header", "must be in the first message only", "upload"),),
    )
