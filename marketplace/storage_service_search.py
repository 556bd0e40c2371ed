"""The search for services in PostgreSQL: words find, likeness ranks, keysets page.

A word is looked for as the words of the dictionary that have it, which the GIN index of words
answers. A text that most services have would find most of them: only the first matches by the order
of registration are ranked, which the planner takes from an index that ends with the position where
that is less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.actor import Actor
from marketplace.service import VISIBLE, Service, ServiceState
from marketplace.service_description import WORDS_MAX
from marketplace.storage_service import service_of
from marketplace.storage_service_query import (
    Relation,
    services_by_position,
    services_by_rank,
)
from marketplace.storage_service_spelling import Meant, as_written, spelled_alike
from marketplace.storage_service_words import Dictionary, WordCondition

_OTHER_WEIGHT = 300


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
        self._dictionary = Dictionary(connection)

    async def find(
        self, criteria: SearchCriteria, page: SearchPage, meant: Meant | None = None
    ) -> list[tuple[Service, int]]:
        """Give the services of the page and one more, with their ranks, the best first.

        `meant` says for each word of the criteria which words count as it; unset means the word
        alone.
        """
        meant = as_written(criteria.words) if meant is None else meant
        conditions = await self._dictionary.conditions(meant)
        if not all(conditions):
            return []
        made = services_by_rank if criteria.words else services_by_position
        query = made(criteria.relation, hosted=bool(criteria.hosting_country_code))
        values = {**self._values(criteria), **_page_values(page)}
        if criteria.words:
            values |= _word_values(criteria.words, conditions)
        rows = (await self._connection.execute(query, values)).all()
        return [(service_of(row), int(row.rank)) for row in rows]

    async def spelled_alike(self, words: Sequence[str]) -> Meant:
        """Give which words count as each: itself where a service that the actor sees has it."""
        return await spelled_alike(self._connection, self._dictionary, words, self._actor)

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
        return {one: values[0], several: None}
    return {one: None, several: values or None}


def _page_values(page: SearchPage) -> dict[str, object]:
    rank, position = page.after or (None, None)
    return {"size": page.size + 1, "after_rank": rank, "after_position": position}


def _word_values(words: Sequence[str], conditions: list[WordCondition]) -> dict[str, object]:
    """Give the values of all words that a search can have.

    A statement is compiled anew for other names of values, which takes longer than the search.
    """
    values: dict[str, object] = {
        "phrase": " ".join(words),
        "word_weight": _OTHER_WEIGHT // len(words),
    }
    for index in range(WORDS_MAX):
        values[f"word_{index}"] = f"%{words[index]}%" if index < len(words) else None
        condition = conditions[index] if index < len(words) else WordCondition()
        values |= condition.values(index)
    return values
