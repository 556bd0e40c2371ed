"""`gemarket partners` against a running market: every use case of accounts from the shell."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gemarket.commands.application import application
from gemarket.identity import Identity
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.end_to_end.test_authorization_matrix import both
from tests.end_to_end.whole_market import WholeMarket, new_id


class Shell:
    """Runs `gemarket partners` beside the event loop, for parties whose files are known."""

    def __init__(self, whole: WholeMarket) -> None:
        self.whole = whole
        self.known: dict[str, Identity] = {}

    async def run(self, *arguments: str) -> Result:
        """Run one command."""
        market = self.whole.market
        market.endpoints(self.known).write(market.layout.endpoints)
        given = ("partners", *arguments, "--data-dir", str(market.layout.root))

        def work() -> Result:
            environment = {"COLUMNS": "300", "TERM": "dumb"}
            return CliRunner().invoke(application, given, env=environment)

        return await asyncio.to_thread(work)

    async def good(self, *arguments: str) -> str:
        """Run a command that has to succeed; gives what it prints."""
        result = await self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    async def json(self, *arguments: str) -> Any:
        """Run a command that prints one JSON object."""
        return json.loads(await self.good(*arguments))

    async def request(self, partner_id: str, *more: str) -> Result:
        """Ask to become a partner."""
        return await self.run(
            *("request", partner_id, "--company", "Acme GmbH", "--address", "Main Street 1"),
            *("--country", "DE", "--person", "Ada B.", "--email", f"ada@{partner_id}.example"),
            *("--role", "evsp", *more),
        )


@pytest.fixture
def shell(whole: WholeMarket) -> Shell:
    return Shell(whole)


@pytest.mark.usecase(1374, 1379)
async def test_an_applicant_comes_in_from_the_shell(shell: Shell, tmp_path: Path) -> None:
    partner_id = new_id("shell")
    assert "Partner contract of the marketplace, version 1" in await shell.good("contract")
    refused = await shell.request(partner_id)
    assert refused.exit_code == 1
    assert "accepted_partner_contract_version: the partner contract must be" in refused.stderr
    asked = await shell.request(partner_id, "--accept-contract", "1", "--json")
    answer = json.loads(asked.stdout)
    reference = answer["reference"]
    registration_id = answer["registration"]["registration_id"]
    assert registration_id in await shell.good("requests", "--state", "requested")
    seen = await shell.json("show-request", registration_id)
    assert seen["registration"]["profile"]["company_name"] == "Acme GmbH"
    early = await shell.run("first-certificate", reference, str(tmp_path / "early"))
    assert early.exit_code == 1
    assert "The registration request is not approved." in early.stderr
    assert not (tmp_path / "early").exists()

    assert "is registered" in await shell.good("approve", registration_id)
    tracked = await shell.json("track", reference)
    assert tracked["state"] == "PARTNER_REGISTRATION_STATE_APPROVED"
    await shell.good("first-certificate", reference, str(tmp_path / "own"))
    made = await shell.good("first-administrator", reference, "ada", "Ada B.")
    assert "one-time secret" in made
    assert f"{partner_id} is active." in await shell.good("activate", partner_id)
    shell.known[partner_id] = Identity(tmp_path / "own")
    own = await shell.json("show", partner_id, "--as", partner_id)
    assert own["partner_contract"]["version"] == 1
    assert own["partner"]["profile"]["responsible_person"]["full_name"] == "Ada B."


@pytest.mark.usecase(1374)
async def test_a_refusal_and_a_withdrawal_from_the_shell(shell: Shell) -> None:
    accepted = ("--accept-contract", "1", "--json")
    asked = [await shell.request(new_id("shell"), *accepted) for _ in range(2)]
    first, second = [json.loads(each.stdout) for each in asked]
    await shell.good("refuse", first["registration"]["registration_id"], "In no register.")
    tracked = await shell.json("track", first["reference"])
    assert tracked["decision_reason"] == "In no register."
    assert "withdrawn" in await shell.good("withdraw", second["reference"])
    late = await shell.run("approve", second["registration"]["registration_id"])
    assert late.exit_code == 1
    assert "STATE_NOT_ALLOWED" in late.stderr


@pytest.mark.usecase(1373, 1377)
async def test_partners_are_listed_and_shown_from_the_shell(shell: Shell) -> None:
    party = await shell.whole.requester()
    shell.known[party.partner_id] = party.identity
    search = ("list", "--text", party.partner_id, "--role", "evsp", "--state", "active")
    assert party.partner_id in await shell.good(*search, "--country", "DE", "--order", "latest")
    found = await shell.json(*search, "--since", "2026-01-01", "--json", "--limit", "1")
    assert found["state"] == "PARTNER_STATE_ACTIVE"
    assert await shell.good("list", "--text", "nobody at all") == "No partners match.\n"
    by_partner = await shell.json(
        "list", "--text", party.partner_id, "--as", party.partner_id, "--json", "--limit", "1"
    )
    assert "state" not in by_partner
    shown = await shell.json("show", party.partner_id, "--public", "--as", party.partner_id)
    assert shown == by_partner
    history = await shell.good("history", party.partner_id)
    assert "certificate-issued" in history
    assert "operator/business" in history
    assert "version" in await shell.good("contract", "--list")


@pytest.mark.usecase(1376, 1378)
async def test_changes_are_asked_for_and_decided_from_the_shell(shell: Shell) -> None:
    party = await shell.whole.requester()
    shell.known[party.partner_id] = party.identity
    own = ("--as", party.partner_id)
    nothing = await shell.run("change", *own)
    assert nothing.exit_code == 1
    assert "nothing would change" in nothing.stderr
    wanted = ("--company", "New AG", "--add-operator-id", "DE*Q7Q", "--note", "Merged.")
    asked = (await shell.good("change", *own, *wanted)).split()[-1]
    other = (await shell.good("change", *own, "--role", "dso")).split()[-1]
    assert asked in await shell.good("change-requests", "--partner", party.partner_id)
    shown = await shell.good("show-change", asked)
    assert "New AG" in shown
    assert "OPERATOR_ID DEQ7Q" in shown
    assert "note: Merged." in shown
    assert "has revision 2" in await shell.good("approve-change", asked)
    outdated = await shell.run("approve-change", other)
    assert outdated.exit_code == 1
    assert "CONFLICT" in outdated.stderr
    waiting = await shell.good("change-requests", "--partner", party.partner_id, *own)
    assert "requested, outdated" in waiting
    await shell.good("refuse-change", other, "Ask again.")
    third = (await shell.good("change", *own, "--role", "dso")).split()[-1]
    assert "withdrawn" in await shell.good("withdraw-change", third, *own)
    await shell.good("person", *own, "--name", "Grace H.", "--email", "grace@acme.example")
    seen = await shell.json("show", party.partner_id)
    assert seen["partner"]["profile"]["responsible_person"]["full_name"] == "Grace H."
    assert seen["partner"]["revision"] == 3


@pytest.mark.usecase(1380)
async def test_an_account_is_ended_from_the_shell(shell: Shell) -> None:
    party = await shell.whole.requester()
    shell.known[party.partner_id] = party.identity
    contracts = await shell.whole.contracted(party, ScriptedProvider(both()))
    (contract_id,) = contracts.values()
    for command in (
        ("inactivate", party.partner_id),
        ("ask-inactivation", "--as", party.partner_id),
    ):
        blocked = await shell.run(*command)
        assert blocked.exit_code == 1
        assert f"contract {contract_id} is in the way" in blocked.stderr
    idle = (await shell.whole.requester()).partner_id
    assert "is inactive." in await shell.good("inactivate", idle)
    unsure = await shell.run("delete", idle)
    assert unsure.exit_code == 1
    assert "is deleted." in await shell.good("delete", idle, "--yes")
    again = await shell.run("activate", idle)
    assert "STATE_NOT_ALLOWED" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("list", "--state", "gone"), "there is no partner state 'gone'; there are: registered"),
        (("list", "--role", "boss"), "there is no partner role 'boss'"),
        (("list", "--order", "random"), "there is no order 'random'; there are: id, company"),
        (("list", "--activity", "sleep"), "there is no activity 'sleep'"),
        (("list", "--since", "yesterday"), "is no time of ISO 8601"),
        (("list", "--as", "nobody"), "is not known here"),
        (("requests", "--state", "open"), "there are: requested, approved, refused, withdrawn"),
        (("publish-contract", "2", "Title", "no-such-file"), "No such file"),
    ],
)
async def test_an_option_that_makes_no_sense_is_refused_with_the_reason(
    shell: Shell, arguments: tuple[str, ...], reason: str
) -> None:
    result = await shell.run(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output
