"""No answer about records, whatever is asked, depends on sessions of whom the asker is no party."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gem.roaming.v1 import cdr_clearing_pb2 as cdrs
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.session_notice_pb2 import SessionNotice
from tests.clearinghouse.clearing import AUTHORIZATION_COLUMNS, authorization_row, numbered
from tests.clearinghouse.house import PATIENCE_S, House, reason_of

pytestmark = pytest.mark.usecase(1511)
OPERATOR, EVSP, SPY = "op", "evsp-b", "spy"
_TABLES = "cdr, cdr_event, cdr_reason, delivery, receiver, dispute, operator_key, command, booking"
NUMBERS = (1, 2)
_OTHERS = st.sets(st.sampled_from(NUMBERS), min_size=1)
CONTRACT = "NL-TNM-C00122045-K"


async def start(house: House, others: set[int]) -> None:
    """Let an operator and an EVSP have these sessions, accepted, and nobody any other."""
    tables = ", ".join(f"clearinghouse.{name.strip()}" for name in _TABLES.split(","))
    # What is in the middle of a transaction would stand in the way.
    await house.provider.parts.cdrs.stop()
    await house.pool.execute(f"TRUNCATE {tables}, clearinghouse.authorization CASCADE")
    house.provider.parts.cdrs.start()
    records = [numbered(number) for number in others]
    rows = [authorization_row(record, EVSP, OPERATOR) for record in records]
    for record in map(spied, NUMBERS):
        record.location.evse_id = f"DE*SPY*E{record.cdr_id.removeprefix('CDR-')}"
        session_id = f"{record.session_id}-of-the-spy"
        rows.append(authorization_row(record, SPY, SPY, session_id=session_id))
    await house.pool.copy_records_to_table(
        "authorization", schema_name="clearinghouse", columns=AUTHORIZATION_COLUMNS, records=rows
    )
    for record in records:
        await house.ask(OPERATOR, "SubmitChargeDetailRecord", record=record)
        assert "ACCEPTED" in await checked(house, OPERATOR, record)


def spied(number: int) -> ChargeDetailRecord:
    """Give a record by which another's session could be felt for: same place, same time."""
    made = numbered(number)
    made.operator_id, made.authorization_reference = "DE*SPY", f"SPY-{number}"
    return made


async def checked(house: House, who: str, record: ChargeDetailRecord) -> str:
    """Wait until a record is checked; give all that is told of it, apart from times."""
    key = cdrs.CdrKey(operator_id=record.operator_id, cdr_id=record.cdr_id)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = (await house.ask(who, "GetChargeDetailRecord", key=key)).record
            if found.state != cdrs.CDR_STATE_RECEIVED:
                for field, _ in found.ListFields():
                    if field.message_type is Timestamp.DESCRIPTOR:
                        found.ClearField(field.name)
                name = cdrs.CdrState.Name(found.state)
                return f"{name} {found}"
            await asyncio.sleep(0.01)


async def said(house: House, rpc: str, **fields: Any) -> str:
    """Give an answer, or the reason of a refusal."""
    try:
        return str(await house.ask(SPY, rpc, **fields))
    except grpc.aio.AioRpcError as error:
        return f"{reason_of(error)} {error.details()}"


async def everything(house: House) -> list[str]:
    """Ask all that can be asked about sessions of others, as an EVSP and as an operator."""
    answers = []
    for number in NUMBERS:
        key = cdrs.CdrKey(operator_id="DE*ABC", cdr_id=f"CDR-{number}")
        review = cdrs.CdrReview(cdr_id=key.cdr_id, operator_id=key.operator_id, verdict=1)  # type: ignore[arg-type]  # APPROVED
        notice = SessionNotice(
            operator_session_id=f"OP-{number}",
            authorization_reference=f"AUTH-{number}",
            kind=1,  # type: ignore[arg-type]  # START
            sequence_number=1,
            evse_id=f"DE*ABC*E{number}",
        )
        notice.notice_time.GetCurrentTime()
        notice.start_time.GetCurrentTime()
        credit: dict[str, Any] = {"key": key, "credit_cdr_id": "C"}
        answers += [
            await said(house, "GetChargeDetailRecord", key=key),
            await said(house, "ReviewChargeDetailRecord", review=review),
            await said(house, "DisputeChargeDetailRecord", key=key, claim_text="mine"),
            await said(house, "RejectChargeDetailRecord", key=key),
            await said(house, "CreditChargeDetailRecord", **credit),
            await said(house, "ReviseChargeDetailRecord", record=spied(number)),
            await said(house, "AcknowledgeChargeDetailRecords", keys=[key]),
            await said(house, "ListChargeDetailRecords", session_id=f"CH-{number}"),
            await said(house, "NotifySession", notice=notice),
        ]
        record = spied(number)
        await house.ask(SPY, "SubmitChargeDetailRecord", record=record)
        answers.append(await checked(house, SPY, record))
        record.cdr_id, record.operator_session_id = f"OTHER-{number}", f"OTHER-{number}"
        record.authorization_reference = f"AUTH-{number}"
        await house.ask(SPY, "SubmitChargeDetailRecord", record=record)
        answers.append(await checked(house, SPY, record))
    answers.append(await said(house, "PullChargeDetailRecords"))
    return answers


@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(others=_OTHERS)
async def test_answers_are_the_same_whatever_sessions_others_have(
    house: House, others: set[int]
) -> None:
    await start(house, set())
    before = await everything(house)
    await start(house, others)
    assert await everything(house) == before


async def test_a_log_names_no_customer(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    await start(house, set(NUMBERS))
    await everything(house)
    async with asyncio.timeout(PATIENCE_S):
        while not (logged := "".join(capsys.readouterr())):  # noqa: ASYNC110  # another task logs
            await asyncio.sleep(0.05)
    assert "not delivered" in logged, "the EVSP is away"
    for customer in (CONTRACT, CONTRACT.replace("-", ""), "CH-1", "OP-1"):
        assert customer not in logged
