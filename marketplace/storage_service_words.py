"""What the words of a search stand for: those of the dictionary that have them as parts.

The dictionary has every word of every service that is long enough to have parts. That few of its
words have a part is told in a moment, and which services have one of few words is read from an
index. The texts of the services are asked for a part only that many words have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.service_description import LONGEST_PART, SHORTEST_PART

#: Words that are looked for in place of one; where a service is read to be compared, not found by
#: an index, each of them takes time.
TERMS_MAX = 20
#: Words of the dictionary that are read for one of a search.
_HAVING_MAX = 200
#: The words that have each asked one as a part, and the settings of the transaction. A plan made
#: without the words would not know whether they are rare. The registry is small enough for memory,
#: where a row costs no more by an index, and to compare its words is what takes the time: with the
#: prices of a disk the planner reads a long index to its end rather than the few entries of a
#: category or of the words. The dictionary is read as if all words were wanted: for the first few
#: the planner would read it from end to end.
PLAN_EACH = text("""
SELECT plan.*, asked.word, ARRAY(
    WITH known AS MATERIALIZED (
        SELECT word FROM marketplace.service_word WHERE word LIKE '%' || asked.word || '%'
    )
    SELECT word FROM known LIMIT :having_max + 1
) AS known
FROM (
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true) AS mode,
        set_config('random_page_cost', '1.1', true) AS page_price,
        set_config('cpu_operator_cost', '0.03', true) AS operator_price
) AS plan LEFT JOIN unnest(CAST(:words AS text[])) AS asked(word) ON true
""")


@dataclass(frozen=True, slots=True)
class WordCondition:
    """How services are found that have a word: by their words, else by parts of their texts."""

    #: Words of which a service has one, as operands of a `tsquery`.
    terms: tuple[str, ...] = ()
    #: Parts of which its text has one.
    parts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Say whether a service can have it."""
        return bool(self.terms or self.parts)

    def values(self, index: int) -> dict[str, object]:
        """Give the values by which a statement has it as its condition of that number."""
        return {
            f"terms_{index}": " | ".join(self.terms) or None,
            f"patterns_{index}": [f"%{part}%" for part in self.parts] or None,
        }


class Dictionary:
    """The words of the dictionary that a transaction asked for; it asks for each once."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._having: dict[str, list[str]] = {}
        self._is_planned = False

    async def conditions(self, meant: Iterable[Sequence[str]]) -> list[WordCondition]:
        """Give for each word of a search the condition that a service has what counts as it.

        From the first call on, each statement of the transaction is planned for its own values.
        """
        meant = list(meant)
        await self._ask({word for words in meant for word in words})
        return [self._condition(words) for words in meant]

    async def _ask(self, words: set[str]) -> None:
        wanted = sorted(word for word in words - self._having.keys() if _has_wholes(word))
        if self._is_planned and not wanted:
            return
        values = {"words": wanted, "having_max": _HAVING_MAX}
        rows = await self._connection.execute(PLAN_EACH, values)
        self._having |= {row.word: row.known for row in rows if row.word is not None}
        self._is_planned = True

    def _condition(self, words: Sequence[str]) -> WordCondition:
        having = {word: self._having.get(word, [word]) for word in words}
        found = {f"'{each}'" for several in having.values() for each in several}
        if len(found) > TERMS_MAX:
            found = {_beginning(word, each) for word in words for each in having[word]}
        is_whole = all(len(several) <= _HAVING_MAX for several in having.values())
        if len(found) > TERMS_MAX or not is_whole or any(map(_is_too_long, words)):
            return WordCondition(parts=tuple(words))
        return WordCondition(terms=tuple(sorted(found)))


def _beginning(word: str, having: str) -> str:
    """Give what all words begin with that have a word as this one has it.

    It takes the place of many words; a few are found faster one by one.
    """
    return f"'{having[: having.index(word)]}{word}':*"


def _has_wholes(word: str) -> bool:
    """Say whether the dictionary has all words that have this one as a part."""
    return len(word) >= SHORTEST_PART and not _is_too_long(word)


def _is_too_long(word: str) -> bool:
    return len(word) > LONGEST_PART
