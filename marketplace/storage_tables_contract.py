"""The tables of the contract framework and of changes of contracts, as queries name them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

CONTRACT_FRAMEWORK = Table(
    "contract_framework",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("published_at", _TIME, nullable=False),
)
CONTRACT_AMENDMENT = Table(
    "contract_amendment",
    METADATA,
    Column("amendment_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("contract_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("effective_at", _TIME),
    Column("created_at", _TIME, nullable=False),
    Column("decided_at", _TIME),
    Column("note", Text, nullable=False),
)
CONTRACT_REVISION = Table(
    "contract_revision",
    METADATA,
    Column("contract_id", Text, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("terms", LargeBinary, nullable=False),
    Column("price_per_call_micros", BigInteger, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("price_id", BigInteger),
    Column("effective_at", _TIME, nullable=False),
    Column("amendment_id", Text, nullable=False),
)
CONTRACT_SERVICE = Table(
    "contract_added_service",
    METADATA,
    Column("contract_id", Text, primary_key=True),
    Column("service_id", Text, primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("offering_id", Text, nullable=False),
    Column("price_per_call_micros", BigInteger, nullable=False),
    Column("currency_code", Text, nullable=False),
    Column("price_id", BigInteger),
    Column("effective_at", _TIME, nullable=False),
)
