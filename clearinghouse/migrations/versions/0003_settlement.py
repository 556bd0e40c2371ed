"""Tariffs, the ledger and settlements.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# `content` is a rendered gem.roaming.v1.TariffVersion. An operator's tariffs are his own, whatever
# operator id he writes: nobody takes a name from another by publishing under it.
_TARIFF_VERSION = """
CREATE TABLE clearinghouse.tariff_version (
    owner_id text COLLATE "C" NOT NULL,
    -- Operator id in capitals and without separators.
    operator_key text COLLATE "C" NOT NULL,
    tariff_id text COLLATE "C" NOT NULL CHECK (tariff_id <> ''),
    version_number bigint NOT NULL CHECK (version_number > 0),
    valid_from timestamptz NOT NULL,
    valid_until timestamptz NOT NULL CHECK (valid_until > valid_from),
    published_at timestamptz NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (owner_id, operator_key, tariff_id, version_number),
    UNIQUE (owner_id, request_id)
)
"""

_TARIFF_ORDER = """
CREATE INDEX tariff_version_order
ON clearinghouse.tariff_version (operator_key, tariff_id, owner_id, version_number DESC)
"""

_CLEARING_RUN = """
CREATE TABLE clearinghouse.clearing_run (
    run_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text COLLATE "C" NOT NULL UNIQUE,
    -- Who asked for it, and how: a repetition gives the same run.
    requester_id text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end > period_start),
    netting smallint NOT NULL CHECK (netting IN (1, 2)),
    closed_at timestamptz NOT NULL,
    cdr_count bigint NOT NULL CHECK (cdr_count >= 0),
    UNIQUE (requester_id, request_id)
)
"""

# A booking is written once. A run takes it once; nothing else about it ever changes. A credit is
# the exact opposite of what it takes back: the generated columns say so to the foreign key.
_BOOKING = """
CREATE TABLE clearinghouse.booking (
    cdr_ref bigint PRIMARY KEY,
    operator_id text COLLATE "C" NOT NULL,
    evsp_id text COLLATE "C" NOT NULL CHECK (evsp_id <> operator_id),
    amount_without_tax_micros bigint NOT NULL
        CHECK (abs(amount_without_tax_micros) <= 1000000000000000000),
    amount_with_tax_micros bigint NOT NULL
        CHECK (abs(amount_with_tax_micros) <= 1000000000000000000),
    currency_code text COLLATE "C" NOT NULL CHECK (currency_code ~ '^[A-Z]{3}$'),
    booked_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    record_operator_id text COLLATE "C" NOT NULL,
    cdr_id text COLLATE "C" NOT NULL,
    energy_milli_wh bigint NOT NULL,
    credit_of bigint UNIQUE,
    credited_cdr_id text NOT NULL DEFAULT '',
    run_ref bigint REFERENCES clearinghouse.clearing_run,
    credited_without_tax_micros bigint GENERATED ALWAYS AS
        (CASE WHEN credit_of IS NOT NULL THEN -amount_without_tax_micros END) STORED,
    credited_with_tax_micros bigint GENERATED ALWAYS AS
        (CASE WHEN credit_of IS NOT NULL THEN -amount_with_tax_micros END) STORED,
    UNIQUE (operator_id, record_operator_id, cdr_id),
    UNIQUE (cdr_ref, operator_id, evsp_id, currency_code, amount_without_tax_micros,
        amount_with_tax_micros),
    FOREIGN KEY (credit_of, operator_id, evsp_id, currency_code, credited_without_tax_micros,
        credited_with_tax_micros)
        REFERENCES clearinghouse.booking (cdr_ref, operator_id, evsp_id, currency_code,
        amount_without_tax_micros, amount_with_tax_micros),
    CHECK (CASE WHEN credit_of IS NULL
        THEN amount_without_tax_micros >= 0 AND amount_with_tax_micros >= 0
        ELSE amount_without_tax_micros <= 0 AND amount_with_tax_micros <= 0 END)
)
"""

_UNSETTLED = """
CREATE INDEX booking_unsettled ON clearinghouse.booking (ended_at) WHERE run_ref IS NULL
"""

_LINES = """
CREATE INDEX booking_line ON clearinghouse.booking
(run_ref, evsp_id, operator_id, currency_code, record_operator_id, cdr_id)
WHERE run_ref IS NOT NULL
"""

_POSTING = """
CREATE TABLE clearinghouse.ledger_posting (
    cdr_ref bigint NOT NULL REFERENCES clearinghouse.booking,
    partner_id text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL CHECK (account IN ('RECEIVABLE', 'PAYABLE', 'TAX')),
    currency_code text COLLATE "C" NOT NULL,
    -- Positive is a debit.
    amount_micros bigint NOT NULL,
    PRIMARY KEY (cdr_ref, account)
)
"""

_POSTING_INDEX = """
CREATE INDEX ledger_posting_account
ON clearinghouse.ledger_posting (partner_id, currency_code, account) INCLUDE (amount_micros)
"""

_STATEMENT = """
CREATE TABLE clearinghouse.settlement_statement (
    statement_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    statement_id text COLLATE "C" NOT NULL UNIQUE,
    run_ref bigint NOT NULL REFERENCES clearinghouse.clearing_run,
    evsp_id text COLLATE "C" NOT NULL,
    operator_id text COLLATE "C" NOT NULL,
    currency_code text COLLATE "C" NOT NULL,
    without_tax_micros bigint NOT NULL CHECK (abs(without_tax_micros) <= 1000000000000000000),
    with_tax_micros bigint NOT NULL CHECK (abs(with_tax_micros) <= 1000000000000000000),
    line_count bigint NOT NULL CHECK (line_count > 0),
    UNIQUE (run_ref, evsp_id, operator_id, currency_code)
)
"""

_STATEMENT_INDEXES = (
    "CREATE INDEX statement_of_evsp ON clearinghouse.settlement_statement (evsp_id)",
    "CREATE INDEX statement_of_operator ON clearinghouse.settlement_statement (operator_id)",
)

_POSITION = """
CREATE TABLE clearinghouse.net_position (
    run_ref bigint NOT NULL REFERENCES clearinghouse.clearing_run,
    partner_id text COLLATE "C" NOT NULL,
    -- Empty where it is the clearing house.
    counterpart_id text COLLATE "C" NOT NULL,
    currency_code text COLLATE "C" NOT NULL,
    net_micros bigint NOT NULL
        CHECK (net_micros <> 0 AND abs(net_micros) <= 1000000000000000000),
    PRIMARY KEY (run_ref, partner_id, counterpart_id, currency_code)
)
"""

# Whoever writes: what is settled stays, and what is booked balances.
_FINAL = """
CREATE FUNCTION clearinghouse.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is only added to' USING ERRCODE = 'restrict_violation';
END
$$
"""

_BOOKING_FINAL = """
CREATE TRIGGER booking_is_final BEFORE UPDATE ON clearinghouse.booking
FOR EACH ROW WHEN (OLD.run_ref IS NOT NULL OR (OLD.cdr_ref, OLD.operator_id, OLD.evsp_id,
    OLD.amount_without_tax_micros, OLD.amount_with_tax_micros, OLD.currency_code, OLD.booked_at,
    OLD.started_at, OLD.ended_at, OLD.record_operator_id, OLD.cdr_id, OLD.energy_milli_wh,
    OLD.credit_of, OLD.credited_cdr_id) IS DISTINCT FROM (NEW.cdr_ref, NEW.operator_id,
    NEW.evsp_id, NEW.amount_without_tax_micros, NEW.amount_with_tax_micros, NEW.currency_code,
    NEW.booked_at, NEW.started_at, NEW.ended_at, NEW.record_operator_id, NEW.cdr_id,
    NEW.energy_milli_wh, NEW.credit_of, NEW.credited_cdr_id))
EXECUTE FUNCTION clearinghouse.refuse_change()
"""

_BALANCED = """
CREATE FUNCTION clearinghouse.refuse_imbalance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM added GROUP BY cdr_ref, currency_code HAVING sum(amount_micros) <> 0)
    THEN
        RAISE EXCEPTION 'the postings do not balance' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$
"""

_POSTING_BALANCED = """
CREATE TRIGGER ledger_posting_balances AFTER INSERT ON clearinghouse.ledger_posting
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION clearinghouse.refuse_imbalance()
"""


def _only_added_to(table: str, events: str) -> str:
    return (
        f"CREATE TRIGGER {table}_stays BEFORE {events} ON clearinghouse.{table}"
        " FOR EACH ROW EXECUTE FUNCTION clearinghouse.refuse_change()"
    )


def upgrade() -> None:
    """Make the tables, and the triggers that keep the ledger."""
    for statement in (
        *(_TARIFF_VERSION, _TARIFF_ORDER, _CLEARING_RUN, _BOOKING, _UNSETTLED, _LINES),
        *(_POSTING, _POSTING_INDEX, _STATEMENT, *_STATEMENT_INDEXES, _POSITION),
        *(_FINAL, _BOOKING_FINAL, _BALANCED, _POSTING_BALANCED),
        _only_added_to("booking", "DELETE"),
        _only_added_to("ledger_posting", "UPDATE OR DELETE"),
        _only_added_to("settlement_statement", "UPDATE OR DELETE"),
        _only_added_to("net_position", "UPDATE OR DELETE"),
    ):
        op.execute(statement)
