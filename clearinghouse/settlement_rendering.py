"""Rows of settlements as messages. Pure."""

from __future__ import annotations

from datetime import datetime

from clearinghouse.netting import Position
from clearinghouse.storage_settlement import LineRow, RunRow, StatementRow
from gem.common.v1.money_pb2 import Money
from gem.common.v1.time_range_pb2 import TimeRange
from gem.roaming.v1.settlement_pb2 import (
    ClearingRun,
    ClearingRunState,
    NetPosition,
    NettingKind,
    SettlementStatement,
    StatementLine,
)


def run_message(row: RunRow) -> ClearingRun:
    """Render a run; a run that is stored is closed."""
    message = ClearingRun(
        run_id=row.run_id,
        period=_period(row.period_start, row.period_end),
        netting=NettingKind.ValueType(row.netting),
        state=ClearingRunState.CLEARING_RUN_STATE_CLOSED,
        cdr_count=row.cdr_count,
    )
    message.closed_time.FromDatetime(row.closed_at)
    return message


def statement_message(row: StatementRow) -> SettlementStatement:
    """Render a statement."""
    return SettlementStatement(
        statement_id=row.statement_id,
        run_id=row.run_id,
        period=_period(row.period_start, row.period_end),
        debtor_partner_id=row.evsp_id,
        creditor_partner_id=row.operator_id,
        without_tax=_money(row.without_tax_micros, row.currency_code),
        with_tax=_money(row.with_tax_micros, row.currency_code),
        line_count=row.line_count,
    )


def line_message(row: LineRow) -> StatementLine:
    """Render a line."""
    message = StatementLine(
        cdr_id=row.cdr_id,
        operator_id=row.record_operator_id,
        energy_milli_wh=row.energy_milli_wh,
        without_tax_micros=row.amount_without_tax_micros,
        with_tax_micros=row.amount_with_tax_micros,
        credited_cdr_id=row.credited_cdr_id,
    )
    message.start_time.FromDatetime(row.started_at)
    return message


def position_message(position: Position) -> NetPosition:
    """Render a net position."""
    return NetPosition(
        partner_id=position.partner_id,
        counterpart_partner_id=position.counterpart_id,
        net=_money(position.net_micros, position.currency_code),
    )


def _period(start: datetime, end: datetime) -> TimeRange:
    period = TimeRange()
    period.start_time.FromDatetime(start)
    period.end_time.FromDatetime(end)
    return period


def _money(amount_micros: int, currency_code: str) -> Money:
    return Money(amount_micros=amount_micros, currency_code=currency_code)
