"""The tables of conformance runs, certification, and files of services, as queries name them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

CONFORMANCE_RUN = Table(
    "conformance_run",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("interface_version", Integer, nullable=False),
    Column("include_side_effects", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("started_at", _TIME, nullable=False),
    Column("overdue_at", _TIME, nullable=False),
    Column("ended_at", _TIME),
)
CONFORMANCE_CHECK = Table(
    "conformance_check",
    METADATA,
    Column("run_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
)
CERTIFICATION = Table(
    "certification",
    METADATA,
    Column("service_id", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("interface_version", Integer, nullable=False),
    Column("certified_at", _TIME, nullable=False),
    Column("ended_at", _TIME),
)
CERTIFICATION_EVENT = Table(
    "certification_event",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("service_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
)

SERVICE_FILE = Table(
    "service_file",
    METADATA,
    Column("file_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("expires_at", _TIME),
    Column("stored_at", _TIME),
)
SERVICE_FILE_PART = Table(
    "service_file_part",
    METADATA,
    Column("file_id", Text, primary_key=True),
    Column("offset_bytes", BigInteger, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
SERVICE_FILE_EVENT = Table(
    "service_file_event",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("service_id", Text, nullable=False),
    Column("file_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
)
SERVICE_SPECIFICATION = Table(
    "service_specification",
    METADATA,
    Column("service_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("description", Text, nullable=False),
    Column("interface_name", Text, nullable=False),
    Column("interface_version", Integer, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("descriptor_set", LargeBinary, nullable=False),
    Column("stored_by", Text, nullable=False),
    Column("stored_at", _TIME, nullable=False),
)
