"""With whom a partner has a roaming agreement now, as far as tariffs need it."""

from __future__ import annotations

from clearinghouse.storage import Connection, Pool

#: An EVSP has agreements with at most so many operators.
_MOST_OPERATORS = 100_000


async def operators_agreed_with(connection: Connection | Pool, evsp_id: str) -> list[str]:
    """Give the partner ids of the operators with which an EVSP has an agreement in force."""
    rows = await connection.fetch(
        "SELECT DISTINCT operator_id FROM clearinghouse.agreement"
        " WHERE evsp_id = $1 AND replaced_at = 'infinity' AND active AND market_active"
        " AND valid_from <= now() AND now() < valid_until LIMIT $2",
        evsp_id,
        _MOST_OPERATORS,
    )
    return [row["operator_id"] for row in rows]
