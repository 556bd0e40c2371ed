"""Reflection as tools use it, for core services and for interfaces published at run time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2

from foundation.errors import Code
from gem.options.v1 import options_pb2
from interceptors.reflection import ReflectionServicer, reflection_services
from tests.identities import Identity, MakeIdentity
from tests.interceptors.support import PUBLIC, ProbeMarket, channel

VERSIONS = pytest.mark.parametrize("version", ["v1", "v1alpha"])
V1, V1_ALPHA = reflection_services()


def interface(name: str, field: str) -> bytes:
    """Make an interface whose common file differs between interfaces."""
    common = descriptor_pb2.FileDescriptorProto(name="common.proto", package="dyn", syntax="proto3")
    common.message_type.add(name="Shared").field.add(name=field, number=1, type=5, label=1)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto", package=f"dyn.{name}", syntax="proto3", dependency=["common.proto"]
    )
    outer = file.message_type.add(name="Outer")
    outer.nested_type.add(name="Inner")
    outer.enum_type.add(name="Kind").value.add(name="KIND_UNSPECIFIED", number=0)
    method = file.service.add(name="S").method.add(name="M")
    method.input_type = method.output_type = ".dyn.Shared"
    return descriptor_pb2.FileDescriptorSet(file=[common, file]).SerializeToString()


class Reflecting:
    """A market with both versions of reflection."""

    def __init__(self) -> None:
        self.interfaces = {"dyn.a.S": interface("a", "from_a"), "dyn.b.S": interface("b", "from_b")}
        self.market = ProbeMarket()
        servicer = ReflectionServicer(self.market.core.services, lambda: self.interfaces)
        for service in (V1, V1_ALPHA):
            self.market.core.add(service, servicer, access=[PUBLIC])


@pytest.fixture
async def reflecting() -> Reflecting:
    return Reflecting()


class Tool:
    """Asks in one version of the protocol."""

    def __init__(self, to: Any, version: str) -> None:
        service = V1 if version == "v1" else V1_ALPHA
        (method,) = service.methods
        self.request: Any = message_factory.GetMessageClass(method.input_type)
        self.call = to.stream_stream(
            f"/{service.full_name}/{method.name}",
            request_serializer=self.request.SerializeToString,
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )()

    async def ask(self, **fields: Any) -> Any:
        await self.call.write(self.request(**fields))
        return await self.call.read()

    async def files(self, **fields: Any) -> list[descriptor_pb2.FileDescriptorProto]:
        answer = await self.ask(**fields)
        raw = answer.file_descriptor_response.file_descriptor_proto
        return [descriptor_pb2.FileDescriptorProto.FromString(each) for each in raw]


@pytest.fixture(params=["v1", "v1alpha"])
async def tool(
    request: pytest.FixtureRequest,
    reflecting: Reflecting,
    make_identity: MakeIdentity,
    marketplace_identity: Identity,
) -> AsyncIterator[Tool]:
    probe = make_identity("probe")
    async with (
        reflecting.market.listening(marketplace_identity) as at,
        channel(at.port, probe) as to,
    ):
        tool = Tool(to, request.param)
        yield tool
        await tool.call.done_writing()


@pytest.mark.parametrize(
    "fields",
    [
        {"file_by_filename": "/etc/passwd"},
        {"file_containing_symbol": "gem.none"},
        {"file_containing_symbol": ""},
        {"file_containing_extension": {"containing_type": "x", "extension_number": 1}},
        {"all_extension_numbers_of_type": "x"},
        {},
    ],
)
async def test_what_is_not_served_is_not_found_and_the_stream_goes_on(
    tool: Tool, fields: dict[str, Any]
) -> None:
    answer = await tool.ask(**fields)
    assert answer.error_response.error_code == Code.NOT_FOUND
    assert (await tool.ask(list_services="")).WhichOneof("message_response")


async def test_a_call_may_not_ask_without_end(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interceptors.reflection._MAX_REQUESTS", 2)
    for _ in range(2):
        await tool.ask(list_services="")
    with pytest.raises(Exception, match="RESOURCE_EXHAUSTED"):
        await tool.ask(list_services="")


async def test_core_services_and_interfaces_are_listed(tool: Tool, reflecting: Reflecting) -> None:
    async def names() -> list[str]:
        answer = await tool.ask(list_services="")
        return [service.name for service in answer.list_services_response.service]

    listed = await names()
    assert listed == sorted(listed)
    assert {"gem.test.v1.ProbeService", "dyn.a.S", "dyn.b.S", V1.full_name} <= set(listed)
    del reflecting.interfaces["dyn.a.S"]
    assert "dyn.a.S" not in await names()
    assert await tool.files(file_containing_symbol="dyn.a.S") == []


@pytest.mark.parametrize("symbol", ["S", "S.M", "Outer", "Outer.Inner", "Outer.Kind"])
async def test_an_interface_comes_with_its_own_version_of_a_common_file(
    tool: Tool, symbol: str
) -> None:
    for name in ("a", "b"):
        files = await tool.files(file_containing_symbol=f"dyn.{name}.{symbol}")
        assert [file.name for file in files] == [f"{name}.proto", "common.proto"]
        assert files[1].message_type[0].field[0].name == f"from_{name}"


async def test_the_files_of_a_core_service_build_without_any_other(tool: Tool) -> None:
    files = await tool.files(file_containing_symbol="gem.test.v1.ProbeService")
    pool = descriptor_pool.DescriptorPool()
    for file in reversed(files):
        pool.Add(file)
    assert pool.FindServiceByName("gem.test.v1.ProbeService").methods_by_name["Echo"]


async def test_extensions_are_found_by_number(tool: Tool) -> None:
    owner, number = "google.protobuf.MethodOptions", options_pb2.access.number
    answer = await tool.ask(all_extension_numbers_of_type=owner)
    assert number in answer.all_extension_numbers_response.extension_number
    wanted = {"containing_type": owner, "extension_number": number}
    files = await tool.files(file_containing_extension=wanted)
    assert files[0].name == "gem/options/v1/options.proto"


def test_both_versions_have_the_same_shape() -> None:
    assert V1.file.package == "grpc.reflection.v1"
    names = set(reflection_pb2.DESCRIPTOR.message_types_by_name)
    assert set(V1.file.message_types_by_name) == names
