"""The tables of prices and of the owners of identifiers as queries name them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

PRICE_MODEL = Table(
    "price_model",
    METADATA,
    Column("price_id", BigInteger, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("model", LargeBinary, nullable=False),
)

CONTRACT_PRICE = Table(
    "contract_price",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("contract_id", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("price_id", BigInteger),
    Column("effective_at", _TIME, nullable=False),
)

IDENTIFIER_OWNERSHIP = Table(
    "identifier_ownership",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("value", Text, nullable=False),
    Column("partner_id", Text, nullable=False),
    Column("from_at", _TIME, nullable=False),
    Column("until_at", _TIME),
)
