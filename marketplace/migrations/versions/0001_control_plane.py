"""The control plane: partners, certificates, interfaces, services, offerings, contracts.

States are the names of the proto enums without their prefix. What was agreed or has happened never
changes: triggers refuse it, whoever asks.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_PARTNERS = (
    """
    CREATE TABLE marketplace.partner (
        partner_id text PRIMARY KEY,
        state text NOT NULL CHECK (state IN ('REGISTERED', 'ACTIVE', 'INACTIVE')),
        roles smallint[] NOT NULL,
        company_name text NOT NULL,
        postal_address text NOT NULL,
        country_code text NOT NULL,
        person_name text NOT NULL,
        person_email text NOT NULL,
        person_phone text NOT NULL,
        partner_contract_version integer NOT NULL,
        registered_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.partner_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        partner_id text NOT NULL REFERENCES marketplace.partner,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX partner_event_partner ON marketplace.partner_event (partner_id, position)",
    # `value` is normalised: upper case, no separators. The key is what makes an owner unique.
    """
    CREATE TABLE marketplace.owned_identifier (
        kind smallint NOT NULL,
        value text NOT NULL,
        partner_id text NOT NULL REFERENCES marketplace.partner,
        added_at timestamptz NOT NULL,
        PRIMARY KEY (kind, value)
    )
    """,
    "CREATE INDEX owned_identifier_partner ON marketplace.owned_identifier (partner_id)",
)

# A certificate stands for a partner or for an operator, who needs no account besides it.
_CERTIFICATES = (
    """
    CREATE TABLE marketplace.certificate (
        fingerprint bytea PRIMARY KEY CHECK (length(fingerprint) = 32),
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        partner_id text REFERENCES marketplace.partner,
        operator_name text,
        operator_role smallint,
        serial_number text NOT NULL,
        uri text NOT NULL,
        not_before_at timestamptz NOT NULL,
        not_after_at timestamptz NOT NULL,
        registered_at timestamptz NOT NULL,
        revoked_at timestamptz,
        revocation_reason smallint NOT NULL DEFAULT 0,
        CHECK ((partner_id IS NULL) = (operator_name IS NOT NULL)),
        CHECK ((operator_name IS NULL) = (operator_role IS NULL))
    )
    """,
    "CREATE INDEX certificate_partner ON marketplace.certificate (partner_id, position)",
    "CREATE INDEX certificate_not_after ON marketplace.certificate (not_after_at)",
)

_INTERFACES = (
    """
    CREATE TABLE marketplace.interface_publication (
        publication_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
        descriptor_set bytea NOT NULL,
        published_by text NOT NULL,
        published_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.interface_version (
        interface_name text NOT NULL,
        version integer NOT NULL CHECK (version >= 1),
        publication_id bigint NOT NULL REFERENCES marketplace.interface_publication,
        title text NOT NULL,
        category text NOT NULL,
        implemented_by smallint[] NOT NULL,
        called_by smallint[] NOT NULL,
        methods jsonb NOT NULL,
        PRIMARY KEY (interface_name, version)
    )
    """,
)

_SERVICES = (
    """
    CREATE TABLE marketplace.service (
        service_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        provider_id text NOT NULL REFERENCES marketplace.partner,
        title text NOT NULL,
        description text NOT NULL,
        interface_name text NOT NULL,
        interface_version integer NOT NULL,
        service_version text NOT NULL,
        endpoint text NOT NULL,
        state text NOT NULL CHECK (state IN ('REGISTERED', 'PUBLISHED', 'STOPPED')),
        registration_contract_version integer NOT NULL,
        registered_at timestamptz NOT NULL,
        UNIQUE (service_id, provider_id),
        FOREIGN KEY (interface_name, interface_version) REFERENCES marketplace.interface_version
    )
    """,
    "CREATE INDEX service_provider ON marketplace.service (provider_id, position)",
    "CREATE INDEX service_interface ON marketplace.service (interface_name, position)",
    """
    CREATE TABLE marketplace.service_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        service_id text NOT NULL REFERENCES marketplace.service,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX service_event_service ON marketplace.service_event (service_id, position)",
    # A serialised gem.marketplace.v1.OfferingTerms. A changed offering is a new row; the old one is
    # withdrawn.
    """
    CREATE TABLE marketplace.offering (
        offering_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        service_id text NOT NULL REFERENCES marketplace.service,
        terms bytea NOT NULL,
        created_at timestamptz NOT NULL,
        withdrawn_at timestamptz,
        UNIQUE (offering_id, service_id)
    )
    """,
    "CREATE INDEX offering_service ON marketplace.offering (service_id, position)",
)

# `position` is the contract order. `terms` is a serialised gem.marketplace.v1.ContractTerms; the
# price columns repeat what routing needs of it.
_CONTRACTS = (
    """
    CREATE TABLE marketplace.contract (
        contract_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        requester_id text NOT NULL REFERENCES marketplace.partner,
        provider_id text NOT NULL,
        service_id text NOT NULL,
        offering_id text NOT NULL,
        state text NOT NULL CHECK (state IN ('ACTIVE', 'SUSPENDED', 'TERMINATED')),
        terms bytea NOT NULL,
        price_per_call_micros bigint NOT NULL CHECK (price_per_call_micros >= 0),
        currency_code text NOT NULL,
        created_at timestamptz NOT NULL,
        terminated_at timestamptz,
        CHECK (requester_id <> provider_id),
        CHECK ((state = 'TERMINATED') = (terminated_at IS NOT NULL)),
        FOREIGN KEY (service_id, provider_id)
            REFERENCES marketplace.service (service_id, provider_id),
        FOREIGN KEY (offering_id, service_id)
            REFERENCES marketplace.offering (offering_id, service_id)
    )
    """,
    # Two contracts for one service would ask, and bill, the same provider twice for one call.
    """
    CREATE UNIQUE INDEX contract_one_in_force ON marketplace.contract (requester_id, service_id)
        WHERE state <> 'TERMINATED'
    """,
    "CREATE INDEX contract_requester ON marketplace.contract (requester_id, position)",
    "CREATE INDEX contract_provider ON marketplace.contract (provider_id, position)",
    "CREATE INDEX contract_service ON marketplace.contract (service_id, position)",
    """
    CREATE TABLE marketplace.contract_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        contract_id text NOT NULL REFERENCES marketplace.contract,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX contract_event_contract ON marketplace.contract_event (contract_id, position)",
)

# What a command gave is kept with it, so that its repetition gives the same.
_COMMANDS = (
    """
    CREATE TABLE marketplace.command (
        subject_id text NOT NULL,
        request_id text NOT NULL,
        digest bytea NOT NULL CHECK (length(digest) = 32),
        result bytea NOT NULL,
        accepted_at timestamptz NOT NULL,
        PRIMARY KEY (subject_id, request_id)
    )
    """,
    # One row. Who changes routes holds its lock until the commit, so that versions, commits and
    # notifications have one order.
    """
    CREATE TABLE marketplace.routing_version (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        version bigint NOT NULL
    )
    """,
    "INSERT INTO marketplace.routing_version (version) VALUES (1)",
)

_GUARDS = (
    """
    CREATE FUNCTION marketplace.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% of %.% is refused: it never changes',
            TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME;
    END
    $$
    """,
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("partner_event", "service_event", "contract_event", "interface_publication")
    ),
    """
    CREATE TRIGGER agreed_never_changes BEFORE UPDATE ON marketplace.contract FOR EACH ROW
        WHEN (ROW(OLD.contract_id, OLD.position, OLD.requester_id, OLD.provider_id, OLD.service_id,
                  OLD.offering_id, OLD.terms, OLD.price_per_call_micros, OLD.currency_code,
                  OLD.created_at)
              IS DISTINCT FROM
              ROW(NEW.contract_id, NEW.position, NEW.requester_id, NEW.provider_id, NEW.service_id,
                  NEW.offering_id, NEW.terms, NEW.price_per_call_micros, NEW.currency_code,
                  NEW.created_at))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
    """
    CREATE TRIGGER offered_never_changes BEFORE UPDATE ON marketplace.offering FOR EACH ROW
        WHEN (ROW(OLD.offering_id, OLD.service_id, OLD.terms)
              IS DISTINCT FROM ROW(NEW.offering_id, NEW.service_id, NEW.terms))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    parts = (_PARTNERS, _CERTIFICATES, _INTERFACES, _SERVICES, _CONTRACTS, _COMMANDS, _GUARDS)
    for statement in (statement for part in parts for statement in part):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: contracts and their history are never dropped by a version step."""
    raise NotImplementedError
