"""Charge detail records as their operators and their EVSPs see them."""

from __future__ import annotations

from clearinghouse.cdr_intake import Receipt
from clearinghouse.instants import timestamp
from clearinghouse.storage_cdr import CdrRow
from gem.roaming.v1.cdr_clearing_pb2 import CdrState, ClearedCdr, SubmissionReceipt
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

#: Beyond it the lines of a rating are left out; a provider answers with at most 1 MiB.
MOST_BYTES = 900_000


def render(row: CdrRow, reader_id: str, credit_cdr_id: str = "") -> ClearedCdr:
    """Give a record with what became of it, as a partner sees it.

    The token is the customer's secret and nobody's to read. The contract that became known from
    the authorization is for the EVSP alone.
    """
    message = ClearedCdr.FromString(row.assessment)
    message.record.CopyFrom(ChargeDetailRecord.FromString(row.content))
    who = message.record.identification
    who.token_uid = ""
    if reader_id == row.evsp_partner_id and row.contract_id and not who.contract_id:
        who.contract_id = row.contract_id
    message.state = state_of(row.stored.state.value)
    message.revision_number = row.stored.revision_number
    message.received_time.CopyFrom(timestamp(row.received_at))
    message.state_time.CopyFrom(timestamp(row.state_at))
    message.operator_partner_id = row.operator_partner_id
    message.evsp_partner_id = row.evsp_partner_id or ""
    message.decline_text = row.decline_text
    message.credit_cdr_id = credit_cdr_id
    if message.ByteSize() > MOST_BYTES:
        message.rating.rating.ClearField("lines")
    return message


def state_of(name: str) -> CdrState.ValueType:
    """Give a state as the interface has it."""
    return CdrState.Value(f"CDR_STATE_{name}")


def render_receipt(receipt: Receipt) -> SubmissionReceipt:
    """Give what became of a record that was sent."""
    message = SubmissionReceipt(
        cdr_id=receipt.cdr_id,
        status=receipt.status,
        findings=[finding.message() for finding in receipt.findings],
    )
    if receipt.state is not None:
        message.state = state_of(receipt.state.value)
    if receipt.received_at is not None:
        message.received_time.CopyFrom(timestamp(receipt.received_at))
    return message
