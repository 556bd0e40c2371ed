"""The words of each service, which a search compares with those of the dictionary."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"

_STATEMENTS = (
    # A word that is too long for an index comes in pieces that overlap by what somebody may type.
    """
    CREATE FUNCTION marketplace.words_0016(searched text) RETURNS tsvector
    IMMUTABLE LANGUAGE sql AS $$
        SELECT array_to_tsvector(coalesce(array_agg(substr(word, start, 80)), '{}'))
        FROM regexp_split_to_table(btrim(searched), ' +') AS word,
            generate_series(1, greatest(length(word) - 40, 1), 40) AS start
        WHERE word <> ''
    $$
    """,
    # Made by the table itself: a trigger refuses updates of services that are deleted.
    """
    ALTER TABLE marketplace.service ADD COLUMN words tsvector NOT NULL
        GENERATED ALWAYS AS (marketplace.words_0016(search_text)) STORED
    """,
    "ALTER TABLE marketplace.service ALTER COLUMN words DROP EXPRESSION",
    "ALTER TABLE marketplace.service ALTER COLUMN words SET DEFAULT ''",
    "DROP FUNCTION marketplace.words_0016",
    # Without a list of pending entries, which every search would read from end to end.
    """
    CREATE INDEX service_words ON marketplace.service
        USING gin (words) WITH (fastupdate = off)
    """,
    # From now on all words of three letters or more.
    """
    INSERT INTO marketplace.service_word
        SELECT DISTINCT word FROM marketplace.service, unnest(tsvector_to_array(words)) AS word
        WHERE length(word) >= 3
        ON CONFLICT DO NOTHING
    """,
    "ANALYZE marketplace.service (words)",
    "ANALYZE marketplace.service_word",
)


def upgrade() -> None:
    """Make the column with its index, and complete the dictionary."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them: the searched text still says it all."""
    op.execute("ALTER TABLE marketplace.service DROP COLUMN words")
    op.execute("DELETE FROM marketplace.service_word WHERE length(word) > 40")
