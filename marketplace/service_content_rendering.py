"""Files and specifications of services as messages."""

from __future__ import annotations

from typing import Any

from gem.marketplace.v1 import service_content_pb2 as wire
from marketplace.actor import party_of
from marketplace.rendering import enum_number, timestamp
from marketplace.service_content import FileState, ServiceFile

KIND = "SERVICE_FILE_KIND"
_STATE = "SERVICE_FILE_STATE"


def render_file(file: ServiceFile) -> wire.ServiceFile:
    """Give a file without its content."""
    rendered: Any = wire.ServiceFile(
        file_id=file.file_id,
        service_id=file.service_id,
        name=file.name,
        media_type=file.media_type,
        size_bytes=file.size_bytes,
        digest=file.digest,
    )
    rendered.kind = enum_number(wire.ServiceFileKind, KIND, file.kind)
    rendered.state = enum_number(wire.ServiceFileState, _STATE, file.state)
    if file.stored_at is not None:
        rendered.store_time.CopyFrom(timestamp(file.stored_at))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_upload(file: ServiceFile) -> wire.ServiceFileUpload:
    """Give how far an upload is."""
    rendered = wire.ServiceFileUpload(file=render_file(file), received_bytes=file.received_bytes)
    if file.state is FileState.UPLOADING and file.expires_at is not None:
        rendered.expire_time.CopyFrom(timestamp(file.expires_at))
    return rendered


def render_event(row: Any) -> wire.ServiceFileEvent:
    """Give one row of the history."""
    rendered: Any = wire.ServiceFileEvent(
        file_id=row.file_id,
        name=row.name,
        digest=row.digest,
        actor=party_of(row.actor),
        event_time=timestamp(row.occurred_at),
    )
    rendered.state = enum_number(wire.ServiceFileState, _STATE, FileState(row.state))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers


def render_specification(row: Any) -> wire.ServiceSpecification:
    """Give a stored specification without its sources."""
    return wire.ServiceSpecification(
        service_id=row.service_id,
        version=row.version,
        description=row.description,
        interface_name=row.interface_name,
        interface_version=row.interface_version,
        digest=row.digest,
        store_time=timestamp(row.stored_at),
    )
