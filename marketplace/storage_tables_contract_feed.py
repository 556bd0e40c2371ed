"""The tables of clearing houses' feeds, as `migrations/versions/0014_contract_feed.py` makes them.

A trigger writes them. They have no foreign key to partners: its check would lock partner rows at
the commit, behind everything else (docs/decisions/0009).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text

from marketplace.storage_tables import METADATA

CONTRACT_FEED = Table(
    "contract_feed",
    METADATA,
    Column("clearing_house_id", Text, primary_key=True),
    Column("last_event_id", BigInteger, nullable=False),
)
CONTRACT_FEED_EVENT = Table(
    "contract_feed_event",
    METADATA,
    Column("clearing_house_id", Text, primary_key=True),
    Column("event_id", BigInteger, primary_key=True),
    Column("contract_id", Text, nullable=False),
    Column("position", BigInteger),
    Column("state", Text, nullable=False),
)
