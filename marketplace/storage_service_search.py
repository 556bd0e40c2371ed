"""The search for services in PostgreSQL: trigrams find, likeness ranks, keysets page.

A word is looked for as a LIKE pattern, which the GIN index of trigrams answers. A text that most
services have would find most of them: only the first matches by the order of registration are
ranked, which the planner takes from an index that ends with the position where that is less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.actor import Actor
from marketplace.service import VISIBLE, Service, ServiceState
from marketplace.service_description import pattern
from marketplace.storage_service import service_of
from marketplace.storage_service_query import (
    Relation,
    services_by_position,
    services_by_rank,
)
from marketplace.storage_service_spelling import Meant, as_written, spelled_alike

_OTHER_WEIGHT = 300
#: A plan made without the words would not know whether they are rare. The registry is small enough
#: for memory, where a row costs no more by an index: with the price of a disk the planner reads a
#: long index to its end rather than the few entries of a category.
PLAN_EACH = text("""
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('random_page_cost', '1.1', true)
""")


@dataclass(frozen=True, slots=True)
class SearchCriteria:
    """Conditions of a search, applied together; an empty one does not apply."""

    words: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    interface_name: str = ""
    provider_id: str = ""
    states: tuple[ServiceState, ...] = ()
    relation: Relation | None = None
    hosting_country_code: str = ""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """At most `size` services behind rank and position of the last one seen."""

    size: int
    after: tuple[int, int] | None = None


class ServiceSearch:
    """Searches inside a transaction that the caller owns."""

    def __init__(self, connection: AsyncConnection, actor: Actor) -> None:
        self._connection = connection
        self._actor = actor

    async def find(
        self, criteria: SearchCriteria, page: SearchPage, meant: Meant | None = None
    ) -> list[tuple[Service, int]]:
        """Give the services of the page and one more, with their ranks, the best first.

        `meant` says for each word of the criteria which words count as it; unset means the word
        alone.
        """
        meant = as_written(criteria.words) if meant is None else meant
        if not all(meant):
            return []
        await self._connection.execute(PLAN_EACH)
        made = services_by_rank if criteria.words else services_by_position
        query = made(criteria.relation, hosted=bool(criteria.hosting_country_code))
        values = {**self._values(criteria), **_page_values(page), **_word_values(criteria, meant)}
        rows = (await self._connection.execute(query, values)).all()
        return [(service_of(row), int(row.rank)) for row in rows]

    async def spelled_alike(self, words: Sequence[str]) -> Meant:
        """Give which words count as each: itself where a service that the actor sees has it."""
        return await spelled_alike(self._connection, words, self._actor)

    def _values(self, criteria: SearchCriteria) -> dict[str, object]:
        """Give the values of the conditions that apply; any other is NULL by itself."""
        states, categories = [state.value for state in criteria.states], list(criteria.categories)
        return {
            "actor_id": self._actor.subject_id,
            # What goes without saying is not said: the planner would take it for a condition more.
            "sees_all": not self._actor.is_partner
            or (bool(criteria.states) and VISIBLE.issuperset(criteria.states)),
            "any_state": bool(states),
            **_one_or_several("state", "states", states),
            **_one_or_several("category", "categories", categories),
            "interface_name": criteria.interface_name or None,
            "provider_id": criteria.provider_id or None,
            "hosting_country_code": criteria.hosting_country_code or None,
        }


def _one_or_several(one: str, several: str, values: list[str]) -> dict[str, object]:
    if len(values) == 1:
        return {one: values[0]}
    return {several: values or None}


def _page_values(page: SearchPage) -> dict[str, object]:
    values: dict[str, object] = {"size": page.size + 1}
    if page.after is not None:
        values["after_rank"], values["after_position"] = page.after
    return values


def _word_values(criteria: SearchCriteria, meant: Meant) -> dict[str, object]:
    if not criteria.words:
        return {}
    values: dict[str, object] = {
        "phrase": " ".join(criteria.words),
        "word_weight": _OTHER_WEIGHT // len(criteria.words),
    }
    for index, (word, alike) in enumerate(zip(criteria.words, meant, strict=True)):
        values[f"word_{index}"] = f"%{word}%"
        for place, each in enumerate(alike):
            values[f"pattern_{index}_{place}"] = pattern(each)
    return values
