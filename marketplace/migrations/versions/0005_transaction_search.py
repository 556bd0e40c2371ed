"""Lists of a partner's transactions by value (use case 1242).

One index for each side of an entry. With a partition a day, a month by value is the merge of some
thirty such indexes, whatever the number of entries.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_INDEXES = """
CREATE INDEX service_transaction_requester_value ON marketplace.service_transaction
  (requester_id, currency_code, value_micros, started_at, transaction_id);
CREATE INDEX service_transaction_provider_value ON marketplace.service_transaction
  (provider_id, currency_code, value_micros, started_at, transaction_id);
CREATE INDEX service_transaction_service ON marketplace.service_transaction
  (service_id, started_at, transaction_id);
"""


def upgrade() -> None:
    """Make the indexes."""
    for statement in filter(str.strip, _INDEXES.split(";")):
        op.execute(statement)


def downgrade() -> None:
    """Drop them; the log itself stays."""
    for name in ("requester_value", "provider_value", "service"):
        op.execute(f"DROP INDEX marketplace.service_transaction_{name}")
