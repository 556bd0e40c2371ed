"""SavedSearchService over a real database: whose searches are whose, names, erasure."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.saved_search import SEARCHES_MAX
from marketplace.storage_saved_search import erase_partner
from tests.control_plane import BUSINESS, TECHNICAL, ControlPlane, fields_of
from tests.interceptors.support import raises

HIDDEN = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
TAKEN = raises(ErrorReason.ERROR_REASON_ALREADY_EXISTS)
_SERVICE = "SavedSearchService"
CONTRACTS = "gem.marketplace.v1.ContractService/ListContracts"
INTERFACES = "gem.marketplace.v1.InterfaceCatalogService/ListInterfaces"


async def save(plane: ControlPlane, who: str, name: str = "mine", **fields: Any) -> Any:
    """Save a search."""
    values = {"method": INTERFACES, "criteria": {"json": '{"text": "evse"}'}, **fields}
    return (await plane.ask(who, f"{_SERVICE}/SaveSearch", name=name, **values)).saved_search


async def load(plane: ControlPlane, who: str, **key: str) -> Any:
    """Load a search."""
    return (await plane.ask(who, f"{_SERVICE}/GetSavedSearch", **key)).saved_search


async def names(plane: ControlPlane, who: str, **fields: Any) -> list[str]:
    """Give the names of somebody's searches."""
    found = await plane.ask(who, f"{_SERVICE}/ListSavedSearches", **fields)
    return [each.name for each in found.saved_searches]


async def step(plane: ControlPlane, who: str, rpc: str, search: Any, **fields: Any) -> Any:
    """Make a call that names a search."""
    search_id = search.saved_search_id
    return await plane.ask(who, f"{_SERVICE}/{rpc}", saved_search_id=search_id, **fields)


async def test_a_search_is_its_owners_alone(plane: ControlPlane) -> None:
    found = await save(plane, "volt")
    for who in ("watt", BUSINESS, TECHNICAL):
        with pytest.raises(MarketError, check=HIDDEN):
            await load(plane, who, saved_search_id=found.saved_search_id)
        with pytest.raises(MarketError, check=HIDDEN):
            await load(plane, who, name="mine")
        for rpc, fields in (
            ("RenameSavedSearch", {"name": "other"}),
            ("ReplaceSavedSearch", {"criteria": {"json": "{}"}}),
            ("DeleteSavedSearch", {}),
        ):
            with pytest.raises(MarketError, check=HIDDEN):
                await step(plane, who, rpc, found, **fields)
        assert await names(plane, who) == []
        # The same name is another search.
        await save(plane, who)
    assert await load(plane, "volt", name="mine") == found


async def test_a_name_is_taken_once(plane: ControlPlane) -> None:
    first, second = await save(plane, "volt"), await save(plane, "volt", "other")
    with pytest.raises(MarketError, check=TAKEN):
        await save(plane, "volt")
    with pytest.raises(MarketError, check=TAKEN):
        await step(plane, "volt", "RenameSavedSearch", second, name="mine")
    assert await names(plane, "volt") == ["mine", "other"]
    await step(plane, "volt", "RenameSavedSearch", first, name="mine")
    await step(plane, "volt", "DeleteSavedSearch", first)
    after = await step(plane, "volt", "RenameSavedSearch", second, name="mine")
    assert after.saved_search.criteria == second.criteria
    assert await names(plane, "volt") == ["mine"]


async def test_of_several_who_take_a_name_at_once_one_wins(plane: ControlPlane) -> None:
    outcomes = await asyncio.gather(
        *(save(plane, "volt") for _ in range(4)), return_exceptions=True
    )
    lost = [each for each in outcomes if isinstance(each, MarketError)]
    assert [each.reason for each in lost] == [ErrorReason.ERROR_REASON_ALREADY_EXISTS] * 3
    assert await names(plane, "volt") == ["mine"]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, "a\u202eb"])
async def test_a_name_is_one_line(plane: ControlPlane, name: str) -> None:
    with pytest.raises(MarketError) as caught:
        await save(plane, "volt", name)
    assert fields_of(caught.value) == ["name"]


async def test_other_criteria_are_for_the_same_rpc(plane: ControlPlane) -> None:
    found = await save(plane, "volt")
    criteria = {"json": '{"requester_id": "volt"}'}
    with pytest.raises(MarketError) as caught:
        await step(plane, "volt", "ReplaceSavedSearch", found, criteria=criteria)
    assert fields_of(caught.value) == ["criteria.json"]
    assert await load(plane, "volt", name="mine") == found
    again = {"json": '{"category": "charging", "page": {"page_size": 3}}'}
    after = await step(plane, "volt", "ReplaceSavedSearch", found, criteria=again)
    assert after.saved_search.criteria_json == '{"category": "charging"}'
    assert after.saved_search.message_name == "gem.marketplace.v1.ListInterfacesRequest"
    assert after.saved_search.create_time == found.create_time
    assert await load(plane, "volt", name="mine") == after.saved_search


async def test_a_repeated_command_gives_its_first_result(plane: ControlPlane) -> None:
    found = await save(plane, "volt", request_id="one")
    assert await save(plane, "volt", request_id="one") == found
    for _ in range(2):
        await step(plane, "volt", "DeleteSavedSearch", found, request_id="two")
    with pytest.raises(MarketError, check=HIDDEN):
        await step(plane, "volt", "DeleteSavedSearch", found)


async def test_searches_are_listed_by_name_page_by_page_and_by_rpc(plane: ControlPlane) -> None:
    for name in ("delta", "Alpha", "charlie", "bravo"):
        await save(plane, "volt", name)
    await save(plane, "volt", "contracts", method=CONTRACTS, criteria={})
    assert await names(plane, "volt", method=CONTRACTS) == ["contracts"]
    found: list[str] = []
    page: dict[str, Any] = {"page_size": 2}
    for _ in range(3):
        answer = await plane.ask("volt", f"{_SERVICE}/ListSavedSearches", page=page)
        assert all(not each.criteria and not each.criteria_json for each in answer.saved_searches)
        found += [each.name for each in answer.saved_searches]
        page["page_token"] = answer.page.next_page_token
    assert sorted(found) == sorted(["delta", "Alpha", "charlie", "bravo", "contracts"])
    assert not page["page_token"]


async def test_searches_of_an_owner_are_bounded(plane: ControlPlane) -> None:
    found = await save(plane, "volt")
    async with plane.engine.begin() as connection:
        copies = (
            "INSERT INTO marketplace.saved_search SELECT 'copy-' || n, owner, partner_id,"
            " 'copy ' || n, method, criteria, created_at, changed_at"
            f" FROM marketplace.saved_search, generate_series(2, {SEARCHES_MAX}) AS n"
        )
        await connection.execute(text(copies))
    full = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
    with pytest.raises(MarketError, check=full):
        await save(plane, "volt", "one more")
    await save(plane, "watt", "one more")
    await step(plane, "volt", "DeleteSavedSearch", found)
    await save(plane, "volt", "one more")


async def test_searches_go_with_the_partner_and_no_others(plane: ControlPlane) -> None:
    await save(plane, "volt")
    await save(plane, "watt")
    await save(plane, BUSINESS)
    async with plane.engine.begin() as connection:
        # As one of its users saved it.
        copy = (
            "INSERT INTO marketplace.saved_search SELECT 'user', 'volt:ada', partner_id, name,"
            " method, criteria, created_at, changed_at"
            " FROM marketplace.saved_search WHERE owner = 'volt'"
        )
        await connection.execute(text(copy))
        assert await erase_partner(connection, "volt") == 2
    assert await names(plane, "volt") == []
    for who in ("watt", BUSINESS):
        assert await names(plane, who) == ["mine"]


async def test_a_replacement_and_a_deletion_at_once_leave_nothing(plane: ControlPlane) -> None:
    found = await save(plane, "volt")
    outcomes = await asyncio.gather(
        step(plane, "volt", "ReplaceSavedSearch", found, criteria={"json": "{}"}),
        step(plane, "volt", "DeleteSavedSearch", found),
        step(plane, "volt", "DeleteSavedSearch", found),
        return_exceptions=True,
    )
    lost = [each for each in outcomes if isinstance(each, MarketError)]
    assert {each.reason for each in lost} == {ErrorReason.ERROR_REASON_NOT_FOUND}
    assert sum(isinstance(each, MarketError) for each in outcomes[1:]) == 1
    assert await names(plane, "volt") == []
