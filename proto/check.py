"""Check the catalogue: `python -m proto.check`; with `--release`, write the image of a release.

Three things, all offline: buf's lint rules without ignores, compatibility with the last released
image, and that `gen/` is byte for byte what the sources generate.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from proto.generate import PROTO, generate, image

ROOT = PROTO.parent
RELEASED = PROTO / "released.binpb"


def buf(scratch: Path, *arguments: str | Path) -> list[str]:
    """Run buf on an image; give its findings, one a line, empty when it has none."""
    command = [Path(sys.executable).parent / "buf", *arguments]
    command += ["--config", ROOT / "buf.yaml", "--path", "gem"]
    environment = {**os.environ, "HOME": str(scratch), "BUF_CACHE_DIR": str(scratch)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = (done.stdout + done.stderr).splitlines()
    return found if found or done.returncode == 0 else [f"buf ended with {done.returncode}"]


def breaking(scratch: Path, current: Path, released: Path = RELEASED) -> list[str]:
    """Give what the current image takes away from callers of the released one."""
    if not released.is_file():
        return [f"{released.name} is missing: `make release-image` writes it"]
    return buf(scratch, "breaking", current, "--against", released)


def tree(folder: Path) -> dict[str, bytes]:
    """Give the generated files below a folder by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stale(scratch: Path, committed: Path = ROOT / "gen") -> list[str]:
    """Name every generated file that is missing, left over or differs from its source."""
    generate(scratch / "gen")
    fresh, present = tree(scratch / "gen"), tree(committed)
    names = sorted(name for name in fresh.keys() | present.keys())
    different = [name for name in names if fresh.get(name) != present.get(name)]
    return [f"gen/{name} is not what the sources make: run `make gen`" for name in different]


def release(target: Path = RELEASED) -> None:
    """Write the image of this release, with imports and without comments."""
    with tempfile.TemporaryDirectory() as scratch:
        current = Path(scratch) / "image.binpb"
        image(current)
        files = FileDescriptorSet.FromString(current.read_bytes())
    for file in files.file:
        file.ClearField("source_code_info")
    target.write_bytes(files.SerializeToString(deterministic=True))


def main() -> int:
    """Print every finding; 1 where there is one."""
    if sys.argv[1:] == ["--release"]:
        release()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        current = scratch / "image.binpb"
        image(current)
        findings = buf(scratch, "lint", current) + breaking(scratch, current) + stale(scratch)
    print("\n".join(findings) or "The catalogue holds.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
