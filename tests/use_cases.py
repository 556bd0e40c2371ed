"""Which tests show which use case to hold: `docs/use-cases.md`, written by `make use-cases`.

The marks `usecase` are read from the sources, without importing or running a test.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/use-cases.md"
_NAMES = ROOT / "tests/use_cases.csv"
_HEAD = """\
# Use cases and the tests that show them to hold

The use cases of the requirements document, by domain. A test that carries the mark `usecase` with
an id shows that use case, or one of its failure outcomes, to hold. This page is written from the
marks by `make use-cases`; a test says when it is out of date.
"""


@dataclass(frozen=True)
class UseCase:
    """One use case of the requirements document."""

    use_case_id: int
    title: str
    domain: str


def known(file: Path = _NAMES) -> list[UseCase]:
    """Read the use cases, by domain and in the order of the document."""
    with file.open(newline="") as rows:
        return [
            UseCase(int(row["id"]), row["title"], row["domain"]) for row in csv.DictReader(rows)
        ]


def marks(folder: Path = ROOT / "tests") -> dict[int, Counter[str]]:
    """Count the tests of each use case by the file they are in."""
    found: dict[int, Counter[str]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        name = file.relative_to(folder.parent).as_posix()
        for ids in marked(file.read_text()):
            for use_case_id in ids:
                found.setdefault(use_case_id, Counter())[name] += 1
    return found


def marked(source: str) -> Iterator[set[int]]:
    """Give the ids that each test of a module is marked with, also by its module or class."""
    yield from _tests(ast.parse(source), set())


def _tests(scope: ast.Module | ast.ClassDef, outer: set[int]) -> Iterator[set[int]]:
    own = outer | _ids(_assigned_marks(scope))
    for node in scope.body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node, own | _ids(node.decorator_list))
        elif _is_test(node):
            yield own | _ids(node.decorator_list)


def _is_test(node: ast.stmt) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, functions) and node.name.startswith("test_")


def _assigned_marks(scope: ast.Module | ast.ClassDef) -> Iterator[ast.expr]:
    """Give what is assigned to `pytestmark`."""
    for node in scope.body:
        if isinstance(node, ast.Assign):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "pytestmark" in names:
                yield node.value


def _ids(expressions: Iterable[ast.expr]) -> set[int]:
    """Give the ids of every call of `….usecase(…)` within expressions, parameters among them."""
    return {
        argument.value
        for expression in expressions
        for call in ast.walk(expression)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "usecase"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, int)
    }


def document(use_cases: Iterable[UseCase], found: Mapping[int, Counter[str]]) -> str:
    """Write the page."""
    domains: dict[str, list[UseCase]] = {}
    for use_case in use_cases:
        domains.setdefault(use_case.domain, []).append(use_case)
    lines = [_HEAD]
    for domain, its in domains.items():
        lines.append(f"- {count(domain, its, found)}")
    for domain, its in domains.items():
        lines += ["", f"## {count(domain, its, found)}", ""]
        lines += ["| id | use case | tests |", "|---|---|---|"]
        for each in its:
            tests = found.get(each.use_case_id, Counter())
            cell = ", ".join(f"`{name}` ({number})" for name, number in sorted(tests.items()))
            lines.append(f"| {each.use_case_id} | {each.title} | {cell or 'none yet'} |")
    return "\n".join(lines) + "\n"


def count(domain: str, its: Iterable[UseCase], found: Mapping[int, object]) -> str:
    """Say how many use cases of a domain have tests, for instance `marketplace 23 of 47`."""
    shown = [each.use_case_id in found for each in its]
    return f"{domain} {sum(shown)} of {len(shown)}"


def main() -> int:
    """Write the page."""
    DOCUMENT.write_text(document(known(), marks()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
