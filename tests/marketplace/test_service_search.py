"""The search for services over a real database: spelling, conditions and plans (1239)."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gem.marketplace.v1 import service_search_pb2 as wire
from gem.marketplace.v1.service_pb2 import ServiceState
from marketplace.service_description import ALIKE_MAX
from marketplace.storage_service_words import PLAN_EACH
from tests.control_plane import EVSE_OPERATOR, TECHNICAL, ControlPlane

SEARCH = "ServiceRegistryService/SearchServices"
PUBLISHED, STOPPED, REGISTERED, DELETED = (
    ServiceState.Value(f"SERVICE_STATE_{name}")
    for name in ("PUBLISHED", "STOPPED", "REGISTERED", "DELETED")
)
AVAILABLE = wire.SERVICE_RELATION_AVAILABLE


@pytest.fixture
async def market(plane: ControlPlane) -> ControlPlane:
    """Give a market with two providers and the requester `evsp`, and no service yet."""
    await plane.market()
    for provider in ("volt", "watt"):
        await plane.partner(provider, EVSE_OPERATOR)
    return plane


async def offer(market: ControlPlane, *titles: str, provider: str = "volt") -> None:
    """Publish services of these titles."""
    for title in titles:
        await market.service(provider, title=title, description=".")


async def found(market: ControlPlane, words: str, who: str = "evsp", **fields: Any) -> Any:
    """Search; gives the titles in the order of registration, and whether likeness counted."""
    answer = await market.ask(who, SEARCH, text=words, **fields)
    return sorted(each.service.title for each in answer.found), answer.spelled_alike


@pytest.mark.usecase(1239)
@pytest.mark.parametrize("words", ["qqxxzz", "harbour qqxxzz", "qqxxzz harbuor", "q", "harbour q"])
async def test_a_word_that_nothing_is_like_finds_nothing_beside_any_other(
    market: ControlPlane, words: str
) -> None:
    await offer(market, "Harbour")
    assert await found(market, words) == ([], False)


@pytest.mark.usecase(1239)
async def test_right_words_that_nothing_has_together_are_not_replaced(market: ControlPlane) -> None:
    await offer(market, "Harbour fast", "Weather slow", "Harbor weather")
    assert await found(market, "harbour weather") == ([], False)
    assert await found(market, "harbour", categories=["another"]) == ([], False)
    assert await found(market, "harbour", provider_id="watt") == ([], False)


@pytest.mark.usecase(1239)
async def test_a_right_word_stands_for_itself_beside_a_misspelled_one(market: ControlPlane) -> None:
    await offer(market, "Harbour storage", "Harbor storage", "Harbour weather")
    assert await found(market, "harbour stoage") == (["Harbour storage"], True)
    assert await found(market, "stoage harbour") == (["Harbour storage"], True)
    assert await found(market, "harb stoage") == (["Harbor storage", "Harbour storage"], True)
    assert await found(market, "habour stoage") == (["Harbour storage"], True)


@pytest.mark.usecase(1239)
async def test_words_that_the_dictionary_never_takes_in_stand_for_themselves(
    market: ControlPlane,
) -> None:
    monster = "donaudampfschifffahrtsgesellschaftskapitaen"
    await offer(market, f"{monster} storage", "ev storage", "Storage")
    assert await found(market, f"{monster} stoage") == ([f"{monster} storage"], True)
    assert await found(market, "ev stoage") == (["ev storage"], True)


@pytest.mark.usecase(1239)
async def test_what_a_provider_once_misspelled_is_no_right_word_for_good(
    market: ControlPlane,
) -> None:
    made = await market.service("volt", title="Paarking", description=".")
    await offer(market, "Parking")
    assert await found(market, "paarking") == (["Paarking"], False)
    change = "ServiceRegistryService/ChangeServiceDescription"
    await market.ask("volt", change, service_id=made.service_id, title="Parking")
    assert await found(market, "paarking") == (["Parking", "Parking"], True)


@pytest.mark.usecase(1239)
async def test_what_only_services_that_one_does_not_see_have_is_no_right_word(
    market: ControlPlane,
) -> None:
    await market.register_service("volt", title="Smaragd", description=".")
    await offer(market, "Smaragt")
    assert await found(market, "smaragd") == (["Smaragt"], True)
    assert await found(market, "smaragd", "watt") == (["Smaragt"], True)
    for who in ("volt", TECHNICAL):
        assert await found(market, "smaragd", who) == (["Smaragd"], False)


@pytest.mark.usecase(1239)
async def test_the_likest_words_count_and_of_two_the_shorter_finds_both(
    market: ControlPlane,
) -> None:
    titles = [f"Station{n}" for n in ("", "a", "ab", "b", "c", "d")]
    await offer(market, *titles)
    assert len(titles) > ALIKE_MAX
    assert await found(market, "staton") == (titles, True)


@pytest.mark.usecase(1239)
async def test_pages_of_words_spelled_alike_join_without_gap_or_double(
    market: ControlPlane,
) -> None:
    titles = [f"Opal {n}" for n in range(5)]
    await offer(market, *titles, "Quartz")
    joined, token = [], ""
    while True:
        page = {"page_size": 2, "page_token": token}
        answer = await market.ask("evsp", SEARCH, text="oopal", page=page)
        assert answer.spelled_alike
        joined += [each.service.title for each in answer.found]
        token = answer.page.next_page_token
        if not token:
            break
    assert sorted(joined) == titles


@pytest.mark.usecase(1239)
async def test_a_page_goes_on_where_its_word_has_become_right_meanwhile(
    market: ControlPlane,
) -> None:
    await offer(market, "Opal 1", "Opal 2")
    first = await market.ask("evsp", SEARCH, text="oopal", page={"page_size": 1})
    await offer(market, "Oopal")
    token = first.page.next_page_token
    rest = await market.ask("evsp", SEARCH, text="oopal", page={"page_token": token})
    assert {each.service.title for each in rest.found} <= {"Oopal", "Opal 2"}


@pytest.mark.usecase(1239)
@pytest.mark.parametrize("token", ["0.0.999999999999999999", "1.0.1"])
@pytest.mark.parametrize("words", ["", "opal"])
async def test_a_page_token_of_another_search_gives_a_page_of_this_one(
    market: ControlPlane, token: str, words: str
) -> None:
    await offer(market, "Opal 1")
    page = {"page_token": base64.urlsafe_b64encode(token.encode()).decode()}
    answer = await market.ask("evsp", SEARCH, text=words, page=page)
    assert {each.service.title for each in answer.found} <= {"Opal 1"}
    assert not answer.spelled_alike


@dataclass(frozen=True)
class Made:
    """A service as the test knows it."""

    title: str
    provider: str
    state: ServiceState.ValueType
    category: str


async def every_kind(market: ControlPlane) -> list[Made]:
    """Make a service of each provider, state and category."""
    kinds = itertools.product(("volt", "watt"), (PUBLISHED, STOPPED, REGISTERED), ("a", "b", "c"))
    made = [Made(f"Search n{number}", *kind) for number, kind in enumerate(kinds)]
    for each in made:
        await market.service(each.provider, title=each.title, description=".")
    rows = [
        {"title": m.title, "category": m.category, "state": ServiceState.Name(m.state)[14:]}
        for m in made
    ]
    change = "UPDATE marketplace.service SET category = :category, state = :state"
    async with market.engine.begin() as connection:
        await connection.execute(text(f"{change} WHERE title = :title"), rows)
    return made


@pytest.mark.usecase(1239)
async def test_one_statement_answers_every_combination_of_conditions(market: ControlPlane) -> None:
    made = await every_kind(market)
    for who, words, states, categories, provider in itertools.product(
        ("evsp", "volt", TECHNICAL),
        ("", "search"),
        ([], [STOPPED], [STOPPED, PUBLISHED], [REGISTERED], [REGISTERED, STOPPED], [DELETED]),
        ([], ["a"], ["b", "c"]),
        ("", "volt"),
    ):
        expected = [
            m.title
            for m in made
            if (m.state != REGISTERED or who in (m.provider, TECHNICAL))
            and (not states or m.state in states)
            and (not categories or m.category in categories)
            and provider in ("", m.provider)
        ]
        fields = {"states": states, "categories": categories, "provider_id": provider}
        assert await found(market, words, who, **fields) == (sorted(expected), False), fields


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[tuple[str, Any]]]:
    """Take down every statement on services that is executed, with its values."""
    seen: list[tuple[str, Any]] = []

    def take(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if "ORDER BY marketplace.service.position" in statement:
            seen.append((statement, values))

    event.listen(engine.sync_engine, "before_cursor_execute", take)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", take)


#: Every fifth category has what is stopped, the others have none.
_MANY = """
INSERT INTO marketplace.service (service_id, provider_id, title, description, interface_name,
  interface_version, service_version, endpoint, state, registration_contract_version,
  registered_at, category, search_text, words)
SELECT 'copy-' || n, provider_id, title, description, interface_name, interface_version,
  service_version, endpoint, CASE WHEN n % 10 = 0 THEN 'STOPPED' ELSE 'PUBLISHED' END, 1,
  registered_at, 'category-' || n % 5, search_text, words
FROM marketplace.service, generate_series(1, 5000) AS n
"""


async def plan_of(market: ControlPlane, **fields: Any) -> str:
    """Give the plan of a search among thousands of copies of the one service that there is."""
    with statements(market.engine) as seen:
        await market.ask("evsp", SEARCH, **fields)
    (statement, values), *_ = seen
    async with market.engine.connect() as connection, connection.begin() as transaction:
        for step in (text(_MANY), text("ANALYZE marketplace.service")):
            await connection.execute(step)
        await connection.execute(PLAN_EACH, {"words": [], "having_max": 0})
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        plan = "\n".join(row[0] for row in await raw.fetch(f"EXPLAIN {statement}", *values))
        await transaction.rollback()
    return plan


@pytest.mark.usecase(1239)
@pytest.mark.parametrize("words", ["", "harbour"])
async def test_conditions_that_exclude_each_other_read_next_to_nothing(
    market: ControlPlane, words: str
) -> None:
    await offer(market, "Harbour")
    plan = await plan_of(market, text=words, categories=["category-1"], states=[STOPPED])
    assert "Index Scan using service_category_state" in plan
    # What is found comes by position; only its ranks are sorted.
    assert plan.count("Sort Key") == (1 if words else 0), plan


@pytest.mark.usecase(1239)
async def test_what_most_services_have_is_read_by_position_and_what_few_have_by_the_words(
    market: ControlPlane,
) -> None:
    await offer(market, "Harbour")
    assert "using service_position_key on service service_1" in await plan_of(
        market, text="harbour"
    )
    async with market.engine.begin() as connection:
        await connection.execute(text("INSERT INTO marketplace.service_word VALUES ('storage')"))
    assert "on service_words" in await plan_of(market, text="storage")
    plan = await plan_of(market, text="harbour", categories=["category-1"])
    assert "using service_category on service service_1" in plan


@pytest.mark.usecase(1239)
async def test_conditions_that_do_not_apply_are_no_part_of_the_plan(market: ControlPlane) -> None:
    await offer(market, "Harbour")
    plan = await plan_of(market, text="harbour")
    assert plan.count("words @@ ") == 1
    assert "search_text" not in plan
    for column in ("category =", "interface_name =", "IS NULL", "ANY (NULL"):
        assert column not in plan, plan
    plan = await plan_of(market, relation=AVAILABLE, states=[PUBLISHED])
    assert "words" not in plan
    assert "IS NULL" not in plan


@pytest.mark.usecase(1239)
async def test_what_is_asked_changes_values_and_no_statement(market: ControlPlane) -> None:
    await offer(market, "Harbour")
    asked: tuple[dict[str, Any], ...] = (
        {"text": "harbour"},
        {"text": "a b c d e f g h", "categories": ["a"]},
        {"text": "harbuor", "states": [STOPPED, PUBLISHED], "provider_id": "volt"},
    )
    with statements(market.engine) as seen:
        for fields in asked:
            await market.ask("evsp", SEARCH, **fields)
    assert len({statement for statement, _ in seen}) == 1
    assert len(seen) == len(asked)
