"""Every row of the market with the partners that own it, found by the names of columns.

The rows of a table are those of the partners that its own columns name, or of the owners of the
thing that it is about. A table that has neither has to be in `WITHOUT_OWNER` with the reason, so
that a new table makes the test fail until somebody decides whose its rows are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Columns that name a partner. In some a person of the partner follows after a colon.
OWNER_COLUMNS = (
    *("partner_id", "provider_id", "requester_id", "author_id", "owner", "recipient_id"),
    *("proposer_id", "responder_id", "subject_id", "clearing_house_id"),
)
_WITH_PERSON = frozenset({"owner", "subject_id"})
_CATALOGUE = "published interfaces are everybody's"
_TEXTS = "a text of the market for everybody"
_MACHINERY = "of the market's own machinery; nothing in it is said or read by a partner"
#: Tables whose rows are nobody's, and why.
WITHOUT_OWNER: Mapping[str, str] = {
    "interface_publication": _CATALOGUE,
    "interface_version": _CATALOGUE,
    "interface_label": _CATALOGUE,
    "interface_label_event": _CATALOGUE,
    "contract_framework": _TEXTS,
    "partner_contract": _TEXTS,
    "registration_contract": _TEXTS,
    "price_model": "kept once by its digest; read only by way of a contract or offering",
    "service_word": "the words of all services, which only correct the spelling of a search",
    "login_attempt": "keyed by a digest of the names that somebody typed, right or wrong",
    "routing_version": _MACHINERY,
    "worker": _MACHINERY,
    "transaction_superseded": _MACHINERY,
    "transaction_chain_register": _MACHINERY,
    "transaction_open_chain": _MACHINERY,
    "transaction_unchained": _MACHINERY,
}
#: Tables that go on by themselves after a call has ended, and why they are not compared.
UNATTENDED: Mapping[str, str] = {
    "notice_outbox": "the delivery of e-mail; the notices themselves are compared",
    "failed_call": "refused calls of the same partner, written in groups a moment later",
}
#: Their keys have the time as well.
_PARTITIONED = {"service_transaction": "transaction_id"}
_COLUMNS = """
SELECT c.table_name, c.column_name, COALESCE(k.place, 0) AS place, c.data_type
FROM information_schema.columns c
JOIN pg_class t ON t.relname = c.table_name AND t.relnamespace = 'marketplace'::regnamespace
LEFT JOIN LATERAL (
  SELECT array_position(i.indkey::int2[], a.attnum) + 1 AS place
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = c.column_name
  WHERE i.indrelid = t.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)
) k ON true
WHERE c.table_schema = 'marketplace' AND t.relkind IN ('r', 'p') AND NOT t.relispartition
  AND c.table_name NOT LIKE 'alembic%'
ORDER BY c.table_name, c.ordinal_position
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its table, its key as text, whose it is, and a digest of all that is in it."""

    table: str
    key: str
    owners: frozenset[str]
    digest: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a call did to a row: one of both is None where it was added or removed."""

    before: Row | None
    after: Row | None

    @property
    def row(self) -> Row:
        """The row as it was, or as it is where it is new."""
        found = self.before or self.after
        assert found is not None, "there is no change of nothing"
        return found

    @property
    def is_new(self) -> bool:
        """Say whether the row was added."""
        return self.before is None

    def __str__(self) -> str:
        verb = "added" if self.is_new else "changed" if self.after else "removed"
        return f"{verb} {self.row.table} {self.row.key} of {sorted(self.row.owners)}"


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    binary: frozenset[str]

    @property
    def owners(self) -> list[str]:
        return [name for name in OWNER_COLUMNS if name in self.columns]


class Ownership:
    """Reads the rows of some partners from the database of a market."""

    def __init__(self, tables: Mapping[str, _Table]) -> None:
        self._tables = tables
        #: Tables that nobody has decided on.
        self.undecided: list[str] = []
        parts = []
        for table in tables.values():
            if table.name in WITHOUT_OWNER or table.name in UNATTENDED:
                continue
            shown = f"'{table.name}' AS of, {_key(table)} AS key, md5(x::text) AS digest"
            owned = self._owned(table, shown, frozenset())
            if owned is None:
                self.undecided.append(table.name)
            else:
                parts.append(owned)
        self._query = "\nUNION ALL ".join(parts)
        self._prepared: Any = None

    @classmethod
    async def of(cls, database: Any) -> Ownership:
        """Read the schema."""
        found: dict[str, list[Any]] = {}
        for row in await database.fetch(_COLUMNS):
            found.setdefault(row["table_name"], []).append(row)
        return cls(
            {
                name: _Table(
                    name,
                    tuple(row["column_name"] for row in rows),
                    tuple(
                        row["column_name"]
                        for row in sorted(rows, key=lambda each: each["place"])
                        if row["place"]
                    ),
                    frozenset(r["column_name"] for r in rows if r["data_type"] == "bytea"),
                )
                for name, rows in found.items()
            }
        )

    @property
    def tables(self) -> set[str]:
        """Name every table of the schema."""
        return set(self._tables)

    def kinds(self) -> Mapping[str, str]:
        """Give the kind of id that the key of a table is: of tables that are of one thing each."""
        single = {name: table.key[0] for name, table in self._tables.items() if len(table.key) == 1}
        owned = {name: kind for name, kind in single.items() if self._tables[name].owners}
        known = {
            name: kind
            for name, kind in single.items()
            if name in owned or kind not in owned.values()
        }
        ids = {name: kind for name, kind in known.items() if kind.endswith(("_id", "fingerprint"))}
        return {**ids, **_PARTITIONED}

    async def rows(self, database: Any, partners: Sequence[str]) -> dict[tuple[str, str], Row]:
        """Give every row that belongs to one of these partners, by table and key."""
        if self._prepared is None:
            # Planned once: the many small tables take longer to plan for than to read.
            await database.execute("SET plan_cache_mode = force_generic_plan")
            self._prepared = await database.prepare(self._query)
        found = await self._prepared.fetch(list(partners))
        rows = (Row(of, key, frozenset(owners), digest) for of, key, digest, owners in found)
        return {(row.table, row.key): row for row in rows}

    def _owned(self, table: _Table, shown: str, seen: frozenset[str]) -> str | None:
        """Give the query for rows `x` of partners of `$1`: what is shown, and the owners."""
        if table.owners:
            named = [
                f"split_part(x.{name}, ':', 1)" if name in _WITH_PERSON else f"x.{name}"
                for name in table.owners
            ]
            which = " OR ".join(f"{name} = ANY ($1)" for name in named)
            owners = f"array_remove(array_remove(ARRAY[{', '.join(named)}], ''), NULL)"
            return (
                f"SELECT {shown}, {owners} AS owners FROM marketplace.{table.name} x WHERE {which}"
            )
        for column, parent in self._parents(table, seen):
            above = self._owned(parent, f"x.{column} AS thing", seen | {table.name})
            if above is not None:
                return (
                    f"SELECT {shown}, a.owners FROM marketplace.{table.name} x"
                    f" JOIN ({above}) a ON a.thing = x.{column}"
                )
        return None

    def _parents(self, table: _Table, seen: frozenset[str]) -> Iterator[tuple[str, _Table]]:
        """Give the tables whose one key column this table has, those with own owners first."""
        for column in (name for name in table.columns if name.endswith("_id")):
            found = [
                each
                for each in self._tables.values()
                if each.key == (column,) and each.name not in {table.name, *seen}
            ]
            for parent in sorted(found, key=lambda each: not each.owners):
                yield column, parent


def _key(table: _Table) -> str:
    shown = [
        f"encode(x.{name}, 'hex')" if name in table.binary else f"x.{name}::text"
        for name in table.key
    ]
    return f"concat_ws('|', {', '.join(shown)})" if shown else "md5(x::text)"


def changes(
    before: Mapping[tuple[str, str], Row], after: Mapping[tuple[str, str], Row]
) -> Iterator[Change]:
    """Compare two readings."""
    for name in before.keys() | after.keys():
        was, now = before.get(name), after.get(name)
        if was != now:
            yield Change(was, now)
