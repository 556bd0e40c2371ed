"""Options of `gemarket contracts`, and what is asked of the market for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gem.common.v1 import money_pb2
from gem.common.v1.paging_pb2 import PageInfo
from gem.marketplace.v1 import contract_amendment_pb2 as amendments
from gem.marketplace.v1 import contract_framework_pb2 as frameworks
from gem.marketplace.v1 import contract_pb2, contract_search_pb2, price_pb2
from gem.marketplace.v1 import contract_service_pb2 as wire
from gemarket import contracts

ACTIVE = contract_pb2.CONTRACT_STATE_ACTIVE
PENDING = contract_pb2.CONTRACT_STATE_PENDING


def euros(micros: int) -> money_pb2.Money:
    """Give an amount."""
    return money_pb2.Money(amount_micros=micros, currency_code="EUR")


_ENERGY = price_pb2.UnitField(field_path="session.energy_wh", unit_name="Wh")
_PRICES: list[tuple[dict[str, Any], str]] = [
    ({"free": {}}, "free"),
    ({"per_call": {"price": euros(2000)}}, "0.002000 EUR a call"),
    ({"per_month": {"price": euros(9_000_000)}}, "9.000000 EUR a month"),
    (
        {"per_unit": {"unit": _ENERGY, "price": euros(100), "per_unit_count": 10}},
        "0.000100 EUR for 10 Wh",
    ),
    (
        {
            "tiered": {
                "per_count": 1,
                "tiers": [
                    price_pb2.PriceTier(from_count=0, price=euros(20_000)),
                    price_pb2.PriceTier(from_count=500, price=euros(10_000)),
                ],
            }
        },
        "from 0 0.020000 EUR, from 500 0.010000 EUR; for 1 calls",
    ),
]


@pytest.mark.parametrize(("model", "text"), _PRICES, ids=lambda value: str(value)[:20])
def test_every_price_is_said_in_a_line(model: dict[str, Any], text: str) -> None:
    assert contracts.price_text(contract_pb2.PriceModel(**model)) == text


async def test_the_required_sections_of_an_offering_are_found_among_all_of_its_service() -> None:
    def answer() -> frameworks.ListOfferingsResponse:
        made = frameworks.ListOfferingsResponse()
        for offering_id, names in (("o-1", "abc"), ("o-2", "de")):
            offering = made.offerings.add(offering_id=offering_id)
            for name in names:
                offering.terms.sections.add(section_id=name, required=name != "b")
        return made

    stub: Any = FakeService(answer(), answer())
    assert await contracts.required_sections(stub, "s-1", "o-1") == ["a", "c"]
    with pytest.raises(ValueError, match="service s-1 does not offer o-3"):
        await contracts.required_sections(stub, "s-1", "o-3")


class FakeService:
    """Stands for the stub: notes each request and answers with what it is given, in turn."""

    def __init__(self, *answers: Message) -> None:
        self.requests: list[tuple[str, Any]] = []
        self._answers = list(answers)

    def __getattr__(self, rpc: str) -> Any:
        async def ask(request: Message, timeout: float) -> Message:  # noqa: ASYNC109  # as stubs have it
            assert timeout > 0
            copy = type(request)()
            copy.CopyFrom(request)
            self.requests.append((rpc, copy))
            return self._answers.pop(0)

        return ask


def fake(*answers: Message) -> Any:
    """Give a stub that answers so."""
    return FakeService(*answers)


def test_options_that_are_not_given_are_no_conditions() -> None:
    assert contracts.criteria_of() == contract_search_pb2.ContractCriteria()


def test_every_option_becomes_a_condition() -> None:
    made = contracts.criteria_of(
        role="provider",
        party="volt",
        partner="evsp",
        service="s-1",
        interface="a.S",
        state="active,pending",
        valid_at="2026-02-01T08:00",
        ends_within=30,
        pending=True,
    )
    assert made.role == contract_search_pb2.CONTRACT_ROLE_PROVIDER
    assert (made.party_id, made.partner_id, made.service_id) == ("volt", "evsp", "s-1")
    assert (made.interface_name, list(made.states)) == ("a.S", [ACTIVE, PENDING])
    assert made.valid_at_time.ToJsonString() == "2026-02-01T08:00:00Z"
    assert (made.ends_within_days, made.request_pending) == (30, True)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("role", "buyer", "there is no role 'buyer'; there are: requester, provider"),
        ("state", "unspecified", "there is no state 'unspecified'"),
        ("state", "active,ACTIVE", "there is no state 'ACTIVE'"),
        ("valid_at", "2026-13-01", "is no time of ISO 8601"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(option: str, value: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        contracts.criteria_of(**{option: value})  # type: ignore[arg-type]  # an option by its name


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-02-01", "2026-02-01T00:00:00Z"),
        ("2026-02-01T08:00+02:00", "2026-02-01T06:00:00Z"),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text: str, instant: str) -> None:
    made = contracts.time_of(text)
    assert made is not None
    assert made.ToJsonString() == instant
    assert contracts.time_of("") is None


def test_names_are_shown_in_words() -> None:
    kinds = contract_pb2.ContractEventKind
    number = contract_pb2.CONTRACT_EVENT_KIND_NOTICE_GIVEN
    assert contracts.name_of(kinds, number, "CONTRACT_EVENT_KIND") == "notice given"
    assert contracts.name_of(kinds, 0, "CONTRACT_EVENT_KIND") == ""


def test_terms_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "terms.json"
    section = contract_pb2.ContractSection(section_id="price", title="Price", text="Free.")
    terms = amendments.ProposedTerms(sections=[section])
    file.write_text(json_format.MessageToJson(terms))
    assert contracts.message_of(file, amendments.ProposedTerms) == terms
    file.write_text('{"sections": 1}')
    with pytest.raises(ValueError, match=r"terms\.json"):
        contracts.message_of(file, amendments.ProposedTerms)


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1]), (3, [3, 1]), (5, [5, 3, 1])])
async def test_a_search_asks_for_no_more_than_is_shown(limit: int, sizes: list[int]) -> None:
    def page(*names: str, token: str = "") -> Message:
        found = [contract_pb2.Contract(contract_id=name) for name in names]
        info = PageInfo(next_page_token=token)
        return contract_search_pb2.SearchContractsResponse(contracts=found, page=info)

    pages = [page("a", "b", token="1"), page("c", "d", token="2"), page("e")]
    if limit == 1:
        pages = [page("a", token="1")]
    stub = fake(*pages)
    criteria = contract_search_pb2.ContractCriteria(partner_id="volt")
    found = [each.contract_id async for each in contracts.search(stub, criteria, limit)]
    assert found[:limit] == list("abcde")[:limit]
    assert [request.page.page_size for _, request in stub.requests] == sizes
    assert {request.criteria.partner_id for _, request in stub.requests} == {"volt"}


async def test_offerings_are_read_to_the_last_page() -> None:
    def page(name: str, token: str) -> Message:
        offering = contract_pb2.Offering(offering_id=name)
        info = PageInfo(next_page_token=token)
        return frameworks.ListOfferingsResponse(offerings=[offering], page=info)

    stub = fake(page("a", "1"), page("b", ""))
    found = [each.offering_id async for each in contracts.offerings(stub, "s-1")]
    assert found == ["a", "b"]
    assert [request.page.page_token for _, request in stub.requests] == ["", "1"]


@pytest.mark.parametrize(
    ("step", "rpc", "answer"),
    [
        ("confirm", "AcceptContractAmendment", amendments.AcceptContractAmendmentResponse()),
        ("reject", "RejectContractAmendment", amendments.RejectContractAmendmentResponse()),
        ("revoke", "RevokeContractAmendment", amendments.RevokeContractAmendmentResponse()),
    ],
)
async def test_each_decision_is_its_own_command(step: str, rpc: str, answer: Message) -> None:
    stub = fake(answer)
    await contracts.decide(stub, step, "a-1", "Fine.")
    ((called, request),) = stub.requests
    assert (called, request.amendment_id) == (rpc, "a-1")
    assert request.request_id
    assert getattr(request, "note", "Fine.") == "Fine."


@pytest.mark.parametrize(
    ("step", "rpc"),
    [
        (contracts.suspend, "SuspendContract"),
        (contracts.resume, "ResumeContract"),
        (contracts.terminate, "TerminateContract"),
    ],
)
async def test_steps_of_one_party_name_the_contract(step: Any, rpc: str) -> None:
    answer = getattr(wire, f"{rpc}Response")(contract=contract_pb2.Contract(contract_id="c-1"))
    stub = fake(answer)
    assert (await step(stub, "c-1")).contract_id == "c-1"
    ((called, request),) = stub.requests
    assert (called, request.contract_id) == (rpc, "c-1")


async def test_what_is_asked_of_the_other_party_has_a_reason_and_a_time() -> None:
    stub = fake(
        amendments.RequestContractTerminationResponse(),
        amendments.RequestContractProlongationResponse(),
        amendments.RequestServiceAdditionResponse(),
    )
    at = "2026-02-01"
    await contracts.ask_for_end(stub, "c-1", "Why.", at)
    await contracts.ask_for_longer(stub, "c-1", "Why.", at)
    await contracts.ask_for_service(stub, "c-1", "Why.", "o-1", ["price"])
    requests = [request for _, request in stub.requests]
    assert [request.reason for request in requests] == ["Why."] * 3
    assert requests[0].effective_time == contracts.time_of(at)
    assert requests[1].end_time == contracts.time_of(at)
    assert requests[2].addition.offering_id == "o-1"
    assert len({request.request_id for request in requests}) == 3


async def test_an_acceptance_says_so_and_may_start_later() -> None:
    stub = fake(wire.CreateContractResponse(), wire.CreateContractResponse())
    await contracts.accept(stub, "o-1", ["price"], "2026-02-01")
    await contracts.accept(stub, "o-1", [], "")
    (later, now) = (request for _, request in stub.requests)
    assert later.accepted
    assert later.HasField("start_time")
    assert not now.HasField("start_time")
