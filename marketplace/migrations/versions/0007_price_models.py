"""Prices beyond so much for each call, which entries are under which, and owners of identifiers.

A price model is kept once, however many contracts have it, and never changes: entries of the log
and contracts name it by `price_id`, NULL for free and per call. `contract_price` remembers since
when a contract has had which; the trigger writes it, whatever changes a contract's price. An
identifier's owner has a history from now on, by which past routes are explained.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

_PRICES = (
    """
    CREATE TABLE marketplace.price_model (
        price_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
        model bytea NOT NULL
    )
    """,
    """
    ALTER TABLE marketplace.contract
        ADD COLUMN price_id bigint REFERENCES marketplace.price_model
    """,
    """
    CREATE TABLE marketplace.contract_price (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        contract_id text NOT NULL REFERENCES marketplace.contract,
        service_id text NOT NULL REFERENCES marketplace.service,
        price_id bigint REFERENCES marketplace.price_model,
        effective_at timestamptz NOT NULL
    )
    """,
    """
    CREATE INDEX contract_price_contract ON marketplace.contract_price (contract_id, position)
    """,
    """
    CREATE FUNCTION marketplace.remember_price() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO marketplace.contract_price (contract_id, service_id, price_id, effective_at)
        VALUES (
            NEW.contract_id, NEW.service_id, NEW.price_id,
            CASE WHEN TG_OP = 'INSERT' THEN NEW.created_at ELSE now() END);
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER price_agreed AFTER INSERT ON marketplace.contract FOR EACH ROW
        WHEN (NEW.price_id IS NOT NULL) EXECUTE FUNCTION marketplace.remember_price()
    """,
    """
    CREATE TRIGGER price_changed AFTER UPDATE ON marketplace.contract FOR EACH ROW
        WHEN (OLD.price_id IS DISTINCT FROM NEW.price_id)
        EXECUTE FUNCTION marketplace.remember_price()
    """,
    # Whoever lets the agreed terms change decides about the price with them.
    """
    CREATE TRIGGER agreed_price_never_changes BEFORE UPDATE ON marketplace.contract FOR EACH ROW
        WHEN (OLD.price_id IS DISTINCT FROM NEW.price_id AND OLD.terms = NEW.terms)
        EXECUTE FUNCTION marketplace.refuse_change()
    """,
    *(
        f"CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.{table}"
        " FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()"
        for table in ("price_model", "contract_price")
    ),
)

_ENTRIES = tuple(
    f"ALTER TABLE marketplace.{table} ADD COLUMN units bigint, ADD COLUMN price_id bigint"
    for table in ("service_transaction", "transaction_intent")
)

_OWNERS = (
    """
    CREATE TABLE marketplace.identifier_ownership (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        kind smallint NOT NULL,
        value text NOT NULL,
        partner_id text NOT NULL,
        from_at timestamptz NOT NULL,
        until_at timestamptz
    )
    """,
    """
    CREATE INDEX identifier_ownership_value
        ON marketplace.identifier_ownership (kind, value, position)
    """,
    """
    INSERT INTO marketplace.identifier_ownership (kind, value, partner_id, from_at)
        SELECT kind, value, partner_id, added_at FROM marketplace.owned_identifier
    """,
    """
    CREATE FUNCTION marketplace.remember_owner() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO marketplace.identifier_ownership (kind, value, partner_id, from_at)
                VALUES (NEW.kind, NEW.value, NEW.partner_id, NEW.added_at);
        ELSE
            UPDATE marketplace.identifier_ownership SET until_at = now()
                WHERE kind = OLD.kind AND value = OLD.value AND until_at IS NULL;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER ownership AFTER INSERT OR DELETE ON marketplace.owned_identifier
        FOR EACH ROW EXECUTE FUNCTION marketplace.remember_owner()
    """,
)


def upgrade() -> None:
    """Make the tables and columns, and what keeps the histories."""
    for statement in (*_PRICES, *_ENTRIES, *_OWNERS):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: what was agreed and what was counted are never dropped by a version step."""
    raise NotImplementedError
