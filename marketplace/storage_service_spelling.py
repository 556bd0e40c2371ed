"""Words that nothing has, and those spelled alike, in PostgreSQL.

The dictionary never forgets a word, nor one that a provider once misspelled: whether a word is
right is asked of the services. The dictionary is asked first, as it is short: the services would be
read to their end for a word that none of them has.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Text, case, exists, false, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.service_description import is_known, pattern
from marketplace.storage_tables import SERVICE
from marketplace.storage_tables_service import SERVICE_WORD

#: Words of the dictionary that count as one that nothing has.
ALIKE_MAX = 5

#: For each word of a search the words of which a service has one.
Meant = tuple[tuple[str, ...], ...]


def as_written(words: Sequence[str]) -> Meant:
    """Let each word count as itself alone."""
    return tuple((word,) for word in words)


async def spelled_alike(
    connection: AsyncConnection, words: Sequence[str], *seen: ColumnElement[bool]
) -> Meant:
    """Give which words count as each of `words`: itself where a service has it.

    The services are those that fulfil all of `seen`. In place of a word that none of them has come
    at most five of the dictionary, none where nothing is spelled alike.
    """
    had = (await connection.execute(select(*(_is_had(word, seen) for word in words)))).one()
    missing = [word for word, is_had in zip(words, had, strict=True) if not is_had]
    alike = await _alike(connection, missing) if missing else {}
    return tuple(alike.get(word, (word,)) for word in words)


def _is_had(word: str, seen: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    had = exists().where(SERVICE.c.search_text.like(pattern(word)), *seen)
    if not is_known(word):
        return had
    return case((exists().where(SERVICE_WORD.c.word.like(pattern(word))), had), else_=false())


async def _alike(connection: AsyncConnection, words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Find the likest words for all at once; of two, one in the other, the shorter finds both."""
    asked = func.unnest(literal(words, ARRAY(Text))).table_valued("word").render_derived("asked")
    column = SERVICE_WORD.c.word
    likest = (
        select(column)
        .where(column.op("%")(asked.c.word))
        .order_by(func.similarity(column, asked.c.word).desc(), column)
        .limit(ALIKE_MAX)
        .lateral("likest")
    )
    query = select(asked.c.word, likest.c.word.label("alike")).join(likest, true())
    found: dict[str, list[str]] = {word: [] for word in words}
    for word, alike in await connection.execute(query):
        found[word].append(alike)
    return {word: _without_longer(alike) for word, alike in found.items()}


def _without_longer(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        word for word in words if not any(other in word for other in words if other != word)
    )
