"""The contract framework and offerings made of it (use cases 1482, 1470, 1624)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from foundation.errors import MarketError
from foundation.validation import violations
from gem.marketplace.v1.contract_framework_pb2 import ContractFramework, SectionKind
from gem.marketplace.v1.contract_pb2 import OfferingTerms
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract_framework import (
    TERMS_MAX_BYTES,
    check_framework,
    check_offering,
    sections_of,
    shipped_framework,
)
from marketplace.contract_section import choice_violations
from tests.contracts import deal, framework_terms, offer, price, section
from tests.control_plane import BUSINESS, TECHNICAL, TERMS, ControlPlane, fields_of
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
NOT_ALLOWED = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
REQUIRED = [each.section_id for each in sections_of(shipped_framework()) if each.required]
_KEEP = ("parties", "term", "notice")


def _checked(terms: dict[str, Any], **fields: Any) -> MarketError:
    with pytest.raises(MarketError) as caught:
        check_offering(OfferingTerms(**terms), shipped_framework(), **fields)
    assert caught.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    return caught.value


def _next_framework(**fields: Any) -> dict[str, Any]:
    values = MessageToDict(shipped_framework(), preserving_proto_field_name=True)
    return {**values, "version": 0, **fields}


@pytest.mark.usecase(1482)
def test_the_shipped_framework_has_every_module_and_is_valid() -> None:
    framework = shipped_framework()
    assert not violations(framework)
    assert framework.version == 1
    found = {each.section_id: each for each in sections_of(framework)}
    optional = {name for name, each in found.items() if not each.required}
    assert optional == {"trial", "support", "penalties", "v2g-consent"}
    kinds = {SectionKind.Name(each.kind) for each in found.values()}
    assert len(kinds) == len(SectionKind.keys()) - 1


@pytest.mark.usecase(1470, 1624)
@pytest.mark.parametrize("without", [("term",), ("liability", "notice"), tuple(REQUIRED)])
def test_every_required_section_that_is_missing_is_named(without: tuple[str, ...]) -> None:
    spare = section("support", required=False)
    error = _checked(framework_terms(without=without, extra=(spare,)))
    named = [each.description.split("`")[1] for each in error.violations]
    assert sorted(named) == sorted(without)
    assert {each.rule for each in error.violations} == {"section_required"}


@pytest.mark.parametrize(
    ("extra", "rule"),
    [
        (section("support", of="no-such"), "section_known"),
        (section("support", required=False, term={}), "section_value"),
        (section("trial", required=False), "section_value"),
        (section("liability-2", of="liability", required=False), "section_required"),
    ],
)
def test_a_section_is_one_of_the_framework_with_its_value(extra: Any, rule: str) -> None:
    error = _checked(framework_terms(extra=(extra,)))
    assert [each.rule for each in error.violations] == [rule]


def test_alternatives_are_all_required_or_none() -> None:
    two = (section("support", required=False), section("support-2", of="support"))
    error = _checked(framework_terms(extra=two))
    assert [each.rule for each in error.violations] == ["section_alternatives"]


def test_an_offering_is_of_the_newest_framework_or_plain_text() -> None:
    for version in (0, 2):
        error = _checked({**framework_terms(), "framework_version": version})
        assert fields_of(error) == ["terms.framework_version"]
    error = _checked({**framework_terms(), "framework_version": 0}, plain=True)
    assert {each.rule for each in error.violations} == {"framework_version"}
    check_offering(OfferingTerms(**TERMS), shipped_framework(), plain=True)


def test_terms_have_a_largest_size() -> None:
    long = [section(f"s-{number}", of="support") for number in range(50)]
    for each in long:
        each["text"] = "x" * (TERMS_MAX_BYTES // 49)
    error = _checked(framework_terms(extra=tuple(long)))
    assert [each.rule for each in error.violations] == ["terms_size"]


def test_of_alternatives_one_is_chosen() -> None:
    both = (section("phone", of="support"), section("mail", of="support"))
    offered = OfferingTerms(**framework_terms(extra=both)).sections
    known = [each.section_id for each in offered]
    for chosen, rules in (
        ([*REQUIRED, "phone"], []),
        ([*REQUIRED, "mail"], []),
        (known, ["section_alternatives"]),
        (REQUIRED, ["section_required"]),
        ([*REQUIRED, "mail", "fax"], ["section_known"]),
    ):
        assert [each.rule for each in choice_violations(offered, chosen)] == rules


@pytest.mark.parametrize("name", ["section_id", "module_id", "kind"])
def test_an_ambiguous_framework_is_refused(name: str) -> None:
    framework = ContractFramework()
    framework.CopyFrom(shipped_framework())
    (first, second, *_) = framework.modules
    if name == "module_id":
        second.module_id = first.module_id
    elif name == "section_id":
        second.sections[0].section_id = first.sections[0].section_id
    else:
        second.sections[1].kind = second.sections[0].kind
    with pytest.raises(MarketError) as caught:
        check_framework(framework)
    assert [each.rule for each in caught.value.violations] == [f"{name}_unique"]


@pytest.mark.usecase(1482)
async def test_the_framework_is_there_in_every_version_for_everybody(plane: ControlPlane) -> None:
    await plane.partner("volt")
    get, publish = (
        "ContractService/GetContractFramework",
        "ContractService/PublishContractFramework",
    )
    for who in ("volt", BUSINESS, TECHNICAL):
        found = await plane.ask(who, get)
        assert (found.framework, found.newest_version) == (shipped_framework(), 1)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask("volt", get, version=2)
    for who in ("volt", TECHNICAL):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await plane.ask(who, publish, framework=_next_framework())
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await plane.ask(BUSINESS, publish, framework=_next_framework(version=4))
    made = (await plane.ask(BUSINESS, publish, framework=_next_framework(title="Two"))).framework
    assert (made.version, made.title, made.HasField("publish_time")) == (2, "Two", True)
    assert (await plane.ask("volt", get)).framework == made
    assert (await plane.ask("volt", get, version=1)).framework == shipped_framework()


@pytest.mark.usecase(1470)
async def test_an_offering_of_the_framework_can_be_accepted(plane: ControlPlane) -> None:
    made = await deal(plane)
    terms = made.made.terms
    assert (terms.framework_version, terms.offering_revision) == (1, 1)
    assert terms.service_level.availability_permille == 990
    assert list(terms.purposes) == ["billing", "support"]
    assert terms.HasField("term")
    assert terms.HasField("notice")
    assert not terms.HasField("trial")


@pytest.mark.usecase(1470)
async def test_only_its_provider_offers_a_service(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    service.provider_id = "evsp"
    with pytest.raises(MarketError, check=NOT_FOUND):
        await offer(plane, service, framework_terms())
    service.provider_id = BUSINESS
    with pytest.raises(MarketError, check=FORBIDDEN):
        await offer(plane, service, framework_terms())


@pytest.mark.usecase(1470)
async def test_a_registration_can_bring_an_offering_of_the_framework(plane: ControlPlane) -> None:
    await plane.market("volt")
    with pytest.raises(MarketError) as caught:
        await plane.service("volt", offering=framework_terms(without=("term",)))
    assert fields_of(caught.value) == ["offering.sections"]
    made = await plane.service("volt", offering=framework_terms())
    assert made.offerings[0].terms.framework_version == 1


@pytest.mark.usecase(1624)
async def test_a_changed_offering_is_a_new_revision_that_touches_no_contract(
    plane: ControlPlane,
) -> None:
    made = await deal(plane)
    change = "ContractService/ChangeOffering"
    bad, fine = framework_terms(without=("price",)), framework_terms(micros=1)
    with pytest.raises(MarketError) as caught:
        await plane.ask("volt", change, offering_id=made.made.offering_id, terms=bad)
    assert [each.rule for each in caught.value.violations] == ["section_required"]
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.ask("evsp", change, offering_id=made.made.offering_id, terms=fine)
    terms = framework_terms(micros=30_000)
    answer = await plane.ask("volt", change, offering_id=made.made.offering_id, terms=terms)
    offering = answer.offering
    assert (offering.revision, offering.previous_offering_id) == (2, made.made.offering_id)
    assert (await made.contract()) == made.made
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.contract("evsp", made.service, offering_id=made.made.offering_id)
    await made.ask("evsp", "TerminateContract")
    again = await plane.contract(
        "evsp", made.service, offering_id=offering.offering_id, section_ids=REQUIRED
    )
    assert again.terms.offering_revision == 2
    assert again.terms.price.per_call.price.amount_micros == 30_000


@pytest.mark.usecase(1624)
async def test_of_steps_with_an_offering_at_once_one_wins(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    offering = await offer(plane, service, framework_terms())
    one = {"offering_id": offering.offering_id}
    results = await asyncio.gather(
        plane.ask("volt", "ContractService/ChangeOffering", **one, terms=framework_terms(micros=1)),
        plane.ask("volt", "ContractService/ChangeOffering", **one, terms=framework_terms(micros=2)),
        plane.ask("volt", "ContractService/WithdrawOffering", **one),
        return_exceptions=True,
    )
    refused = [each for each in results if isinstance(each, MarketError)]
    assert [each.reason for each in refused] == [ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED] * 2


@pytest.mark.usecase(1624)
async def test_a_withdrawn_offering_is_shown_to_its_provider_only(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    offering = await offer(plane, service, framework_terms())
    await plane.ask("volt", "ContractService/WithdrawOffering", offering_id=offering.offering_id)
    fields = {"service_id": service.service_id, "withdrawn_too": True}
    method = "ContractService/ListOfferings"
    counts = [
        len((await plane.ask(who, method, **fields)).offerings)
        for who in ("volt", "evsp", BUSINESS)
    ]
    assert counts == [2, 1, 2]
    with pytest.raises(MarketError, check=NOT_FOUND):
        await plane.contract("evsp", service, offering_id=offering.offering_id)


async def test_a_service_has_no_more_than_twenty_offerings(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    for number in range(19):
        await offer(plane, service, {**framework_terms(), "price": price(number)})
    with pytest.raises(MarketError, check=NOT_ALLOWED):
        await offer(plane, service, framework_terms())
