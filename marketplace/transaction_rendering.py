"""Turns rows of the transaction log and statements into messages of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from gem.common.v1.money_pb2 import Money
from gem.common.v1.time_range_pb2 import TimeRange
from gem.marketplace.v1 import statement_pb2 as wire
from gem.marketplace.v1.contract_pb2 import ContractTerms, PriceModel
from gem.marketplace.v1.transaction_pb2 import FailedCall, ServiceTransaction, TransactionTotal
from marketplace.contract import Contract
from marketplace.rendering import timestamp
from marketplace.statement import Statement, promised_service_level
from marketplace.statement_charges import Charge, totals_of
from marketplace.storage_transaction_filter import Period


def transaction_message(row: Row[Any]) -> ServiceTransaction:
    """Render an entry."""
    return ServiceTransaction(
        transaction_id=str(row.transaction_id),
        call_id=str(row.call_id),
        requester_id=row.requester_id,
        provider_id=row.provider_id,
        contract_id=row.contract_id,
        service_id=row.service_id,
        service_version=row.service_version,
        method=row.method,
        start_time=timestamp(row.started_at),
        duration_us=row.duration_us,
        status=row.status,
        reason=row.reason,
        code=row.code,
        request_bytes=row.request_bytes,
        answer_bytes=row.answer_bytes,
        request_digest=row.request_digest,
        answer_digest=row.answer_digest,
        item_count=row.item_count,
        value=Money(amount_micros=row.value_micros, currency_code=row.currency_code),
        unit_count=row.units,
        price_number=row.price_id or 0,
    )


def total_message(row: Row[Any]) -> TransactionTotal:
    """Render a sum."""
    return TransactionTotal(
        provider_id=row.provider_id,
        status=row.status,
        transaction_count=row.transaction_count,
        value=Money(amount_micros=row.value_micros, currency_code=row.currency_code),
    )


def failed_call_message(row: Row[Any]) -> FailedCall:
    """Render a failed call."""
    return FailedCall(
        call_id=str(row.call_id),
        requester_id=row.requester_id,
        method=row.method,
        start_time=timestamp(row.started_at),
        duration_us=row.duration_us,
        reason=row.reason,
        code=row.code,
        request_bytes=row.request_bytes,
    )


def statement_message(
    contract: Contract, period: Period, statement: Statement, *, month_ended: bool
) -> wire.MonthlyStatement:
    """Render a contract's statement of a month."""
    assert period.start is not None
    assert period.end is not None
    total, ok = statement.count(), statement.ok_count
    return wire.MonthlyStatement(
        contract_id=contract.contract_id,
        requester_id=contract.requester_id,
        provider_id=contract.provider_id,
        service_id=contract.service_id,
        period=TimeRange(start_time=timestamp(period.start), end_time=timestamp(period.end)),
        month_ended=month_ended,
        transaction_count=total,
        failed_count=total - ok,
        values=(_money(value, code) for code, value in statement.values().items()),
        lines=(
            wire.StatementLine(
                status=line.status,  # type: ignore[arg-type]  # an enum value
                transaction_count=line.transaction_count,
                value=_money(line.value_micros, line.currency_code),
            )
            for line in statement.lines
        ),
        service_level=_service_level(statement),
        promise=_promise(contract, statement),
    )


def _promise(contract: Contract, statement: Statement) -> wire.ServiceLevelPromise | None:
    promise = promised_service_level(ContractTerms.FromString(contract.terms))
    if promise is None:
        return None
    return wire.ServiceLevelPromise(
        availability_permille=promise.availability_permille,
        percentile_95_ms=promise.percentile_95_ms,
        is_availability_kept=statement.keeps_availability(promise),
        is_percentile_95_kept=statement.keeps_percentile_95(promise),
    )


def charges_message(
    charges: Sequence[Charge], models: Mapping[int, PriceModel]
) -> wire.MonthlyStatement:
    """Render the part of a statement that says what is owed; ValueError beyond money."""
    return wire.MonthlyStatement(
        charges=(
            wire.StatementCharge(
                kind=int(charge.kind),  # type: ignore[arg-type]  # an enum value
                price_number=charge.price_id,
                price=models.get(charge.price_id),
                call_count=charge.call_count,
                unit_count=charge.unit_count,
                from_count=charge.from_count,
                days=charge.days,
                value=_money(charge.value_micros, charge.currency_code),
            )
            for charge in charges
        ),
        totals=(_money(value, code) for code, value in totals_of(charges).items()),
    )


def _service_level(statement: Statement) -> wire.ServiceLevel:
    median_us, percentile_95_us, percentile_99_us = statement.percentiles_us or (None, None, None)
    return wire.ServiceLevel(
        counted_count=statement.counted_count,
        ok_count=statement.ok_count,
        ok_share_ppm=statement.ok_share_ppm,
        median_us=median_us,
        percentile_95_us=percentile_95_us,
        percentile_99_us=percentile_99_us,
        availability_permille=statement.availability_permille,
    )


def _money(micros: int, currency_code: str) -> Money:
    return Money(amount_micros=micros, currency_code=currency_code)
