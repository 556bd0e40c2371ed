"""The transaction log: entries, intents, failed calls, and who of the workers is alive.

Entries and failed calls are partitioned by day of their start; `marketplace/partitions.py` makes
the days ahead, and the default partitions take what no day was made for.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_ENTRY_COLUMNS = """
    transaction_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    call_id uuid NOT NULL,
    requester_id text NOT NULL,
    provider_id text NOT NULL,
    contract_id text NOT NULL,
    service_id text NOT NULL,
    service_version text NOT NULL,
    method text NOT NULL,
    duration_us bigint NOT NULL,
    status smallint NOT NULL,
    reason smallint NOT NULL,
    code smallint NOT NULL,
    request_bytes bigint NOT NULL,
    answer_bytes bigint NOT NULL,
    request_digest bytea NOT NULL,
    answer_digest bytea NOT NULL,
    item_count bigint NOT NULL,
    value_micros bigint NOT NULL,
    currency_code text NOT NULL,
    worker_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
"""

_WORKER = """
CREATE TABLE marketplace.worker (
    worker_id uuid PRIMARY KEY,
    host_name text NOT NULL,
    process_id integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
)
"""

# Rows live for the time of a call: vacuum by number of rows, not by share of the table.
_INTENT = f"""
CREATE TABLE marketplace.transaction_intent ({_ENTRY_COLUMNS},
    PRIMARY KEY (transaction_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
"""

_ENTRY = f"""
CREATE TABLE marketplace.service_transaction ({_ENTRY_COLUMNS},
    PRIMARY KEY (transaction_id, started_at)
) PARTITION BY RANGE (started_at)
"""

_FAILED_CALL = """
CREATE TABLE marketplace.failed_call (
    call_id uuid NOT NULL,
    started_at timestamptz NOT NULL,
    requester_id text NOT NULL,
    method text NOT NULL,
    duration_us bigint NOT NULL,
    reason smallint NOT NULL,
    code smallint NOT NULL,
    request_bytes bigint NOT NULL,
    worker_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (call_id, started_at)
) PARTITION BY RANGE (started_at)
"""

_DEFAULT_PARTITIONS = """
CREATE TABLE marketplace.service_transaction_default
  PARTITION OF marketplace.service_transaction DEFAULT;
CREATE TABLE marketplace.failed_call_default
  PARTITION OF marketplace.failed_call DEFAULT;
"""

# Each serves one way in which a list is searched, newest first (use case 1242).
_INDEXES = """
CREATE INDEX service_transaction_requester
  ON marketplace.service_transaction (requester_id, started_at, transaction_id);
CREATE INDEX service_transaction_provider
  ON marketplace.service_transaction (provider_id, started_at, transaction_id);
CREATE INDEX service_transaction_contract
  ON marketplace.service_transaction (contract_id, started_at, transaction_id);
CREATE INDEX service_transaction_call
  ON marketplace.service_transaction (call_id);
CREATE INDEX service_transaction_time
  ON marketplace.service_transaction (started_at, transaction_id);
CREATE INDEX failed_call_requester
  ON marketplace.failed_call (requester_id, started_at, call_id);
CREATE INDEX failed_call_time
  ON marketplace.failed_call (started_at, call_id);
CREATE INDEX transaction_intent_worker
  ON marketplace.transaction_intent (worker_id);
"""


def upgrade() -> None:
    """Make the tables; the days' partitions are made by every worker that starts."""
    for statements in (_WORKER, _INTENT, _ENTRY, _FAILED_CALL, _DEFAULT_PARTITIONS, _INDEXES):
        for statement in filter(str.strip, statements.split(";")):
            op.execute(statement)


def downgrade() -> None:
    """Refuse: a log that proves what was called is never dropped by a version step."""
    raise NotImplementedError
