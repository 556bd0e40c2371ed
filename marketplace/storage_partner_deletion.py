"""What the deletion of a partner erases, in PostgreSQL (feature 1386).

History and transactions stay: they name the partner by its id, and after this no person.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from marketplace.session import login_digest
from marketplace.storage_saved_search import erase_partner as erase_searches
from marketplace.storage_tables import LOGIN_ATTEMPT, USER_ACCOUNT
from marketplace.user import USERS_MAX

_USERS = "(SELECT user_id FROM marketplace.user_account WHERE partner_id = :partner_id)"
# The partner's own row comes first: the histories let go of persons of deleted partners only.
_ERASE = (
    """
    UPDATE marketplace.partner
    SET state = 'DELETED', revision = revision + 1, postal_address = '', person_name = '',
        person_email = '', person_phone = ''
    WHERE partner_id = :partner_id
    """,
    "DELETE FROM marketplace.owned_identifier WHERE partner_id = :partner_id",
    # Requests: what was told in them, and what still opens something.
    """
    UPDATE marketplace.partner_registration
    SET profile = '', person_email = '', applicant = '', reference_digest = NULL
    WHERE partner_id = :partner_id AND state = 'APPROVED'
    """,
    """
    UPDATE marketplace.partner_change
    SET old_profile = '', old_roles = '{}', old_identifiers = '{}', new_profile = '',
        new_roles = '{}', new_identifiers = '{}', note = '', decision_reason = '',
        state = CASE state WHEN 'REQUESTED' THEN 'WITHDRAWN' ELSE state END,
        decided_at = coalesce(decided_at, :now)
    WHERE partner_id = :partner_id
    """,
    # People: their accounts stay as numbers, since histories refer to them.
    f"DELETE FROM marketplace.session WHERE user_id IN {_USERS}",  # noqa: S608  # a constant
    f"DELETE FROM marketplace.one_time_link WHERE user_id IN {_USERS}",  # noqa: S608  # the same
    """
    INSERT INTO marketplace.user_event (user_id, kind, state, actor, occurred_at)
    SELECT user_id, 'DISABLED', 'DISABLED', :actor, :now FROM marketplace.user_account
    WHERE partner_id = :partner_id AND state <> 'DISABLED' ORDER BY user_id
    """,
    """
    UPDATE marketplace.user_account
    SET user_name = user_id, full_name = '', password_hash = '', state = 'DISABLED'
    WHERE partner_id = :partner_id
    """,
    """
    UPDATE marketplace.conformance_run SET requested_by = :partner_id
    WHERE starts_with(requested_by, :partner_id || ':')
    """,
    """
    UPDATE marketplace.service_hosting SET contact_email = ''
    WHERE service_id IN (SELECT service_id FROM marketplace.service WHERE provider_id = :partner_id)
    """,
    # Notifications, and what waits to be sent.
    "DELETE FROM marketplace.notice_outbox WHERE recipient_id = :partner_id",
    "DELETE FROM marketplace.notice WHERE recipient_id = :partner_id",
    "DELETE FROM marketplace.inbox WHERE recipient_id = :partner_id",
    "DELETE FROM marketplace.notice_preference WHERE partner_id = :partner_id",
    # First results of commands: the partner's own, and the operators' that show one of its users,
    # who begin with the field of the partner's id.
    """
    DELETE FROM marketplace.command
    WHERE subject_id = :partner_id OR starts_with(subject_id, :partner_id || ':')
        OR starts_with(subject_id, 'operator/') AND position(:user_field IN result) > 0
        OR subject_id IN (SELECT 'applicant/' || registration_id
            FROM marketplace.partner_registration WHERE partner_id = :partner_id)
    """,
)
_HISTORIES = """
    SELECT c.relname FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = 'marketplace' AND c.relkind = 'r' AND c.relname LIKE '%\\_event'
        AND a.attname = 'actor' ORDER BY c.relname
"""


async def erase(
    connection: AsyncConnection, partner_id: str, actor_name: str, now: datetime
) -> None:
    """Erase all that is personal of a partner that the transaction holds, and its identifiers.

    The partner is DELETED then, and its row never changes again.
    """
    await _forget_attempts(connection, partner_id)
    encoded = partner_id.encode()
    parameters = {
        "partner_id": partner_id,
        "actor": actor_name,
        "now": now,
        "user_field": b"\x0a" + bytes([len(encoded)]) + encoded,
    }
    for each in _ERASE:
        statement = text(each)
        named = {name: parameters[name] for name in statement.compile().params}
        await connection.execute(statement, named)
    await erase_searches(connection, partner_id)
    for table in list(await connection.scalars(text(_HISTORIES))):
        # A name from PostgreSQL's own catalogue.
        statement = text(
            f"UPDATE marketplace.{table} SET actor = :partner_id"  # noqa: S608  # see above
            " WHERE starts_with(actor, :partner_id || ':')"
        )
        await connection.execute(statement, {"partner_id": partner_id})


async def _forget_attempts(connection: AsyncConnection, partner_id: str) -> None:
    """Forget failed logins, which are kept under digests of the users' names."""
    mine = USER_ACCOUNT.c.partner_id == partner_id
    names = await connection.scalars(select(USER_ACCOUNT.c.user_name).where(mine).limit(USERS_MAX))
    digests = [login_digest(partner_id, name) for name in names]
    await connection.execute(delete(LOGIN_ATTEMPT).where(LOGIN_ATTEMPT.c.login_digest.in_(digests)))
