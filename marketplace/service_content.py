"""Files that providers keep with their services: kinds, states, limits (use cases 1478, 1488)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.transition import advance

#: Bytes of every part of a file but its last.
PART_BYTES = 262_144
#: An upload that gets nothing for so long is given up.
UPLOAD_IDLE = timedelta(hours=24)
#: The content of a removed file stays for downloads that have begun.
REMOVED_KEPT = timedelta(minutes=10)
#: What opens without running anything.
MEDIA_TYPES = frozenset(
    {
        *("application/pdf", "application/json", "application/xml", "application/yaml"),
        *("application/zip", "application/gzip", "application/octet-stream"),
        *("text/plain", "text/markdown", "text/csv", "text/xml", "image/png", "image/jpeg"),
    }
)


class FileKind(StrEnum):
    """What a file is for; the names are those of the proto enum."""

    MANUAL = "MANUAL"
    DESCRIPTION = "DESCRIPTION"
    SPECIFICATION = "SPECIFICATION"
    OTHER = "OTHER"


class FileState(StrEnum):
    """Where a file stands; the names are those of the proto enum."""

    UPLOADING = "UPLOADING"
    STORED = "STORED"
    REPLACED = "REPLACED"
    DELETED = "DELETED"
    ABANDONED = "ABANDONED"


_S = FileState
#: A step is named like the state that it leads to.
TRANSITIONS: Mapping[tuple[FileState, FileState], FileState] = {
    (_S.UPLOADING, _S.STORED): _S.STORED,
    (_S.UPLOADING, _S.DELETED): _S.DELETED,
    (_S.UPLOADING, _S.ABANDONED): _S.ABANDONED,
    (_S.STORED, _S.REPLACED): _S.REPLACED,
    (_S.STORED, _S.DELETED): _S.DELETED,
}


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """How much providers may keep, in bytes and files."""

    file_bytes: int = 100 << 20
    service_bytes: int = 500 << 20
    provider_bytes: int = 2 << 30
    #: Stored or being uploaded.
    service_files: int = 100


@dataclass(frozen=True, slots=True)
class ServiceFile:
    """One version of a file, without its content."""

    file_id: str
    service_id: str
    provider_id: str
    name: str
    kind: FileKind
    media_type: str
    size_bytes: int
    #: SHA-256 of the whole.
    digest: bytes
    state: FileState
    #: So many bytes are durable.
    received_bytes: int
    #: Of an upload: when it is given up. Of a removed file: when its content is dropped.
    expires_at: datetime | None
    stored_at: datetime | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider keeps already, uploads and removed content among it."""

    service_files: int
    service_bytes: int
    provider_bytes: int


def check_media_type(media_type: str) -> None:
    """Raise MarketError REQUEST_INVALID for a media type that is not taken."""
    if media_type not in MEDIA_TYPES:
        raise refused("media_type", "must be one of: " + ", ".join(sorted(MEDIA_TYPES)))


def check_room(size_bytes: int, usage: Usage, limits: ContentLimits) -> None:
    """Refuse an upload beyond what a file may have, or a service or its provider may keep.

    Raises:
        MarketError: REQUEST_TOO_LARGE.
    """
    for what, size, limit in (
        ("A file has at most {} bytes.", size_bytes, limits.file_bytes),
        ("A service keeps at most {} files.", usage.service_files + 1, limits.service_files),
        (
            "The files of a service have at most {} bytes together.",
            usage.service_bytes + size_bytes,
            limits.service_bytes,
        ),
        (
            "The files of a provider have at most {} bytes together.",
            usage.provider_bytes + size_bytes,
            limits.provider_bytes,
        ),
    ):
        if size > limit:
            text = f"{what.format(limit)} What is removed counts for some minutes more."
            raise MarketError(ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE, text)


def take_step(state: FileState, step: FileState) -> FileState:
    """Give the state after a step; raises MarketError STATE_NOT_ALLOWED."""
    return advance(TRANSITIONS, state, step, "The file is not there any more.")


def check_continues(file: ServiceFile, offset_bytes: int) -> None:
    """Refuse to go on with an upload at another place than where it is.

    Raises:
        MarketError: STATE_NOT_ALLOWED, with the right place.
    """
    if file.state is not FileState.UPLOADING:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The upload is over.",
            metadata={"state": file.state.value},
        )
    if offset_bytes != file.received_bytes:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The upload goes on at another place.",
            metadata={"received_bytes": str(file.received_bytes)},
        )


def refused(field: str, description: str) -> MarketError:
    """Give the error for a wrong part of an upload."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The upload is refused.",
        violations=(FieldViolation(field, description, "upload"),),
    )
