"""Conformance runs, certification, and the files and specifications of services."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"

_RUNS = (
    """
    CREATE TABLE marketplace.conformance_run (
        run_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        service_id text NOT NULL REFERENCES marketplace.service,
        endpoint text NOT NULL,
        interface_name text NOT NULL,
        interface_version integer NOT NULL,
        include_side_effects boolean NOT NULL,
        state text NOT NULL CHECK (state IN ('RUNNING', 'PASSED', 'FAILED', 'ABANDONED')),
        requested_by text NOT NULL,
        started_at timestamptz NOT NULL,
        overdue_at timestamptz NOT NULL,
        ended_at timestamptz
    )
    """,
    "CREATE INDEX conformance_run_service ON marketplace.conformance_run (service_id, position)",
    """
    CREATE UNIQUE INDEX conformance_run_one_at_a_time
        ON marketplace.conformance_run (service_id) WHERE state = 'RUNNING'
    """,
    """
    CREATE TABLE marketplace.conformance_check (
        run_id text NOT NULL REFERENCES marketplace.conformance_run,
        number integer NOT NULL,
        kind text NOT NULL,
        method text NOT NULL,
        outcome text NOT NULL,
        detail text NOT NULL,
        duration_us bigint NOT NULL,
        PRIMARY KEY (run_id, number)
    )
    """,
)

_CERTIFICATION = (
    """
    CREATE TABLE marketplace.certification (
        service_id text NOT NULL REFERENCES marketplace.service,
        run_id text NOT NULL REFERENCES marketplace.conformance_run,
        interface_name text NOT NULL,
        interface_version integer NOT NULL,
        certified_at timestamptz NOT NULL,
        ended_at timestamptz
    )
    """,
    """
    CREATE UNIQUE INDEX certification_in_force
        ON marketplace.certification (service_id) WHERE ended_at IS NULL
    """,
    """
    CREATE TABLE marketplace.certification_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        service_id text NOT NULL REFERENCES marketplace.service,
        kind text NOT NULL,
        run_id text NOT NULL,
        reason text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX certification_event_service
        ON marketplace.certification_event (service_id, position)
    """,
    # Whoever changes a service, and however: what was certified is not there any more.
    """
    CREATE FUNCTION marketplace.certification_falls() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WITH fallen AS (
            UPDATE marketplace.certification SET ended_at = now()
            WHERE service_id = NEW.service_id AND ended_at IS NULL RETURNING run_id
        )
        INSERT INTO marketplace.certification_event
            (service_id, kind, run_id, reason, actor, occurred_at)
        SELECT NEW.service_id, 'FELL', run_id, '', 'marketplace', now() FROM fallen;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER certification_falls AFTER UPDATE ON marketplace.service FOR EACH ROW
        WHEN (ROW(OLD.endpoint, OLD.interface_name, OLD.interface_version)
              IS DISTINCT FROM ROW(NEW.endpoint, NEW.interface_name, NEW.interface_version))
        EXECUTE FUNCTION marketplace.certification_falls()
    """,
)

_FILES = (
    """
    CREATE TABLE marketplace.service_file (
        file_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        service_id text NOT NULL REFERENCES marketplace.service,
        provider_id text NOT NULL REFERENCES marketplace.partner,
        name text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('MANUAL', 'DESCRIPTION', 'SPECIFICATION', 'OTHER')),
        media_type text NOT NULL,
        size_bytes bigint NOT NULL CHECK (size_bytes > 0),
        digest bytea NOT NULL CHECK (length(digest) = 32),
        state text NOT NULL
            CHECK (state IN ('UPLOADING', 'STORED', 'REPLACED', 'DELETED', 'ABANDONED')),
        received_bytes bigint NOT NULL CHECK (received_bytes BETWEEN 0 AND size_bytes),
        -- Of an upload: when it is given up. Of a removed file: when its content is dropped.
        expires_at timestamptz,
        stored_at timestamptz
    )
    """,
    """
    CREATE UNIQUE INDEX service_file_name ON marketplace.service_file (service_id, name COLLATE "C")
        WHERE state = 'STORED'
    """,
    "CREATE INDEX service_file_provider ON marketplace.service_file (provider_id)",
    """
    CREATE INDEX service_file_expires ON marketplace.service_file (expires_at)
        WHERE expires_at IS NOT NULL
    """,
    """
    CREATE TABLE marketplace.service_file_part (
        file_id text NOT NULL REFERENCES marketplace.service_file,
        offset_bytes bigint NOT NULL,
        content bytea STORAGE EXTERNAL NOT NULL CHECK (length(content) BETWEEN 1 AND 262144),
        PRIMARY KEY (file_id, offset_bytes)
    )
    """,
    """
    CREATE TABLE marketplace.service_file_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        service_id text NOT NULL REFERENCES marketplace.service,
        file_id text NOT NULL REFERENCES marketplace.service_file,
        name text NOT NULL,
        digest bytea NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX service_file_event_service
        ON marketplace.service_file_event (service_id, position)
    """,
    """
    CREATE TABLE marketplace.service_specification (
        service_id text NOT NULL REFERENCES marketplace.service,
        version integer NOT NULL,
        description text NOT NULL,
        interface_name text NOT NULL,
        interface_version integer NOT NULL,
        digest bytea NOT NULL CHECK (length(digest) = 32),
        descriptor_set bytea NOT NULL,
        stored_by text NOT NULL,
        stored_at timestamptz NOT NULL,
        PRIMARY KEY (service_id, version)
    )
    """,
)

_GUARDS = (
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in (
            *("conformance_check", "certification_event", "service_file_event"),
            "service_specification",
        )
    ),
    """
    CREATE TRIGGER uploaded_never_changes BEFORE UPDATE ON marketplace.service_file FOR EACH ROW
        WHEN (ROW(OLD.file_id, OLD.service_id, OLD.provider_id, OLD.name, OLD.kind, OLD.media_type,
                  OLD.size_bytes, OLD.digest)
              IS DISTINCT FROM
              ROW(NEW.file_id, NEW.service_id, NEW.provider_id, NEW.name, NEW.kind, NEW.media_type,
                  NEW.size_bytes, NEW.digest))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
    """
    CREATE TRIGGER part_never_changes BEFORE UPDATE ON marketplace.service_file_part
        FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_RUNS, *_CERTIFICATION, *_FILES, *_GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: reports and files are never dropped by a version step."""
    raise NotImplementedError
