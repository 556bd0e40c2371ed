"""The table of saved searches as queries name it; migration 0009 makes it."""

from __future__ import annotations

from sqlalchemy import Column, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)
SAVED_SEARCH = Table(
    "saved_search",
    METADATA,
    Column("saved_search_id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("partner_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("criteria", LargeBinary, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
)
