"""Sections of offerings and contracts: what may be chosen, and the values acted upon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from foundation.errors import FieldViolation
from gem.marketplace.v1.contract_pb2 import ContractSection, ContractTerms

#: Fields of ContractTerms that are taken from the section of the same value.
_SINGLE = ("term", "notice", "trial", "service_level")


def group_of(section: ContractSection) -> str:
    """Give what is the same for alternatives: of one group at most one section is chosen."""
    return section.framework_section_id or section.section_id


def choice_violations(
    sections: Sequence[ContractSection], section_ids: Sequence[str]
) -> tuple[FieldViolation, ...]:
    """Say what is wrong with a choice of an offering's sections (use case 1485, first failure).

    Each required section, or one of its alternatives, has to be chosen; never two alternatives; and
    nothing that is not offered.
    """
    chosen = set(section_ids)
    found = []
    for group in dict.fromkeys(map(group_of, sections)):
        members = [section for section in sections if group_of(section) == group]
        count = sum(section.section_id in chosen for section in members)
        if count == 0 and any(section.required for section in members):
            found.append(_missing([section.section_id for section in members]))
        elif count > 1:
            found.append(_too_many([section.section_id for section in members]))
    known = {section.section_id for section in sections}
    unknown = (index for index, name in enumerate(section_ids) if name not in known)
    return (*found, *map(_unknown, unknown))


def take_values(terms: ContractTerms) -> ContractTerms:
    """Fill in the values that the chosen sections hold, and give the same terms."""
    for field in (*_SINGLE, "purposes"):
        terms.ClearField(field)  # type: ignore[arg-type]  # a name of the list above
    for section in terms.sections:
        name: str | None = section.WhichOneof("value")
        if name == "purposes":
            terms.purposes.extend(section.purposes.purposes)
        elif name is not None:
            getattr(terms, name).CopyFrom(getattr(section, name))
            # An empty message is a value too.
            getattr(terms, name).SetInParent()
    return terms


# The ids below are the provider's published ones, not something that this caller sent.


def _missing(section_ids: Sequence[str]) -> FieldViolation:
    description = f"must contain {_one_of(section_ids)}"
    return FieldViolation("section_ids", description, "section_required")


def _too_many(section_ids: Sequence[str]) -> FieldViolation:
    description = f"must contain no more than {_one_of(section_ids)}"
    return FieldViolation("section_ids", description, "section_alternatives")


def _one_of(section_ids: Iterable[str]) -> str:
    names = [f"`{section_id}`" for section_id in section_ids]
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _unknown(index: int) -> FieldViolation:
    return FieldViolation(
        f"section_ids[{index}]", "must be a section of the offering", "section_known"
    )
