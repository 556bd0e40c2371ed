"""Every standard interface of the catalogue is one that the marketplace would publish."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from gem.options.v1 import options_pb2
from marketplace.router.interface import compile_interface
from tests.catalogue.descriptors import Catalogue


def test_every_standard_interface_can_be_routed(
    descriptors: dict[str, FileDescriptorProto], catalogue: Catalogue
) -> None:
    standard = {
        element.name: element.file
        for element, service in catalogue.services()
        if service.options.HasExtension(options_pb2.standard_interface)
    }
    assert "gem.charging.v1.EvseSearchService" in standard
    for name, file in standard.items():
        compiled = compile_interface(closure(file, descriptors).SerializeToString())
        assert [rules.name for rules in compiled] == [name]


def closure(
    file: FileDescriptorProto, descriptors: dict[str, FileDescriptorProto]
) -> FileDescriptorSet:
    """Give a file behind all that it imports: what a partner publishes."""
    needed: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        for dependency in descriptors[name].dependency:
            add(dependency)
        needed.setdefault(name, descriptors[name])

    add(file.name)
    return FileDescriptorSet(file=needed.values())
