"""`gemarket contracts` against a running market, as both parties use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from typer.testing import Result

from gem.marketplace.v1 import contract_amendment_pb2, contract_framework_pb2
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gemarket.administration import new_request_id
from tests.contracts import framework_terms
from tests.end_to_end.test_command_line_on_a_market import run
from tests.end_to_end.whole_market import Party, WholeMarket

_ENDPOINT = "127.0.0.1:9"


class Desk:
    """The command line of two parties."""

    def __init__(self, whole: WholeMarket, requester: Party, provider: Party) -> None:
        self.whole = whole
        self.requester = requester
        self.provider = provider
        self.service_id = ""

    async def run(self, party: Party, *arguments: str) -> Result:
        """Run a command as a party."""
        return await run(self.whole, "contracts", *arguments, "--as", party.partner_id)

    async def read(self, party: Party, *arguments: str) -> Any:
        """Run a command as a party and give what it prints for machines."""
        result = await self.run(party, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def offer(self, **fields: Any) -> str:
        """Offer the service by the framework; gives the offering's id."""
        stub: Any = ContractServiceStub(self.provider.core.channel)
        request = contract_framework_pb2.CreateOfferingRequest(
            request_id=new_request_id(),
            service_id=self.service_id,
            terms=framework_terms(**fields),
        )
        offering_id: str = (await stub.CreateOffering(request, timeout=10)).offering.offering_id
        return offering_id


@pytest.fixture
async def desk(whole: WholeMarket) -> Desk:
    """Write `endpoints.json` with a requester and a provider."""
    requester, provider = await whole.requester(), await whole.operator()
    known = {party.partner_id: party.identity for party in (requester, provider)}
    market = whole.market
    market.endpoints(known, {provider.partner_id: _ENDPOINT}).write(market.layout.endpoints)
    made = Desk(whole, requester, provider)
    made.service_id = await whole.offer(provider, _ENDPOINT)
    return made


def chosen() -> list[str]:
    """Give the options that choose every section."""
    names = [each["section_id"] for each in framework_terms()["sections"]]
    return [word for name in names for word in ("--section", name)]


@pytest.mark.usecase(1482)
async def test_the_framework_is_shown_as_a_table_and_as_json(desk: Desk) -> None:
    shown = await desk.run(desk.requester, "framework")
    assert shown.exit_code == 0, shown.output
    assert "Service contract framework, version 1" in shown.stdout
    assert "service-level" in shown.stdout
    found = await desk.read(desk.requester, "framework", "--version", "1")
    assert len(found["modules"]) == 6
    missing = await desk.run(desk.requester, "framework", "--version", "99")
    assert missing.exit_code == 1
    assert "NOT_FOUND" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("search", "--state", "asleep"), "there is no state 'asleep'; there are: active"),
        (("search", "--role", "buyer"), "there are: requester, provider"),
        (("search", "--valid-at", "soon"), "is no time of ISO 8601"),
        (("change", "c", "--reason", "r"), "give one of --terms, --until and --offering"),
        (("change", "c", "--reason", "r", "--terms", "/no/such/file"), "No such file"),
    ],
)
async def test_options_that_make_no_sense_are_refused_in_words(
    desk: Desk, arguments: tuple[str, ...], text: str
) -> None:
    result = await desk.run(desk.requester, *arguments)
    assert result.exit_code == 2
    assert text in result.stderr


@pytest.mark.usecase(1485, 1245, 1479, 1490, 1246, 1247, 1480, 1481)
async def test_a_contract_from_acceptance_to_its_end(desk: Desk, tmp_path: Path) -> None:
    requester, provider = desk.requester, desk.provider
    assert "No contracts match." in (await desk.run(requester, "search")).stdout
    offering_id = await desk.offer()
    assert offering_id in (await desk.run(requester, "offerings", desk.service_id)).stdout
    refused = await desk.run(requester, "accept", offering_id)
    assert refused.exit_code == 1
    assert "REQUEST_INVALID" in refused.stderr
    made = await desk.read(requester, "accept", offering_id, *chosen())
    contract_id = made["contract_id"]
    assert contract_id in (await desk.run(provider, "search", "--role", "provider")).stdout

    suspended = await desk.read(requester, "suspend", contract_id)
    assert suspended["state"] == "CONTRACT_STATE_SUSPENDED"
    shown = (await desk.run(provider, "show", contract_id)).stdout
    assert "suspended" in shown
    assert "About liability." in shown
    assert (await desk.read(requester, "resume", contract_id))["state"] == "CONTRACT_STATE_ACTIVE"

    file = tmp_path / "terms.json"
    terms = framework_terms(micros=5)
    proposed = contract_amendment_pb2.ProposedTerms(
        sections=terms["sections"], price=terms["price"]
    )
    file.write_text(json_format.MessageToJson(proposed))
    why = ("--reason", "It is worth less.")
    for step, who, state in (
        ("revoke", requester, "REVOKED"),
        ("reject", provider, "REJECTED"),
        ("confirm", provider, "APPLIED"),
    ):
        asked = await desk.read(requester, "change", contract_id, *why, "--terms", str(file))
        waiting = await desk.run(provider, "search", "--pending")
        assert contract_id in waiting.stdout
        assert "It is worth less." in (await desk.run(provider, "show", contract_id)).stdout
        decided = await desk.read(who, step, asked["amendment_id"])
        assert decided["state"] == f"AMENDMENT_STATE_{state}"
    file.write_text("{")
    broken = await desk.run(requester, "change", contract_id, *why, "--terms", str(file))
    assert broken.exit_code == 2

    asked = await desk.read(provider, "terminate", contract_id, "--reason", "We stop.")
    await desk.read(requester, "confirm", asked["amendment_id"], "--note", "Fine.")
    ended = await desk.run(requester, "search", "--state", "terminated")
    assert contract_id in ended.stdout
    again = await desk.run(requester, "terminate", contract_id)
    assert again.exit_code == 1
    assert "STATE_NOT_ALLOWED" in again.stderr


async def test_a_longer_term_a_further_service_and_a_notice(desk: Desk) -> None:
    requester, provider = desk.requester, desk.provider
    offering_id = await desk.offer(term={"duration_days": 30}, notice_days=5)
    start = ("--start", "2020-01-01")
    made = await desk.read(requester, "accept", offering_id, *chosen(), *start)
    contract_id = made["contract_id"]
    due = await desk.run(provider, "search", "--ends-within", "30")
    assert contract_id in due.stdout
    why = ("--reason", "More.")
    asked = await desk.read(requester, "change", contract_id, *why, "--until", "2900-01-01")
    await desk.read(provider, "confirm", asked["amendment_id"])
    assert contract_id not in (await desk.run(provider, "search", "--ends-within", "30")).stdout
    taken = await desk.run(
        requester, "change", contract_id, *why, "--offering", offering_id, *chosen()
    )
    assert taken.exit_code == 1
    assert "ALREADY_EXISTS" in taken.stderr
    noticed = await desk.read(requester, "terminate", contract_id)
    assert noticed["ending"] == "CONTRACT_ENDING_TERMINATES"
    assert noticed["state"] == "CONTRACT_STATE_ACTIVE"
