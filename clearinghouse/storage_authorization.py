"""What a decision is made of, in one prepared query, and the authorizations that were given.

The query takes the instant that is asked about; without one it is now. A customer is looked for
among the contracts of EVSPs only with which the operator has an agreement in force at that instant
for that EVSE: whether anybody else has him shows in nothing, not even in the reason of a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from clearinghouse.storage import Connection

#: Longest list of EVSPs that are asked about an unknown customer.
_BROADCAST_MAX = 100


def _then(table: str) -> str:
    """Give the condition that a version was the current one at the instant."""
    return f"{table}.recorded_at <= at.t AND {table}.replaced_at > at.t"


# $2 operator, $3 its key in the EVSE id. Who is both operator and EVSP needs no agreement.
_IN_FORCE = f"""
a.active AND a.market_active AND a.valid_from <= at.t AND a.valid_until > at.t
AND (a.operator_keys = '{{}}' OR $3 = ANY(a.operator_keys)) AND {_then("a")}
"""


def _agreed(evsp: str) -> str:
    """Give the condition that the operator may ask about customers of an EVSP."""
    return f"""
({evsp} = $2 OR EXISTS (SELECT FROM clearinghouse.agreement a
    WHERE a.operator_id = $2 AND a.evsp_id = {evsp} AND {_IN_FORCE}))
"""  # our names


_CONTRACT = """
c.contract_key, c.version_number, c.active, c.policy, c.valid_from, c.valid_until,
c.roaming_allowed OR c.evsp_id = $2 AS roaming_allowed, c.content
"""
_MEANS = "k.token_hash IS NOT NULL AS has_token, k.status, k.expires_at, k.kind"
# $4 the contract's key, $5 the token's hash. By contract id the EVSP is who owns the provider id,
# or $8, whom the marketplace names: whether the customer exists plays no part in whether there is
# an agreement.
_FOUND = f"""
SELECT p.evsp_id, {_agreed("p.evsp_id")} AS agreed, {_CONTRACT}, {_MEANS}
FROM at CROSS JOIN (SELECT coalesce((SELECT o.evsp_id FROM clearinghouse.provider_id o
    WHERE o.provider_key = left($4::text, 5)), $8) AS evsp_id) p
LEFT JOIN clearinghouse.customer_contract c
    ON c.contract_key = $4 AND c.evsp_id = p.evsp_id AND {_then("c")}
LEFT JOIN clearinghouse.token k
    ON k.token_hash = $5 AND k.contract_key = $4 AND {_then("k")}
WHERE $4::text IS NOT NULL AND p.evsp_id IS NOT NULL
UNION ALL
(SELECT c.evsp_id, true AS agreed, {_CONTRACT}, {_MEANS}
FROM at JOIN clearinghouse.token k ON $4::text IS NULL AND k.token_hash = $5
    AND {_then("k")}
JOIN clearinghouse.customer_contract c ON c.contract_key = k.contract_key
    AND {_then("c")}
WHERE {_agreed("c.evsp_id")} AND ($9::text IS NULL OR c.evsp_id = $9)
ORDER BY k.token_ref LIMIT 1)
"""  # noqa: S608  # our names
# Of the EVSP that was found; and where none was, of all with which the operator has an agreement.
_BLACKLISTED = f"""
EXISTS (SELECT FROM clearinghouse.blacklist b WHERE {_then("b")} AND b.ends_at > at.t
    AND b.contract_key = coalesce(f.contract_key, $4) AND f.agreed AND b.evsp_id = f.evsp_id)
OR EXISTS (SELECT FROM clearinghouse.blacklist b WHERE {_then("b")} AND b.ends_at > at.t
    AND b.token_hash = $5 AND ((f.agreed AND b.evsp_id = f.evsp_id)
        OR (f.evsp_id IS NULL AND {_agreed("b.evsp_id")})))
"""  # noqa: S608  # our names
# $6 the request id where it is a request and no explanation, $7 the hash of a payment for once.
_SITUATION = f"""
WITH at AS MATERIALIZED (SELECT coalesce($1::timestamptz, clock_timestamp()) AS t),
found AS ({_FOUND})
SELECT at.t AS now, f.evsp_id, f.agreed, f.contract_key, f.version_number, f.active, f.policy,
    f.valid_from, f.valid_until, f.roaming_allowed, f.content, f.has_token, f.status,
    f.expires_at, f.kind, {_BLACKLISTED} AS blacklisted,
    CASE WHEN f.evsp_id IS NULL AND $4::text IS NULL THEN (
        SELECT array_agg(x.evsp_id) FROM (
            SELECT DISTINCT a.evsp_id FROM clearinghouse.agreement a
            WHERE a.operator_id = $2 AND a.broadcast_allowed AND {_IN_FORCE}
            ORDER BY a.evsp_id LIMIT {_BROADCAST_MAX}) x)
    END AS broadcast_to,
    EXISTS (SELECT FROM clearinghouse.authorization o WHERE o.payment_hash = $7
        AND o.decided_at <= at.t) AS payment_used,
    z.digest AS before_digest, z.decision AS before_decision
FROM at LEFT JOIN found f ON true
LEFT JOIN clearinghouse.authorization z ON z.operator_id = $2 AND z.request_id = $6
"""  # noqa: S608  # our names

_COLUMNS = (
    *("authorization_reference", "operator_id", "request_id", "digest", "session_id"),
    *("operator_session_id", "evse_id", "evse_key", "operator_key", "identity_key", "kind"),
    *("method", "status", "layer", "contract_key", "contract_version", "evsp_id"),
    *("evsp_session_id", "payment_hash", "decision", "decided_at", "valid_until"),
)
_PLACES = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
_KEEP = f"""
INSERT INTO clearinghouse.authorization ({", ".join(_COLUMNS)}) VALUES ({_PLACES})
ON CONFLICT DO NOTHING RETURNING authorization_ref
"""  # noqa: S608  # our names
_BEFORE = """
SELECT digest, decision FROM clearinghouse.authorization WHERE operator_id = $1 AND request_id = $2
"""
_WAS_THERE = """
SELECT EXISTS (SELECT FROM clearinghouse.authorization
    WHERE evse_key = $1 AND identity_key = ANY($2) AND operator_id = $3)
"""
_OPERATOR = """
SELECT operator_id FROM clearinghouse.agreement WHERE evsp_id = $1 AND $2 = ANY(operator_keys)
    AND recorded_at <= $4
UNION ALL
SELECT operator_id FROM clearinghouse.authorization WHERE evse_key = $3 AND evsp_id = $1
LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: who wants to charge where."""

    operator_id: str
    #: Country and operator in the EVSE id.
    operator_key: str
    contract_key: str | None
    token_hash: bytes | None
    #: None is now.
    at: datetime | None = None
    request_id: str | None = None
    #: Of a payment that serves once.
    payment_hash: bytes | None = None
    #: Whose the contract id is in the marketplace, where no contract with its provider id is held.
    evsp_id: str | None = None
    #: Whose customer it must be, where an EVSP asks: what others hold plays no part then.
    only_evsp_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeptAuthorization:
    """An authorization as it is stored, allowed or not."""

    authorization_reference: str
    operator_id: str
    request_id: str
    digest: bytes
    session_id: str | None
    operator_session_id: str
    evse_id: str
    evse_key: str
    operator_key: str
    identity_key: str
    kind: int
    method: int
    status: int
    layer: int
    contract_key: str | None
    contract_version: int | None
    evsp_id: str | None
    evsp_session_id: str
    payment_hash: bytes | None
    decision: bytes
    decided_at: datetime
    valid_until: datetime


class AuthorizationStorage:
    """Reads situations and keeps authorizations, each method one statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def situation(self, sought: Sought) -> Mapping[str, Any]:
        """Give everything that a decision is made of."""
        row = await self._connection.fetchrow(
            _SITUATION,
            sought.at,
            sought.operator_id,
            sought.operator_key,
            sought.contract_key,
            sought.token_hash,
            sought.request_id,
            sought.payment_hash,
            sought.evsp_id,
            sought.only_evsp_id,
        )
        return dict(row)

    async def keep(self, kept: KeptAuthorization) -> bool:
        """Store an authorization; False where the request, or the payment, was used before."""
        values = [getattr(kept, name) for name in _COLUMNS]
        return await self._connection.fetchval(_KEEP, *values) is not None

    async def before(self, operator_id: str, request_id: str) -> asyncpg.Record | None:
        """Give the digest and decision of an earlier request with this id."""
        row: asyncpg.Record | None = await self._connection.fetchrow(
            _BEFORE, operator_id, request_id
        )
        return row

    async def was_there(self, evse_key: str, identity_keys: list[str], operator_id: str) -> bool:
        """Say whether an operator asked about somebody at an EVSE."""
        found: bool = await self._connection.fetchval(
            _WAS_THERE, evse_key, identity_keys, operator_id
        )
        return found

    async def operator_of(
        self, evsp_id: str, operator_key: str, evse_key: str, at: datetime
    ) -> str | None:
        """Give the operator of an EVSE as far as an EVSP has to do with it; None where not."""
        found: str | None = await self._connection.fetchval(
            _OPERATOR, evsp_id, operator_key, evse_key, at
        )
        return found
