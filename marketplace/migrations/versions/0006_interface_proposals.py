"""Proposals of standard interfaces, labels of versions, and what tells equal interfaces.

`shape` is empty for versions that were published before this step: they are compared by their files
only.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

_PROPOSALS = (
    """
    CREATE TABLE marketplace.interface_proposal (
        proposal_id text PRIMARY KEY,
        position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
        proposer_id text NOT NULL REFERENCES marketplace.partner,
        note text NOT NULL,
        state text NOT NULL CHECK (state IN ('PROPOSED', 'INVALID', 'IN_REVIEW', 'ACCEPTED',
            'REJECTED', 'PUBLISHED', 'WITHDRAWN')),
        interface_names text[] NOT NULL,
        title text NOT NULL,
        category text NOT NULL,
        findings jsonb NOT NULL,
        descriptor_set bytea NOT NULL,
        digest bytea NOT NULL CHECK (length(digest) IN (0, 32)),
        decision_reason text NOT NULL DEFAULT '',
        proposed_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX interface_proposal_proposer
        ON marketplace.interface_proposal (proposer_id, position)
    """,
    "CREATE INDEX interface_proposal_state ON marketplace.interface_proposal (state, position)",
    """
    CREATE TABLE marketplace.interface_proposal_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        proposal_id text NOT NULL REFERENCES marketplace.interface_proposal,
        kind text NOT NULL,
        state text NOT NULL,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX interface_proposal_event_proposal
        ON marketplace.interface_proposal_event (proposal_id, position)
    """,
    """
    CREATE TABLE marketplace.interface_proposal_vote (
        proposal_id text NOT NULL REFERENCES marketplace.interface_proposal,
        partner_id text NOT NULL REFERENCES marketplace.partner,
        kind text NOT NULL CHECK (kind IN ('FOR', 'AGAINST')),
        comment text NOT NULL,
        voted_at timestamptz NOT NULL,
        PRIMARY KEY (proposal_id, partner_id)
    )
    """,
)

# One label `CURRENT` an interface, and `DEPRECATED` on any version beside it.
_LABELS = (
    """
    CREATE TABLE marketplace.interface_label (
        interface_name text NOT NULL,
        version integer NOT NULL,
        label text NOT NULL CHECK (label IN ('CURRENT', 'DEPRECATED')),
        effective_at timestamptz NOT NULL,
        PRIMARY KEY (interface_name, version, label),
        FOREIGN KEY (interface_name, version) REFERENCES marketplace.interface_version
    )
    """,
    """
    CREATE UNIQUE INDEX interface_label_one_current
        ON marketplace.interface_label (interface_name) WHERE label = 'CURRENT'
    """,
    """
    INSERT INTO marketplace.interface_label
        SELECT interface_name, max(version), 'CURRENT', now()
        FROM marketplace.interface_version GROUP BY interface_name
    """,
    """
    CREATE TABLE marketplace.interface_label_event (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        interface_name text NOT NULL,
        version integer NOT NULL,
        label text NOT NULL,
        set boolean NOT NULL,
        effective_at timestamptz,
        actor text NOT NULL,
        occurred_at timestamptz NOT NULL
    )
    """,
)

_LIKENESS = (
    """
    ALTER TABLE marketplace.interface_version
        ADD COLUMN shape bytea NOT NULL DEFAULT '', ADD COLUMN skeleton text NOT NULL DEFAULT ''
    """,
    "CREATE INDEX interface_version_shape ON marketplace.interface_version (shape)",
    "CREATE INDEX interface_version_skeleton ON marketplace.interface_version (skeleton)",
)

_GUARDS = (
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("interface_proposal_event", "interface_label_event", "interface_version")
    ),
    """
    CREATE TRIGGER proposed_never_changes BEFORE UPDATE ON marketplace.interface_proposal
        FOR EACH ROW
        WHEN (ROW(OLD.proposal_id, OLD.position, OLD.proposer_id, OLD.note, OLD.interface_names,
                  OLD.findings, OLD.descriptor_set, OLD.digest, OLD.proposed_at)
              IS DISTINCT FROM
              ROW(NEW.proposal_id, NEW.position, NEW.proposer_id, NEW.note, NEW.interface_names,
                  NEW.findings, NEW.descriptor_set, NEW.digest, NEW.proposed_at))
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
)


def upgrade() -> None:
    """Make the tables and what guards them."""
    for statement in (*_PROPOSALS, *_LABELS, *_LIKENESS, *_GUARDS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: proposals and their history are never dropped by a version step."""
    raise NotImplementedError
