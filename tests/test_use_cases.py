"""`docs/use-cases.md` is what the marks of the tests say."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.use_cases import DOCUMENT, UseCase, document, known, marked, marks

_MODULE = """
import pytest
pytestmark = [pytest.mark.fault, pytest.mark.usecase(1)]

@pytest.mark.usecase(2, 3)
async def test_one(): ...

@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.usecase(4)), 2])
def test_two(a): ...

@pytest.mark.usecase(5)
class TestSeveral:
    def test_three(self): ...
    def helper(self): ...

@pytest.mark.usecase(6)
def not_a_test(): ...
"""


def test_the_page_is_what_the_marks_say() -> None:
    assert DOCUMENT.read_text() == document(known(), marks()), "run `make use-cases`"


def test_every_mark_names_a_use_case_of_the_document() -> None:
    assert marks().keys() - {each.use_case_id for each in known()} == set()


def test_all_use_cases_are_known_once() -> None:
    ids = [each.use_case_id for each in known()]
    assert len(ids) == len(set(ids)) == 92
    domains = Counter(each.domain for each in known())
    expected = {"marketplace": 47, "charging": 7, "driving": 20, "energy": 9, "roaming": 9}
    assert domains == expected


def test_marks_of_modules_classes_and_parameters_count() -> None:
    assert list(marked(_MODULE)) == [{1, 2, 3}, {1, 4}, {1, 5}]


@pytest.mark.parametrize(("tested", "line"), [({}, "0 of 1"), ({7: Counter(a=2)}, "1 of 1")])
def test_the_page_counts_what_has_tests(tested: dict[int, Counter[str]], line: str) -> None:
    page = document([UseCase(7, "Search", "charging")], tested)
    assert f"- charging {line}\n" in page
    assert ("`a` (2)" in page) is bool(tested)
