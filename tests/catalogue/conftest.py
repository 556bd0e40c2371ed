"""The catalogue as its sources make it, compiled once."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from proto.generate import image
from tests.catalogue.descriptors import Catalogue


@pytest.fixture(scope="session")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """Give every file of the catalogue and what it imports, by name, dependencies first."""
    target = tmp_path_factory.mktemp("catalogue") / "image.binpb"
    image(target)
    files = FileDescriptorSet.FromString(target.read_bytes())
    return {file.name: file for file in files.file}


@pytest.fixture(scope="session")
def catalogue(descriptors: dict[str, FileDescriptorProto]) -> Catalogue:
    """Give our own files of the catalogue for the rules to look at."""
    return Catalogue.of(f for f in descriptors.values() if f.package.startswith("gem."))
