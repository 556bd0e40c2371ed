"""InterfaceCatalogService over a real database (use cases 1493, 1475, 1476)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import Route
from marketplace.interface_download import PART_BYTES
from marketplace.new_interface import normal_digest
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    INTERFACE,
    INTERFACE_BODY,
    TECHNICAL,
    ControlPlane,
)
from tests.interceptors.support import raises
from tests.interfaces import descriptor_set, handmade, rpc, service

PUBLISH = "InterfaceCatalogService/PublishInterface"
GET = "InterfaceCatalogService/GetInterface"
OTHER_BODY = INTERFACE_BODY.replace("text = 1", "text = 2")


@pytest.mark.usecase(1493)
@pytest.mark.parametrize("who", ["acme", BUSINESS])
async def test_publishing_is_the_technical_operators(plane: ControlPlane, who: str) -> None:
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await plane.ask(who, PUBLISH, descriptor_set=descriptor_set(INTERFACE_BODY))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff",
        FileDescriptorSet(file=[FileDescriptorProto(name="a.proto")]).SerializeToString(),
        descriptor_set("message Ask {} message Found {}" + service(rpc())),
        handmade("extension"),
    ],
    ids=["garbage", "without a service", "without provider answers", "handmade"],
)
async def test_what_breaks_the_rules_of_the_catalogue_is_not_published(
    plane: ControlPlane, raw: bytes
) -> None:
    with pytest.raises(MarketError) as caught:
        await plane.ask(TECHNICAL, PUBLISH, descriptor_set=raw)
    assert caught.value.reason == ErrorReason.ERROR_REASON_INTERFACE_INVALID
    assert not (await plane.ask("acme", "InterfaceCatalogService/ListInterfaces")).interfaces


async def test_the_same_files_are_published_once_however_they_are_packed(
    plane: ControlPlane,
) -> None:
    await plane.publish_interface()
    packed = FileDescriptorSet.FromString(descriptor_set(INTERFACE_BODY))
    for file in packed.file:
        file.source_code_info.location.add(leading_comments="other comments")
    assert normal_digest(packed.SerializeToString()) == normal_digest(
        descriptor_set(INTERFACE_BODY)
    )
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)):
        await plane.ask(TECHNICAL, PUBLISH, descriptor_set=packed.SerializeToString())


async def test_an_interface_or_version_that_is_not_there_is_not_found(plane: ControlPlane) -> None:
    await plane.publish_interface()
    for wanted in ({"interface_name": "no.Such"}, {"interface_name": INTERFACE, "version": 2}):
        with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
            await plane.ask("acme", GET, **wanted)


@pytest.mark.usecase(1493, 1476)
async def test_a_published_interface_shows_what_its_options_say(plane: ControlPlane) -> None:
    (made,) = (await plane.publish_interface()).interfaces
    found = (await plane.ask("acme", GET, interface_name=INTERFACE)).interface
    assert found == made
    assert (found.interface_name, found.version, found.category) == (INTERFACE, 1, "c")
    assert list(found.implemented_by) == [EVSE_OPERATOR]
    assert list(found.called_by) == [EVSP]
    (method,) = found.methods
    assert (method.path, method.route) == (f"/{INTERFACE}/Search", Route.ROUTE_ALL)
    assert not method.side_effects
    assert found.digest == normal_digest(descriptor_set(INTERFACE_BODY))


@pytest.mark.usecase(1475)
async def test_versions_stay_and_the_list_shows_the_newest(plane: ControlPlane) -> None:
    await plane.publish_interface()
    await plane.publish_interface(OTHER_BODY)
    listed = await plane.ask("acme", "InterfaceCatalogService/ListInterfaces")
    assert [(item.interface_name, item.version) for item in listed.interfaces] == [(INTERFACE, 2)]
    assert not listed.interfaces[0].methods
    assert not listed.page.next_page_token
    first = await plane.ask("acme", GET, interface_name=INTERFACE, version=1)
    assert first.interface.digest == normal_digest(descriptor_set(INTERFACE_BODY))
    other = await plane.ask("acme", "InterfaceCatalogService/ListInterfaces", category="x")
    assert not other.interfaces


async def test_publications_at_once_get_versions_one_after_the_other(plane: ControlPlane) -> None:
    bodies = [INTERFACE_BODY.replace("text = 1", f"text = {number}") for number in (1, 2, 3)]
    await asyncio.gather(*map(plane.publish_interface, bodies))
    listed = await plane.ask("acme", "InterfaceCatalogService/ListInterfaces")
    assert [item.version for item in listed.interfaces] == [3]


@pytest.mark.usecase(1476)
async def test_a_download_is_the_very_set_that_was_published(plane: ControlPlane) -> None:
    await plane.publish_interface()
    method = "InterfaceCatalogService/DownloadInterface"
    parts: list[Any] = await plane.ask_all("acme", method, interface_name=INTERFACE)
    joined = b"".join(part.descriptor_set_part for part in parts)
    assert joined == descriptor_set(INTERFACE_BODY)
    assert len(parts) == -(-len(joined) // PART_BYTES)
