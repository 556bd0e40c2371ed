"""Words that nothing has, and those spelled alike, in PostgreSQL.

The dictionary never forgets a word, nor one that a provider once misspelled: whether a word is
right is asked of the services, unless no word of the dictionary has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Select, Text, exists, func, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.actor import Actor
from marketplace.service import ServiceState
from marketplace.service_description import ALIKE_MAX, LONGEST_PART
from marketplace.storage_service_query import has_word, is_visible, value
from marketplace.storage_service_words import Dictionary
from marketplace.storage_tables import SERVICE
from marketplace.storage_tables_service import SERVICE_WORD

#: For each word of a search the words of which a service has one.
Meant = tuple[tuple[str, ...], ...]


def as_written(words: Sequence[str]) -> Meant:
    """Let each word count as itself alone."""
    return tuple((word,) for word in words)


async def spelled_alike(
    connection: AsyncConnection, dictionary: Dictionary, words: Sequence[str], actor: Actor
) -> Meant:
    """Give which words count as each of `words`: itself where a service that the actor sees has it.

    In place of a word that none of them has come at most five of the dictionary, none where nothing
    is spelled alike.
    """
    conditions = await dictionary.conditions(as_written(words))
    known = {word: each for word, each in zip(words, conditions, strict=True) if each}
    values: dict[str, object] = {"sees_all": not actor.is_partner, "actor_id": actor.subject_id}
    for index, condition in enumerate(known.values()):
        values |= condition.values(index)
    had = (await connection.execute(_which_are_had(len(known)), values)).one() if known else ()
    right = {word for word, is_had in zip(known, had, strict=True) if is_had}
    missing = [word for word in words if word not in right]
    alike = await _alike(connection, missing) if missing else {}
    return tuple(alike.get(word, (word,)) for word in words)


@lru_cache
def _which_are_had(count: int) -> Select[Any]:
    """Say of each of so many words whether a service that is seen has it."""
    seen = (
        or_(value("sees_all", Boolean()), is_visible()),
        SERVICE.c.state != ServiceState.DELETED.value,
    )
    had: list[ColumnElement[Any]] = [
        exists().where(has_word(index), *seen) for index in range(count)
    ]
    return select(*had)


async def _alike(connection: AsyncConnection, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the likest words for all at once; of two, one in the other, the shorter finds both."""
    found: dict[str, list[str]] = {word: [] for word in words}
    for word, alike in await connection.execute(_likest(), {"words": list(words)}):
        found[word].append(alike)
    return {word: _without_longer(alike) for word, alike in found.items()}


@lru_cache
def _likest() -> Select[Any]:
    words = func.unnest(value("words", ARRAY(Text)))
    asked = words.table_valued("word").render_derived("asked")
    column = SERVICE_WORD.c.word
    likest = (
        select(column)
        .where(column.op("%")(asked.c.word), func.length(column) <= LONGEST_PART)
        .order_by(func.similarity(column, asked.c.word).desc(), column)
        .limit(ALIKE_MAX)
        .lateral("likest")
    )
    return select(asked.c.word, likest.c.word.label("alike")).join(likest, true())


def _without_longer(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        word for word in words if not any(other in word for other in words if other != word)
    )
