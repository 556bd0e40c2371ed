"""The words by which services are found, against a plain comparison of their texts (1239)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Select, event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from foundation.migrations import migrate
from marketplace.actor import MARKET
from marketplace.service import Service
from marketplace.service_description import indexed_words, known_words
from marketplace.storage_service import ServiceStorage
from marketplace.storage_service_search import SearchCriteria, SearchPage, ServiceSearch
from tests.control_plane import EVSE_OPERATOR, ControlPlane
from tests.marketplace.test_service_search import SEARCH
from tests.transaction_log_support import connected

pytestmark = pytest.mark.usecase(1239)
#: The last step of the schema whose services had no words beside their texts.
BEFORE = "0015"
_RARELY, _OFTEN = (
    " ".join("".join(letters) for letters in itertools.product("abc", repeat=size))
    for size in (5, 6)
)
_SHORT = st.text("abß", min_size=1, max_size=5)
_LONG = st.integers(38, 170).flatmap(lambda size: st.text("ab", min_size=size, max_size=size))
#: Few words, or more than are looked for one by one, or by what they begin with.
_TEXTS = (
    st.lists(_SHORT | _LONG, min_size=1, max_size=6).map(" ".join)
    | st.just(_RARELY)
    | st.just(_OFTEN)
)
_SEARCHES = st.lists(
    st.text("abcß", min_size=1, max_size=4) | st.text("ab", min_size=38, max_size=42),
    min_size=1,
    max_size=3,
    unique_by=str.casefold,
)


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with a provider and the requester `evsp`."""
    await plane.market()
    await plane.partner("volt", EVSE_OPERATOR)
    return plane


async def like(connection: AsyncConnection, words: Sequence[str]) -> set[str]:
    """Give the services that have the words, as their texts say."""
    patterns = [f"%{word}%" if len(word) > 2 else f"% {word} %" for word in words]
    query = "SELECT service_id FROM marketplace.service WHERE search_text LIKE ALL (:patterns)"
    return set(await connection.scalars(text(query), {"patterns": patterns}))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(_TEXTS, min_size=1, max_size=4), st.lists(_SEARCHES, min_size=4, max_size=8))
async def test_words_find_what_a_comparison_of_all_texts_finds(
    market: ControlPlane, texts: list[str], searches: list[list[str]]
) -> None:
    async with market.engine.connect() as connection, connection.begin() as transaction:
        await _add(connection, await _any_service(market), texts)
        for words in (tuple(word.casefold() for word in search) for search in searches):
            search = ServiceSearch(connection, MARKET)
            found = await search.find(SearchCriteria(words=words), SearchPage(100))
            assert {service.service_id for service, _ in found} == await like(connection, words)
            meant = await search.spelled_alike(words)
            had = [bool(await like(connection, [word])) for word in words]
            assert [each == (word,) for word, each in zip(words, meant, strict=True)] == had
        await transaction.rollback()


async def _any_service(market: ControlPlane) -> Service:
    async with market.engine.connect() as connection:
        query = text("SELECT service_id FROM marketplace.service")
        service_id = await connection.scalar(query)
        if service_id is None:
            service_id = (await market.service("volt", title="x", description=".")).service_id
        return await ServiceStorage(connection).get(service_id)


async def _add(connection: AsyncConnection, like_this: Service, texts: Sequence[str]) -> None:
    storage = ServiceStorage(connection)
    for number, each in enumerate(texts):
        service = replace(like_this, service_id=f"service-{number}", description=each)
        await storage.add(service, 1)


async def test_no_text_has_too_many_words_or_too_long_ones_to_be_found(
    market: ControlPlane,
) -> None:
    many = ["".join(letters) for letters in itertools.product("xyz", repeat=6)][:570]
    monster = "".join("".join(letters) for letters in itertools.product("abcd", repeat=5))[:3500]
    await market.service("volt", title="Many", description=" ".join(many))
    await market.service("volt", title="Monster", description=monster)
    for words, title in (
        (many[-1], "Many"),
        (f"{many[-1]} maany", "Many"),
        (monster[-3:], "Monster"),
        (monster[1200:1240], "Monster"),
        (monster[1200:1241], "Monster"),
        (monster[-200:], "Monster"),
    ):
        answer = await market.ask("evsp", SEARCH, text=words)
        assert [each.service.title for each in answer.found] == [title], words


async def test_a_statement_has_the_same_values_whatever_is_asked(market: ControlPlane) -> None:
    """It would be compiled anew for others, which takes longer than a search."""
    await market.service("volt", title="Harbour weather", description=".")
    names: dict[int, set[frozenset[str]]] = {}

    def take(_: Any, statement: Any, __: Any, values: Any, ___: Any) -> None:
        if isinstance(statement, Select):
            names.setdefault(id(statement), set()).add(frozenset(values))

    event.listen(market.engine.sync_engine, "before_execute", take)
    asked: tuple[dict[str, Any], ...] = (
        {"text": "harbour"},
        {"text": "harbour weather", "categories": ["a"], "page": {"page_size": 1}},
        {"text": "weather", "states": [2, 3], "provider_id": "volt", "categories": ["a", "b"]},
        {"states": [2]},
        {"categories": ["a"], "interface_name": "b"},
    )
    for fields in asked:
        await market.ask("evsp", SEARCH, **fields)
    event.remove(market.engine.sync_engine, "before_execute", take)
    assert [len(each) for each in names.values()] == [1] * len(names)


_ROW = """
INSERT INTO marketplace.service (service_id, provider_id, title, description, interface_name,
  interface_version, service_version, endpoint, state, registration_contract_version,
  registered_at, search_text)
VALUES ($1, 'volt', '', '', '', 1, '', '', $2, 1, now(), $3)
"""


async def test_services_from_before_get_their_words_deleted_ones_too(database_url: str) -> None:
    await migrate(database_url, "marketplace", BEFORE)
    texts = ["  ", " on ev harbour ev ", *(f" {'abcdefg' * 30}"[:n] + " " for n in range(38, 200))]
    async with connected(database_url) as connection:
        await connection.execute("SET session_replication_role = replica")
        states = itertools.cycle(("PUBLISHED", "DELETED"))
        rows = [(str(n), next(states), each) for n, each in enumerate(texts)]
        await connection.executemany(_ROW, rows)
        await migrate(database_url, "marketplace")
        query = "SELECT search_text, tsvector_to_array(words) AS words FROM marketplace.service"
        found = await connection.fetch(query)
        known = await connection.fetch("SELECT word FROM marketplace.service_word")
    assert len(found) == len(texts)
    for row in found:
        assert sorted(row["words"]) == indexed_words(row["search_text"])
    assert {row["word"] for row in known} == {w for each in texts for w in known_words(each)}
