"""The tables of requests for new services as queries name them; migration 0009 makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

SERVICE_REQUEST = Table(
    "service_request",
    METADATA,
    Column("service_request_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("author_id", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("preconditions", Text, nullable=False),
    Column("postconditions", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("country_codes", ARRAY(Text), nullable=False),
    Column("region", Text, nullable=False),
    Column("monthly_call_count", BigInteger, nullable=False),
    Column("wished_start_at", _TIME),
    Column("valid_until", _TIME, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False),
    Column("changed_at", _TIME, nullable=False),
)
SERVICE_REQUEST_EVENT = Table(
    "service_request_event",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("service_request_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    # The ServiceWish that the step wrote, serialised; empty where it wrote none.
    Column("wish", LargeBinary, nullable=False),
    Column("actor", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
)
SERVICE_REQUEST_RESPONSE = Table(
    "service_request_response",
    METADATA,
    Column("response_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("service_request_id", Text, nullable=False),
    Column("responder_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("planned_start_at", _TIME),
    Column("revision", Integer, nullable=False),
    Column("created_at", _TIME, nullable=False),
)
