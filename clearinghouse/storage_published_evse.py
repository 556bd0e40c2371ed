"""What operators have published of their EVSEs, in PostgreSQL: SQL and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from clearinghouse.storage import Connection, Pool

_KNOWN = """
SELECT evse_key, latitude_e7, longitude_e7, power_w FROM clearinghouse.published_evse
WHERE evse_key = ANY($1::text[])
"""
_WANT = """
INSERT INTO clearinghouse.published_evse (evse_key, evse_id, operator_partner_id)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING
"""
# Only operators whose search for EVSEs the clearing house has contracted can be asked. The lease is
# until when nobody else asks, and after which it is asked again where nothing came.
_CLAIM = """
UPDATE clearinghouse.published_evse AS e SET ask_at = now() + $2::interval
FROM (SELECT evse_key FROM clearinghouse.published_evse AS w
      WHERE w.ask_at <= now() AND EXISTS (SELECT FROM clearinghouse.market_contract AS m
          WHERE m.requester_id = $3 AND m.provider_id = w.operator_partner_id AND m.in_force
              AND $4 = ANY(m.interface_names))
      ORDER BY w.ask_at LIMIT $1 FOR UPDATE SKIP LOCKED) AS due
WHERE e.evse_key = due.evse_key
RETURNING e.evse_key, e.evse_id, e.operator_partner_id
"""
_TOLD = """
UPDATE clearinghouse.published_evse SET latitude_e7 = $2, longitude_e7 = $3, power_w = $4,
    told_at = now(), ask_at = now() + $5::interval
WHERE evse_key = $1
"""


@dataclass(frozen=True, slots=True)
class WantedEvse:
    """An EVSE about which its operator is to be asked."""

    evse_key: str
    evse_id: str
    operator_partner_id: str


@dataclass(frozen=True, slots=True)
class PublishedEvse:
    """What an operator published; None is not told."""

    latitude_e7: int | None = None
    longitude_e7: int | None = None
    power_w: int | None = None


async def published(
    connection: Connection, wanted: Iterable[WantedEvse]
) -> dict[str, PublishedEvse]:
    """Give what is known of EVSEs by their keys, and note those that are not known yet."""
    by_key = {each.evse_key: each for each in wanted}
    rows = await connection.fetch(_KNOWN, list(by_key))
    found = {row["evse_key"]: PublishedEvse(*row[1:]) for row in rows}
    # In one order, so that of two processes neither waits for the other in turn.
    new = [by_key[key] for key in sorted(by_key.keys() - found.keys())]
    if new:
        await connection.execute(
            _WANT,
            [each.evse_key for each in new],
            [each.evse_id for each in new],
            [each.operator_partner_id for each in new],
        )
    return found


async def claim_due(
    pool: Pool, own_id: str, interface: str, limit: int, lease: timedelta
) -> Sequence[WantedEvse]:
    """Claim EVSEs about which operators can be asked, those that wait for longest."""
    rows = await pool.fetch(_CLAIM, limit, lease, own_id, interface)
    return [WantedEvse(*row) for row in rows]


async def tell(pool: Pool, evse_key: str, told: PublishedEvse, lasting: timedelta) -> None:
    """Store what an operator told; it is asked again when that is old."""
    place = told.latitude_e7, told.longitude_e7
    await pool.execute(_TOLD, evse_key, *place, told.power_w, lasting)
