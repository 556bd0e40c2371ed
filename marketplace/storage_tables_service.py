"""The tables around services as queries name them; migration 0012 is what makes them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Table, Text
from sqlalchemy.dialects.postgresql import TIMESTAMP

from marketplace.storage_tables import METADATA

_TIME = TIMESTAMP(timezone=True)

REGISTRATION_CONTRACT = Table(
    "registration_contract",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("published_by", Text, nullable=False),
    Column("published_at", _TIME, nullable=False),
)
REGISTRATION_ACCEPTANCE = Table(
    "registration_acceptance",
    METADATA,
    Column("service_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("actor", Text, nullable=False),
    Column("accepted_at", _TIME, nullable=False),
)
SERVICE_IMAGE = Table(
    "service_image",
    METADATA,
    Column("image_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("provider_id", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("registered_at", _TIME, nullable=False),
)
SERVICE_HOSTING = Table(
    "service_hosting",
    METADATA,
    Column("service_id", Text, primary_key=True),
    Column("country_code", Text),
    Column("region", Text, nullable=False),
    Column("operator_name", Text, nullable=False),
    Column("contact_email", Text, nullable=False),
    Column("image_id", Text),
)
SERVICE_VERSION = Table(
    "service_version",
    METADATA,
    Column("version_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("service_id", Text, nullable=False),
    Column("service_version", Text, nullable=False),
    Column("interface_version", Integer, nullable=False),
    Column("compatible", Boolean, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("terms", LargeBinary),
    Column("state", Text, nullable=False),
    Column("prepared_at", _TIME, nullable=False),
)
SERVICE_RELATED = Table(
    "service_related",
    METADATA,
    Column("service_id", Text, primary_key=True),
    Column("related_id", Text, primary_key=True),
    Column("place", Integer, nullable=False),
)
CROSS_SALE_OPT_OUT = Table(
    "cross_sale_opt_out",
    METADATA,
    Column("partner_id", Text, primary_key=True),
    Column("opted_out_at", _TIME, nullable=False),
)
SERVICE_WORD = Table("service_word", METADATA, Column("word", Text, primary_key=True))
