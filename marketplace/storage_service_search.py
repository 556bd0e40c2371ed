"""The search for services in PostgreSQL: trigrams find, likeness ranks, keysets page.

A word is looked for as a LIKE pattern, which the GIN index of trigrams answers. A text that most
services have would find most of them: only the first matches by the order of registration are
ranked, which the planner takes from an index that ends with the position where that is less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, SMALLINT
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.actor import Actor
from marketplace.partner import PartnerState
from marketplace.service import VISIBLE, Service, ServiceState
from marketplace.service_description import pattern
from marketplace.storage_contract_cover import services_under_contract
from marketplace.storage_service import COLUMNS, service_of
from marketplace.storage_service_spelling import Meant, as_written, spelled_alike
from marketplace.storage_tables import INTERFACE_VERSION, PARTNER, SERVICE
from marketplace.storage_tables_service import SERVICE_HOSTING

#: Matches of a text that are ranked.
RANKED_MAX = 500
_TITLE_WEIGHT, _OTHER_WEIGHT = 700, 300
# A plan made without the words would not know whether they are rare. The registry is small enough
# for memory, where a row costs no more by an index: with the price of a disk the planner reads a
# long index to its end rather than the few entries of a category.
_PLAN_EACH = """
SELECT set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('random_page_cost', '1.1', true)
"""


class Relation(StrEnum):
    """What a service is to the partner that searches; the names are those of the proto enum."""

    OFFERED = "OFFERED"
    CONTRACTED = "CONTRACTED"
    AVAILABLE = "AVAILABLE"


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
        await self._connection.execute(text(_PLAN_EACH))
        where = [*self._conditions(criteria), *map(_has_any, meant)]
        query = _by_rank(where, criteria, page) if criteria.words else _by_position(where, page)
        rows = (await self._connection.execute(query)).all()
        return [(service_of(row), int(row.rank)) for row in rows]

    async def spelled_alike(self, words: Sequence[str]) -> Meant:
        """Give which words count as each: itself where a service that the actor sees has it."""
        column = SERVICE.c
        return await spelled_alike(
            self._connection, words, column.state != ServiceState.DELETED.value, *self._visible()
        )

    def _visible(self) -> list[ColumnElement[bool]]:
        if not self._actor.is_partner:
            return []
        visible = SERVICE.c.state.in_([state.value for state in VISIBLE])
        return [visible | (SERVICE.c.provider_id == self._actor.subject_id)]

    def _conditions(self, criteria: SearchCriteria) -> list[ColumnElement[bool]]:
        column = SERVICE.c
        where: list[ColumnElement[bool]] = []
        if criteria.states:
            where.append(column.state.in_([state.value for state in criteria.states]))
        else:
            where.append(column.state != ServiceState.DELETED.value)
        # What goes without saying is not said: the planner would take it for a further condition.
        if not criteria.states or not VISIBLE.issuperset(criteria.states):
            where += self._visible()
        if criteria.categories:
            where.append(column.category.in_(criteria.categories))
        if criteria.interface_name:
            where.append(column.interface_name == criteria.interface_name)
        if criteria.provider_id:
            where.append(column.provider_id == criteria.provider_id)
        if criteria.hosting_country_code:
            where.append(
                exists().where(
                    SERVICE_HOSTING.c.service_id == column.service_id,
                    SERVICE_HOSTING.c.country_code == criteria.hosting_country_code,
                )
            )
        if criteria.relation is not None:
            where.append(_related(criteria.relation, self._actor.subject_id))
        return where


def _related(relation: Relation, partner_id: str) -> ColumnElement[bool]:
    column = SERVICE.c
    contracted = services_under_contract(partner_id)
    if relation is Relation.OFFERED:
        return column.provider_id == partner_id
    if relation is Relation.CONTRACTED:
        return column.service_id.in_(contracted)
    # Each a short list of what is not available, read once: joins would cost a step for each match.
    inactive = select(PARTNER.c.partner_id).where(PARTNER.c.state != PartnerState.ACTIVE.value)
    return and_(
        column.state == ServiceState.PUBLISHED.value,
        column.provider_id != partner_id,
        column.service_id.not_in(contracted),
        column.provider_id.not_in(inactive),
        tuple_(column.interface_name, column.interface_version).not_in(_not_called(partner_id)),
    )


def _not_called(partner_id: str) -> Select[Any]:
    """Give the interfaces that no role of the partner may call; no allowed role means any."""
    allowed = INTERFACE_VERSION.c.called_by
    roles = select(PARTNER.c.roles).where(PARTNER.c.partner_id == partner_id).scalar_subquery()
    return select(INTERFACE_VERSION.c.interface_name, INTERFACE_VERSION.c.version).where(
        allowed != cast([], ARRAY(SMALLINT)), ~allowed.overlap(roles)
    )


def _has_any(words: Sequence[str]) -> ColumnElement[bool]:
    return or_(false(), *(SERVICE.c.search_text.like(pattern(word)) for word in words))


def _by_position(where: list[ColumnElement[bool]], page: SearchPage) -> Select[Any]:
    query = select(*COLUMNS, literal(0).label("rank")).where(*where)
    if page.after is not None:
        query = query.where(SERVICE.c.position > page.after[1])
    return query.order_by(SERVICE.c.position).limit(page.size + 1)


def _by_rank(
    where: list[ColumnElement[bool]], criteria: SearchCriteria, page: SearchPage
) -> Select[Any]:
    others = SERVICE.c.category + " " + func.array_to_string(SERVICE.c.keywords, " ")
    found = (
        select(SERVICE.c.position, SERVICE.c.title, others.label("others"))
        .where(*where)
        .order_by(SERVICE.c.position)
        .limit(RANKED_MAX)
        .subquery("found")
    )
    words = literal(" ".join(criteria.words), String)
    fit = func.word_similarity(words, found.c.title) * _TITLE_WEIGHT
    each = _OTHER_WEIGHT // len(criteria.words)
    for word in criteria.words:
        fit += case((found.c.others.icontains(word), each), else_=0)
    ranked = select(found.c.position, cast(fit, Integer).label("rank")).subquery("ranked")
    rank, position = ranked.c.rank, ranked.c.position
    shown = select(rank, position)
    if page.after is not None:
        last_rank, last_position = page.after
        behind = case((rank == last_rank, position > last_position), else_=rank < last_rank)
        shown = shown.where(behind)
    best = shown.order_by(rank.desc(), position).limit(page.size + 1).subquery("best")
    return (
        select(*COLUMNS, best.c.rank)
        .join(best, best.c.position == SERVICE.c.position)
        .order_by(best.c.rank.desc(), best.c.position)
    )
