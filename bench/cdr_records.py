"""Charge detail records of made-up sessions, and their authorizations, for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from clearinghouse.storage import Pool
from gem.charging.v1 import tariff_pb2
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationMethod,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, Cost
from gem.roaming.v1.identification_pb2 import IdentificationKind

OPERATOR_ID = "DE*BEN"
_CONTRACT = "NL-TNM-C00122045-K"
_START = datetime(2026, 3, 2, 9, tzinfo=UTC)
_HOUR_MS = 3_600_000
_COLUMNS = (
    *("authorization_reference", "operator_id", "request_id", "digest", "operator_session_id"),
    *("evse_id", "evse_key", "operator_key", "identity_key", "kind", "method", "status", "layer"),
    *("contract_key", "evsp_id", "decision", "decided_at", "valid_until"),
)


def record(number: int, prefix: str) -> ChargeDetailRecord:
    """Give a plausible record of 10 kWh in an hour and half an hour of parking."""
    made = ChargeDetailRecord(
        cdr_id=f"{prefix}-{number}",
        operator_id=OPERATOR_ID,
        operator_session_id=f"{prefix}-session-{number}",
        authorization_reference=f"{prefix}-auth-{number}",
        authorization_method=AuthorizationMethod.AUTHORIZATION_METHOD_REQUEST,
        total_energy_milli_wh=10_000_000,
        total_time_ms=_HOUR_MS * 3 // 2,
        total_parking_time_ms=_HOUR_MS // 2,
        currency_code="EUR",
        total_cost=Cost(without_tax_micros=6_000_000, with_tax_micros=7_200_000),
    )
    made.identification.kind = IdentificationKind.IDENTIFICATION_KIND_RFID
    made.identification.contract_id = _CONTRACT
    made.identification.token_uid = f"{number:014X}"
    made.location.evse_id = f"{OPERATOR_ID}*E{prefix.upper()}{number}"
    made.location.time_zone = "Europe/Berlin"
    made.start_time.FromDatetime(_START)
    made.end_time.FromDatetime(_START + timedelta(minutes=90))
    tariff = made.tariffs.add(tariff_id="T1", currency_code="EUR")
    tariff.tax = tariff_pb2.TAX_TREATMENT_EXCLUDED
    for dimension, price in (
        (tariff_pb2.PRICE_DIMENSION_ENERGY, 500_000),
        (tariff_pb2.PRICE_DIMENSION_PARKING_TIME, 2_000_000),
    ):
        tariff.components.add(dimension=dimension, price_micros=price, vat_ppm=200_000)
    charging = made.charging_periods.add()
    charging.start_time.FromDatetime(_START)
    charging.dimensions.add(energy_milli_wh=10_000_000)
    charging.dimensions.add(charging_time_ms=_HOUR_MS)
    parking = made.charging_periods.add()
    parking.start_time.FromDatetime(_START + timedelta(minutes=60))
    parking.dimensions.add(parking_time_ms=_HOUR_MS // 2)
    return made


async def authorize(pool: Pool, count: int, prefix: str, operator_id: str, evsp_id: str) -> None:
    """Let the sessions of so many records have been authorized by their EVSP."""
    await pool.copy_records_to_table(
        "authorization",
        schema_name="clearinghouse",
        columns=_COLUMNS,
        records=_rows(count, prefix, operator_id, evsp_id),
        timeout=600.0,
    )
    await pool.execute("ANALYZE clearinghouse.authorization", timeout=600.0)


def _rows(count: int, prefix: str, operator_id: str, evsp_id: str) -> Iterator[tuple[object, ...]]:
    allowed = AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED
    decision = AuthorizationDecision(status=allowed, contract_id=_CONTRACT).SerializeToString()
    key, evsp = "NLTNMC00122045", DecidingLayer.DECIDING_LAYER_EVSP
    for number in range(count):
        reference, evse = f"{prefix}-auth-{number}", f"{OPERATOR_ID}*E{prefix.upper()}{number}"
        yield (
            *(reference, operator_id, reference, b"", f"{prefix}-session-{number}", evse),
            *(evse.replace("*", ""), OPERATOR_ID.replace("*", ""), key, 1, 1, allowed, evsp, key),
            *(evsp_id, decision, _START - timedelta(minutes=1), _START + timedelta(minutes=5)),
        )
