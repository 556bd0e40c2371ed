"""Files of services: limits, order, digests, races and sweeps (use cases 1478, 1488)."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from foundation.certificates import utc_now
from foundation.errors import MarketError
from gem.marketplace.v1 import service_content_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.service_content import (
    PART_BYTES,
    TRANSITIONS,
    ContentLimits,
    FileState,
    Usage,
    check_room,
)
from marketplace.service_content_sweep import sweep_files
from marketplace.service_registry import RegistryParts, ServiceRegistry
from marketplace.storage_command import Commands
from marketplace.storage_tables_certification import SERVICE_FILE_PART
from tests.control_plane import EVSE_OPERATOR, TECHNICAL, ControlPlane, fields_of
from tests.interceptors.support import raises
from tests.service_files import announced, content_of, in_pieces

pytestmark = pytest.mark.usecase(1488)

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
TOO_LARGE = raises(ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE)
_REGISTRY = "ServiceRegistryService"
CONTENT = content_of(2 * PART_BYTES + 1000)


@pytest.fixture
async def plane(plane: ControlPlane) -> ControlPlane:
    """Give a market with an interface, two providers and a requester."""
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR)
    await plane.partner("ampere", EVSE_OPERATOR)
    return plane


async def begin(plane: ControlPlane, service: Any, content: bytes, **fields: Any) -> Any:
    """Announce a file; gives its upload."""
    request = announced(service.service_id, content, **fields)
    (answer,) = await plane.send("volt", f"{_REGISTRY}/BeginServiceFileUpload", request)
    return answer.upload


async def go_on(plane: ControlPlane, *requests: wire.UploadServiceFileRequest) -> Any:
    """Send pieces in one call; gives the upload."""
    (answer,) = await plane.send("volt", f"{_REGISTRY}/UploadServiceFile", *requests)
    return answer.upload


async def stored(plane: ControlPlane, service: Any, content: bytes, **fields: Any) -> Any:
    """Upload a whole file."""
    upload = await begin(plane, service, content, **fields)
    done = await go_on(plane, *in_pieces(upload.file.file_id, content))
    assert done.file.state == wire.SERVICE_FILE_STATE_STORED
    return done.file


async def received(plane: ControlPlane, file_id: str) -> int:
    """Ask how far an upload is."""
    answer = await plane.ask("volt", f"{_REGISTRY}/GetServiceFileUpload", file_id=file_id)
    return int(answer.upload.received_bytes)


async def downloaded(plane: ControlPlane, file: Any, who: str = "volt", offset: int = 0) -> bytes:
    """Download a file from a place on."""
    method = f"{_REGISTRY}/DownloadServiceFile"
    first, *rest = await plane.ask_all(who, method, file_id=file.file_id, offset_bytes=offset)
    assert first.file.digest == file.digest
    assert all(len(piece.content) <= PART_BYTES for piece in rest)
    return b"".join(piece.content for piece in rest)


async def history(plane: ControlPlane, service: Any) -> list[tuple[str, str]]:
    """Give actor and state of what happened to the files."""
    method = f"{_REGISTRY}/ListServiceFileEvents"
    events = (await plane.ask("volt", method, service_id=service.service_id)).events
    name = wire.ServiceFileState.Name
    return [(e.actor, name(e.state).removeprefix("SERVICE_FILE_STATE_")) for e in events]


async def parts(plane: ControlPlane) -> int:
    """Count the rows of content."""
    async with plane.engine.connect() as connection:
        query = select(func.count()).select_from(SERVICE_FILE_PART)
        return int((await connection.execute(query)).scalar_one())


#: What is wrong with an announcement, by the field that is blamed for it.
WRONG = (
    ("media_type", "text/html"),
    ("name", "../manual.pdf"),
    ("name", "a/b.pdf"),
    ("name", ""),
    ("kind", wire.SERVICE_FILE_KIND_UNSPECIFIED),
    ("size_bytes", 0),
    ("digest", b"short"),
)


async def test_files_with_wrong_names_and_types_are_refused(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    for field, value in WRONG:
        with pytest.raises(MarketError, check=INVALID) as refused:
            await begin(plane, service, CONTENT, **{field: value})
        assert fields_of(refused.value) == [field]
    assert await history(plane, service) == []


async def test_only_the_provider_uploads(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    upload = await begin(plane, service, CONTENT)
    for who in ("ampere", "evsp"):
        request = announced(service.service_id, CONTENT)
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.send(who, f"{_REGISTRY}/BeginServiceFileUpload", request)
        pieces = in_pieces(upload.file.file_id, CONTENT)
        with pytest.raises(MarketError, check=NOT_FOUND):
            await plane.send(who, f"{_REGISTRY}/UploadServiceFile", *pieces)
        for method in ("GetServiceFileUpload", "DeleteServiceFile", "DownloadServiceFile"):
            with pytest.raises(MarketError, check=NOT_FOUND):
                await plane.ask(who, f"{_REGISTRY}/{method}", file_id=upload.file.file_id)
    assert await received(plane, upload.file.file_id) == 0


@pytest.mark.usecase(1478)
async def test_a_file_comes_back_as_it_was_from_any_place_on(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    file = await stored(plane, service, CONTENT)
    assert await downloaded(plane, file) == CONTENT
    for offset in (1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 1, len(CONTENT)):
        assert await downloaded(plane, file, "evsp", offset) == CONTENT[offset:]
    with pytest.raises(MarketError, check=INVALID):
        await downloaded(plane, file, "evsp", len(CONTENT) + 1)
    method = f"{_REGISTRY}/ListServiceFiles"
    (listed,) = (await plane.ask("evsp", method, service_id=service.service_id)).files
    assert listed == file
    assert await history(plane, service) == [("volt", "UPLOADING"), ("volt", "STORED")]


@pytest.mark.usecase(1478)
async def test_files_of_a_hidden_service_are_hidden(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    file = await stored(plane, service, CONTENT)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await downloaded(plane, file, "evsp")
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask("evsp", f"{_REGISTRY}/ListServiceFiles", service_id=service.service_id)
    assert await downloaded(plane, file, TECHNICAL) == CONTENT
    await plane.ask(TECHNICAL, f"{_REGISTRY}/PublishService", service_id=service.service_id)
    assert await downloaded(plane, file, "evsp") == CONTENT


@pytest.mark.parametrize("piece_bytes", [7_000, PART_BYTES])
async def test_an_upload_goes_on_where_it_broke(plane: ControlPlane, piece_bytes: int) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    file_id = upload.file.file_id
    calls = 0
    while (at := await received(plane, file_id)) < len(CONTENT):
        calls += 1
        enough = -(-(PART_BYTES + 10) // piece_bytes)
        some = list(in_pieces(file_id, CONTENT, at, piece_bytes))[:enough]
        done = await go_on(plane, *some)
        # What is safe is whole parts.
        assert done.received_bytes % PART_BYTES == 0 or done.received_bytes == len(CONTENT)
    assert calls == 2
    assert done.file.state == wire.SERVICE_FILE_STATE_STORED
    assert await downloaded(plane, done.file) == CONTENT
    # A repetition of what is stored does no harm.
    again = await go_on(plane, *in_pieces(file_id, CONTENT))
    assert again.file == done.file


async def test_pieces_out_of_order_are_refused_and_nothing_is_lost(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    other = await begin(plane, service, CONTENT, name="other.pdf")
    first, second, third = in_pieces(upload.file.file_id, CONTENT)
    foreign = next(in_pieces(other.file.file_id, CONTENT))
    with pytest.raises(MarketError, check=NOT_ALLOWED) as refused:
        await go_on(plane, second)
    assert refused.value.metadata == {"received_bytes": "0"}
    for pieces in ((first, third), (first, foreign)):
        at = await received(plane, upload.file.file_id)
        begins = [piece for piece in pieces if piece.offset_bytes >= at] or list(pieces)
        with pytest.raises(MarketError):
            await go_on(plane, *begins)
    with pytest.raises(MarketError, check=INVALID):
        await go_on(plane)
    assert await received(plane, upload.file.file_id) == PART_BYTES
    done = await go_on(plane, second, third)
    assert done.file.state == wire.SERVICE_FILE_STATE_STORED


async def test_more_than_was_announced_is_refused(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT[:1000])
    with pytest.raises(MarketError, check=INVALID):
        await go_on(plane, *in_pieces(upload.file.file_id, CONTENT[:1001]))
    assert await received(plane, upload.file.file_id) == 0


async def test_a_whole_with_another_digest_is_refused_and_begins_again(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    spoiled = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(MarketError, check=INVALID):
        await go_on(plane, *in_pieces(upload.file.file_id, spoiled))
    assert await received(plane, upload.file.file_id) == 0
    assert await parts(plane) == 0
    done = await go_on(plane, *in_pieces(upload.file.file_id, CONTENT))
    assert done.file.state == wire.SERVICE_FILE_STATE_STORED


async def test_a_replacement_is_a_new_version_and_the_old_one_goes(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    old = await stored(plane, service, CONTENT)
    later = content_of(5_000, seed=1)
    new = await stored(plane, service, later)
    assert new.file_id != old.file_id
    assert new.digest == hashlib.sha256(later).digest()
    method = f"{_REGISTRY}/ListServiceFiles"
    assert list((await plane.ask("evsp", method, service_id=service.service_id)).files) == [new]
    with pytest.raises(MarketError, check=NOT_FOUND):
        await downloaded(plane, old)
    # For a while downloads that have begun go on.
    assert await sweep_files(plane.engine) == 0
    assert await parts(plane) == 4
    swept = await sweep_files(plane.engine, lambda: utc_now() + timedelta(minutes=11))
    assert (swept, await parts(plane)) == (1, 1)
    states = [state for _, state in await history(plane, service)]
    assert states == ["UPLOADING", "STORED", "UPLOADING", "REPLACED", "STORED"]


async def test_the_provider_and_the_technical_operator_delete(plane: ControlPlane) -> None:
    service = await plane.service("volt")
    method = f"{_REGISTRY}/DeleteServiceFile"
    for who in ("volt", TECHNICAL):
        file = await stored(plane, service, CONTENT)
        answer = await plane.ask(who, method, file_id=file.file_id)
        assert answer.file.state == wire.SERVICE_FILE_STATE_DELETED
        with pytest.raises(MarketError, check=NOT_ALLOWED):
            await plane.ask(who, method, file_id=file.file_id)
        with pytest.raises(MarketError, check=NOT_FOUND):
            await downloaded(plane, file)
    deleted = [actor for actor, state in await history(plane, service) if state == "DELETED"]
    assert deleted == ["volt", "operator/technical"]


async def test_an_upload_that_is_given_up_takes_nothing_more(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    first, *rest = in_pieces(upload.file.file_id, CONTENT)
    await go_on(plane, first)
    await plane.ask("volt", f"{_REGISTRY}/DeleteServiceFile", file_id=upload.file.file_id)
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await go_on(plane, *rest)


async def test_abandoned_uploads_are_swept_by_one_worker(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    await go_on(plane, next(in_pieces(upload.file.file_id, CONTENT)))
    assert await sweep_files(plane.engine, lambda: utc_now() + timedelta(hours=23)) == 0

    def later() -> Any:
        return utc_now() + timedelta(hours=25)

    swept = await asyncio.gather(*(sweep_files(plane.engine, later) for _ in range(3)))
    assert sum(swept) == 1
    assert await parts(plane) == 0
    assert (await history(plane, service))[-1] == ("marketplace", "ABANDONED")
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await go_on(plane, *in_pieces(upload.file.file_id, CONTENT, PART_BYTES))


async def test_of_two_calls_that_go_on_at_once_one_wins(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    upload = await begin(plane, service, CONTENT)
    results = await asyncio.gather(
        *(go_on(plane, *in_pieces(upload.file.file_id, CONTENT)) for _ in range(2)),
        return_exceptions=True,
    )
    lost = [each for each in results if isinstance(each, BaseException)]
    assert all(isinstance(each, MarketError) for each in lost)
    assert len(lost) <= 1
    method = f"{_REGISTRY}/GetServiceFileUpload"
    file = (await plane.ask("volt", method, file_id=upload.file.file_id)).upload.file
    assert file.state == wire.SERVICE_FILE_STATE_STORED
    assert await downloaded(plane, file) == CONTENT


async def test_two_uploads_of_one_name_leave_one_file(plane: ControlPlane) -> None:
    service = await plane.register_service("volt")
    await asyncio.gather(*(stored(plane, service, content_of(1000, seed)) for seed in range(4)))
    method = f"{_REGISTRY}/ListServiceFiles"
    assert len((await plane.ask("volt", method, service_id=service.service_id)).files) == 1
    states = [state for _, state in await history(plane, service)]
    assert (states.count("STORED"), states.count("REPLACED")) == (4, 3)


async def test_services_and_providers_keep_so_much_and_no_more(plane: ControlPlane) -> None:
    limits = ContentLimits(
        file_bytes=1000, service_bytes=1500, provider_bytes=2200, service_files=3
    )
    parts_of = RegistryParts(plane.runner, endpoints=plane.endpoints, content=limits)
    plane.serve("ServiceRegistryService", ServiceRegistry(Commands(plane.engine), parts_of))
    first, second = await plane.register_service("volt"), await plane.register_service("volt")
    with pytest.raises(MarketError, check=TOO_LARGE):
        await begin(plane, first, bytes(1001))
    # Room is kept from the announcement on, also where many come at once.
    results = await asyncio.gather(
        *(begin(plane, first, bytes(700), name=f"{n}.pdf") for n in range(4)),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, BaseException) for each in results) == 2
    await begin(plane, second, bytes(700), name="a.pdf")
    with pytest.raises(MarketError, check=TOO_LARGE):
        await begin(plane, second, bytes(700), name="b.pdf")


@pytest.mark.parametrize(
    "usage", [Usage(3, 0, 0), Usage(0, 1000, 1000), Usage(0, 0, 2000)], ids=["files", "s", "p"]
)
def test_each_limit_counts_by_itself(usage: Usage) -> None:
    limits = ContentLimits(file_bytes=500, service_bytes=1200, provider_bytes=2200, service_files=3)
    check_room(500, Usage(2, 700, 1700), limits)
    with pytest.raises(MarketError, check=TOO_LARGE):
        check_room(300, usage, limits)


def test_every_end_is_an_end() -> None:
    ended = {FileState.REPLACED, FileState.DELETED, FileState.ABANDONED}
    assert {state for state, _ in TRANSITIONS} == set(FileState) - ended
    assert all(step is after for (_, step), after in TRANSITIONS.items())
