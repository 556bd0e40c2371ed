"""Notifications: what was told to whom, how each partner wants it, and e-mails to be delivered.

No row here refers to a partner's by a foreign key: its check would lock the partner after the
inbox, while a change of the partner locks them the other way round.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    # The row's lock, held until the commit, gives the notices of a recipient the order of the
    # commits: who has read up to a sequence has missed none below it.
    """
    CREATE TABLE marketplace.inbox (
        recipient_id text PRIMARY KEY,
        last_sequence bigint NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.notice (
        recipient_id text NOT NULL REFERENCES marketplace.inbox,
        sequence bigint NOT NULL CHECK (sequence >= 1),
        kind text NOT NULL,
        title text NOT NULL,
        text text NOT NULL,
        contract_id text NOT NULL,
        service_id text NOT NULL,
        interface_name text NOT NULL,
        sender_id text NOT NULL,
        in_inbox boolean NOT NULL,
        created_at timestamptz NOT NULL,
        read_at timestamptz,
        PRIMARY KEY (recipient_id, sequence)
    )
    """,
    """
    CREATE INDEX notice_unread ON marketplace.notice (recipient_id, sequence)
        WHERE in_inbox AND read_at IS NULL
    """,
    "CREATE INDEX notice_kind ON marketplace.notice (recipient_id, kind, sequence) WHERE in_inbox",
    """
    CREATE TABLE marketplace.notice_preference (
        partner_id text NOT NULL,
        kind text NOT NULL,
        inbox boolean NOT NULL,
        email boolean NOT NULL,
        PRIMARY KEY (partner_id, kind)
    )
    """,
    "CREATE INDEX notice_preference_kind ON marketplace.notice_preference (kind, partner_id)",
    # What was delivered has no row here any more.
    """
    CREATE TABLE marketplace.notice_outbox (
        recipient_id text NOT NULL,
        sequence bigint NOT NULL,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        state text NOT NULL CHECK (state IN ('PENDING', 'DEAD')),
        attempt_count integer NOT NULL,
        due_at timestamptz NOT NULL,
        failure text,
        smtp_code integer NOT NULL DEFAULT 0,
        failed_at timestamptz,
        PRIMARY KEY (recipient_id, sequence),
        FOREIGN KEY (recipient_id, sequence) REFERENCES marketplace.notice,
        CHECK (state = 'PENDING' OR (failure IS NOT NULL AND failed_at IS NOT NULL))
    )
    """,
    """
    CREATE INDEX notice_outbox_due ON marketplace.notice_outbox (due_at)
        WHERE state = 'PENDING'
    """,
    """
    CREATE INDEX notice_outbox_pending ON marketplace.notice_outbox (recipient_id, sequence)
        WHERE state = 'PENDING'
    """,
    """
    CREATE INDEX notice_outbox_dead ON marketplace.notice_outbox (position)
        WHERE state = 'DEAD'
    """,
    """
    CREATE TRIGGER told_never_changes BEFORE UPDATE ON marketplace.notice FOR EACH ROW
        WHEN (ROW(OLD.recipient_id, OLD.sequence, OLD.kind, OLD.title, OLD.text, OLD.contract_id,
                  OLD.service_id, OLD.interface_name, OLD.sender_id, OLD.in_inbox, OLD.created_at)
              IS DISTINCT FROM
              ROW(NEW.recipient_id, NEW.sequence, NEW.kind, NEW.title, NEW.text, NEW.contract_id,
                  NEW.service_id, NEW.interface_name, NEW.sender_id, NEW.in_inbox, NEW.created_at))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Refuse: what partners were told is never dropped by a version step."""
    raise NotImplementedError
