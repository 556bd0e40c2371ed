"""Requests for new services with their responses and history, and saved searches.

Words of a search are found by trigrams. The extension is made in the schema `public`, where other
schemas of the database find its operators too.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

_REQUESTS = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    """
    CREATE TABLE marketplace.service_request (
        service_request_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        author_id text NOT NULL REFERENCES marketplace.partner,
        title text NOT NULL,
        description text NOT NULL,
        preconditions text NOT NULL,
        postconditions text NOT NULL,
        interface_name text NOT NULL,
        category text NOT NULL,
        country_codes text[] NOT NULL,
        region text NOT NULL,
        monthly_call_count bigint NOT NULL CHECK (monthly_call_count >= 0),
        wished_start_at timestamptz,
        valid_until timestamptz NOT NULL,
        state text NOT NULL CHECK (state IN ('OPEN', 'CLOSED', 'DELETED')),
        revision integer NOT NULL CHECK (revision >= 1),
        created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX service_request_author ON marketplace.service_request (author_id, position)",
    "CREATE INDEX service_request_category ON marketplace.service_request (category, position)",
    """
    CREATE INDEX service_request_interface
        ON marketplace.service_request (interface_name, position)
    """,
    """
    CREATE INDEX service_request_words ON marketplace.service_request
        USING gin ((title || ' ' || description) gin_trgm_ops)
    """,
    """
    CREATE TABLE marketplace.service_request_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        service_request_id text NOT NULL REFERENCES marketplace.service_request,
        kind text NOT NULL,
        state text NOT NULL,
        revision integer NOT NULL,
        wish bytea NOT NULL,
        actor text NOT NULL,
        actor_id text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX service_request_event_request
        ON marketplace.service_request_event (service_request_id, position)
    """,
    """
    CREATE TABLE marketplace.service_request_response (
        response_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        service_request_id text NOT NULL REFERENCES marketplace.service_request,
        responder_id text NOT NULL REFERENCES marketplace.partner,
        text text NOT NULL,
        service_id text NOT NULL,
        planned_start_at timestamptz,
        revision integer NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX service_request_response_request
        ON marketplace.service_request_response (service_request_id, position)
    """,
    """
    CREATE INDEX service_request_response_responder
        ON marketplace.service_request_response (responder_id, service_request_id)
    """,
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("service_request_event", "service_request_response")
    ),
)

_SEARCHES = (
    """
    CREATE TABLE marketplace.saved_search (
        saved_search_id text PRIMARY KEY,
        owner text NOT NULL,
        partner_id text NOT NULL,
        name text NOT NULL,
        method text NOT NULL,
        criteria bytea NOT NULL,
        created_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL,
        UNIQUE (owner, name)
    )
    """,
    "CREATE INDEX saved_search_partner ON marketplace.saved_search (partner_id)",
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_REQUESTS, *_SEARCHES):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: requests and their history are never dropped by a version step."""
    raise NotImplementedError
