"""Sessions of OCPI as the market knows them: what their records will say, and notices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from clearinghouse.ocpi_cdr import read_common, write_common
from clearinghouse.ocpi_values import (
    MILLI_WH_PER_KWH,
    MOST_QUANTITY,
    decimal_of,
    given,
    read_operator_id,
)
from foundation.identifiers import EvseId
from foundation.json_reader import Node
from foundation.ocpi_version import OcpiVersion
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.session_notice_pb2 import SessionNotice, SessionNoticeKind

_STATUSES = ("ACTIVE", "COMPLETED", "INVALID", "PENDING", "RESERVATION")
_LAST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class OcpiSession:
    """A session: a record in the making, with the session's id, and a status in OCPI's word."""

    record: ChargeDetailRecord
    status: str


def read_session_object(node: Node, version: OcpiVersion) -> OcpiSession | None:
    """Read a session; None, noted, where it does not say which one it is, where, or its status."""
    session_id, operator_id = node.text("id", 64), read_operator_id(node)
    status = node.text("status", 32, required=True)
    if status is not None and status not in _STATUSES:
        node.wrong("status", "unknown", "not a status of a session")
    if session_id is None or operator_id is None or status not in _STATUSES:
        return None
    record = ChargeDetailRecord(
        cdr_id=session_id, operator_id=operator_id, operator_session_id=session_id
    )
    read_common(record, node, version)
    for key in ("start_date_time", "last_updated"):
        if node.get(key) is None:
            node.wrong(key, "missing", "every session has it")
    record.total_energy_milli_wh = node.rounded("kwh", MILLI_WH_PER_KWH, MOST_QUANTITY) or 0
    place = record.location
    place.location_id = node.text("location_id", 36, required=True) or ""
    place.connector_id = node.text("connector_id", 36, required=True) or ""
    evse_id = _evse_id(node, operator_id)
    if evse_id is None:
        return None
    place.evse_id = evse_id
    return OcpiSession(record, status)


def write_session(session: OcpiSession, version: OcpiVersion) -> dict[str, Any]:
    """Write a session."""
    record = session.record
    return {
        **write_common(record, version),
        "id": record.operator_session_id,
        "kwh": decimal_of(record.total_energy_milli_wh, MILLI_WH_PER_KWH),
        **given(
            location_id=record.location.location_id,
            evse_uid=record.location.evse_id,
            connector_id=record.location.connector_id,
        ),
        "status": session.status,
    }


def session_of(record: ChargeDetailRecord) -> OcpiSession:
    """Give the session that a record is about."""
    made = ChargeDetailRecord()
    made.CopyFrom(record)
    made.cdr_id = record.operator_session_id
    return OcpiSession(made, "COMPLETED")


def notice_of(session: OcpiSession, authorization_reference: str) -> SessionNotice | None:
    """Give the notice that a session is; None where it has not started, or does not count.

    Notices of a session are numbered by the seconds from its start to its last change, so that
    files of any day give them their order.
    """
    record = session.record
    if session.status not in {"ACTIVE", "COMPLETED"} or not record.HasField("start_time"):
        return None
    at = record.updated_time if record.HasField("updated_time") else record.start_time
    elapsed_s = at.seconds - record.start_time.seconds
    kind = SessionNoticeKind.SESSION_NOTICE_KIND_UPDATE
    if session.status == "COMPLETED":
        kind = SessionNoticeKind.SESSION_NOTICE_KIND_END
    elif not record.total_energy_milli_wh:
        kind = SessionNoticeKind.SESSION_NOTICE_KIND_START
    notice = SessionNotice(
        operator_session_id=record.operator_session_id,
        authorization_reference=authorization_reference,
        kind=kind,
        sequence_number=min(max(elapsed_s, 0), _LAST_NUMBER - 1) + 1,
        notice_time=at,
        evse_id=record.location.evse_id,
        start_time=record.start_time,
        energy_milli_wh=max(record.total_energy_milli_wh, 0),
    )
    if record.HasField("total_cost") and record.currency_code:
        notice.cost.amount_micros = record.total_cost.without_tax_micros
        notice.cost.currency_code = record.currency_code
    return notice


def _evse_id(node: Node, operator_id: str) -> str | None:
    """Give the EVSE's id: the uid where it is one, else the one that follows from it, noted."""
    uid = node.text("evse_uid", 48)
    if uid is None:
        node.wrong("evse_uid", "missing", "where it is charged is not said")
        return None
    try:
        EvseId.parse(uid)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]{1,30}", uid):
            node.wrong("evse_uid", "value", "no EVSE id follows from it")
            return None
        node.wrong("evse_uid", "made", "an EVSE id was made from party and uid")
        return f"{operator_id}*E{uid.upper()}"
    return uid
