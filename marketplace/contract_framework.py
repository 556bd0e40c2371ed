"""The contract framework and what offerings have to have of it (use cases 1482, 1470, 1624)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from google.protobuf import json_format
from google.protobuf.message import Message

from foundation.errors import FieldViolation, MarketError
from foundation.validation import violations
from gem.marketplace.v1.contract_framework_pb2 import (
    ContractFramework,
    FrameworkSection,
    SectionKind,
)
from gem.marketplace.v1.contract_pb2 import ContractSection, OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_section import group_of

#: Longest terms of an offering or contract, serialised.
TERMS_MAX_BYTES = 1_000_000
_SHIPPED = "contract_framework_1.json"
_TEXT = SectionKind.SECTION_KIND_TEXT
_PURPOSES = SectionKind.SECTION_KIND_PURPOSES
#: The name of the value that a section of a kind has; text has none.
_VALUE_OF = {
    SectionKind.SECTION_KIND_TERM: "term",
    SectionKind.SECTION_KIND_NOTICE: "notice",
    SectionKind.SECTION_KIND_TRIAL: "trial",
    SectionKind.SECTION_KIND_SERVICE_LEVEL: "service_level",
    _PURPOSES: "purposes",
}


@cache
def shipped_framework() -> ContractFramework:
    """Give version 1, which comes with the marketplace as a file in protobuf's JSON."""
    text = files(__package__).joinpath(_SHIPPED).read_text(encoding="utf-8")
    framework = json_format.Parse(text, ContractFramework())
    assert not violations(framework), "the framework that is shipped is valid"
    check_framework(framework)
    return framework


def sections_of(framework: ContractFramework) -> Iterator[FrameworkSection]:
    """Give all sections of a framework, in order."""
    for module in framework.modules:
        yield from module.sections


def check_framework(framework: ContractFramework) -> None:
    """Refuse a framework that is ambiguous: two sections or modules of one id or value.

    Raises:
        MarketError: REQUEST_INVALID.
    """
    sections = list(sections_of(framework))
    single = [section.kind for section in sections if section.kind not in (_TEXT, _PURPOSES)]
    checks: dict[str, list[str] | list[SectionKind.ValueType]] = {
        "section_id": [section.section_id for section in sections],
        "module_id": [module.module_id for module in framework.modules],
        "kind": single,
    }
    found = [
        FieldViolation("framework.modules", f"no two may have the same {name}", f"{name}_unique")
        for name, values in checks.items()
        if len(set(values)) < len(values)
    ]
    if found:
        raise _incomplete("The framework is ambiguous: nothing was published.", found)


def check_offering(
    terms: OfferingTerms, newest: ContractFramework, field: str = "terms", *, plain: bool = False
) -> None:
    """Refuse an offering that is not complete by the newest framework.

    Where `plain` allows it, one without framework, as before there was any, is text only.

    Raises:
        MarketError: REQUEST_INVALID, naming each required section that is missing.
    """
    found = list(size_violations(terms, field))
    if terms.framework_version == 0 and plain:
        found += _plain_violations(terms, field)
    elif terms.framework_version == newest.version:
        found += framework_violations(list(terms.sections), newest, f"{field}.sections")
    else:
        description = f"must be {newest.version}, the newest version of the contract framework"
        found.append(FieldViolation(f"{field}.framework_version", description, "framework_newest"))
    if found:
        raise _incomplete("The offering is incomplete: nothing was stored.", found)


def size_violations(terms: Message, field: str) -> Iterator[FieldViolation]:
    """Say whether terms are too long to be handed out in one message with others."""
    if terms.ByteSize() > TERMS_MAX_BYTES:
        yield FieldViolation(field, f"must not exceed {TERMS_MAX_BYTES} bytes", "terms_size")


def framework_violations(
    sections: list[ContractSection], framework: ContractFramework, field: str
) -> Iterator[FieldViolation]:
    """Say what sections lack of a framework, or have that it does not know.

    A section that the framework requires may have alternatives, all of them required.
    """
    known = {section.section_id: section for section in sections_of(framework)}
    required = {
        name: [section.required for section in sections if group_of(section) == name]
        for name in known
    }
    for name, wanted in known.items():
        if wanted.required and not all(required[name] or [False]):
            yield FieldViolation(field, f"must contain `{name}`, required", "section_required")
        elif len(set(required[name])) > 1:
            description = f"alternatives of `{name}` must all be required, or none"
            yield FieldViolation(field, description, "section_alternatives")
    for index, section in enumerate(sections):
        found = known.get(section.framework_section_id)
        place = f"{field}[{index}]"
        if found is None:
            description = "must be a section of the framework"
            yield FieldViolation(f"{place}.framework_section_id", description, "section_known")
        elif section.WhichOneof("value") != _VALUE_OF.get(found.kind):
            value = _VALUE_OF.get(found.kind, "no value")
            yield FieldViolation(f"{place}.value", f"must have {value}", "section_value")


def _plain_violations(terms: OfferingTerms, field: str) -> Iterator[FieldViolation]:
    for index, section in enumerate(terms.sections):
        if section.framework_section_id or section.WhichOneof("value") is not None:
            description = "must be text only where framework_version is zero"
            yield FieldViolation(f"{field}.sections[{index}]", description, "framework_version")


def _incomplete(text: str, found: list[FieldViolation]) -> MarketError:
    return MarketError(ErrorReason.ERROR_REASON_REQUEST_INVALID, text, violations=tuple(found))
