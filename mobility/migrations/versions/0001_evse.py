"""Operators and their EVSEs, found by distance.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_EXTENSIONS = ("cube", "earthdistance", "btree_gist")

_OPERATOR = """
CREATE TABLE mobility.operator (
    operator_ref integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Equal for all spellings of one name.
    name_key text NOT NULL UNIQUE CHECK (name_key <> ''),
    operator_name text NOT NULL,
    partner_id text NOT NULL UNIQUE,
    -- Operator ids of its EVSEs, for instance {DE*ABC}.
    operator_ids text[] NOT NULL DEFAULT '{}'
)
"""

# `message` is the rendered gem.charging.v1.Evse without distance, status and what the marketplace
# stamps. The columns beside it hold what a search compares: masks have bit n for enum value n (or
# for n phases); the arrays describe one connector at each position. Columns that decide come first,
# since PostgreSQL unpacks a row only as far as it must; a tenth of a page is free for new statuses.
_EVSE = """
CREATE TABLE mobility.evse (
    operator_ref integer NOT NULL REFERENCES mobility.operator,
    latitude_e7 integer NOT NULL CHECK (abs(latitude_e7) <= 900000000),
    longitude_e7 integer NOT NULL CHECK (abs(longitude_e7) <= 1800000000),
    kind_mask integer NOT NULL,
    plug_mask integer NOT NULL,
    phases_mask integer NOT NULL,
    energy_mask integer NOT NULL,
    max_power_w integer NOT NULL,
    status smallint NOT NULL,
    access smallint NOT NULL,
    green boolean NOT NULL,
    always_open boolean NOT NULL,
    reservable boolean NOT NULL,
    position cube NOT NULL GENERATED ALWAYS AS
        (ll_to_earth(latitude_e7 / 1e7::float8, longitude_e7 / 1e7::float8)) STORED,
    -- The id in capitals and without separators.
    evse_key text COLLATE "C" NOT NULL,
    status_time timestamptz,
    reference_price_micros bigint,
    energy_price_micros bigint,
    currency_code text COLLATE "C",
    connector_kinds smallint[] NOT NULL,
    connector_plugs smallint[] NOT NULL,
    connector_powers_w integer[] NOT NULL,
    connector_phases smallint[] NOT NULL,
    memberships text[] NOT NULL,
    message bytea NOT NULL,
    PRIMARY KEY (operator_ref, evse_key)
) WITH (fillfactor = 90)
"""

_POSITION_INDEX = """
CREATE INDEX evse_position ON mobility.evse USING gist (operator_ref, position)
"""


def upgrade() -> None:
    """Make the extensions, the tables and the index."""
    for extension in _EXTENSIONS:
        op.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
    for statement in (_OPERATOR, _EVSE, _POSITION_INDEX):
        op.execute(statement)
