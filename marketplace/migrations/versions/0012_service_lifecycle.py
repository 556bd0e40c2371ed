"""Services from registration to deletion: description, versions, related services, search."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"

_SERVICES = (
    "ALTER TABLE marketplace.service DROP CONSTRAINT service_state_check",
    """
    ALTER TABLE marketplace.service ADD CONSTRAINT service_state_check CHECK (state IN
        ('REGISTERED', 'PUBLICATION_REQUESTED', 'PUBLISHED', 'STOPPED', 'DISABLED', 'DELETED'))
    """,
    """
    ALTER TABLE marketplace.service
        ADD COLUMN category text NOT NULL DEFAULT '',
        ADD COLUMN keywords text[] NOT NULL DEFAULT '{}',
        ADD COLUMN search_text text NOT NULL DEFAULT ''
    """,
    # What Python folds and splits further is written anew with the next change of a description.
    """
    UPDATE marketplace.service s SET category = i.category, search_text = ' ' || regexp_replace(
        lower(s.title || ' ' || i.category || ' ' || s.description), '[^[:alnum:]]+', ' ', 'g')
        || ' '
    FROM marketplace.interface_version i
    WHERE (i.interface_name, i.version) = (s.interface_name, s.interface_version)
    """,
    "ALTER TABLE marketplace.service_event ADD COLUMN reason text NOT NULL DEFAULT ''",
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    # Without a list of pending entries, which every search would read from end to end.
    """
    CREATE INDEX service_text ON marketplace.service
        USING gin (search_text gin_trgm_ops) WITH (fastupdate = off)
    """,
    "CREATE INDEX service_category ON marketplace.service (category, position)",
    "CREATE INDEX service_state ON marketplace.service (state, position)",
    # The words that misspelled ones are compared with.
    "CREATE TABLE marketplace.service_word (word text PRIMARY KEY)",
    """
    INSERT INTO marketplace.service_word
        SELECT DISTINCT word FROM marketplace.service,
            regexp_split_to_table(search_text, ' ') AS word
        WHERE length(word) BETWEEN 3 AND 40
    """,
    """
    CREATE INDEX service_word_text ON marketplace.service_word
        USING gin (word gin_trgm_ops) WITH (fastupdate = off)
    """,
)

_DESCRIPTIONS = (
    # Version 1 comes with the marketplace; these are the later ones.
    """
    CREATE TABLE marketplace.registration_contract (
        version integer PRIMARY KEY CHECK (version >= 2),
        title text NOT NULL,
        text text NOT NULL,
        published_by text NOT NULL,
        published_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.registration_acceptance (
        service_id text PRIMARY KEY REFERENCES marketplace.service,
        version integer NOT NULL CHECK (version >= 1),
        actor text NOT NULL,
        accepted_at timestamptz NOT NULL
    )
    """,
    """
    INSERT INTO marketplace.registration_acceptance
        SELECT service_id, registration_contract_version, provider_id, registered_at
        FROM marketplace.service
    """,
    """
    CREATE TABLE marketplace.service_image (
        image_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        provider_id text NOT NULL REFERENCES marketplace.partner,
        reference text NOT NULL,
        title text NOT NULL,
        registered_at timestamptz NOT NULL,
        UNIQUE (provider_id, reference)
    )
    """,
    "CREATE INDEX service_image_provider ON marketplace.service_image (provider_id, position)",
    # No country: only the image is stated.
    """
    CREATE TABLE marketplace.service_hosting (
        service_id text PRIMARY KEY REFERENCES marketplace.service,
        country_code text CHECK (country_code ~ '^[A-Z]{2}$'),
        region text NOT NULL,
        operator_name text NOT NULL,
        contact_email text NOT NULL,
        image_id text REFERENCES marketplace.service_image
    )
    """,
)

_VERSIONS = (
    """
    CREATE TABLE marketplace.service_version (
        version_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        service_id text NOT NULL REFERENCES marketplace.service,
        service_version text NOT NULL,
        interface_version integer NOT NULL,
        compatible boolean NOT NULL,
        endpoint text NOT NULL,
        terms bytea,
        state text NOT NULL CHECK (state IN ('PREPARED', 'REQUESTED', 'PUBLISHED', 'WITHDRAWN')),
        prepared_at timestamptz NOT NULL
    )
    """,
    """
    CREATE UNIQUE INDEX service_version_one_open ON marketplace.service_version (service_id)
        WHERE state IN ('PREPARED', 'REQUESTED')
    """,
    "CREATE INDEX service_version_service ON marketplace.service_version (service_id, position)",
    """
    CREATE TABLE marketplace.service_related (
        service_id text NOT NULL REFERENCES marketplace.service,
        related_id text NOT NULL REFERENCES marketplace.service,
        place integer NOT NULL,
        PRIMARY KEY (service_id, related_id),
        CHECK (service_id <> related_id)
    )
    """,
    """
    CREATE TABLE marketplace.cross_sale_opt_out (
        partner_id text PRIMARY KEY REFERENCES marketplace.partner,
        opted_out_at timestamptz NOT NULL
    )
    """,
)

_GUARDS = (
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("registration_contract", "registration_acceptance", "service_image")
    ),
    # An id of a service that was deleted still names it, and is never free again.
    """
    CREATE TRIGGER never_removed BEFORE DELETE ON marketplace.service
        FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()
    """,
    """
    CREATE TRIGGER deleted_stays BEFORE UPDATE ON marketplace.service FOR EACH ROW
        WHEN (OLD.state = 'DELETED' OR (OLD.service_id, OLD.position, OLD.provider_id)
              IS DISTINCT FROM (NEW.service_id, NEW.position, NEW.provider_id))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_SERVICES, *_DESCRIPTIONS, *_VERSIONS, *_GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: services and their history are never dropped by a version step."""
    raise NotImplementedError
