"""The transaction log as hash chains (docs/decisions/0011).

Entries that were recorded before have no place in a chain; how many a day has is noted, so that
none can be slipped in beside them.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_ENTRY = (
    """
    ALTER TABLE marketplace.service_transaction
        ADD COLUMN chain_id uuid,
        ADD COLUMN sequence bigint,
        ADD COLUMN nonce bytea,
        ADD COLUMN record_hash bytea,
        ADD COLUMN chain_hash bytea
    """,
    """
    CREATE INDEX service_transaction_chain
        ON marketplace.service_transaction (chain_id, sequence)
    """,
)

# Versions of entries that were IN_DOUBT until their result came: their places stay as they are.
_SUPERSEDED = (
    """
    CREATE TABLE marketplace.transaction_superseded (
        LIKE marketplace.service_transaction INCLUDING DEFAULTS,
        PRIMARY KEY (transaction_id, started_at)
    )
    """,
    """
    CREATE INDEX transaction_superseded_chain
        ON marketplace.transaction_superseded (chain_id, sequence)
    """,
    "CREATE INDEX transaction_superseded_time ON marketplace.transaction_superseded (started_at)",
)

_REGISTER = (
    """
    CREATE TABLE marketplace.transaction_chain_register (
        number bigint PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('OPENED', 'HEAD', 'CLOSED')),
        chain_id uuid NOT NULL,
        day date NOT NULL,
        worker_id uuid NOT NULL,
        sequence bigint NOT NULL,
        head_hash bytea NOT NULL,
        recorded_at timestamptz NOT NULL,
        hash bytea NOT NULL
    )
    """,
    """
    CREATE INDEX transaction_chain_register_chain
        ON marketplace.transaction_chain_register (chain_id, number)
    """,
    """
    CREATE INDEX transaction_chain_register_day
        ON marketplace.transaction_chain_register (day, chain_id) WHERE kind = 'OPENED'
    """,
    # Which chains still have to be closed: a list of work, not evidence.
    """
    CREATE TABLE marketplace.transaction_open_chain (
        chain_id uuid PRIMARY KEY,
        day date NOT NULL,
        worker_id uuid NOT NULL,
        start_hash bytea NOT NULL
    )
    """,
)

_UNCHAINED = (
    """
    CREATE TABLE marketplace.transaction_unchained (
        day date PRIMARY KEY,
        entry_count bigint NOT NULL
    )
    """,
    """
    INSERT INTO marketplace.transaction_unchained
    SELECT (started_at AT TIME ZONE 'UTC')::date, count(*)
    FROM marketplace.service_transaction GROUP BY 1
    """,
)


def upgrade() -> None:
    """Give entries their place, and make the register."""
    for statement in (*_ENTRY, *_SUPERSEDED, *_REGISTER, *_UNCHAINED):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: a log that proves what was called is never dropped by a version step."""
    raise NotImplementedError
