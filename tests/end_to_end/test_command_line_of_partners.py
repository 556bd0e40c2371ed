"""`gemarket requests`, `searches` and `notifications` against a running market."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.end_to_end.test_command_line_on_a_market import run
from tests.end_to_end.whole_market import Party, WholeMarket

_UNTIL = "2027-06-01T12:00"


async def known(whole: WholeMarket, *parties: Party) -> None:
    """Write the certificates of parties where the command line finds them."""
    files = {party.partner_id: party.identity for party in parties}
    whole.market.endpoints(files).write(whole.market.layout.endpoints)


async def answers(whole: WholeMarket, *arguments: str, stdin: str = "") -> Any:
    """Run a command that prints one JSON object."""
    result = await run(whole, *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def prints(whole: WholeMarket, *arguments: str) -> str:
    """Run a command; gives what it prints."""
    result = await run(whole, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


async def refused(whole: WholeMarket, *arguments: str, status: int = 1, stdin: str = "") -> str:
    """Run a command that fails; gives what it says."""
    result = await run(whole, *arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    return result.stderr


@pytest.mark.usecase(1620, 1623, 1625, 1626, 1627, 1629)
async def test_a_request_from_creation_to_deletion(whole: WholeMarket) -> None:
    author, provider = await whole.requester(), await whole.operator()
    await known(whole, author, provider)
    buys, sells = ("--as", author.partner_id), ("--as", provider.partner_id)
    create = ("requests", "create", "--until", _UNTIL, *buys)
    wish = ("--title", "Wash [bold]cars[/]", "--text", "With water.", "--category", "washing")
    incomplete = await refused(whole, *create, "--title", "Wash", "--text", "With water.")
    assert "reason REQUEST_INVALID" in incomplete
    assert "interface_name or category" in incomplete
    never = ("requests", "create", "--until", "never", *wish, *buys)
    assert "is no time of ISO 8601" in await refused(whole, *never, status=2)
    where = ("--countries", "DE,AT", "--volume", "500", "--from", "2027-01-01")
    made = await answers(whole, *create, *wish, *where)
    assert made["wish"]["country_codes"] == ["DE", "AT"]
    request_id = made["service_request_id"]

    assert "there are none" in await prints(whole, "requests", "list", "--text", "nowhere", *sells)
    mine = ("--author", author.partner_id, *sells)
    listed = await prints(whole, "requests", "list", *mine)
    assert "Wash [bold]cars[/]" in listed, "markup of others is not obeyed"
    assert request_id in listed
    assert "there is no owner" in await refused(
        whole, "requests", "list", "--owner", "x", *mine, status=2
    )
    shown = json.loads(await prints(whole, "requests", "show", request_id, *sells))
    assert shown["wish"]["description"] == "With water."

    said = ("--text", "We can.", "--planned", "2027-02-01")
    await prints(whole, "requests", "respond", request_id, *said, *sells)
    found = await prints(whole, "requests", "responses", request_id, *buys)
    assert provider.partner_id in found
    assert "planned 2027-02-01" in found

    await prints(whole, "requests", "change", request_id, "--title", "Wash vans", *buys)
    after = json.loads(await prints(whole, "requests", "show", request_id, *buys))
    assert after["wish"] == {**made["wish"], "title": "Wash vans"}
    assert (after["revision_number"], after["response_count"]) == (2, 1)
    other = await refused(whole, "requests", "change", request_id, "--title", "Mine", *sells)
    assert "ROLE_NOT_ALLOWED" in other
    assert "closed" in await prints(whole, "requests", "close", request_id, *buys)
    late = await refused(whole, "requests", "respond", request_id, *said, *sells)
    assert "STATE_NOT_ALLOWED" in late
    assert "deleted" in await prints(whole, "requests", "delete", request_id, *buys)
    assert "NOT_FOUND" in await refused(whole, "requests", "show", request_id, *sells)
    history = await prints(whole, "requests", "history", request_id, *buys)
    order = [history.index(what) for what in ("created", "responded", "changed", "deleted")]
    assert order == sorted(order)


@pytest.mark.usecase(1475, 1620)
async def test_a_search_is_saved_run_and_deleted(whole: WholeMarket) -> None:
    owner = await whole.requester()
    await known(whole, owner)
    caller = ("--as", owner.partner_id)
    method = "InterfaceCatalogService/ListInterfaces"
    save = ("searches", "save", "evse", method)
    assert "criteria.json" in await refused(whole, *save, "{]", *caller)
    wrong = ("searches", "save", "x", "ContractService/GetContract")
    assert "field method" in await refused(whole, *wrong, *caller)
    assert "there are none" in await prints(whole, "searches", "list", *caller)
    saved = await answers(whole, *save, '{"text": "no such interface"}', *caller)
    assert saved["method"] == f"gem.marketplace.v1.{method}"
    assert "ALREADY_EXISTS" in await refused(whole, *save, *caller)
    assert json.loads(await prints(whole, "searches", "run", "evse", *caller)) == {"page": {}}
    replaced = '{"text": "EvseSearch"}'
    await prints(whole, "searches", "replace", "evse", replaced, *caller)
    found = json.loads(await prints(whole, "searches", "run", "evse", *caller))
    assert found["interfaces"][0]["interface_name"] == "gem.charging.v1.EvseSearchService"
    await prints(whole, "searches", "rename", "evse", "charging points", *caller)
    assert "charging points" in await prints(whole, "searches", "list", *caller)
    assert "EvseSearch" in await prints(whole, "searches", "show", "charging points", *caller)
    assert "NOT_FOUND" in await refused(whole, "searches", "show", "evse", *caller)
    await prints(whole, "searches", "delete", "charging points", *caller)
    assert "there are none" in await prints(whole, "searches", "list", *caller)


@pytest.mark.usecase(1687)
async def test_notifications_are_sent_listed_watched_read_and_chosen(whole: WholeMarket) -> None:
    requester, provider = await whole.requester(), await whole.operator()
    service_id = await whole.offer(provider, "127.0.0.1:9")
    await requester.core.ensure_contract(service_id)
    await known(whole, requester, provider)
    buys, sells = ("--as", requester.partner_id), ("--as", provider.partner_id)
    words = ("--title", "Maintenance", "--text", "On Sunday.")
    sent = await prints(whole, "notifications", "send", service_id, *words, *sells)
    assert "sent to 1 requesters" in sent
    foreign = await refused(whole, "notifications", "send", service_id, *words, *buys)
    assert "NOT_FOUND" in foreign
    only = ("--kind", "service-message", *buys)
    found = await answers(whole, "notifications", "list", *only)
    assert (found["title"], found["sender_id"]) == ("Maintenance", provider.partner_id)
    assert "Maintenance: On Sunday." in await prints(whole, "notifications", "list", *only)
    assert "there is no 'x'" in await refused(
        whole, "notifications", "list", "--kind", "x", *buys, status=2
    )
    last = str(int(found["sequence"]) - 1)
    watch = ("notifications", "watch", "--after", last, "--count", "1")
    assert await answers(whole, *watch, *buys) == found
    read = await prints(whole, "notifications", "read", found["sequence"], *buys)
    assert "1 marked as read" in read
    assert "there are none" in await prints(whole, "notifications", "list", "--unread", *only)
    chosen = ("notifications", "preferences", "service-message", "--no-inbox")
    assert "no" in await prints(whole, *chosen, *buys)
    every = await prints(whole, "notifications", "preferences", *buys)
    assert "service-request-responded" in every
    await prints(whole, "notifications", "send", service_id, *words, *sells)
    assert await answers(whole, "notifications", "list", *only) == {
        **found,
        "read_time": (await answers(whole, "notifications", "list", *only))["read_time"],
    }
