"""The search for services by category and state: an index, and which of them go together."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"

_STATEMENTS = (
    """
    CREATE INDEX service_category_state ON marketplace.service (category, state, position)
    """,
    # A planner that multiplies the shares of both expects matches where there are none, and reads
    # all services for them.
    """
    CREATE STATISTICS marketplace.service_category_state (mcv)
        ON category, state FROM marketplace.service
    """,
    "ANALYZE marketplace.service (category, state)",
)


def upgrade() -> None:
    """Make the index and the statistics."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them: nothing but speed hangs on them."""
    op.execute("DROP STATISTICS marketplace.service_category_state")
    op.execute("DROP INDEX marketplace.service_category_state")
