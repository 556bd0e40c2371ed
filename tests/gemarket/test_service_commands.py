"""`gemarket services` and `explain-route`: registrations, steps, versions, and why of routes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gem.marketplace.v1 import contract_pb2, service_pb2
from gem.marketplace.v1 import service_lifecycle_pb2 as lifecycle
from gem.marketplace.v1 import service_registry_service_pb2 as registry
from gem.marketplace.v1 import service_search_pb2 as search
from gem.marketplace.v1 import service_version_pb2 as versions
from tests.gemarket.fake_market import FakeMarket

_REGISTER = ("services", "register", "T", "a.B@2", "h:1", "--description", "D")
_SERVICE = service_pb2.Service(service_id="s-1", state=service_pb2.SERVICE_STATE_STOPPED)


def registered(market: FakeMarket, *options: str) -> registry.RegisterServiceRequest:
    """Register a service; gives what was asked."""
    market.on("RegisterService", registry.RegisterServiceResponse(service=_SERVICE))
    said = market.good(*_REGISTER, "--accept-contract", "4", *options)
    assert said == "s-1 is stopped\n"
    (asked,) = market.asked("RegisterService", registry.RegisterServiceRequest)
    return asked


def test_every_option_of_a_registration_is_sent(market: FakeMarket) -> None:
    asked = registered(
        market, "--keyword", "fast", "--keyword", "green", "--image", "i-1",
        "--hosting", "DE/Hesse/Volt/a@volt.example", "--service-version", "1.2.3",
        "--price-micros", "2000", "--currency", "CHF",
    )  # fmt: skip
    assert (asked.interface_name, asked.interface_version, asked.endpoint) == ("a.B", 2, "h:1")
    assert asked.accepted_registration_contract_version == 4
    assert (list(asked.keywords.words), asked.image_id) == (["fast", "green"], "i-1")
    place = asked.hosting
    assert (place.country_code, place.region) == ("DE", "Hesse")
    assert (place.operator_name, place.contact_email) == ("Volt", "a@volt.example")
    price = asked.offering.price.per_call.price
    assert (price.amount_micros, price.currency_code) == (2000, "CHF")
    assert asked.service_version == "1.2.3"


def test_without_a_price_a_service_is_free_and_a_file_is_taken_as_it_is(
    market: FakeMarket,
) -> None:
    asked = registered(market)
    assert asked.offering.price.WhichOneof("model") == "free"
    assert not asked.HasField("hosting")
    section = {"section_id": "x", "title": "Größe", "required": True}
    Path("offer.json").write_text(json.dumps({"sections": [section]}, ensure_ascii=False), "utf-8")
    market.calls.clear()
    asked = registered(market, "--offering", "offer.json", "--price-micros", "9")
    expected = contract_pb2.ContractSection(section_id="x", title="Größe", required=True)
    assert asked.offering == contract_pb2.OfferingTerms(sections=[expected])


@pytest.mark.parametrize(
    ("command", "rpc", "module"),
    [
        ("stop", "StopService", registry),
        ("start", "StartService", registry),
        ("disable", "DisableService", lifecycle),
        ("enable", "EnableService", lifecycle),
        ("delete", "DeleteService", lifecycle),
        ("publish", "PublishService", registry),
        ("publish --version", "PublishServiceVersion", versions),
    ],
)
def test_each_step_names_its_service_and_shows_the_state(
    market: FakeMarket, command: str, rpc: str, module: object
) -> None:
    market.on(rpc, getattr(module, f"{rpc}Response")(service=_SERVICE))
    step, *options = command.split()
    assert market.good("services", step, "s-1", *options) == "s-1 is stopped\n"
    (shown,) = market.json("services", step, "s-1", *options, "--json")
    assert shown["state"] == "SERVICE_STATE_STOPPED"
    asked = market.asked(rpc, getattr(module, f"{rpc}Request"))
    assert {each.service_id for each in asked} == {"s-1"}
    assert len({each.request_id for each in asked}) == 2


@pytest.mark.parametrize(
    ("compatible", "words"), [(True, "is compatible"), (False, "is not compatible")]
)
def test_a_prepared_version_says_what_has_to_change(
    market: FakeMarket, compatible: bool, words: str
) -> None:
    made = versions.ServiceVersion(
        service_version="2.0",
        interface_version=3,
        compatible=compatible,
        unchanged_contract_count=5,
    )
    market.on("PrepareServiceVersion", versions.PrepareServiceVersionResponse(version=made))
    said = market.good("services", "version", "s-1", "2.0", "--endpoint", "h:2")
    assert f"version 2.0 is prepared, interface version 3 {words};" in said
    assert said.endswith("contracts that have to change first: 5\n")
    (asked,) = market.asked("PrepareServiceVersion", versions.PrepareServiceVersionRequest)
    assert (asked.endpoint, asked.HasField("offering")) == ("h:2", False)


def test_lists_in_a_search_have_commas(market: FakeMarket) -> None:
    market.on("SearchServices", search.SearchServicesResponse())
    market.good("services", "search", "fast", "--category", "a,,b", "--state", "stopped,published",
                "--relation", "offered", "--country", "DE")  # fmt: skip
    (asked,) = market.asked("SearchServices", search.SearchServicesRequest)
    assert (asked.text, list(asked.categories)) == ("fast", ["a", "b"])
    assert list(asked.states) == [3, 2]
    assert asked.relation == search.SERVICE_RELATION_OFFERED
    assert asked.hosting_country_code == "DE"
