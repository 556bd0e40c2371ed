"""Agreements, customers' contracts with their tokens, the blacklist, authorizations and sessions.

Contracts, tokens, agreements and the blacklist are versions: `recorded_at` is when one came into
being, `replaced_at` when it ended, and infinity while it is the current one. What holds at an
instant are the rows with `recorded_at <= instant < replaced_at`, now and in the past alike.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The result of every command, for its repetition; the digest is keyed: requests hold token ids.
_COMMAND = """
CREATE TABLE clearinghouse.command (
    partner_id text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    result bytea NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (partner_id, request_id)
)
"""

# What the marketplace told: events in their order, one row per contract, and how far it was read.
_MARKET = (
    """
    CREATE TABLE clearinghouse.market_event (
        event_id bigint PRIMARY KEY,
        contract_id text NOT NULL,
        content bytea NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    """
    CREATE TABLE clearinghouse.market_contract (
        contract_id text PRIMARY KEY,
        requester_id text NOT NULL,
        provider_id text NOT NULL,
        interface_names text[] NOT NULL,
        currency_code text NOT NULL,
        in_force boolean NOT NULL,
        ended boolean NOT NULL
    )
    """,
    """
    CREATE INDEX market_contract_requester
        ON clearinghouse.market_contract (requester_id, provider_id)
    """,
    """
    CREATE TABLE clearinghouse.market_cursor (
        one boolean PRIMARY KEY DEFAULT true CHECK (one),
        last_event_id bigint NOT NULL
    )
    """,
    "INSERT INTO clearinghouse.market_cursor (last_event_id) VALUES (0)",
)

# `market_active` is false while the contract in the marketplace is not in force. `operator_keys`
# are `operator_ids` as they are compared; without any it is for all EVSEs of the operator.
_AGREEMENT = (
    """
    CREATE TABLE clearinghouse.agreement (
        agreement_ref bigint NOT NULL,
        version_number bigint NOT NULL CHECK (version_number >= 1),
        agreement_id text NOT NULL,
        operator_id text NOT NULL,
        evsp_id text NOT NULL,
        market_contract_id text NOT NULL,
        active boolean NOT NULL,
        market_active boolean NOT NULL,
        detailed boolean NOT NULL,
        valid_from timestamptz NOT NULL DEFAULT '-infinity',
        valid_until timestamptz NOT NULL DEFAULT 'infinity',
        operator_ids text[] NOT NULL,
        operator_keys text[] NOT NULL,
        currency_code text NOT NULL,
        broadcast_allowed boolean NOT NULL,
        changed_by text NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        replaced_at timestamptz NOT NULL DEFAULT 'infinity',
        PRIMARY KEY (agreement_ref, version_number),
        CHECK (operator_id <> evsp_id),
        CHECK (valid_from < valid_until)
    )
    """,
    "CREATE SEQUENCE clearinghouse.agreement_ref OWNED BY clearinghouse.agreement.agreement_ref",
    """
    CREATE UNIQUE INDEX agreement_current ON clearinghouse.agreement (agreement_id)
        WHERE replaced_at = 'infinity'
    """,
    # One contract of the marketplace makes one agreement, whoever hears of it first.
    """
    CREATE UNIQUE INDEX agreement_market ON clearinghouse.agreement (market_contract_id)
        WHERE version_number = 1
    """,
    """
    CREATE INDEX agreement_operator
        ON clearinghouse.agreement (operator_id, evsp_id, replaced_at)
    """,
    "CREATE INDEX agreement_evsp ON clearinghouse.agreement (evsp_id, replaced_at)",
)

# Who changes an EVSP's contracts holds its row until the commit, so that `sequence` and
# `recorded_at` have the order of the commits (docs/decisions/0009).
_EVSP = (
    """
    CREATE TABLE clearinghouse.evsp (
        evsp_id text PRIMARY KEY,
        last_sequence bigint NOT NULL DEFAULT 0,
        last_recorded_at timestamptz NOT NULL
    )
    """,
    # Contract ids of one provider id are one EVSP's.
    """
    CREATE TABLE clearinghouse.provider_id (
        provider_key text COLLATE "C" PRIMARY KEY,
        evsp_id text NOT NULL,
        claimed_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
)

# `content` is a CustomerContract without tokens, secret, state and version; `limits` one of
# the service level alone, within which the customer may choose.
_CONTRACT_COLUMNS = """
        contract_key text COLLATE "C" NOT NULL,
        contract_id text NOT NULL,
        active boolean NOT NULL,
        policy smallint NOT NULL,
        valid_from timestamptz NOT NULL,
        valid_until timestamptz NOT NULL,
        roaming_allowed boolean NOT NULL,
        content bytea NOT NULL,
        limits bytea,
        secret_hash bytea,
        digest bytea NOT NULL,
"""
_COLUMNS_OF_TOKENS = """
        token_hash bytea NOT NULL,
        kind smallint NOT NULL,
        visual_number text NOT NULL,
        status smallint NOT NULL,
        expires_at timestamptz NOT NULL,
"""
_CUSTOMER = (
    f"""
    CREATE TABLE clearinghouse.customer_contract (
        evsp_id text NOT NULL,
        {_CONTRACT_COLUMNS}
        version_number bigint NOT NULL CHECK (version_number >= 1),
        sequence bigint NOT NULL,
        recorded_at timestamptz NOT NULL,
        replaced_at timestamptz NOT NULL DEFAULT 'infinity',
        PRIMARY KEY (contract_key, version_number)
    )
    """,
    """
    CREATE UNIQUE INDEX customer_contract_current ON clearinghouse.customer_contract (contract_key)
        WHERE replaced_at = 'infinity'
    """,
    """
    CREATE INDEX customer_contract_key
        ON clearinghouse.customer_contract (contract_key, replaced_at)
    """,
    """
    CREATE UNIQUE INDEX customer_contract_sequence
        ON clearinghouse.customer_contract (evsp_id, sequence)
    """,
    """
    CREATE INDEX customer_contract_evsp ON clearinghouse.customer_contract (evsp_id, contract_key)
    """,
    f"""
    CREATE TABLE clearinghouse.token (
        token_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        evsp_id text NOT NULL,
        contract_key text COLLATE "C" NOT NULL,
        {_COLUMNS_OF_TOKENS}
        blocked_by_customer boolean NOT NULL DEFAULT false,
        recorded_at timestamptz NOT NULL,
        replaced_at timestamptz NOT NULL DEFAULT 'infinity'
    )
    """,
    # One EVSP has a token once; that another has it too must not show.
    """
    CREATE UNIQUE INDEX token_current ON clearinghouse.token (token_hash, evsp_id)
        WHERE replaced_at = 'infinity'
    """,
    "CREATE INDEX token_hash ON clearinghouse.token (token_hash, replaced_at)",
    "CREATE INDEX token_contract ON clearinghouse.token (contract_key, replaced_at)",
    """
    CREATE TABLE clearinghouse.own_change_failure (
        contract_key text COLLATE "C" NOT NULL,
        partner_id text NOT NULL,
        failure_count integer NOT NULL,
        last_at timestamptz NOT NULL,
        PRIMARY KEY (contract_key, partner_id)
    )
    """,
)

# Where contracts wait between their arrival and their check against what is stored: not durable,
# a load that breaks off is sent again. `outcome` is a LoadStatus.
_STAGING = (
    f"""
    CREATE UNLOGGED TABLE clearinghouse.staged_contract (
        load_id uuid NOT NULL,
        item_index bigint NOT NULL,
        {_CONTRACT_COLUMNS.replace("NOT NULL", "")}
        outcome smallint NOT NULL,
        field text NOT NULL,
        description text NOT NULL,
        version_number bigint,
        staged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (load_id, item_index)
    )
    """,
    "CREATE INDEX staged_contract_key ON clearinghouse.staged_contract (load_id, contract_key)",
    f"""
    CREATE UNLOGGED TABLE clearinghouse.staged_token (
        load_id uuid NOT NULL,
        item_index bigint NOT NULL,
        {_COLUMNS_OF_TOKENS}
        kept boolean NOT NULL,
        PRIMARY KEY (load_id, item_index, token_hash)
    )
    """,
    "CREATE INDEX staged_token_hash ON clearinghouse.staged_token (load_id, token_hash)",
)

_BLACKLIST = (
    """
    CREATE TABLE clearinghouse.blacklist (
        entry_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        entry_id text NOT NULL UNIQUE,
        evsp_id text NOT NULL,
        contract_key text COLLATE "C",
        contract_id text NOT NULL,
        token_hash bytea,
        kind smallint NOT NULL,
        reason smallint NOT NULL,
        ends_at timestamptz NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        replaced_at timestamptz NOT NULL DEFAULT 'infinity',
        CHECK (contract_key IS NOT NULL OR token_hash IS NOT NULL)
    )
    """,
    """
    CREATE INDEX blacklist_contract ON clearinghouse.blacklist (contract_key, replaced_at)
        WHERE contract_key IS NOT NULL
    """,
    """
    CREATE INDEX blacklist_token ON clearinghouse.blacklist (token_hash, replaced_at)
        WHERE token_hash IS NOT NULL
    """,
    "CREATE INDEX blacklist_evsp ON clearinghouse.blacklist (evsp_id, entry_ref)",
)

# Refused ones too: which layer decided, and why, is asked later. `identity_key` is the contract's
# key, else the token's hash; `decision` the answer as it was given.
_AUTHORIZATION = (
    """
    CREATE TABLE clearinghouse.authorization (
        authorization_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        authorization_reference text NOT NULL UNIQUE,
        operator_id text NOT NULL,
        request_id text NOT NULL,
        digest bytea NOT NULL,
        session_id text,
        operator_session_id text NOT NULL,
        evse_id text NOT NULL,
        evse_key text COLLATE "C" NOT NULL,
        operator_key text COLLATE "C" NOT NULL,
        identity_key text COLLATE "C" NOT NULL,
        kind smallint NOT NULL,
        method smallint NOT NULL,
        status smallint NOT NULL,
        layer smallint NOT NULL,
        contract_key text COLLATE "C",
        contract_version bigint,
        evsp_id text,
        evsp_session_id text NOT NULL DEFAULT '',
        payment_hash bytea,
        decision bytea NOT NULL,
        decided_at timestamptz NOT NULL,
        valid_until timestamptz NOT NULL,
        UNIQUE (operator_id, request_id)
    )
    """,
    """
    CREATE UNIQUE INDEX authorization_session ON clearinghouse.authorization (session_id)
        WHERE session_id IS NOT NULL
    """,
    # A payment that was reserved for one session serves for one.
    """
    CREATE UNIQUE INDEX authorization_payment ON clearinghouse.authorization (payment_hash)
        WHERE payment_hash IS NOT NULL
    """,
    """
    CREATE INDEX authorization_evse
        ON clearinghouse.authorization (evse_key, identity_key, operator_id)
    """,
)

_SESSION = (
    """
    CREATE TABLE clearinghouse.session (
        authorization_ref bigint PRIMARY KEY REFERENCES clearinghouse.authorization,
        operator_session_id text NOT NULL,
        last_sequence integer NOT NULL,
        ended boolean NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    # `due_at` is infinity once the EVSP has it, or will never have it.
    """
    CREATE TABLE clearinghouse.session_notice (
        notice_ref bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        authorization_ref bigint NOT NULL REFERENCES clearinghouse.session,
        sequence_number integer NOT NULL,
        evsp_id text,
        notice bytea NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        delivered_at timestamptz,
        attempt_count integer NOT NULL DEFAULT 0,
        due_at timestamptz NOT NULL,
        UNIQUE (authorization_ref, sequence_number)
    )
    """,
    """
    CREATE INDEX session_notice_due ON clearinghouse.session_notice (due_at)
        WHERE due_at < 'infinity'
    """,
    """
    CREATE INDEX session_notice_waiting
        ON clearinghouse.session_notice (authorization_ref, sequence_number)
        WHERE due_at < 'infinity'
    """,
)


def upgrade() -> None:
    """Make the tables and indexes."""
    op.execute(_COMMAND)
    parts = (_MARKET, _AGREEMENT, _EVSP, _CUSTOMER, _STAGING, _BLACKLIST, _AUTHORIZATION, _SESSION)
    for statement in (statement for part in parts for statement in part):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: contracts and their history are never dropped by a version step."""
    raise NotImplementedError
