"""The size budget and the habits that a machine can hold; generated code aside.

Budget: a file has at most 400 lines, half of them at most 150; a function at most 70, nine in ten
at most 35, half of them at most 10; a line at most 100 characters.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = (
    *("foundation", "interceptors", "marketplace", "clearinghouse"),
    *("energy", "mobility", "gemarket"),
)
AROUND_IT = ("tests", "bench", "proto")
#: Folders that are no part of a clone, beside those whose names start with a dot.
NOT_OURS = {"__pycache__", "build", "dist"}

# Written so that these lines do not match themselves.
OF_THIS_MACHINE = re.compile(rb"(?<![\w.~-])/(work|root|home|Users)/[\w.]")
OF_A_REGISTRY = re.compile(rb"index[-]url|python[h]osted|pypi\.(org|python)|://[\w.:-]+/simple\b")

#: An ignore has to stand on its line with its reason, so it does not count; ruff does the same.
IGNORE = re.compile(r"\s*# (?:noqa|type: ignore)\b")


def in_tree(folder: Path = ROOT) -> Iterator[Path]:
    """Give every file that a clone has."""
    for path in sorted(folder.iterdir()):
        hidden = path.is_dir() and path.name.startswith(".") and path.name != ".ci"
        if hidden or path.name in NOT_OURS:
            continue
        if path.is_dir():
            yield from in_tree(path)
        else:
            yield path


def modules(*folders: str) -> dict[str, Path]:
    """Give the Python files of some folders by the dotted name that imports them."""
    files = (path for path in in_tree() if path.suffix == ".py")
    named = {path.relative_to(ROOT).with_suffix("").parts: path for path in files}
    return {".".join(parts): path for parts, path in named.items() if parts[0] in folders}


def function_sizes(path: Path) -> list[tuple[int, str]]:
    """Give the lines of every function of a file, its docstring among them."""
    walk = ast.walk(ast.parse(path.read_text()))
    found = (node for node in walk if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}") for node in found]


def code_lines(*folders: str) -> int:
    """Count the lines that are not blank."""
    texts = (path.read_text() for path in modules(*folders).values())
    return sum(1 for text in texts for line in text.splitlines() if line.strip())


GROUPS = pytest.mark.parametrize("folders", [PRODUCT, AROUND_IT], ids=["product", "around it"])


@GROUPS
def test_files_are_small(folders: tuple[str, ...]) -> None:
    sizes = {
        name: len(path.read_text().splitlines())
        for name, path in modules(*folders).items()
        if path.name != "__init__.py"
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
    assert statistics.median(sizes.values()) <= 150


@GROUPS
def test_functions_are_small(folders: tuple[str, ...]) -> None:
    sizes = sorted(size for path in modules(*folders).values() for size in function_sizes(path))
    assert [name for size, name in sizes if size > 70] == []
    assert sizes[len(sizes) * 9 // 10][0] <= 35
    assert sizes[len(sizes) // 2][0] <= 10


def test_lines_are_short() -> None:
    suffixes = {".py", ".proto"}
    kept = [path for path in in_tree() if path.suffix in suffixes or path.name == "Makefile"]
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in kept
        if path.relative_to(ROOT).parts[0] != "gen"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(IGNORE.split(line)[0]) > 100
    ]
    assert long == []


def test_there_is_at_least_as_much_test_as_code() -> None:
    assert code_lines("tests") >= code_lines(*PRODUCT)


@pytest.mark.parametrize("pattern", [OF_THIS_MACHINE, OF_A_REGISTRY], ids=["machine", "registry"])
def test_no_file_knows_where_it_was_written(pattern: re.Pattern[bytes]) -> None:
    found = [str(path.relative_to(ROOT)) for path in in_tree() if pattern.search(path.read_bytes())]
    assert found == []


def test_the_search_for_places_finds_them() -> None:
    slash = b"/"
    assert OF_THIS_MACHINE.search(slash + b"root" + slash + b".cache")
    assert OF_THIS_MACHINE.search(b"open('" + slash + b"work" + slash + b"main')")
    assert OF_A_REGISTRY.search(b"--index" + b"-url http:" + slash * 2 + b"host")


def imported(path: Path) -> Iterator[str]:
    """Give every dotted name that a file imports, or names whole in a string."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def starts_by_itself(name: str, path: Path) -> bool:
    """Tell modules that need no import: what pytest, Alembic, make or a command starts."""
    if path.name in {"__init__.py", "__main__.py", "conftest.py"} or "migrations" in path.parts:
        return True
    if path.name.startswith("test_"):
        return True
    started = (ROOT / "Makefile").read_text() + (ROOT / "pyproject.toml").read_text()
    return (
        f"{name}:" in started
        or f"-m {name}" in started
        or f" {name.replace('.', '/')}.py" in started
    )


def test_every_module_is_used() -> None:
    everything = modules(*PRODUCT, *AROUND_IT)
    users = {path: set(imported(path)) for path in everything.values()}
    dead = []
    for name, path in everything.items():
        # What only tests use is dead, except among the tests themselves.
        by_tests = name.startswith("tests.")
        used = any(
            name in names
            for user, names in users.items()
            if user != path and (by_tests or user.relative_to(ROOT).parts[0] != "tests")
        )
        if not used and not starts_by_itself(name, path):
            dead.append(name)
    assert dead == []
