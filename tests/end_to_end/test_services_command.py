"""`gemarket services` against a running market: each use case from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.service_desk import ENDPOINT
from tests.end_to_end.test_command_line_on_a_market import run
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket, new_id


@pytest.fixture
async def parties(whole: WholeMarket) -> tuple[Party, Party]:
    """Write `endpoints.json` with a provider and a requester; gives both."""
    provider, requester = await whole.operator(), await whole.requester()
    known = {each.partner_id: each.identity for each in (provider, requester)}
    whole.market.endpoints(known).write(whole.market.layout.endpoints)
    return provider, requester


@pytest.mark.usecase(1239, 1250, 1255, 1477, 1484, 1486, 1494)
async def test_a_service_lives_its_life_from_the_command_line(
    whole: WholeMarket, parties: tuple[Party, Party]
) -> None:
    provider, requester = parties
    word = new_id("granat").replace("-", "")

    async def services(*arguments: str, fails: int = 0, by: Party = provider) -> str:
        result = await run(whole, "services", *arguments, "--as", by.partner_id)
        assert result.exit_code == fails, result.output
        return result.stderr if fails else result.stdout

    assert "version 1" in await services("contract")
    register = ("register", word, EVSE_SEARCH, ENDPOINT, "--description", "Finds things")
    refused = await services(*register, "--accept-contract", "9", fails=1)
    assert "accepted_registration_contract_version" in refused
    inside = (*register[:3], "10.0.0.1:1", *register[4:], "--accept-contract", "1")
    assert "field endpoint" in await services(*inside, fails=1)
    accepted = ("--accept-contract", "1", "--keyword", "rare", "--hosting", "DE/eu/Rack AG")
    made = json.loads(await services(*register, *accepted, "--json"))
    service_id = made["service_id"]
    assert made["state"] == "SERVICE_STATE_REGISTERED"
    assert "is not published" in await services("stop", service_id, fails=1)
    assert "is published" in await services("publish", service_id)

    found = await services("search", word, "--relation", "available", by=requester)
    assert service_id in found
    assert "No service meets" in await services("search", "qqxzzyw", by=requester)
    shown = await services("show", service_id, by=requester)
    for expected in (word, "rare", "DE eu Rack AG", "charging", f"{EVSE_SEARCH}@"):
        assert expected in shown
    contract_id = await requester.core.ensure_contract(service_id)

    assert "is stopped" in await services("stop", service_id)
    assert "is published" in await services("start", service_id)
    prepared = await services("version", service_id, "1.1.0")
    assert "is compatible" in prepared
    assert "is published" in await services("publish", service_id, "--version")
    await services("stop", service_id)
    in_the_way = await services("disable", service_id, fails=1)
    assert f"contract {contract_id} is in the way" in in_the_way

    free = await services(*register, "--accept-contract", "1", "--json")
    other = json.loads(free)["service_id"]
    for step in ("publish", "stop", "disable", "enable", "disable", "delete"):
        last = await services(step, other)
    assert last.strip() == f"{other} is deleted"


@pytest.mark.usefixtures("parties")
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("search", "--state", "sold"), "there is no state 'sold'"),
        (("search", "--relation", "loved"), "there is no relation 'loved'"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    whole: WholeMarket, arguments: tuple[str, ...], reason: str
) -> None:
    result = await run(whole, "services", *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr


@pytest.mark.usefixtures("parties")
async def test_an_offering_file_that_is_none_is_refused(whole: WholeMarket, tmp_path: Path) -> None:
    file = tmp_path / "offering.json"
    file.write_text('{"sections": 1}')
    given = ("T", EVSE_SEARCH, ENDPOINT, "--description", "D", "--accept-contract", "1")
    result = await run(whole, "services", "register", *given, "--offering", str(file))
    assert result.exit_code == 2
    assert "is no offering" in result.stderr
    result = await run(whole, "services", "register", *given, "--hosting", "Germany")
    assert "hosting is written" in result.stderr
