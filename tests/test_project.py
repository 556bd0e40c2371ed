"""What the project promises about itself: its targets, its stubs, its layers, its lock file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
PINS = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())

USE_STUBS = """
import sys
sys.path += sys.argv[1:]
from gem.charging.v1 import evse_search_service_pb2_grpc, evse_search_service_pb2
from gem.mesh.v1 import provider_answer_pb2
assert evse_search_service_pb2_grpc.EvseSearchServiceStub
assert evse_search_service_pb2.SearchEvsesRequest().SerializeToString() == b""
print(sorted({name.split(".")[0] for name in sys.modules} & {"foundation", "marketplace"}))
print("google.rpc" in sys.modules)
"""


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command of the project's own environment without standard input."""
    return subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def link_alone(folder: Path, requirements: Iterable[str]) -> None:
    """Put into a folder what these requirements install, with all that they require in turn."""
    pending = [Requirement(text) for text in requirements]
    done: set[str] = set()
    while pending:
        requirement = pending.pop()
        for_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
        if for_extra or requirement.name in done:
            continue
        done.add(requirement.name)
        installed = distribution(requirement.name)
        pending += [Requirement(text) for text in installed.requires or ()]
        for file in installed.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).symlink_to(str(installed.locate_file(file)))


def test_a_partner_needs_nothing_but_grpcio_and_protobuf_for_the_stubs(
    wheel: Path, tmp_path: Path
) -> None:
    link_alone(tmp_path, PROJECT["project"]["dependencies"])
    assert {path.name for path in (tmp_path / "google").iterdir()} == {"_upb", "protobuf"}
    done = run(sys.executable, "-I", "-S", "-c", USE_STUBS, wheel, tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\nFalse\n"), done.stderr


def test_a_provider_needs_only_its_extra(wheel: Path, tmp_path: Path) -> None:
    project = PROJECT["project"]
    extra = project["optional-dependencies"]["provider"]
    link_alone(tmp_path, [*project["dependencies"], *extra])
    program = "import sys; sys.path += sys.argv[1:]; import interceptors.provider_side"
    done = run(sys.executable, "-I", "-S", "-c", program, wheel, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.torture
def test_the_wheel_installs_into_an_environment_with_the_two_pins(
    wheel: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "partner")
    pip = tmp_path / "partner/bin/pip"
    pins = [f"{name}=={PINS[name]}" for name in ("grpcio", "protobuf", "typing_extensions")]
    for arguments in (pins, [str(wheel)]):
        done = run(pip, "install", "--no-deps", *arguments)
        assert done.returncode == 0, done.stderr
    assert run(pip, "check").returncode == 0
    done = run(tmp_path / "partner/bin/python", "-I", "-c", USE_STUBS)
    assert (done.returncode, done.stdout) == (0, "[]\nFalse\n"), done.stderr


def test_the_lock_file_pins_what_the_project_asks_for() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(text for extra in extras for text in extra)]
    pins = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    requirements = [Requirement(text) for text in asked]
    unmet = [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(pins.get(requirement.name.lower(), "0"))
    ]
    assert unmet == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Give a copy of the product's packages that a test may spoil."""
    for package in PROJECT["tool"]["importlinter"]["root_packages"]:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "line", "broken"),
    [
        ("foundation/errors.py", "import interceptors.call", 1),
        ("interceptors/call.py", "import marketplace", 1),
        ("mobility/__init__.py", "import marketplace", 1),
        ("marketplace/__init__.py", "import gemarket", 1),
        ("marketplace/router/target.py", "import grpc", 2),
        ("marketplace/router/target.py", "import sqlalchemy", 2),
        ("marketplace/proposal_examination.py", "import marketplace.storage_interface", 1),
    ],
)
def test_an_import_against_the_direction_is_refused(
    copy: Path, place: str, line: str, broken: int
) -> None:
    with (copy / place).open("a") as spoiled:
        spoiled.write(f"\n{line}\n")
    done = run(BIN / "lint-imports", "--no-logo", "--no-cache", cwd=copy)
    assert done.returncode == 1
    assert f"{broken} broken" in done.stdout


def test_the_tree_imports_in_the_right_directions(copy: Path) -> None:
    done = run(BIN / "lint-imports", "--no-logo", "--no-cache", cwd=copy)
    assert done.returncode == 0, done.stdout


def test_ci_runs_the_commands_that_everybody_runs() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "make check test"


def test_every_make_target_that_the_readme_names_exists() -> None:
    calls = re.findall(r"(?:^|`)make ([a-z -]+)", README, re.MULTILINE)
    named = {target for call in calls for target in call.split()}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "check", "test"} <= named <= set(targets)


def test_everything_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_changelog_knows_the_version() -> None:
    version = re.escape(PROJECT["project"]["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE)


def test_decisions_are_numbered_without_gaps() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
    assert names
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for name in names:
        text = (ROOT / "docs/decisions" / name).read_text()
        assert text.startswith(f"# {int(name[:4])}. "), name
