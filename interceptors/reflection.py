"""Server reflection, v1 and v1alpha: what tools need to call core services and interfaces.

Every answer with files carries all that they import, from the same descriptor set: two interfaces
may have been published with different versions of a common file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection_pb2

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call

_V1 = "grpc.reflection.v1"
_V1_ALPHA = "grpc.reflection.v1alpha"
_MAX_REQUESTS = 2000
_MAX_CACHED_INDEXES = 256


def reflection_services() -> tuple[ServiceDescriptor, ServiceDescriptor]:
    """Give the descriptors of both versions, for `CoreServices.add`; their access is PUBLIC.

    The installed package has v1alpha only; v1 is the same file under another package name.
    """
    alpha = reflection_pb2.DESCRIPTOR
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(f"{_V1}.ServerReflection")
    except KeyError:
        pool.Add(_renamed(alpha))
    return (
        pool.FindServiceByName(f"{_V1}.ServerReflection"),
        alpha.services_by_name["ServerReflection"],
    )


def _renamed(alpha: FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    alpha.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _V1

    def rename(type_name: str) -> str:
        return type_name.replace(f".{_V1_ALPHA}.", f".{_V1}.")

    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = rename(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = rename(method.input_type)
            method.output_type = rename(method.output_type)
    return file


class ReflectionServicer:
    """Answers both versions: their messages have the same fields.

    `core()` gives the services that the marketplace serves itself; `interfaces()` the published
    interfaces by name, each with its serialised `FileDescriptorSet`.
    """

    def __init__(
        self,
        core: Callable[[], Iterable[ServiceDescriptor]],
        interfaces: Callable[[], Mapping[str, bytes]],
    ) -> None:
        self._core = core
        self._interfaces = interfaces
        self._core_index: tuple[tuple[ServiceDescriptor, ...], _Index] | None = None
        self._indexes: OrderedDict[bytes, _Index] = OrderedDict()

    async def ServerReflectionInfo(  # noqa: N802  # named like the rpc
        self, requests: AsyncIterator[Any], _call: Call
    ) -> AsyncIterator[Any]:
        """Answer each request; what is not found is an error in its answer, not of the call."""
        count = 0
        async for request in requests:
            count += 1
            if count > _MAX_REQUESTS:
                raise MarketError(
                    ErrorReason.ERROR_REASON_TOO_MANY_CALLS,
                    f"One call may ask {_MAX_REQUESTS} times.",
                    retry_after_s=0.0,
                )
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        package = request.DESCRIPTOR.file.package
        service = descriptor_pool.Default().FindServiceByName(f"{package}.ServerReflection")
        answer = _new(service.methods[0].output_type)
        answer.valid_host = request.host
        answer.original_request.CopyFrom(request)
        kind = request.WhichOneof("message_request")
        found = False
        if kind == "list_services":
            found = True
            for name in sorted({*self._core_names(), *self._interfaces()}):
                answer.list_services_response.service.add(name=name)
        elif kind == "all_extension_numbers_of_type":
            found = self._add_numbers(request.all_extension_numbers_of_type, answer)
        elif kind is not None:
            files = self._files(kind, getattr(request, kind))
            found = bool(files)
            answer.file_descriptor_response.file_descriptor_proto.extend(files)
        if not found:
            answer.error_response.error_code = int(Code.NOT_FOUND)
            answer.error_response.error_message = "Nothing of that name is served."
        return answer

    def _files(self, kind: str, wanted: Any) -> list[bytes]:
        """Give the file that answers a request, then all that it imports; empty if none does."""
        for index in self._all_indexes():
            if kind == "file_by_filename":
                name = wanted if wanted in index.files else None
            elif kind == "file_containing_symbol":
                name = index.symbols.get(wanted)
            else:
                key = (wanted.containing_type, wanted.extension_number)
                name = index.extensions.get(key)
            if name is not None:
                return index.closure(name)
        return []

    def _add_numbers(self, type_name: str, answer: Any) -> bool:
        numbers: set[int] = set()
        known = False
        for index in self._all_indexes():
            known = known or type_name in index.symbols
            numbers |= {number for owner, number in index.extensions if owner == type_name}
        if known:
            answer.all_extension_numbers_response.base_type_name = type_name
            answer.all_extension_numbers_response.extension_number.extend(sorted(numbers))
        return known

    def _core_names(self) -> list[str]:
        return [service.full_name for service in self._core()]

    def _all_indexes(self) -> Iterable[_Index]:
        services = tuple(self._core())
        if self._core_index is None or self._core_index[0] != services:
            self._core_index = services, _Index(_files_of(services))
        yield self._core_index[1]
        for raw in self._interfaces().values():
            yield self._index_of(raw)

    def _index_of(self, raw: bytes) -> _Index:
        index = self._indexes.get(raw)
        if index is None:
            index = _Index(descriptor_pb2.FileDescriptorSet.FromString(raw).file)
            self._indexes[raw] = index
            if len(self._indexes) > _MAX_CACHED_INDEXES:
                self._indexes.popitem(last=False)
        return index


class _Index:
    """Files of one descriptor set by name, by symbol and by extension."""

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        self.files: dict[str, bytes] = {}
        self.symbols: dict[str, str] = {}
        #: File by extended type and number.
        self.extensions: dict[tuple[str, int], str] = {}
        self._imports: dict[str, list[str]] = {}
        for file in files:
            self.files[file.name] = file.SerializeToString()
            self._imports[file.name] = list(file.dependency)
            prefix = f"{file.package}." if file.package else ""
            self._add_scope(prefix, file.name, file)
            for service in file.service:
                self.symbols[prefix + service.name] = file.name
                for method in service.method:
                    self.symbols[f"{prefix}{service.name}.{method.name}"] = file.name

    def closure(self, name: str) -> list[bytes]:
        """Give a file and all that it imports, the file itself first."""
        names, seen = [name], {name}
        for each in names:  # grows while it is walked; every file enters once
            for imported in self._imports[each]:
                if imported in self.files and imported not in seen:
                    seen.add(imported)
                    names.append(imported)
        return [self.files[each] for each in names]

    def _add_scope(self, prefix: str, file_name: str, scope: Any) -> None:
        """Add what a file, or a message, declares; nesting is limited by protobuf's parser."""
        is_file = isinstance(scope, descriptor_pb2.FileDescriptorProto)
        for message in scope.message_type if is_file else scope.nested_type:
            self.symbols[prefix + message.name] = file_name
            self._add_scope(f"{prefix}{message.name}.", file_name, message)
        for enum in scope.enum_type:
            self.symbols[prefix + enum.name] = file_name
        for extension in scope.extension:
            self.symbols[prefix + extension.name] = file_name
            owner = extension.extendee.removeprefix(".")
            self.extensions[owner, extension.number] = file_name


def _files_of(services: Iterable[ServiceDescriptor]) -> list[descriptor_pb2.FileDescriptorProto]:
    """Give the files of services and all that they import, each once."""
    waiting = [service.file for service in services]
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            found[file.name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[file.name])
            waiting.extend(file.dependencies)
    return list(found.values())


def _new(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)()
