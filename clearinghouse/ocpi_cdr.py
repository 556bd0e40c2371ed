"""Charge detail records of OCPI (module CDRs) as records of the market, and back."""

from __future__ import annotations

from typing import Any

from clearinghouse.ocpi_cdr_parts import (
    read_hours,
    read_location,
    read_periods,
    read_signed,
    write_location,
    write_periods,
    write_signed,
)
from clearinghouse.ocpi_tariff import write_tariff
from clearinghouse.ocpi_values import (
    MILLI_WH_PER_KWH,
    MOST_QUANTITY,
    decimal_of,
    given,
    hours_of,
    method_word,
    party_of,
    read_cost,
    read_identification,
    read_method,
    read_operator_id,
    time_text,
    write_cost,
    write_identification,
)
from foundation.json_reader import Node
from foundation.ocpi_file import timestamp_of
from foundation.ocpi_tariff import read_tariff
from foundation.ocpi_version import OcpiVersion
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

_TIMES = (
    ("start_date_time", "start_time"),
    ("end_date_time", "end_time"),
    ("last_updated", "updated_time"),
)
_COSTS = (
    "total_cost",
    "total_fixed_cost",
    "total_energy_cost",
    "total_time_cost",
    "total_parking_cost",
    "total_reservation_cost",
)
#: Member, field and longest text.
_TEXTS = (
    ("authorization_reference", "authorization_reference", 64),
    ("meter_id", "meter_id", 255),
    ("currency", "currency_code", 3),
    ("remark", "remark", 255),
    ("invoice_reference_id", "invoice_reference", 64),
)
_MOST_TARIFFS = 10


def read_record(node: Node, version: OcpiVersion) -> ChargeDetailRecord | None:
    """Read a record; None, noted, where it does not say whose it is.

    What is missing or wrong otherwise is noted and left out: the clearing house returns such a
    record with every reason, so that none is lost.
    """
    cdr_id, operator_id = node.text("id", 64), read_operator_id(node)
    if cdr_id is None or operator_id is None:
        return None
    record = ChargeDetailRecord(cdr_id=cdr_id, operator_id=operator_id)
    record.operator_session_id = node.text("session_id", 64) or cdr_id
    read_common(record, node, version)
    for key in ("start_date_time", "end_date_time", "last_updated", "total_cost", "cdr_location"):
        if node.get(key) is None:
            node.wrong(key, "missing", "every record has it")
    place = node.node("cdr_location")
    if place is not None:
        record.location.CopyFrom(read_location(place))
    _read_tariffs(record, node, version)
    _read_totals(record, node)
    signed = node.node("signed_data")
    read_data = None if signed is None else read_signed(signed)
    if read_data is not None:
        record.signed_meter_data.CopyFrom(read_data)
    _read_credit(record, node)
    return record


def read_common(record: ChargeDetailRecord, node: Node, version: OcpiVersion) -> None:
    """Read what sessions and records have both."""
    for key, name in _TIMES:
        time = timestamp_of(node, key)
        if time is not None:
            getattr(record, name).CopyFrom(time)
    for key, name, longest in _TEXTS:
        setattr(record, name, node.text(key, longest) or "")
    token = node.node("cdr_token")
    if token is None:
        node.wrong("cdr_token", "missing", "who charged is not said")
    else:
        record.identification.CopyFrom(read_identification(token, version))
    record.authorization_method = read_method(node)
    record.charging_periods.extend(read_periods(node))
    for key in _COSTS:
        cost = node.node(key)
        read = None if cost is None else read_cost(cost, version)
        if read is not None:
            getattr(record, key).CopyFrom(read)


def write_common(record: ChargeDetailRecord, version: OcpiVersion) -> dict[str, Any]:
    """Write what sessions and records have both."""
    written: dict[str, Any] = dict(party_of(record.operator_id))
    for key, name in _TIMES:
        if record.HasField(name):  # type: ignore[arg-type]  # all are fields
            written[key] = time_text(getattr(record, name))
    if record.HasField("identification"):
        written["cdr_token"] = write_identification(record.identification, version)
    written.update(given(auth_method=method_word(record.authorization_method)))
    written.update(given(**{key: getattr(record, name) for key, name, _ in _TEXTS}))
    written.update(given(charging_periods=write_periods(list(record.charging_periods))))
    for key in _COSTS:
        if record.HasField(key):  # type: ignore[arg-type]  # all are fields
            written[key] = write_cost(getattr(record, key), version)
    return written


def write_record(record: ChargeDetailRecord, version: OcpiVersion) -> dict[str, Any]:
    """Write a record."""
    written = write_common(record, version)
    written["id"] = record.cdr_id
    written.update(given(session_id=record.operator_session_id))
    if record.HasField("location"):
        written["cdr_location"] = write_location(record.location)
    if record.tariffs:
        written["tariffs"] = [
            {**party_of(record.operator_id), **write_tariff(tariff, version)}
            for tariff in record.tariffs
        ]
    written["total_energy"] = decimal_of(record.total_energy_milli_wh, MILLI_WH_PER_KWH)
    written["total_time"] = hours_of(record.total_time_ms)
    if record.total_parking_time_ms:
        written["total_parking_time"] = hours_of(record.total_parking_time_ms)
    if record.HasField("signed_meter_data"):
        written["signed_data"] = write_signed(record.signed_meter_data)
    if record.credited_cdr_id:
        written.update(credit=True, credit_reference_id=record.credited_cdr_id)
    return written


def _read_tariffs(record: ChargeDetailRecord, node: Node, version: OcpiVersion) -> None:
    for each in node.nodes("tariffs", _MOST_TARIFFS):
        tariff = read_tariff(each, version)
        read_operator_id(each)
        if tariff is None:
            each.report.keep(each.at, "tariff", "a part is wrong: no price is sure; left out")
        else:
            record.tariffs.append(tariff)


def _read_totals(record: ChargeDetailRecord, node: Node) -> None:
    for key in ("total_energy", "total_time"):
        if node.get(key) is None:
            node.wrong(key, "missing", "every record has it")
    energy = node.rounded("total_energy", MILLI_WH_PER_KWH, MOST_QUANTITY)
    record.total_energy_milli_wh = energy or 0
    record.total_time_ms = read_hours(node, "total_time") or 0
    record.total_parking_time_ms = read_hours(node, "total_parking_time") or 0


def _read_credit(record: ChargeDetailRecord, node: Node) -> None:
    credited = node.text("credit_reference_id", 64)
    credit = node.flag("credit")
    if bool(credit) != (credited is not None):
        node.wrong("credit", "reference", "a credit, and nothing else, names what it gives back")
    record.credited_cdr_id = credited or ""
