"""What PostgreSQL knows about the sessions of charge detail records.

The one place where clearing reads what contracts, authorizations and tariffs write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg

from clearinghouse.cdr_context import SessionKnowledge, UncheckedCdr
from clearinghouse.instants import ALWAYS_SINCE, stored
from clearinghouse.plausibility_context import (
    KnownAuthorization,
    OtherSession,
    PlausibilityContext,
    Validity,
)
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow
from clearinghouse.storage_published_evse import PublishedEvse, WantedEvse, published
from clearinghouse.token_hash import TokenHashing
from foundation.identifiers import ContractId, EvseId
from gem.charging.v1.tariff_pb2 import Tariff
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.identification_pb2 import Identification
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

_ALLOWED = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
_OPEN_ACCESS = DecidingLayer.DECIDING_LAYER_OPEN_ACCESS
#: Who answers for a customer whose contract the clearing house does not hold.
_EVSP = DecidingLayer.DECIDING_LAYER_EVSP
_LISTS = (DecidingLayer.DECIDING_LAYER_EVSE_LIST, DecidingLayer.DECIDING_LAYER_OPERATOR_LIST)
_NEVER = Validity(until=ALWAYS_SINCE)

# The version of the contract is the one by which was decided.
_AUTHORIZATIONS = """
SELECT a.authorization_reference, a.operator_id, a.operator_key, a.evse_key, a.identity_key,
    a.session_id, a.status, a.layer, a.contract_key, a.evsp_id, a.decision, a.decided_at,
    a.valid_until, c.active, c.valid_from AS contract_from, c.valid_until AS contract_until,
    ARRAY(SELECT encode(k.token_hash, 'hex') FROM clearinghouse.token AS k
          WHERE k.contract_key = a.contract_key AND k.recorded_at <= a.decided_at
              AND a.decided_at < k.replaced_at) AS tokens,
    ARRAY(SELECT g.currency_code FROM clearinghouse.agreement AS g
          WHERE g.operator_id = a.operator_id AND g.evsp_id = a.evsp_id AND g.active AND g.detailed
              AND g.recorded_at <= a.decided_at AND a.decided_at < g.replaced_at) AS currencies
FROM clearinghouse.authorization AS a
LEFT JOIN clearinghouse.customer_contract AS c ON c.contract_key = a.contract_key
    AND c.version_number = a.contract_version
WHERE a.authorization_reference = ANY($1::text[])
"""

# The first session that was authorized says whose an operator id is.
_CLAIM = """
INSERT INTO clearinghouse.operator_key (operator_key, operator_partner_id)
SELECT DISTINCT ON (key) key, partner FROM unnest($1::text[], $2::text[]) AS t (key, partner)
ORDER BY key ON CONFLICT DO NOTHING
"""
_CLAIMED = """
SELECT operator_key, operator_partner_id FROM clearinghouse.operator_key
WHERE operator_key = ANY($1::text[])
"""

_TARIFFS = """
SELECT DISTINCT ON (t.ordinal, v.tariff_id) t.ordinal, v.content
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY
    AS t (owner, key, at, ordinal)
JOIN clearinghouse.tariff_version AS v ON v.owner_id = t.owner AND v.operator_key = t.key
    AND v.valid_from <= t.at AND t.at < v.valid_until
ORDER BY t.ordinal, v.tariff_id, v.version_number DESC
"""
_PUBLISHERS = """
SELECT DISTINCT t.owner, t.key FROM unnest($1::text[], $2::text[]) AS t (owner, key)
WHERE EXISTS (SELECT FROM clearinghouse.tariff_version AS v
              WHERE v.owner_id = t.owner AND v.operator_key = t.key)
"""

# What stands or is on its way, of other sessions; a credit is none. Those of other operators are
# not among them: who names another's EVSE would hear when somebody charged there.
_OTHERS = """
SELECT t.ordinal, c.started_at, c.ended_at
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
    WITH ORDINALITY AS t (cdr_ref, partner, evse, since, until, ordinal)
JOIN clearinghouse.cdr AS c ON c.evse_key = t.evse AND c.evsp_partner_id IS NOT NULL
    AND c.operator_partner_id = t.partner
    AND c.started_at < t.until AND c.started_at > t.since - interval '101 days'
    AND c.ended_at > t.since AND c.cdr_ref <> t.cdr_ref AND c.credited_key IS NULL
    AND c.state IN ('ACCEPTED', 'FORWARDED', 'APPROVED')
LIMIT 10000
"""


async def claimed(connection: Connection, operator_keys: Sequence[str]) -> Mapping[str, str]:
    """Give by operator key the partner whose it is, where that is known."""
    rows = await connection.fetch(_CLAIMED, list(set(operator_keys)))
    return {row["operator_key"]: row["operator_partner_id"] for row in rows}


class StoredContexts:
    """Implements `cdr_context.ContextSource` over the clearing house's own tables."""

    def __init__(self, hashing: TokenHashing) -> None:
        self._hashing = hashing

    async def load(
        self, connection: Connection, unchecked: Sequence[UncheckedCdr], now: datetime
    ) -> list[SessionKnowledge]:
        """Give what is known about each record's session: six queries, however many there are."""
        rows = [each.row for each in unchecked]
        references = [row.authorization_reference for row in rows if row.authorization_reference]
        found = await connection.fetch(_AUTHORIZATIONS, references)
        by_reference = {row["authorization_reference"]: row for row in found}
        authorizations = [_of_partner(row, by_reference) for row in rows]
        owned = await _owned(connection, rows, authorizations)
        tariffs = await _tariffs(connection, rows)
        others = await _others(connection, rows)
        places = await published(connection, _wanted(unchecked, authorizations))
        return [
            _knowledge(
                self._shown(each.record.identification) if authorization else set(),
                authorization,
                _placed(
                    PlausibilityContext(
                        now=now, operator_keys=keys, tariffs=valid, other_sessions=sessions
                    ),
                    places.get(each.row.evse_key or ""),
                ),
            )
            for each, authorization, keys, valid, sessions in zip(
                unchecked, authorizations, owned, tariffs, others, strict=True
            )
        ]

    def _shown(self, identification: Identification) -> set[str]:
        """Give the keys of what a customer showed: of his contract, his token, his payment.

        The record has the hash of the token already.
        """
        shown = {identification.token_uid} if identification.token_uid else set()
        # None is no form, and a wrong one is found where forms are checked.
        with suppress(ValueError):
            shown.add(ContractId.parse(identification.contract_id).key)
        if identification.payment_reference:
            payment = Identification(
                kind=identification.kind, payment_reference=identification.payment_reference
            )
            hashed = self._hashing.identification(payment)
            shown |= {hashed.hex()} if hashed else set()
        return shown


def _wanted(
    unchecked: Sequence[UncheckedCdr], authorizations: Sequence[asyncpg.Record | None]
) -> list[WantedEvse]:
    """Give the EVSEs at which the senders of records were allowed to let charge."""
    return [
        WantedEvse(each.row.evse_key, str(EvseId.parse(evse_id)), each.row.operator_partner_id)
        for each, authorization in zip(unchecked, authorizations, strict=True)
        if authorization is not None
        and authorization["status"] == _ALLOWED
        and each.row.evse_key is not None
        and each.row.evse_key == authorization["evse_key"]
        and (evse_id := each.record.location.evse_id)
    ]


def _placed(context: PlausibilityContext, evse: PublishedEvse | None) -> PlausibilityContext:
    """Add what is published of the EVSE to what is known."""
    if evse is None:
        return context
    point = None
    if evse.latitude_e7 is not None and evse.longitude_e7 is not None:
        point = GeoPoint(latitude_e7=evse.latitude_e7, longitude_e7=evse.longitude_e7)
    return replace(context, connector_power_w=evse.power_w, evse_point=point)


def _of_partner(row: CdrRow, by_reference: Mapping[str, Any]) -> asyncpg.Record | None:
    """Give the authorization that a record names; that of another operator is none."""
    found = by_reference.get(row.authorization_reference or "")
    return found if found is not None and found["operator_id"] == row.operator_partner_id else None


async def _owned(
    connection: Connection, rows: Sequence[CdrRow], authorizations: Sequence[asyncpg.Record | None]
) -> list[frozenset[str]]:
    """Give for each record the operator ids of its sender, as far as they matter for it."""
    authorized = [
        (row.stored.key.operator_key, row.operator_partner_id)
        for row, authorization in zip(rows, authorizations, strict=True)
        if authorization is not None
        and authorization["operator_key"] == row.stored.key.operator_key
        and authorization["status"] == _ALLOWED
    ]
    if authorized:
        keys, partners = zip(*authorized, strict=True)
        await connection.execute(_CLAIM, keys, partners)
    owners = await claimed(connection, [row.stored.key.operator_key for row in rows])
    return [
        frozenset(
            {row.stored.key.operator_key}
            if owners.get(row.stored.key.operator_key) == row.operator_partner_id
            else ()
        )
        for row in rows
    ]


async def _tariffs(
    connection: Connection, rows: Sequence[CdrRow]
) -> list[Mapping[str, Tariff] | None]:
    """Give the tariffs at each record's start; None for an operator who publishes none."""
    owners = [row.operator_partner_id for row in rows]
    keys = [row.stored.key.operator_key for row in rows]
    publishers = {tuple(each) for each in await connection.fetch(_PUBLISHERS, owners, keys)}
    if not publishers:
        return [None] * len(rows)
    found: defaultdict[int, dict[str, Tariff]] = defaultdict(dict)
    starts = [row.started_at for row in rows]
    for ordinal, content in await connection.fetch(_TARIFFS, owners, keys, starts):
        tariff = TariffVersion.FromString(content).tariff
        found[ordinal][tariff.tariff_id] = tariff
    return [
        found[number] if (owner, key) in publishers else None
        for number, (owner, key) in enumerate(zip(owners, keys, strict=True), 1)
    ]


async def _others(connection: Connection, rows: Sequence[CdrRow]) -> list[list[OtherSession]]:
    found = await connection.fetch(
        _OTHERS,
        [row.cdr_ref for row in rows],
        [row.operator_partner_id for row in rows],
        [row.evse_key for row in rows],
        [row.started_at for row in rows],
        [row.ended_at for row in rows],
    )
    others: defaultdict[int, list[OtherSession]] = defaultdict(list)
    for ordinal, started_at, ended_at in found:
        others[ordinal].append(OtherSession(started_at, ended_at))
    return [others[number] for number in range(1, len(rows) + 1)]


def _knowledge(
    shown: set[str], row: asyncpg.Record | None, context: PlausibilityContext
) -> SessionKnowledge:
    """Put together what is known about one record's session."""
    if row is None:
        return SessionKnowledge(context)
    known = KnownAuthorization(
        allowed=row["status"] == _ALLOWED,
        operator_key=row["operator_key"],
        evse_key=row["evse_key"],
        identity_key=row["identity_key"],
        session_id=row["session_id"] or "",
        decided_at=row["decided_at"],
        valid_until=row["valid_until"],
        open_access=row["layer"] == _OPEN_ACCESS,
        from_list=row["layer"] in _LISTS,
    )
    # He may show the contract id here and one of its tokens there, and is the same.
    same = {row["identity_key"], row["contract_key"], *row["tokens"]} & shown
    context = replace(
        context,
        authorization=known,
        identity_key=row["identity_key"] if same else min(shown, default=""),
        contract=_contract(row),
        currencies=frozenset(row["currencies"]),
    )
    decision = AuthorizationDecision.FromString(row["decision"])
    return SessionKnowledge(context, row["evsp_id"], decision.contract_id or None)


def _contract(row: asyncpg.Record) -> Validity | None:
    """Give when the contract by which was decided was in force."""
    if row["layer"] == _EVSP:
        return Validity()
    if row["active"] is None:
        return None
    if not row["active"]:
        return _NEVER
    return Validity(stored(row["contract_from"]), stored(row["contract_until"]))
