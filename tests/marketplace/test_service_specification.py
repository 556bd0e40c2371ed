"""Specifications of services: validated, compared, stored and handed out (1487, 1489)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import service_content_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.proposal_compiler import ProposalCompiler
from tests.control_plane import EVSE_OPERATOR, TECHNICAL, ControlPlane
from tests.interceptors.support import raises
from tests.proposals import file_of, sources
from tests.service_files import announced, content_of, in_pieces, specification

pytestmark = pytest.mark.usecase(1489)

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)
_REGISTRY = "ServiceRegistryService"
PACKAGE = "acme.depot.v1"
INTERFACE = f"{PACKAGE}.SlotService"
FILE = file_of(PACKAGE)


@pytest.fixture(scope="module")
async def published() -> bytes:
    """Compile the standard interface."""
    found = await ProposalCompiler().examine(sources(), b"")
    assert found.findings == ()
    return found.descriptor_set


@pytest.fixture
async def service(plane: ControlPlane, published: bytes) -> Any:
    """Give a service that implements the standard interface."""
    await plane.partner("volt", EVSE_OPERATOR)
    await plane.partner("ampere", EVSE_OPERATOR)
    catalog = "InterfaceCatalogService"
    await plane.ask(TECHNICAL, f"{catalog}/PublishInterface", descriptor_set=published)
    return await plane.register_service("volt", interface_name=INTERFACE)


async def send(plane: ControlPlane, *messages: Any, who: str = "volt") -> Any:
    """Upload a specification."""
    (answer,) = await plane.send(who, f"{_REGISTRY}/UploadServiceSpecification", *messages)
    return answer


async def documents(plane: ControlPlane, service: Any, who: str = "volt", **fields: Any) -> Any:
    """Download all that specifies a service: contents, sources and files by name."""
    method = f"{_REGISTRY}/DownloadServiceDocuments"
    first, *rest = await plane.ask_all(who, method, service_id=service.service_id, **fields)
    found: dict[str, bytes] = {}
    name = ""
    for each in rest:
        if each.HasField("source_part"):
            name = each.source_part.name
            found[name] = found.get(name, b"") + each.source_part.content
        elif each.HasField("file"):
            name = each.file.name
            found[name] = b""
        else:
            found[name] += each.content
    return first.contents, found


def changed(old: str, new: str) -> dict[str, bytes]:
    """Give the sources with one thing changed."""
    text = sources()[FILE].decode()
    assert old in text
    return {FILE: text.replace(old, new).encode()}


def line_of(files: dict[str, bytes], text: str) -> int:
    """Give the line in which a text stands."""
    lines = files[FILE].decode().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


async def test_the_sources_of_the_standard_are_stored_as_versions(
    plane: ControlPlane, service: Any
) -> None:
    messages = list(specification(service.service_id, sources(), "first", description="Slots."))
    answer = await send(plane, *messages)
    assert list(answer.findings) == []
    assert answer.specification.version == 1
    assert answer.specification.description == "Slots."
    assert answer.specification.interface_name == INTERFACE
    assert await send(plane, *messages) == answer
    # Other comments are no other interface.
    commented = changed("// Finds free slots.", "// Finds the free slots of volt.")
    later = await send(plane, *specification(service.service_id, commented))
    assert later.specification.version == 2
    contents, files = await documents(plane, service)
    assert contents.specification == later.specification
    assert "Finds the free slots of volt." in files[FILE].decode()


@pytest.mark.parametrize(
    ("old", "new", "rule", "said"),
    [
        ("string text = 1", "strong text = 1", "protoc", "strong text"),
        ("string text = 1", "string words = 1", "buf.FIELD_SAME_", "string words"),
        ("max_len = 100", "max_len = 200", "specification.shape", "service SlotService"),
    ],
    ids=["syntax", "renamed", "limit"],
)
async def test_what_differs_from_the_standard_is_found_by_file_line_and_rule(
    plane: ControlPlane, service: Any, old: str, new: str, rule: str, said: str
) -> None:
    files = changed(old, new)
    answer = await send(plane, *specification(service.service_id, files))
    assert not answer.HasField("specification")
    assert answer.findings
    matching = [each for each in answer.findings if each.rule.startswith(rule)]
    assert matching
    places = {(each.file, each.line_number) for each in matching}
    assert (FILE, line_of(files, said)) in places
    contents, _ = await documents(plane, service)
    assert not contents.HasField("specification")


async def test_another_interface_is_not_the_service_s(plane: ControlPlane, service: Any) -> None:
    files = sources("acme.other.v1")
    answer = await send(plane, *specification(service.service_id, files))
    assert [each.rule for each in answer.findings] == ["specification.interface"]


async def test_another_s_service_is_refused_before_its_files_are_read(
    plane: ControlPlane, service: Any
) -> None:
    for who in ("ampere", TECHNICAL):
        with pytest.raises(MarketError):
            await send(plane, *specification(service.service_id, sources()), who=who)
    header = next(specification(service.service_id, {}))
    with pytest.raises(MarketError, check=NOT_FOUND):
        await send(plane, header, header, who="ampere")


async def test_uploads_that_are_not_whole_are_refused(plane: ControlPlane, service: Any) -> None:
    header, *parts = specification(service.service_id, sources(), "one")
    wrong = specification(service.service_id, sources(), digest=b"x" * 32)
    for messages in ([header], parts, [header, header, *parts], list(wrong), []):
        with pytest.raises(MarketError, check=INVALID):
            await send(plane, *messages)
    whole = b"".join(sources().values())
    right = specification(service.service_id, sources(), digest=hashlib.sha256(whole).digest())
    assert (await send(plane, *right)).specification.version == 1


@pytest.mark.usecase(1487)
async def test_all_that_specifies_a_service_comes_in_one_stream(
    plane: ControlPlane, service: Any
) -> None:
    kinds = {
        "manual.pdf": wire.SERVICE_FILE_KIND_MANUAL,
        "rules.txt": wire.SERVICE_FILE_KIND_SPECIFICATION,
    }
    sent = {name: content_of(300_000, seed) for seed, name in enumerate(kinds)}
    for name, kind in kinds.items():
        request = announced(service.service_id, sent[name], name, kind=kind)
        (begun,) = await plane.send("volt", f"{_REGISTRY}/BeginServiceFileUpload", request)
        pieces = in_pieces(begun.upload.file.file_id, sent[name])
        await plane.send("volt", f"{_REGISTRY}/UploadServiceFile", *pieces)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await documents(plane, service, "ampere")
    await plane.ask(TECHNICAL, f"{_REGISTRY}/PublishService", service_id=service.service_id)
    contents, files = await documents(plane, service, "ampere")
    assert [each.name for each in contents.files] == ["rules.txt"]
    assert files["rules.txt"] == sent["rules.txt"]
    # Nothing was uploaded: the sources are those of the catalogue.
    assert not contents.HasField("specification")
    assert b"service SlotService" in files[FILE]
    contents, files = await documents(plane, service, "ampere", all_files=True)
    assert [each.name for each in contents.files] == ["manual.pdf", "rules.txt"]
    assert {name: files[name] for name in sent} == sent
