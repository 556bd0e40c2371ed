"""Heads and evidence as partners get them, and what a partner finds with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from foundation.errors import MarketError
from gem.common.v1.paging_pb2 import PageRequest
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gemarket.log_evidence import EvidenceCheck
from marketplace import log_evidence_servicer
from marketplace.chain_session import ChainSession
from marketplace.log_chain import DAY_NS, date_of, day_of, number_of, read_record
from marketplace.log_heads import ChainHead, Heads, read_heads, write_heads
from marketplace.log_verification import BreakKind
from marketplace.storage_transaction_write import write_again
from marketplace.transaction_batch import Batch
from marketplace.transaction_export import ExportPlaces
from tests.log_chains import a_whole_log, change, longest_chain, write
from tests.transaction_desk import OPERATORS, Desk, Reader, opened_desk
from tests.transaction_log_support import IN_DOUBT, connected, entry_of, rows

pytestmark = pytest.mark.usecase(1242)
TODAY = day_of(int(datetime.now(tz=UTC).timestamp()) * 10**9)
SECRETS = ("hidden-buyer", "hidden-seller", "hidden-contract")


@pytest.fixture
async def desk(log_url: str) -> AsyncIterator[Desk]:
    """Open the service on an empty log."""
    async with opened_desk(log_url) as opened:
        yield opened


def others_entry(**changes: Any) -> Any:
    requester_id, provider_id, contract_id = SECRETS
    return entry_of(
        requester_id=requester_id, provider_id=provider_id, contract_id=contract_id, **changes
    )


async def heads_of(reader: Reader, page_size: int = 1000, **days: str) -> list[ChainHead]:
    found: list[ChainHead] = []
    page = PageRequest(page_size=page_size)
    while True:
        answer = await reader.ask("GetLogHeads", wire.GetLogHeadsRequest(page=page, **days))
        for one in answer.heads:
            day = number_of(datetime.fromisoformat(one.day).date())
            found.append(ChainHead(UUID(one.chain_id), day, one.sequence, one.chain_hash))
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            return found


async def evidence_of(reader: Reader, day: int = TODAY) -> list[wire.ExportLogEvidenceResponse]:
    request = wire.ExportLogEvidenceRequest(day=date_of(day).isoformat())
    return await reader.stream("ExportLogEvidence", request)


async def checked(reader: Reader, kept: list[ChainHead], day: int = TODAY) -> EvidenceCheck:
    """Check evidence against heads; fails where anything is wrong."""
    check, found = await _check(reader, kept, day)
    assert found == []
    return check


async def kinds(reader: Reader, kept: list[ChainHead]) -> set[BreakKind]:
    return {one.kind for one in (await _check(reader, kept, TODAY))[1]}


async def _check(
    reader: Reader, kept: list[ChainHead], day: int
) -> tuple[EvidenceCheck, list[Any]]:
    check = EvidenceCheck("evsp", day, Heads(0, b"", kept).of(day))
    pieces = await evidence_of(reader, day)
    found = [one for piece in pieces for one in check.take(piece)]
    found += check.finish()
    listed = await reader.listed()
    return check, found + [one for entry in listed for one in check.listed(entry)]


@pytest.mark.parametrize("day", ["2026-02-30", "0000-01-01"])
async def test_a_day_that_does_not_exist_is_refused(desk: Desk, day: str) -> None:
    reader = desk.partner("evsp")
    for method, request in (
        ("GetLogHeads", wire.GetLogHeadsRequest(first_day=day)),
        ("GetLogHeads", wire.GetLogHeadsRequest(last_day=day)),
        ("ExportLogEvidence", wire.ExportLogEvidenceRequest(day=day)),
    ):
        with pytest.raises(MarketError) as refused:
            await reader.stream(method, request)
        assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


@pytest.mark.parametrize("token", ["Zm9v", "MjAyNi0wMi0zMHw=", "////"])
async def test_a_token_of_another_list_is_refused(desk: Desk, token: str) -> None:
    request = wire.GetLogHeadsRequest(page=PageRequest(page_token=token))
    with pytest.raises(MarketError) as refused:
        await desk.partner("evsp").ask("GetLogHeads", request)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


@pytest.mark.parametrize("role", OPERATORS)
async def test_evidence_is_for_partners_only(desk: Desk, role: int) -> None:
    with pytest.raises(MarketError) as refused:
        await evidence_of(desk.operator(role))
    assert refused.value.reason == ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED


async def test_a_third_reader_at_a_time_has_to_wait(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportPlaces.__init__, "__defaults__", (0,))
    async with opened_desk(desk._url) as crowded:  # a test's own
        with pytest.raises(MarketError) as refused:
            await evidence_of(crowded.partner("evsp"))
    assert refused.value.reason == ErrorReason.ERROR_REASON_TOO_MANY_CALLS


async def test_a_day_without_entries_has_no_evidence_and_no_heads(desk: Desk) -> None:
    reader = desk.partner("evsp")
    assert await evidence_of(reader) == []
    answer = await reader.ask("GetLogHeads", wire.GetLogHeadsRequest())
    assert (list(answer.heads), answer.register.number) == ([], 0)


async def test_heads_come_by_day_and_chain_over_pages_and_are_the_same_for_everybody(
    desk: Desk, log_url: str
) -> None:
    for day in (20_001, 20_000, 20_001, 20_002):
        await write(log_url, [entry_of(started_ns=day * DAY_NS + n) for n in range(3)])
    all_of_them = await heads_of(desk.partner("anybody"))
    assert all_of_them == await heads_of(desk.operator(), page_size=1)
    assert [head.day for head in all_of_them] == [20_000, 20_001, 20_001, 20_002]
    assert all_of_them == sorted(all_of_them, key=lambda head: (head.day, head.chain_id))
    stored = {row["chain_id"]: row for row in await rows(log_url) if row["sequence"] == 3}
    assert [(3, stored[head.chain_id]["chain_hash"]) for head in all_of_them] == [
        (head.sequence, head.hash) for head in all_of_them
    ]
    first, last = (date_of(day).isoformat() for day in (20_001, 20_001))
    assert await heads_of(desk.operator(), first_day=first, last_day=last) == all_of_them[1:3]


async def test_the_head_of_the_register_is_its_last_record(desk: Desk, log_url: str) -> None:
    await a_whole_log(log_url)
    answer = await desk.partner("evsp").ask("GetLogHeads", wire.GetLogHeadsRequest())
    last = max(await rows(log_url, "transaction_chain_register"), key=lambda row: row["number"])
    assert answer.register.number == last["number"] == 4
    assert answer.register.register_hash == last["hash"]


async def test_own_entries_come_in_full_and_of_others_nothing_but_hashes(
    desk: Desk, log_url: str
) -> None:
    own = [entry_of(), entry_of(requester_id="other", provider_id="evsp")]
    others = [others_entry(value_micros=n) for n in range(4)]
    await write(log_url, [others[0], own[0], *others[1:3], own[1], others[3]])
    pieces = await evidence_of(desk.partner("evsp"))
    links = [one for piece in pieces for one in piece.links]
    assert [one.WhichOneof("entries") for one in links] == ["opaque", "own"] * 2 + ["opaque"]
    shown = [read_record(one.own.canonical_record).entry for one in links if one.HasField("own")]
    assert [entry.transaction_id for entry in shown] == [entry.transaction_id for entry in own]
    raw = b"".join(piece.SerializeToString() for piece in pieces)
    for row in await rows(log_url):
        is_own = "evsp" in (row["requester_id"], row["provider_id"])
        assert (row["nonce"] in raw) == is_own
        assert (row["record_hash"] in raw) != is_own
        assert (row["transaction_id"].bytes in raw) == is_own
    assert not any(text.encode() in raw for text in SECRETS)


async def test_evidence_and_heads_agree_for_every_partner(desk: Desk, log_url: str) -> None:
    await a_whole_log(log_url)
    await write(log_url, [others_entry() for _ in range(5)], [entry_of()])
    kept = await heads_of(desk.partner("evsp"))
    assert len(kept) == 3
    check = await checked(desk.partner("evsp"), kept)
    assert check.entry_count == 13 + 6
    nobody = EvidenceCheck("nobody", TODAY, Heads(0, b"", kept).of(TODAY))
    for piece in await evidence_of(desk.partner("nobody")):
        assert list(nobody.take(piece)) == []
    assert (list(nobody.finish()), nobody.own) == ([], {})


async def test_a_long_chain_comes_in_several_pieces(
    desk: Desk, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_evidence_servicer, "_OPAQUE_MOST", 20)
    monkeypatch.setattr(log_evidence_servicer, "_LINKS_MOST", 4)
    await write(log_url, [others_entry() for _ in range(150)], [entry_of() for _ in range(9)])
    await write(log_url, [entry_of()])
    pieces = await evidence_of(desk.partner("evsp"))
    assert len(pieces) > 5
    assert max(len(piece.links) for piece in pieces) <= 4
    assert sum(piece.HasField("start") for piece in pieces) == 2
    await checked(desk.partner("evsp"), await heads_of(desk.partner("evsp")))


async def test_a_doubt_that_a_result_replaced_is_shown_to_its_parties_as_such(
    desk: Desk, log_url: str
) -> None:
    entry, worker_id = entry_of(), uuid4()
    doubt = entry._replace(status=IN_DOUBT, value_micros=0)
    async with connected(log_url) as connection:
        session = ChainSession(worker_id)
        for one in (doubt, entry):
            await write_again(connection, worker_id, Batch(finals=[one]), session)
    (piece,) = await evidence_of(desk.partner("evsp"))
    assert [one.own.is_superseded for one in piece.links] == [True, False]
    check = await checked(desk.partner("evsp"), [])
    assert [one.entry.status for one in check.own[entry.transaction_id]] == [IN_DOUBT, 1]


async def test_what_the_market_changes_after_a_head_was_kept_is_found_by_the_partner(
    desk: Desk, log_url: str
) -> None:
    entries = [entry_of(), others_entry(), entry_of(), others_entry()]
    await write(log_url, entries)
    reader = desk.partner("evsp")
    kept = await heads_of(reader)
    key = (await longest_chain(log_url))[2]["transaction_id"]
    table = "marketplace.service_transaction"
    await change(log_url, f"UPDATE {table} SET value_micros = 9 WHERE transaction_id = $1", key)
    assert await kinds(reader, kept) == {BreakKind.REWRITTEN}
    await change(log_url, f"DELETE FROM {table} WHERE transaction_id = $1", key)
    assert await kinds(reader, kept) == {BreakKind.TRUNCATED}
    await change(log_url, f"DELETE FROM {table}")
    assert await kinds(reader, kept) == {BreakKind.TRUNCATED}
    await change(log_url, "DELETE FROM marketplace.transaction_chain_register")
    assert await kinds(reader, kept) == {BreakKind.TRUNCATED}
    assert await kinds(reader, []) == set(), "without heads nobody can tell"


async def test_a_listed_entry_that_is_in_no_chain_is_found_by_the_partner(
    desk: Desk, log_url: str
) -> None:
    await write(log_url, [entry_of(), entry_of()])
    (first, _) = await longest_chain(log_url)
    await change(
        log_url,
        "UPDATE marketplace.service_transaction SET chain_id = NULL WHERE transaction_id = $1",
        first["transaction_id"],
    )
    assert await kinds(desk.partner("evsp"), []) == {BreakKind.UNCHAINED}


async def test_a_list_that_shows_another_content_than_the_chain_is_found(
    desk: Desk, log_url: str
) -> None:
    await write(log_url, [entry_of()])
    reader = desk.partner("evsp")
    check, found = await _check(reader, [], TODAY)
    assert found == []
    (entry,) = await reader.listed()
    for name, other in (("item_count", 6), ("method", "/x.Y/Z"), ("status", 4), ("code", 2)):
        lie = type(entry).FromString(entry.SerializeToString())
        setattr(lie, name, other)
        assert [one.kind for one in check.listed(lie)] == [BreakKind.CHANGED]
    entry.value.amount_micros += 1
    assert [one.kind for one in check.listed(entry)] == [BreakKind.CHANGED]


async def test_evidence_with_others_entries_as_own_is_found(desk: Desk, log_url: str) -> None:
    await write(log_url, [entry_of()])
    check = EvidenceCheck("somebody", TODAY, {})
    (piece,) = await evidence_of(desk.partner("evsp"))
    assert [one.kind for one in check.take(piece)] == [BreakKind.ADDED]
    piece.links[0].own.canonical_record = b"nonsense"
    assert [one.kind for one in check.take(piece)] == [BreakKind.CHANGED]


def test_heads_are_kept_in_a_file_as_they_were(tmp_path: Any) -> None:
    file = tmp_path / "heads.json"
    heads = Heads(7, bytes(32), [ChainHead(uuid4(), 20_000, 3, b"\x01" * 32)])
    write_heads(file, heads)
    assert read_heads(file) == heads
    assert [path.name for path in tmp_path.iterdir()] == ["heads.json"]
    for content in ("", "[]", '{"register": 1}', '{"register": {"number": 1, "hash": "x"}}'):
        file.write_text(content)
        with pytest.raises(ValueError, match="is no file of heads"):
            read_heads(file)
