"""Generate `gen/` from the catalogue: `python proto/generate.py [OUTPUT FOLDER]`.

`buf/validate/validate.proto` is not vendored: the installed protovalidate carries its descriptor,
from which the compiler's input and the Python module that the stubs import are made.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from protovalidate._gen.buf.validate import validate_pb

PROTO = Path(__file__).resolve().parent
VALIDATE = "buf/validate/validate.proto"


def dependency_set() -> descriptor_pb2.FileDescriptorSet:
    """Give `validate.proto` and all that it imports, dependencies first."""
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(file: object) -> None:
        for dependency in file.dependencies:  # type: ignore[attr-defined]  # untyped descriptor
            add(dependency)
        raw = file.proto.to_binary()  # type: ignore[attr-defined]  # untyped descriptor
        proto = descriptor_pb2.FileDescriptorProto.FromString(raw)
        files.setdefault(proto.name, proto)

    add(validate_pb._DESC)  # noqa: SLF001  # the only place where the descriptor is offered
    return descriptor_pb2.FileDescriptorSet(file=files.values())


def sources() -> list[str]:
    """List the catalogue's files relative to `proto/`, sorted."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("gem/**/*.proto"))


def protoc(dependencies: Path, *arguments: str) -> None:
    """Run the compiler of grpcio-tools against the catalogue."""
    base = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={dependencies}"]
    subprocess.run([*base, f"-I{PROTO}", *arguments], check=True)


def generate(output: Path) -> None:
    """Write stubs, type stubs and the image of the catalogue below `output`."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch) / "dependencies.binpb"
        dependencies.write_bytes(dependency_set().SerializeToString())
        mypy = Path(sys.executable).parent / "protoc-gen-mypy"
        stubs = [f"--plugin=protoc-gen-mypy={mypy}", f"--python_out={output}"]
        protoc(dependencies, *stubs, f"--mypy_out=quiet:{output}", VALIDATE, *sources())
        services = [name for name in sources() if name.endswith("_service.proto")]
        mypy_grpc = Path(sys.executable).parent / "protoc-gen-mypy_grpc"
        grpc_stubs = [f"--plugin=protoc-gen-mypy_grpc={mypy_grpc}", f"--grpc_python_out={output}"]
        if services:
            protoc(dependencies, *grpc_stubs, f"--mypy_grpc_out=quiet:{output}", *services)
    for folder in sorted({path.parent for path in output.glob("**/*_pb2.py")}):
        while folder != output:
            (folder / "__init__.py").touch()
            folder = folder.parent  # noqa: PLW2901  # walks up to the output folder
    for package in ("gem", "buf"):
        (output / package / "py.typed").touch()


def image(target: Path) -> None:
    """Write the catalogue as a descriptor set with source info, for `buf lint` and `breaking`."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch) / "dependencies.binpb"
        dependencies.write_bytes(dependency_set().SerializeToString())
        flags = ["--include_imports", "--include_source_info"]
        protoc(dependencies, *flags, f"--descriptor_set_out={target}", *sources())


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO.parent / "gen")
