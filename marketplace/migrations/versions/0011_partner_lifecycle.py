"""Partners from the registration request to the deletion, and versions of the partner contract.

The person who acted for a deleted partner goes from the histories, and nothing else ever changes
there: the function that refuses changes lets that one through.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

_PARTNERS = (
    "ALTER TABLE marketplace.partner ADD COLUMN revision integer NOT NULL DEFAULT 1",
    "ALTER TABLE marketplace.partner DROP CONSTRAINT partner_state_check",
    """
    ALTER TABLE marketplace.partner ADD CONSTRAINT partner_state_check
        CHECK (state IN ('REGISTERED', 'ACTIVE', 'INACTIVE', 'DELETED'))
    """,
    """
    ALTER TABLE marketplace.partner ADD CONSTRAINT partner_deleted_without_person
        CHECK (state <> 'DELETED' OR person_name || person_email || person_phone = '')
    """,
    "CREATE INDEX partner_company ON marketplace.partner (company_name, partner_id)",
    "CREATE INDEX partner_registered ON marketplace.partner (registered_at, partner_id)",
    "ALTER TABLE marketplace.partner_event ADD COLUMN detail text NOT NULL DEFAULT ''",
)

# Version 1 comes with the marketplace and has no row.
_CONTRACTS = (
    """
    CREATE TABLE marketplace.partner_contract (
        version integer PRIMARY KEY CHECK (version >= 2),
        title text NOT NULL,
        text text NOT NULL,
        published_by text NOT NULL,
        published_at timestamptz NOT NULL
    )
    """,
)

# `reference_digest` is the SHA-256 of a random secret. `profile` is a serialised
# gem.marketplace.v1.PartnerProfile; it and the address are emptied when they have served.
_REGISTRATIONS = (
    """
    CREATE TABLE marketplace.partner_registration (
        registration_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        reference_digest bytea UNIQUE CHECK (length(reference_digest) = 32),
        partner_id text NOT NULL,
        state text NOT NULL CHECK (state IN ('REQUESTED', 'APPROVED', 'REFUSED', 'WITHDRAWN')),
        roles smallint[] NOT NULL,
        identifier_kinds smallint[] NOT NULL,
        identifier_values text[] NOT NULL,
        partner_contract_version integer NOT NULL,
        applicant text NOT NULL,
        profile bytea NOT NULL,
        person_email text NOT NULL,
        decision_reason text NOT NULL DEFAULT '',
        requested_at timestamptz NOT NULL,
        decided_at timestamptz,
        certificate_issued boolean NOT NULL DEFAULT false,
        administrator_created boolean NOT NULL DEFAULT false,
        CHECK ((state = 'REQUESTED') = (decided_at IS NULL)),
        CHECK (state = 'APPROVED' OR NOT (certificate_issued OR administrator_created))
    )
    """,
    """
    CREATE INDEX partner_registration_state
        ON marketplace.partner_registration (state, position)
    """,
    """
    CREATE INDEX partner_registration_applicant
        ON marketplace.partner_registration (applicant) WHERE state = 'REQUESTED'
    """,
    "CREATE INDEX partner_registration_time ON marketplace.partner_registration (requested_at)",
    "CREATE INDEX partner_registration_partner ON marketplace.partner_registration (partner_id)",
    """
    CREATE INDEX partner_registration_refused ON marketplace.partner_registration (decided_at)
        WHERE state = 'REFUSED' AND profile <> ''
    """,
    """
    CREATE TABLE marketplace.partner_registration_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        registration_id text NOT NULL REFERENCES marketplace.partner_registration,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX partner_registration_event_registration
        ON marketplace.partner_registration_event (registration_id, position)
    """,
)

# The account as it was and as it shall be; identifiers as `kind value`. Steps of a change request
# are in the partner's own history.
_CHANGES = (
    """
    CREATE TABLE marketplace.partner_change (
        change_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        partner_id text NOT NULL REFERENCES marketplace.partner,
        kind text NOT NULL CHECK (kind IN ('ACCOUNT_DATA', 'INACTIVATION')),
        state text NOT NULL CHECK (state IN ('REQUESTED', 'APPROVED', 'REFUSED', 'WITHDRAWN')),
        base_revision integer NOT NULL,
        old_profile bytea NOT NULL,
        old_roles smallint[] NOT NULL,
        old_identifiers text[] NOT NULL,
        new_profile bytea NOT NULL,
        new_roles smallint[] NOT NULL,
        new_identifiers text[] NOT NULL,
        note text NOT NULL,
        decision_reason text NOT NULL DEFAULT '',
        requested_at timestamptz NOT NULL,
        decided_at timestamptz,
        CHECK ((state = 'REQUESTED') = (decided_at IS NULL))
    )
    """,
    "CREATE INDEX partner_change_partner ON marketplace.partner_change (partner_id, position)",
    "CREATE INDEX partner_change_state ON marketplace.partner_change (state, position)",
)

_GUARDS = (
    """
    CREATE OR REPLACE FUNCTION marketplace.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        acted text;
        acts text;
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_TABLE_NAME LIKE '%\\_event' THEN
            acted := to_jsonb(OLD) ->> 'actor';
            acts := to_jsonb(NEW) ->> 'actor';
            IF to_jsonb(OLD) - 'actor' = to_jsonb(NEW) - 'actor'
                AND acted LIKE '%:%' AND acts = split_part(acted, ':', 1)
                AND EXISTS (SELECT FROM marketplace.partner
                    WHERE partner_id = acts AND state = 'DELETED')
            THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION '% of %.% is refused: it never changes',
            TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME;
    END
    $$
    """,
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("partner_contract", "partner_registration_event")
    ),
    """
    CREATE TRIGGER deleted_never_changes BEFORE UPDATE OR DELETE ON marketplace.partner
        FOR EACH ROW WHEN (OLD.state = 'DELETED') EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_PARTNERS, *_CONTRACTS, *_REGISTRATIONS, *_CHANGES, *_GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: accounts and their history are never dropped by a version step."""
    raise NotImplementedError
