"""Users, their one-time links, their sessions, and the logins that failed.

Passwords are kept as argon2id hashes, tokens and links as SHA-256 of random secrets: a copy of
these tables opens no session.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    # An operator of the marketplace has the empty partner id, so that one key covers all names.
    """
    CREATE TABLE marketplace.user_account (
        user_id text PRIMARY KEY,
        partner_id text NOT NULL,
        user_name text NOT NULL,
        full_name text NOT NULL,
        roles smallint[] NOT NULL,
        state text NOT NULL CHECK (state IN ('INVITED', 'ACTIVE', 'DISABLED')),
        password_hash text NOT NULL,
        created_at timestamptz NOT NULL,
        UNIQUE (partner_id, user_name),
        CHECK ((state = 'ACTIVE') = (password_hash <> ''))
    )
    """,
    """
    CREATE TABLE marketplace.user_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id text NOT NULL REFERENCES marketplace.user_account,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX user_event_user ON marketplace.user_event (user_id, position)",
    """
    CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.user_event
        FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()
    """,
    # A user has one link at most: a new one replaces it.
    """
    CREATE TABLE marketplace.one_time_link (
        user_id text PRIMARY KEY REFERENCES marketplace.user_account,
        secret_digest bytea NOT NULL UNIQUE CHECK (length(secret_digest) = 32),
        expires_at timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.session (
        session_id text PRIMARY KEY,
        token_digest bytea NOT NULL UNIQUE CHECK (length(token_digest) = 32),
        user_id text NOT NULL REFERENCES marketplace.user_account,
        request_id text NOT NULL,
        created_at timestamptz NOT NULL,
        last_used_at timestamptz NOT NULL,
        ended_at timestamptz,
        UNIQUE (user_id, request_id)
    )
    """,
    """
    CREATE TABLE marketplace.login_attempt (
        login_digest bytea PRIMARY KEY CHECK (length(login_digest) = 32),
        failure_count integer NOT NULL,
        last_at timestamptz NOT NULL,
        locked_until_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX login_attempt_last ON marketplace.login_attempt (last_at)",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: accounts and their history are never dropped by a version step."""
    raise NotImplementedError
