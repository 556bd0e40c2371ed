"""Records that come in: refused, repeated, in conflict, in any order and from several at once."""

from __future__ import annotations

import asyncio
import random

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from clearinghouse.cdr_content import read_incoming, refusals
from clearinghouse.cdr_intake import Receipt
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason, SubmissionStatus
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from tests.clearinghouse.clearing import HASHING, OPERATOR, Clearing, numbered, total
from tests.clearinghouse.contract_holder import ContractHolder

pytestmark = pytest.mark.usecase(1511)
UID = "04A2B3C4D5E6F7"


def submissions(receipts: list[Receipt]) -> list[str | None]:
    return [receipt.submission for receipt in receipts]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"operator_id": "D*ABC"}, "operator_id"),
        ({"operator_id": "DE*AB\0"}, "operator_id"),
        ({"cdr_id": "a\0b"}, "cdr_id"),
        ({"cdr_id": ""}, "cdr_id"),
        ({"operator_session_id": "\0"}, "operator_session_id"),
        ({"credited_cdr_id": "x\0"}, "credited_cdr_id"),
    ],
)
def test_what_nobody_could_name_is_refused(changes: dict[str, str], field: str) -> None:
    record = numbered(1)
    for name, value in changes.items():
        setattr(record, name, value)
    assert {finding.field for finding in refusals(record)} == {field}


def test_the_id_of_a_token_is_not_kept() -> None:
    record = numbered(1)
    record.identification.token_uid = UID
    kept = read_incoming(record, HASHING)
    assert UID.encode() not in kept.content
    expected = HASHING.token(record.identification.kind, UID).hex()
    assert ChargeDetailRecord.FromString(kept.content).identification.token_uid == expected
    record.identification.token_uid = "no card has this"
    assert b"no card" not in read_incoming(record, HASHING).content


def test_what_the_schema_does_not_know_is_told_apart_and_not_kept() -> None:
    record = numbered(1)
    odd = ChargeDetailRecord.FromString(record.SerializeToString() + b"\xa2\x7d\x03odd")
    assert len(UnknownFieldSet(odd)) == 1
    one, other = read_incoming(record, HASHING), read_incoming(odd, HASHING)
    assert one.content == other.content
    assert one.stored.digests != other.stored.digests


async def test_the_same_bytes_are_stored_once_however_often_they_come(clearing: Clearing) -> None:
    record = numbered(1)
    first = await clearing.submit(record)
    again = await clearing.submit(*[record] * 99)
    assert submissions([*first, *again]) == ["STORED", *["ALREADY_SUBMITTED"] * 99]
    assert {receipt.received_at for receipt in (*first, *again)} == {first[0].received_at}
    assert await total(clearing.pool, "cdr") == 1


async def test_the_same_id_with_other_bytes_is_a_conflict_in_any_case(clearing: Clearing) -> None:
    record, other = numbered(1), numbered(1)
    other.cdr_id, other.remark = "cdr-1", "other"
    assert submissions(await clearing.submit(record, other, record)) == [
        *("STORED", "CONTENT_CONFLICT", "ALREADY_SUBMITTED")
    ]
    assert submissions(await clearing.submit(other)) == ["CONTENT_CONFLICT"]
    assert await total(clearing.pool, "cdr") == 1


async def test_a_second_record_of_a_session_is_a_conflict(clearing: Clearing) -> None:
    record, second = numbered(1), numbered(2)
    second.operator_session_id = record.operator_session_id
    assert submissions(await clearing.submit(record, second)) == ["STORED", "SESSION_CONFLICT"]
    (receipt,) = await clearing.submit(second)
    assert (receipt.state, receipt.received_at) == (None, None)
    assert receipt.status == SubmissionStatus.SUBMISSION_STATUS_SESSION_CONFLICT


async def test_ids_of_two_operators_are_apart(clearing: Clearing) -> None:
    assert submissions(await clearing.submit(numbered(1))) == ["STORED"]
    assert submissions(await clearing.submit(numbered(1), sender="another")) == ["STORED"]


async def test_who_took_an_operator_id_first_keeps_it(
    clearing: Clearing, holder: ContractHolder
) -> None:
    record = numbered(1)
    await clearing.authorize(record)
    await clearing.submit(record)
    assert submissions(await clearing.submit(numbered(2), sender="thief")) == ["STORED"]
    await clearing.clear()
    (receipt,) = await clearing.submit(numbered(3), sender="thief")
    assert receipt.status == SubmissionStatus.SUBMISSION_STATUS_REFUSED
    assert [finding.field for finding in receipt.findings] == ["operator_id"]
    reason = PlausibilityReason.PLAUSIBILITY_REASON_EVSE_OPERATOR
    assert reason in (await clearing.reasons())["cdr-2"]
    assert [name[1] for name in holder.kept] == ["CDR-1"]


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(3))
async def test_what_comes_to_several_at_once_is_stored_once(clearing: Clearing, seed: int) -> None:
    """The same hundred records in another order, by eight submitters at once, with impostors."""
    chance = random.Random(seed)
    records = [numbered(number) for number in range(100)]
    others = [numbered(number) for number in range(0, 100, 7)]
    for other in others:
        other.remark = "other"

    async def send() -> list[tuple[str, str | None, str]]:
        mixed = chance.sample([*records, *others], len(records) + len(others))
        found: list[tuple[str, str | None, str]] = []
        for first in range(0, len(mixed), 25):
            part = mixed[first : first + 25]
            receipts = await clearing.submit(*part)
            found += [
                (each.cdr_id, each.submission, record.remark)
                for each, record in zip(receipts, part, strict=True)
            ]
        return found

    sent = await asyncio.gather(*(send() for _ in range(8)))
    answers = [each for found in sent for each in found]
    stored = [(cdr_id, remark) for cdr_id, status, remark in answers if status == "STORED"]
    assert sorted(cdr_id for cdr_id, _ in stored) == sorted(each.cdr_id for each in records)
    won = dict(stored)
    for cdr_id, status, remark in answers:
        same = won[cdr_id] == remark
        assert status in ({"STORED", "ALREADY_SUBMITTED"} if same else {"CONTENT_CONFLICT"})
    assert await total(clearing.pool, "cdr") == 100
    assert await total(clearing.pool, "cdr_event") == 100


async def test_a_record_of_an_unknown_partner_waits_and_is_returned(clearing: Clearing) -> None:
    await clearing.submit(numbered(1), sender=f"{OPERATOR}-2")
    await clearing.check()
    assert await clearing.states() == {"cdr-1": "RETURNED"}
