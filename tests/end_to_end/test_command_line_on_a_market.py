"""`gemarket call`, `doctor` and `ca` against a running market."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gem.charging.v1 import evse_search_service_pb2
from gemarket.commands.application import application
from gemarket.endpoints import read_endpoints
from tests.end_to_end.charging import evse, found
from tests.end_to_end.depot import depot
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.test_revocation import echo
from tests.end_to_end.whole_market import WholeMarket

SEARCH = "gem.charging.v1.EvseSearchService/SearchEvses"
_BERLIN = '{"latitude_e7": 525200000, "longitude_e7": 134050000}'
_REQUEST = f'{{"circle": {{"center": {_BERLIN}, "radius_m": 10000}}}}'


@pytest.fixture
async def caller(whole: WholeMarket) -> str:
    """Write `endpoints.json` with an EVSP that has a contract; gives its id."""
    requester = await whole.requester()
    provider = ScriptedProvider(answers(found(evse("DE*AAA*E1", power_w=50_000))))
    await whole.contracted(requester, provider)
    market = whole.market
    known = {requester.partner_id: requester.identity}
    described = market.endpoints(known, {provider.partner_id: provider.endpoint})
    described.write(market.layout.endpoints)
    return requester.partner_id


async def run(whole: WholeMarket, *arguments: str, stdin: str = "") -> Result:
    """Run `gemarket` beside the event loop of the market's providers."""

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        given = (*arguments, "--data-dir", str(whole.market.layout.root))
        return CliRunner().invoke(application, given, env=environment, input=stdin)

    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("name", "request_text", "reason"),
    [
        ("gem.charging.v1.NoService/Search", "{}", "the market knows no"),
        ("gem.charging.v1.EvseSearchService/Nothing", "{}", "it has: GetEvse, SearchEvses"),
        ("SearchEvses", "{}", "is not of the form package.Service/Method"),
        (SEARCH, "{", "Expecting property name"),
        (SEARCH, '{"radius": 1}', 'no field named "radius"'),
        (SEARCH, "{} {}", "the method takes one request, 2 were given"),
    ],
    ids=["no service", "no method", "no path", "no JSON", "no field", "two requests"],
)
async def test_a_call_that_cannot_be_made_is_refused_with_the_reason(
    whole: WholeMarket, caller: str, name: str, request_text: str, reason: str
) -> None:
    result = await run(whole, "call", name, request_text, "--as", caller)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stdout == ""


async def test_a_refusal_of_the_market_is_shown_with_all_it_says(
    whole: WholeMarket, caller: str
) -> None:
    result = await run(whole, "call", SEARCH, '{"limit": -1}', "--as", caller)
    assert result.exit_code == 1
    assert "INVALID_ARGUMENT" in result.stderr
    assert "reason REQUEST_INVALID" in result.stderr
    assert "field limit: " in result.stderr
    as_operator = await run(whole, "call", SEARCH, _REQUEST, "--as", "business")
    assert as_operator.exit_code == 1
    assert "reason ROLE_NOT_ALLOWED" in as_operator.stderr


async def test_a_call_answers_in_json(whole: WholeMarket, caller: str) -> None:
    for text, stdin in ((_REQUEST, ""), ("-", _REQUEST)):
        result = await run(whole, "call", SEARCH, text, "--as", caller, stdin=stdin)
        assert result.exit_code == 0, result.output
        answer = json.loads(result.stdout)
        assert [each["evse_id"] for each in answer["evses"]] == ["DE*AAA*E1"]
        assert answer["evses"][0]["max_power_w"] == 50_000
        assert answer["provider_answers"][0]["status"] == "ANSWER_STATUS_OK"


async def test_a_stream_takes_and_gives_several(whole: WholeMarket) -> None:
    shop = depot("acme.talk.v1")
    await whole.technical.core.ensure_interface(shop.files)
    requester = await whole.requester()
    await whole.contracted(requester, ScriptedProvider(echo), interface=shop.interface)
    described = whole.market.endpoints({requester.partner_id: requester.identity})
    described.write(whole.market.layout.endpoints)
    name = shop.path("Chat").removeprefix("/")
    result = await run(whole, "call", name, '{"text": "a"} {"text": "b"}')
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["{}", "{}"]


async def test_the_services_are_listed(whole: WholeMarket, caller: str) -> None:
    result = await run(whole, "call", "--list", "--as", caller)
    assert result.exit_code == 0
    name = evse_search_service_pb2.DESCRIPTOR.services_by_name["EvseSearchService"].full_name
    assert {name, "gem.marketplace.v1.PartnerService"} <= set(result.stdout.split())


async def test_the_doctor_finds_a_running_market_well(whole: WholeMarket, caller: str) -> None:
    result = await run(whole, "doctor", "--as", caller)
    assert result.exit_code == 0, result.output
    assert "all is well" in result.stdout
    for check in (
        "✓ process worker-0",
        f"✓ issuer of {caller}",
        "✓ database: answers, fsync on",
        "✓ TLS of the marketplace: TLSv1.3",
        f"✓ health, asked as {caller}: serving",
        "✓ TLS of operator-",
    ):
        assert check in result.stdout


@contextmanager
def another_key(whole: WholeMarket, partner_id: str) -> Iterator[None]:
    """Put somebody else's key in the place of a partner's."""
    described = read_endpoints(whole.market.layout.endpoints)
    file = Path(described.party(partner_id).key_file)
    own = file.read_bytes()
    file.write_bytes(whole.business.identity.key_file.read_bytes())
    try:
        yield
    finally:
        file.write_bytes(own)


async def test_the_doctor_tells_a_broken_certificate_from_a_working_market(
    whole: WholeMarket, caller: str
) -> None:
    with another_key(whole, caller):
        result = await run(whole, "doctor", "--as", caller)
    assert result.exit_code == 1
    assert f"✗ certificate {caller}: the key does not belong to the certificate" in result.stdout
    assert "✓ database" in result.stdout


async def test_a_certificate_from_request_to_revocation(
    whole: WholeMarket, caller: str, tmp_path: Path
) -> None:
    folder = tmp_path / "renewed"
    made = await asyncio.to_thread(
        CliRunner().invoke, application, ["ca", "request", caller, str(folder)]
    )
    assert made.exit_code == 0, made.output
    files = (str(folder / "request.pem"), "--out", str(folder / "certificate.pem"))
    issued = await run(whole, "ca", "issue", caller, *files)
    assert issued.exit_code == 0, issued.output
    assert b"BEGIN CERTIFICATE" in (folder / "certificate.pem").read_bytes()
    listed = await run(whole, "ca", "list", caller)
    rows = [line for line in listed.stdout.splitlines() if "good" in line]
    assert len(rows) == 2
    fingerprint = next(word for word in rows[0].split() if len(word) == 64)
    revoked = await run(whole, "ca", "revoke", fingerprint, "--reason", "superseded")
    assert revoked.exit_code == 0, revoked.output
    again = await run(whole, "ca", "revoke", fingerprint)
    assert again.exit_code == 1
    assert "STATE_NOT_ALLOWED" in again.stderr
    assert "revoked" in (await run(whole, "ca", "list", caller)).stdout
