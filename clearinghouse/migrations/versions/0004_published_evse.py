"""Where operators have published their EVSEs.

Revision ID: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# A row is made when a session was authorized there; place and power are null until the operator
# told them, and where it knows no such EVSE.
_EVSE = """
CREATE TABLE clearinghouse.published_evse (
    evse_key text COLLATE "C" PRIMARY KEY,
    evse_id text NOT NULL,
    operator_partner_id text COLLATE "C" NOT NULL,
    latitude_e7 integer,
    longitude_e7 integer,
    -- Null where the operator does not tell it.
    power_w integer CHECK (power_w > 0),
    ask_at timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz,
    CHECK ((latitude_e7 IS NULL) = (longitude_e7 IS NULL))
)
"""
_DUE = "CREATE INDEX published_evse_due ON clearinghouse.published_evse (ask_at)"


def upgrade() -> None:
    """Make the table."""
    for statement in (_EVSE, _DUE):
        op.execute(statement)
