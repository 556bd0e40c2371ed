"""Tables of registration requests, change requests and versions of the partner contract."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

PARTNER_CONTRACT = Table(
    "partner_contract",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("published_at", _TIME, nullable=False),
)

PARTNER_REGISTRATION = Table(
    "partner_registration",
    METADATA,
    Column("registration_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("reference_digest", LargeBinary),
    Column("partner_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("roles", ARRAY(SmallInteger), nullable=False),
    Column("identifier_kinds", ARRAY(SmallInteger), nullable=False),
    Column("identifier_values", ARRAY(Text), nullable=False),
    Column("partner_contract_version", Integer, nullable=False),
    Column("applicant", Text, nullable=False),
    Column("profile", LargeBinary, nullable=False),
    Column("person_email", Text, nullable=False),
    Column("decision_reason", Text, nullable=False),
    Column("requested_at", _TIME, nullable=False),
    Column("decided_at", _TIME),
    Column("certificate_issued", Boolean, nullable=False),
    Column("administrator_created", Boolean, nullable=False),
)
PARTNER_REGISTRATION_EVENT = Table(
    "partner_registration_event",
    METADATA,
    Column("position", BigInteger, primary_key=True),
    Column("registration_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("occurred_at", _TIME, nullable=False),
)

PARTNER_CHANGE = Table(
    "partner_change",
    METADATA,
    Column("change_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("partner_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("base_revision", Integer, nullable=False),
    Column("old_profile", LargeBinary, nullable=False),
    Column("old_roles", ARRAY(SmallInteger), nullable=False),
    Column("old_identifiers", ARRAY(Text), nullable=False),
    Column("new_profile", LargeBinary, nullable=False),
    Column("new_roles", ARRAY(SmallInteger), nullable=False),
    Column("new_identifiers", ARRAY(Text), nullable=False),
    Column("note", Text, nullable=False),
    Column("decision_reason", Text, nullable=False),
    Column("requested_at", _TIME, nullable=False),
    Column("decided_at", _TIME),
)
