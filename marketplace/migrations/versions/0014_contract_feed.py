"""The feeds of clearing houses: what happened to the contracts of their partners, in commit order.

The entries are made by a trigger when a transaction commits, whoever wrote the event. It first
takes one lock, which it holds until the commit is done: so the entries of a feed have the order of
the commits, without a gap (docs/decisions/0009), and of two transactions of which each alone shows
a clearing house nothing, the later one sees the other and shows both.
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"

# `position` is the event's; none where a contract came to be seen without an event of its own.
_TABLES = (
    """
    CREATE TABLE marketplace.contract_feed (
        clearing_house_id text PRIMARY KEY,
        last_event_id bigint NOT NULL
    )
    """,
    """
    CREATE TABLE marketplace.contract_feed_event (
        clearing_house_id text NOT NULL,
        event_id bigint NOT NULL CHECK (event_id >= 1),
        contract_id text NOT NULL REFERENCES marketplace.contract,
        position bigint REFERENCES marketplace.contract_event,
        state text NOT NULL,
        PRIMARY KEY (clearing_house_id, event_id)
    )
    """,
    """
    CREATE INDEX contract_feed_event_contract
        ON marketplace.contract_feed_event (contract_id, clearing_house_id)
    """,
)

# Role 6 is PARTNER_ROLE_CLEARING_HOUSE. A clearing house is a party to its own contracts; the
# contracts of others it sees while both parties have a contract with it in force.
_FUNCTIONS = (
    """
    CREATE FUNCTION marketplace.clearing_houses_of(one text, other text) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$
        SELECT p.partner_id FROM marketplace.partner p
        WHERE 6 = ANY(p.roles) AND (p.partner_id IN (one, other) OR (
            EXISTS (SELECT FROM marketplace.contract c WHERE c.requester_id = one
                AND c.provider_id = p.partner_id AND c.state = 'ACTIVE')
            AND EXISTS (SELECT FROM marketplace.contract c WHERE c.requester_id = other
                AND c.provider_id = p.partner_id AND c.state = 'ACTIVE')))
    $$
    """,
    """
    CREATE FUNCTION marketplace.add_to_contract_feed(house text, contract text, event bigint,
        new_state text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        next_id bigint;
    BEGIN
        INSERT INTO marketplace.contract_feed AS f (clearing_house_id, last_event_id)
        VALUES (house, 1)
        ON CONFLICT (clearing_house_id) DO UPDATE SET last_event_id = f.last_event_id + 1
        RETURNING last_event_id INTO next_id;
        INSERT INTO marketplace.contract_feed_event
            (clearing_house_id, event_id, contract_id, position, state)
        VALUES (house, next_id, contract, event, new_state);
    END
    $$
    """,
    """
    CREATE FUNCTION marketplace.feed_contract_event() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        made marketplace.contract;
        house text;
        seen record;
    BEGIN
        PERFORM pg_advisory_xact_lock(444930252654);
        SELECT * INTO made FROM marketplace.contract WHERE contract_id = NEW.contract_id;
        FOR house IN
            SELECT * FROM marketplace.clearing_houses_of(made.requester_id, made.provider_id)
                AS seen_by ORDER BY seen_by COLLATE "C"
        LOOP
            PERFORM marketplace.add_to_contract_feed(
                house, NEW.contract_id, NEW.position, NEW.state);
            IF house = made.provider_id AND NEW.state = 'ACTIVE'
                AND NEW.kind IN ('CREATED', 'STARTED', 'RESUMED') THEN
                FOR seen IN
                    SELECT c.contract_id, c.state FROM marketplace.contract c
                    WHERE made.requester_id IN (c.requester_id, c.provider_id)
                        AND house NOT IN (c.requester_id, c.provider_id)
                        AND (c.state NOT IN ('TERMINATED', 'EXPIRED') OR EXISTS (
                            SELECT FROM marketplace.contract_feed_event told
                            WHERE told.contract_id = c.contract_id
                            AND told.clearing_house_id = house))
                        AND house IN (SELECT marketplace.clearing_houses_of(
                            c.requester_id, c.provider_id))
                    ORDER BY c.position
                LOOP
                    PERFORM marketplace.add_to_contract_feed(
                        house, seen.contract_id, NULL, seen.state);
                END LOOP;
            END IF;
            PERFORM pg_notify('gem_notice', 'contracts/' || house);
        END LOOP;
        RETURN NULL;
    END
    $$
    """,
)

_TRIGGER = """
CREATE CONSTRAINT TRIGGER contract_event_feed AFTER INSERT ON marketplace.contract_event
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION marketplace.feed_contract_event()
"""

# What is to be seen already, once for all.
_PRESENT = """
INSERT INTO marketplace.contract_feed_event (clearing_house_id, event_id, contract_id, state)
SELECT house, row_number() OVER (PARTITION BY house ORDER BY c.position), c.contract_id, c.state
FROM marketplace.contract c,
    LATERAL marketplace.clearing_houses_of(c.requester_id, c.provider_id) AS house
WHERE c.state NOT IN ('TERMINATED', 'EXPIRED')
"""
_COUNTED = """
INSERT INTO marketplace.contract_feed (clearing_house_id, last_event_id)
SELECT clearing_house_id, max(event_id) FROM marketplace.contract_feed_event
GROUP BY clearing_house_id
"""
_GUARD = """
CREATE TRIGGER never_changes BEFORE UPDATE OR DELETE ON marketplace.contract_feed_event
    FOR EACH ROW EXECUTE FUNCTION marketplace.refuse_change()
"""


def upgrade() -> None:
    """Make tables, functions and the trigger, and show what is there."""
    for statement in (*_TABLES, *_FUNCTIONS, _PRESENT, _COUNTED, _GUARD, _TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    """Refuse: clearing houses have read their feeds."""
    raise NotImplementedError
