"""Charge detail records: what came, what became of it, what is on its way, what is disputed.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# `content` is the latest revision of the gem.roaming.v1.ChargeDetailRecord, with the keyed hash of
# the token in the place of its id; `digests` are keyed digests of the bytes of every revision as
# they came. `assessment` is a gem.roaming.v1.ClearedCdr with findings, oddities and rating alone.
_CDR = """
CREATE TABLE clearinghouse.cdr (
    cdr_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operator_partner_id text COLLATE "C" NOT NULL,
    operator_key text COLLATE "C" NOT NULL,
    -- The id as it is compared: in lower case.
    cdr_key text COLLATE "C" NOT NULL,
    -- The operator's.
    session_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'RECEIVED' CHECK (state IN ('RECEIVED', 'ACCEPTED',
        'RETURNED', 'FORWARDED', 'APPROVED', 'DECLINED', 'REVISED', 'REJECTED', 'CREDITED')),
    digests bytea[] NOT NULL CHECK (cardinality(digests) BETWEEN 1 AND 1000),
    -- Set in a credit: the id of the record that it gives back.
    credited_key text COLLATE "C",
    -- The session as the clearing house named it, if the record says so.
    given_session_id text COLLATE "C",
    authorization_reference text COLLATE "C",
    evse_key text COLLATE "C",
    started_at timestamptz,
    ended_at timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    state_at timestamptz NOT NULL DEFAULT now(),
    -- When it is to be checked; later than now only after a defect.
    check_at timestamptz NOT NULL DEFAULT now(),
    check_failures integer NOT NULL DEFAULT 0,
    -- Known from its acceptance on.
    evsp_partner_id text COLLATE "C",
    contract_id text,
    decline_text text NOT NULL DEFAULT '',
    content bytea NOT NULL,
    assessment bytea NOT NULL DEFAULT '',
    UNIQUE (operator_partner_id, operator_key, cdr_key)
)
"""
_CDR_INDEXES = (
    # A session has one record until that is credited or given up, beside the credits.
    """
    CREATE UNIQUE INDEX cdr_session ON clearinghouse.cdr
        (operator_partner_id, operator_key, session_id)
        WHERE credited_key IS NULL AND state NOT IN ('CREDITED', 'REJECTED')
    """,
    # A record is given back once.
    """
    CREATE UNIQUE INDEX cdr_credit ON clearinghouse.cdr
        (operator_partner_id, operator_key, session_id, credited_key)
        WHERE credited_key IS NOT NULL
    """,
    """
    CREATE INDEX cdr_of_session ON clearinghouse.cdr
        (operator_partner_id, operator_key, session_id)
        WHERE credited_key IS NULL AND state IN ('CREDITED', 'REJECTED')
    """,
    """
    CREATE INDEX cdr_unchecked ON clearinghouse.cdr (cdr_ref)
        WHERE state IN ('RECEIVED', 'REVISED')
    """,
    """
    CREATE INDEX cdr_on_evse ON clearinghouse.cdr (evse_key, started_at)
        WHERE evsp_partner_id IS NOT NULL
    """,
    """
    CREATE INDEX cdr_given_session ON clearinghouse.cdr (given_session_id)
        WHERE given_session_id IS NOT NULL
    """,
    "CREATE INDEX cdr_of_evsp ON clearinghouse.cdr (evsp_partner_id, cdr_ref)",
    "CREATE INDEX cdr_of_operator ON clearinghouse.cdr (operator_partner_id, cdr_ref)",
)

# `content` is set where a step replaced it: the revision before.
_EVENT = """
CREATE TABLE clearinghouse.cdr_event (
    -- No foreign key: records are never deleted, and each of millions of events would pay for it.
    cdr_ref bigint NOT NULL,
    event_ref bigint GENERATED ALWAYS AS IDENTITY,
    step text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    revision_number integer NOT NULL,
    -- Whose step it was; empty means the clearing house's.
    partner_id text NOT NULL DEFAULT '',
    event_text text NOT NULL DEFAULT '',
    content bytea,
    happened_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cdr_ref, event_ref)
)
"""

_REASON = """
CREATE TABLE clearinghouse.cdr_reason (
    cdr_ref bigint NOT NULL REFERENCES clearinghouse.cdr,
    revision_number integer NOT NULL,
    ordinal integer NOT NULL,
    reason smallint NOT NULL,
    field text NOT NULL,
    PRIMARY KEY (cdr_ref, revision_number, ordinal)
)
"""

# Who gets records; one that cannot be reached waits as a whole.
_RECEIVER = """
CREATE TABLE clearinghouse.receiver (
    evsp_partner_id text COLLATE "C" PRIMARY KEY,
    failure_count integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    succeeded_at timestamptz NOT NULL DEFAULT '-infinity'
)
"""

# The outbox. Within a lane, the records of one session, one goes after the other; a claimed one is
# due again when its claim ends.
_DELIVERY = """
CREATE TABLE clearinghouse.delivery (
    delivery_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cdr_ref bigint NOT NULL REFERENCES clearinghouse.cdr,
    revision_number integer NOT NULL,
    evsp_partner_id text COLLATE "C" NOT NULL REFERENCES clearinghouse.receiver,
    lane text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'WAITING'
        CHECK (state IN ('WAITING', 'DELIVERED', 'DEAD', 'HANDED_BACK')),
    attempt_count integer NOT NULL DEFAULT 0,
    -- Attempts in which this record, not its receiver, was the trouble.
    refusal_count integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT now(),
    claim uuid,
    failure text NOT NULL DEFAULT '',
    failed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    UNIQUE (cdr_ref, revision_number)
)
"""
_DELIVERY_INDEXES = (
    """
    CREATE INDEX delivery_waiting ON clearinghouse.delivery (evsp_partner_id, delivery_ref)
        WHERE state = 'WAITING'
    """,
    """
    CREATE INDEX delivery_lane ON clearinghouse.delivery (lane, delivery_ref)
        WHERE state IN ('WAITING', 'DEAD')
    """,
    "CREATE INDEX delivery_dead ON clearinghouse.delivery (delivery_ref) WHERE state = 'DEAD'",
)

# Whose operator id is; the first authorized session decides, and nobody else sends records of it.
_OPERATOR_KEY = """
CREATE TABLE clearinghouse.operator_key (
    operator_key text COLLATE "C" PRIMARY KEY,
    operator_partner_id text COLLATE "C" NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now()
)
"""

_DISPUTE = """
CREATE TABLE clearinghouse.dispute (
    dispute_id uuid PRIMARY KEY,
    cdr_ref bigint NOT NULL REFERENCES clearinghouse.cdr,
    revision_number integer NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'OPEN'
        CHECK (state IN ('OPEN', 'CREDITED', 'REFUSED', 'WITHDRAWN')),
    claim_text text NOT NULL,
    answer_text text NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
)
"""
_DISPUTE_INDEX = """
CREATE UNIQUE INDEX dispute_open ON clearinghouse.dispute (cdr_ref) WHERE state = 'OPEN'
"""


def upgrade() -> None:
    """Make the tables and their indexes."""
    op.execute(_CDR)
    for statement in _CDR_INDEXES:
        op.execute(statement)
    for statement in (_EVENT, _REASON, _RECEIVER, _DELIVERY, _OPERATOR_KEY, _DISPUTE):
        op.execute(statement)
    for statement in (*_DELIVERY_INDEXES, _DISPUTE_INDEX):
        op.execute(statement)
