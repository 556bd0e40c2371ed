"""The statements that find services, each made once: what does not apply is NULL or true.

To make and compile a statement for each search took longer than most searches take in PostgreSQL.
The planner sees the values, drops the conditions that do not apply, and knows which words are rare.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Boolean,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, SMALLINT, TSQUERY
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.types import TypeEngine

from marketplace.partner import PartnerState
from marketplace.service import VISIBLE, ServiceState
from marketplace.service_description import ALIKE_MAX, WORDS_MAX
from marketplace.storage_contract_cover import services_under_contract
from marketplace.storage_service import COLUMNS
from marketplace.storage_tables import INTERFACE_VERSION, PARTNER, SERVICE
from marketplace.storage_tables_service import SERVICE_HOSTING

#: Matches of a text that are ranked.
RANKED_MAX = 500
_TITLE_WEIGHT = 700


class Relation(StrEnum):
    """What a service is to the partner that searches; the names are those of the proto enum."""

    OFFERED = "OFFERED"
    CONTRACTED = "CONTRACTED"
    AVAILABLE = "AVAILABLE"


def value(name: str, type_: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """Name a value of a statement, a text unless `type_` says other; NULL where none is given."""
    return bindparam(name, None, type_=Text() if type_ is None else type_)


#: The partner that searches.
ACTOR = value("actor_id")


@lru_cache
def services_by_position(relation: Relation | None, *, hosted: bool) -> Select[Any]:
    """Find services in the order of registration, behind `after_position` where that is given."""
    position = SERVICE.c.position
    after = value("after_position", BigInteger())
    return (
        select(*COLUMNS, literal(0).label("rank"))
        .where(*_conditions(relation, hosted=hosted), or_(after.is_(None), position > after))
        .order_by(position)
        .limit(value("size", Integer()))
    )


@lru_cache
def services_by_rank(relation: Relation | None, *, hosted: bool) -> Select[Any]:
    """Find services with the words, those that fit best of the first matches first.

    Where `after_rank` is given, those behind it and `after_position`.
    """
    others = func.lower(SERVICE.c.category + " " + func.array_to_string(SERVICE.c.keywords, " "))
    found = (
        select(SERVICE.c.position, SERVICE.c.title, others.label("others"))
        .where(*_conditions(relation, hosted=hosted), *map(has_word, range(WORDS_MAX)))
        .order_by(SERVICE.c.position)
        .limit(RANKED_MAX)
        .subquery("found")
    )
    fit = func.word_similarity(value("phrase"), found.c.title) * _TITLE_WEIGHT
    for index in range(WORDS_MAX):
        in_others = found.c.others.like(func.lower(value(f"word_{index}")))
        fit += case((in_others, value("word_weight", Integer())), else_=0)
    ranked = select(found.c.position, cast(fit, Integer).label("rank")).subquery("ranked")
    rank, position = ranked.c.rank, ranked.c.position
    last_rank, last_position = (value(f"after_{of}", BigInteger()) for of in ("rank", "position"))
    behind = case((rank == last_rank, position > last_position), else_=rank < last_rank)
    best = (
        select(rank, position)
        .where(or_(last_rank.is_(None), behind))
        .order_by(rank.desc(), position)
        .limit(value("size", Integer()))
        .subquery("best")
    )
    return (
        select(*COLUMNS, best.c.rank)
        .join(best, best.c.position == SERVICE.c.position)
        .order_by(best.c.rank.desc(), best.c.position)
    )


def _conditions(relation: Relation | None, *, hosted: bool) -> list[ColumnElement[bool]]:
    """Give the conditions; those with tables of their own only where they apply.

    A subquery behind `OR` is read anew for each row.
    """
    column, any_state = SERVICE.c, value("any_state", Boolean())
    where = [
        or_(value("sees_all", Boolean()), is_visible()),
        or_(any_state, column.state != ServiceState.DELETED.value),
        *_is_one_of(column.state, "state", "states"),
        *_is_one_of(column.category, "category", "categories"),
        *_is_one_of(column.interface_name, "interface_name"),
        *_is_one_of(column.provider_id, "provider_id"),
    ]
    if hosted:
        where.append(
            exists().where(
                SERVICE_HOSTING.c.service_id == column.service_id,
                SERVICE_HOSTING.c.country_code == value("hosting_country_code"),
            )
        )
    if relation is not None:
        where.append(_related(relation))
    return where


def is_visible() -> ColumnElement[bool]:
    """Say whether the partner that searches sees a service."""
    visible = SERVICE.c.state.in_(sorted(state.value for state in VISIBLE))
    return visible | (SERVICE.c.provider_id == ACTOR)


def _is_one_of(column: ColumnElement[str], one: str, several: str = "") -> list[Any]:
    """Compare with one value or with several: only with one an index keeps its order behind it."""
    wanted = value(one)
    where = [or_(wanted.is_(None), column == wanted)]
    if several:
        values = value(several, ARRAY(Text))
        where.append(or_(values.is_(None), column == any_(values)))
    return where


def has_word(index: int) -> ColumnElement[bool]:
    """Say whether a service has a word of the search; see `WordCondition` for the two ways."""
    terms, patterns = value(f"terms_{index}"), value(f"patterns_{index}", ARRAY(Text))
    by_words = SERVICE.c.words.op("@@", is_comparison=True)(cast(terms, TSQUERY))
    # Each by itself: no index answers LIKE ANY.
    listed = Grouping(cast(patterns, ARRAY(Text)))
    each = (listed[literal_column(str(place))] for place in range(1, ALIKE_MAX + 1))
    by_text = or_(*map(SERVICE.c.search_text.like, each))
    return and_(or_(terms.is_(None), by_words), or_(patterns.is_(None), by_text))


def _related(relation: Relation) -> ColumnElement[bool]:
    column = SERVICE.c
    contracted = services_under_contract(ACTOR)
    if relation is Relation.OFFERED:
        return column.provider_id == ACTOR
    if relation is Relation.CONTRACTED:
        return column.service_id.in_(contracted)
    # Each a short list of what is not available, read once: joins would cost a step for each match.
    inactive = select(PARTNER.c.partner_id).where(PARTNER.c.state != PartnerState.ACTIVE.value)
    return and_(
        column.state == ServiceState.PUBLISHED.value,
        column.provider_id != ACTOR,
        _holds_not(column.service_id.in_(contracted)),
        _holds_not(column.provider_id.in_(inactive)),
        _holds_not(tuple_(column.interface_name, column.interface_version).in_(_not_called())),
    )


def _holds_not(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Say that a condition does not hold, in a way of which the planner expects that.

    Of `NOT IN` a list that it does not know it expects half of the services, of three lists an
    eighth: it would read all that match where the first few hundred are wanted.
    """
    return func.nullif(condition, true()).is_not(None)


def _not_called() -> Select[Any]:
    """Give the interfaces that no role of the partner may call; no allowed role means any."""
    allowed = INTERFACE_VERSION.c.called_by
    roles = select(PARTNER.c.roles).where(PARTNER.c.partner_id == ACTOR).scalar_subquery()
    return select(INTERFACE_VERSION.c.interface_name, INTERFACE_VERSION.c.version).where(
        allowed != cast([], ARRAY(SMALLINT)), ~allowed.overlap(roles)
    )
