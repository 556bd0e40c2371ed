"""Which entries of the transaction log are meant, and which of them an actor may see, as SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from gem.marketplace.v1.transaction_service_pb2 import TransactionRole
from marketplace.actor import Actor

METADATA = MetaData(schema="marketplace")
_TIME = TIMESTAMP(timezone=True)
ENTRY = Table(
    "service_transaction",
    METADATA,
    Column("transaction_id", Uuid, primary_key=True),
    Column("started_at", _TIME, primary_key=True),
    Column("call_id", Uuid),
    Column("requester_id", Text),
    Column("provider_id", Text),
    Column("contract_id", Text),
    Column("service_id", Text),
    Column("service_version", Text),
    Column("method", Text),
    Column("duration_us", BigInteger),
    Column("status", SmallInteger),
    Column("reason", SmallInteger),
    Column("code", SmallInteger),
    Column("request_bytes", BigInteger),
    Column("answer_bytes", BigInteger),
    Column("request_digest", LargeBinary),
    Column("answer_digest", LargeBinary),
    Column("item_count", BigInteger),
    Column("value_micros", BigInteger),
    Column("currency_code", Text),
    Column("units", BigInteger),
    Column("price_id", BigInteger),
)

FAILED_CALL = Table(
    "failed_call",
    METADATA,
    Column("call_id", Uuid, primary_key=True),
    Column("started_at", _TIME, primary_key=True),
    Column("requester_id", Text),
    Column("method", Text),
    Column("duration_us", BigInteger),
    Column("reason", SmallInteger),
    Column("code", SmallInteger),
    Column("request_bytes", BigInteger),
)


@dataclass(frozen=True, slots=True)
class Period:
    """From `start`, inclusive, to `end`, exclusive; None is open."""

    start: datetime | None = None
    end: datetime | None = None

    def of(self, column: ColumnElement[datetime]) -> ColumnElement[bool]:
        """Give the condition that a column lies within."""
        conditions = []
        if self.start is not None:
            conditions.append(column >= self.start)
        if self.end is not None:
            conditions.append(column < self.end)
        return and_(true(), *conditions)


class Role(IntEnum):
    """The part of a partner in an entry; the numbers are the catalogue's."""

    EITHER = TransactionRole.TRANSACTION_ROLE_UNSPECIFIED
    BUYER = TransactionRole.TRANSACTION_ROLE_BUYER
    SELLER = TransactionRole.TRANSACTION_ROLE_SELLER
    DEBTOR = TransactionRole.TRANSACTION_ROLE_DEBTOR
    CREDITOR = TransactionRole.TRANSACTION_ROLE_CREDITOR


@dataclass(frozen=True, slots=True)
class Party:
    """A partner with its part in an entry, and who is on the other side; empty is anybody."""

    partner_id: str
    role: Role = Role.EITHER
    counterparty_id: str = ""

    def sides(self) -> list[ColumnElement[bool]]:
        """Give conditions, of which each has an index and no entry meets two."""
        return [and_(*conditions) for conditions in self._sides()]

    def _sides(self) -> list[list[ColumnElement[bool]]]:
        value = ENTRY.c.value_micros
        requests, provides = self._side("requester_id"), self._side("provider_id")
        match self.role:
            case Role.BUYER:
                return [requests]
            case Role.SELLER:
                return [provides]
            case Role.DEBTOR:
                return [[*requests, value > 0], [*provides, value < 0]]
            case Role.CREDITOR:
                return [[*provides, value > 0], [*requests, value < 0]]
            case Role.EITHER:
                return [requests, [*provides, ENTRY.c.requester_id != self.partner_id]]

    def _side(self, mine: str) -> list[ColumnElement[bool]]:
        theirs = "provider_id" if mine == "requester_id" else "requester_id"
        conditions = [ENTRY.c[mine] == self.partner_id]
        if self.counterparty_id:
            conditions.append(ENTRY.c[theirs] == self.counterparty_id)
        return conditions


@dataclass(frozen=True, slots=True)
class Values:
    """Values in one currency from `least_micros` to `most_micros`, both inclusive; None is open."""

    currency_code: str
    least_micros: int | None = None
    most_micros: int | None = None

    def condition(self) -> ColumnElement[bool]:
        """Give the condition that an entry's value lies within."""
        conditions = [ENTRY.c.currency_code == self.currency_code]
        if self.least_micros is not None:
            conditions.append(ENTRY.c.value_micros >= self.least_micros)
        if self.most_micros is not None:
            conditions.append(ENTRY.c.value_micros <= self.most_micros)
        return and_(*conditions)


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are meant; empty values do not narrow."""

    requester_id: str = ""
    provider_id: str = ""
    contract_id: str = ""
    service_id: str = ""
    method: str = ""
    call_id: UUID | None = None
    statuses: Sequence[int] = ()
    period: Period = Period()
    values: Values | None = None
    party: Party | None = None

    def condition(self) -> ColumnElement[bool]:
        """Give the condition that an entry is meant, whoever its parties are."""
        columns = ENTRY.c
        wanted: list[tuple[ColumnElement[Any], object]] = [
            (columns.requester_id, self.requester_id),
            (columns.provider_id, self.provider_id),
            (columns.contract_id, self.contract_id),
            (columns.service_id, self.service_id),
            (columns.method, self.method),
            (columns.call_id, self.call_id),
        ]
        conditions = [column == value for column, value in wanted if value]
        if self.statuses:
            conditions.append(columns.status.in_(self.statuses))
        if self.values is not None:
            conditions.append(self.values.condition())
        return and_(self.period.of(columns.started_at), *conditions)

    def sides(self, actor: Actor) -> list[ColumnElement[bool]]:
        """Give the conditions of the entries that are meant and that the actor may see.

        Each has an index, and no entry meets two of them.
        """
        condition, party = self.condition(), self.party
        if actor.is_partner and party is None:
            party = Party(actor.subject_id)
        if party is None:
            return [condition]
        if actor.is_partner and party.partner_id != actor.subject_id:
            # Of other partners, an actor sees what they have with itself.
            condition = and_(condition, or_(*Party(actor.subject_id).sides()))
        return [and_(side, condition) for side in party.sides()]
