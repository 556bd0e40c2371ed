"""What may be chosen of an offering's sections, and which of their values hold, by properties."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gem.marketplace.v1.contract_pb2 import ContractSection, ContractTerms
from marketplace.contract_section import choice_violations, group_of, take_values

_NAMES = [f"s{number}" for number in range(6)]
#: The values that sections may hold; the first of each pair is the field's name in the terms.
_VALUES: tuple[tuple[str, Any], ...] = (
    ("term", {"duration_days": 30}),
    ("notice", {"notice_days": 7}),
    ("notice", {}),
    ("trial", {"trial_days": 3, "outcome": 1}),
    ("service_level", {"availability_permille": 999}),
    ("purposes", {"purposes": ["billing"]}),
)


def _section(name: str, group: str = "", **fields: Any) -> ContractSection:
    values = {"title": name, "text": "Text.", **fields}
    return ContractSection(section_id=name, framework_section_id=group, **values)


@st.composite
def offered(draw: st.DrawFn) -> list[ContractSection]:
    """Give sections of which some are alternatives to each other."""
    names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=6))
    groups = st.sampled_from(["", "term", "price"])
    return [_section(name, draw(groups), required=draw(st.booleans())) for name in names]


choices = st.lists(st.sampled_from([*_NAMES, "no-such"]), unique=True, max_size=7)


def _allowed(sections: list[ContractSection], chosen: list[str]) -> bool:
    """Say whether a choice is one, in the words of use case 1485."""
    known = {section.section_id for section in sections}
    counts = Counter(group_of(each) for each in sections if each.section_id in chosen)
    required = {group_of(each) for each in sections if each.required}
    return set(chosen) <= known and max(counts.values(), default=0) <= 1 and required <= set(counts)


@given(offered(), choices)
def test_a_choice_is_refused_exactly_where_it_is_none(
    sections: list[ContractSection], chosen: list[str]
) -> None:
    assert (choice_violations(sections, chosen) == ()) == _allowed(sections, chosen)


@given(offered(), choices, st.randoms())
def test_the_order_of_a_choice_does_not_matter(
    sections: list[ContractSection], chosen: list[str], dice: Any
) -> None:
    known = [name for name in chosen if name != "no-such"]
    shuffled = dice.sample(known, len(known))
    found = choice_violations(sections, known), choice_violations(sections, shuffled)
    assert Counter(each.rule for each in found[0]) == Counter(each.rule for each in found[1])


@given(offered(), choices)
def test_a_refusal_names_what_is_on_offer_and_never_what_the_caller_sent(
    sections: list[ContractSection], chosen: list[str]
) -> None:
    own = {section.section_id for section in sections}
    for violation in choice_violations(sections, chosen):
        assert "no-such" not in violation.description
        named = {name for name in _NAMES if f"`{name}`" in violation.description}
        assert named <= own
        if violation.rule == "section_known":
            index = int(violation.field.removeprefix("section_ids[").removesuffix("]"))
            assert chosen[index] not in own
        else:
            assert named


def test_a_required_section_is_filled_by_any_one_of_its_alternatives() -> None:
    sections = [
        _section("short", "term", required=True),
        _section("long", "term"),
        _section("liability", required=True),
    ]
    for chosen in (["short", "liability"], ["long", "liability"]):
        assert choice_violations(sections, chosen) == ()
    for chosen, rules in (
        (["liability"], ["section_required"]),
        (["short", "long", "liability"], ["section_alternatives"]),
        (["short", "Liability"], ["section_required", "section_known"]),
    ):
        assert [each.rule for each in choice_violations(sections, chosen)] == rules


@st.composite
def valued(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Give values of sections, each field once but for purposes."""
    found = draw(st.lists(st.sampled_from(_VALUES), max_size=6))
    seen: dict[str, Any] = {name: value for name, value in found if name != "purposes"}
    many = [(name, value) for name, value in found if name == "purposes"]
    return [*seen.items(), *many]


@given(valued(), valued())
def test_terms_hold_the_values_of_their_sections_and_nothing_of_before(
    before: list[tuple[str, Any]], now: list[tuple[str, Any]]
) -> None:
    def sections(values: list[tuple[str, Any]]) -> list[ContractSection]:
        return [_section(f"v{n}", **{name: value}) for n, (name, value) in enumerate(values)]

    terms = take_values(ContractTerms(sections=sections(before), interface_name="a.S"))
    del terms.sections[:]
    terms.sections.extend(sections(now))
    assert take_values(terms) is terms
    single = {name: value for name, value in now if name != "purposes"}
    for name in ("term", "notice", "trial", "service_level"):
        assert terms.HasField(name) == (name in single)
    expected = ContractTerms(sections=sections(now), interface_name="a.S", **single)
    expected.purposes.extend(["billing"] * sum(name == "purposes" for name, _ in now))
    assert terms == expected
    again = ContractTerms()
    again.CopyFrom(terms)
    assert take_values(again) == terms
