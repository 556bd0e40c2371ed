"""The contract framework, periods of contracts, and what one party asks of the other.

A contract that was made before has no end: it started when it was created. Revision 1 of the terms
is in the contract's own row; later ones are in `contract_revision`.
"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

# Version 1 comes with the marketplace and has no row.
_FRAMEWORKS = (
    """
    CREATE TABLE marketplace.contract_framework (
        version integer PRIMARY KEY CHECK (version >= 2),
        content bytea NOT NULL,
        published_by text NOT NULL,
        published_at timestamptz NOT NULL
    )
    """,
    # One successor each: what two people change at once is changed by one of them.
    """
    ALTER TABLE marketplace.offering
        ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision >= 1),
        ADD COLUMN previous_offering_id text UNIQUE REFERENCES marketplace.offering
    """,
)

# `due_at` is when something is to happen to the contract by itself.
_PERIODS = (
    "ALTER TABLE marketplace.contract DROP CONSTRAINT contract_state_check",
    """
    ALTER TABLE marketplace.contract
        ADD CONSTRAINT contract_state_check CHECK (state IN
            ('PENDING', 'ACTIVE', 'SUSPENDED', 'TERMINATED', 'EXPIRED')),
        ADD COLUMN starts_at timestamptz,
        ADD COLUMN ends_at timestamptz,
        ADD COLUMN ending text NOT NULL DEFAULT 'NONE'
            CHECK (ending IN ('NONE', 'EXPIRES', 'PROLONGS', 'TERMINATES')),
        ADD COLUMN prolongation_days integer NOT NULL DEFAULT 0 CHECK (prolongation_days >= 0),
        ADD COLUMN trial_ends_at timestamptz,
        ADD COLUMN trial_pending boolean NOT NULL DEFAULT false,
        ADD COLUMN remind_at timestamptz,
        ADD COLUMN changes_at timestamptz,
        ADD COLUMN due_at timestamptz,
        ADD COLUMN revision integer NOT NULL DEFAULT 1 CHECK (revision >= 1),
        ADD CONSTRAINT contract_end_check CHECK ((ending = 'NONE') = (ends_at IS NULL)),
        ADD CONSTRAINT contract_prolongs_check
            CHECK (ending <> 'PROLONGS' OR prolongation_days > 0)
    """,
    "DROP INDEX marketplace.contract_one_in_force",
    """
    CREATE UNIQUE INDEX contract_one_in_force ON marketplace.contract (requester_id, service_id)
        WHERE state NOT IN ('TERMINATED', 'EXPIRED')
    """,
    "CREATE INDEX contract_due ON marketplace.contract (due_at) WHERE due_at IS NOT NULL",
    "CREATE INDEX contract_ends ON marketplace.contract (ends_at) WHERE ends_at IS NOT NULL",
)

_AMENDMENTS = (
    # `content` is a serialised ProposedTerms or ServiceAddition, empty for the other kinds.
    """
    CREATE TABLE marketplace.contract_amendment (
        amendment_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        contract_id text NOT NULL REFERENCES marketplace.contract,
        kind text NOT NULL CHECK (kind IN ('CHANGE', 'TERMINATION', 'PROLONGATION', 'ADDITION')),
        state text NOT NULL CHECK (state IN
            ('PENDING', 'SCHEDULED', 'APPLIED', 'REJECTED', 'REVOKED', 'LAPSED')),
        requested_by text NOT NULL REFERENCES marketplace.partner,
        reason text NOT NULL,
        content bytea NOT NULL,
        effective_at timestamptz,
        created_at timestamptz NOT NULL,
        decided_at timestamptz,
        note text NOT NULL DEFAULT '',
        CHECK ((state = 'PENDING') = (decided_at IS NULL))
    )
    """,
    """
    CREATE UNIQUE INDEX contract_amendment_one_open ON marketplace.contract_amendment (contract_id)
        WHERE state IN ('PENDING', 'SCHEDULED')
    """,
    """
    CREATE INDEX contract_amendment_contract
        ON marketplace.contract_amendment (contract_id, position)
    """,
    """
    CREATE TABLE marketplace.contract_revision (
        contract_id text NOT NULL REFERENCES marketplace.contract,
        revision integer NOT NULL CHECK (revision >= 2),
        terms bytea NOT NULL,
        price_per_call_micros bigint NOT NULL CHECK (price_per_call_micros >= 0),
        currency_code text NOT NULL,
        price_id bigint REFERENCES marketplace.price_model,
        effective_at timestamptz NOT NULL,
        amendment_id text NOT NULL REFERENCES marketplace.contract_amendment,
        PRIMARY KEY (contract_id, revision)
    )
    """,
    # Services beside the contract's own one; `place` is their order within it.
    """
    CREATE TABLE marketplace.contract_added_service (
        contract_id text NOT NULL REFERENCES marketplace.contract,
        service_id text NOT NULL REFERENCES marketplace.service,
        place bigint GENERATED ALWAYS AS IDENTITY,
        offering_id text NOT NULL REFERENCES marketplace.offering,
        price_per_call_micros bigint NOT NULL CHECK (price_per_call_micros >= 0),
        currency_code text NOT NULL,
        price_id bigint REFERENCES marketplace.price_model,
        effective_at timestamptz NOT NULL,
        PRIMARY KEY (contract_id, service_id)
    )
    """,
    """
    CREATE INDEX contract_added_service_service
        ON marketplace.contract_added_service (service_id)
    """,
)

# As for a contract's own row: which price of which service is in force since when.
_PRICES = (
    """
    CREATE FUNCTION marketplace.remember_price_of_revision() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO marketplace.contract_price (contract_id, service_id, price_id, effective_at)
            SELECT contract_id, service_id, NEW.price_id, NEW.effective_at
            FROM marketplace.contract WHERE contract_id = NEW.contract_id
            AND (NEW.price_id IS NOT NULL OR EXISTS (
                SELECT FROM marketplace.contract_price AS known
                WHERE known.contract_id = NEW.contract_id
                AND known.service_id = contract.service_id));
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION marketplace.remember_price_of_service() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO marketplace.contract_price (contract_id, service_id, price_id, effective_at)
            VALUES (NEW.contract_id, NEW.service_id, NEW.price_id, NEW.effective_at);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER price_agreed AFTER INSERT ON marketplace.contract_revision FOR EACH ROW
        EXECUTE FUNCTION marketplace.remember_price_of_revision()
    """,
    """
    CREATE TRIGGER price_agreed AFTER INSERT ON marketplace.contract_added_service FOR EACH ROW
        WHEN (NEW.price_id IS NOT NULL) EXECUTE FUNCTION marketplace.remember_price_of_service()
    """,
)

_GUARDS = (
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("contract_framework", "contract_revision", "contract_added_service")
    ),
    """
    CREATE TRIGGER start_never_changes BEFORE UPDATE ON marketplace.contract FOR EACH ROW
        WHEN (OLD.starts_at IS DISTINCT FROM NEW.starts_at OR NEW.revision < OLD.revision)
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
    """
    CREATE TRIGGER asked_never_changes BEFORE UPDATE ON marketplace.contract_amendment FOR EACH ROW
        WHEN (ROW(OLD.amendment_id, OLD.position, OLD.contract_id, OLD.kind, OLD.requested_by,
                  OLD.reason, OLD.content, OLD.effective_at, OLD.created_at)
              IS DISTINCT FROM
              ROW(NEW.amendment_id, NEW.position, NEW.contract_id, NEW.kind, NEW.requested_by,
                  NEW.reason, NEW.content, NEW.effective_at, NEW.created_at))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_FRAMEWORKS, *_PERIODS, *_AMENDMENTS, *_PRICES, *_GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: contracts and their history are never dropped by a version step."""
    raise NotImplementedError
