"""Exports: every form holds exactly what the list holds, in flat memory, and leaves nothing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from google.protobuf.message import Message

from foundation import spreadsheet
from foundation.errors import MarketError
from foundation.spreadsheet import Spreadsheet
from foundation.validation import violations
from gem.marketplace.v1 import transaction_service_pb2 as wire
from gem.marketplace.v1.transaction_pb2 import ServiceTransaction
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus
from marketplace import transaction_export
from marketplace.storage_transaction_export import COLUMNS
from tests.transaction_desk import T0_NS, TIMED_OUT, Desk, Reader, opened_desk
from tests.transaction_log_support import OK, connected, entry_of, eventually

pytestmark = pytest.mark.usecase(1242)

CSV, JSON_LINES, XLSX = (
    wire.EXPORT_FORMAT_CSV,
    wire.EXPORT_FORMAT_JSON_LINES,
    wire.EXPORT_FORMAT_XLSX,
)
FORMS = pytest.mark.parametrize("form", [CSV, JSON_LINES, XLSX], ids=["CSV", "JSON", "XLSX"])
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""
#: What a provider could call its version to do harm in somebody's table.
_TRICKY = ("=1+1", 'a"b', "x,y", "line\nbreak", "<b>&amp;", "+cmd", "ümlaut", " ")


@pytest.fixture
async def desk(log_url: str) -> AsyncIterator[Desk]:
    async with opened_desk(log_url, pool_size=4) as opened:
        dice = random.Random(1495)
        await opened.keep(
            *(
                entry_of(
                    requester_id=dice.choice("ab"),
                    provider_id=dice.choice("abc"),
                    started_ns=T0_NS + dice.randrange(10**12),
                    service_version=_TRICKY[number % len(_TRICKY)],
                    status=dice.choice((OK, TIMED_OUT)),
                    reason=dice.choice((0, 81)),
                    value_micros=dice.choice((0, -3, 10**18 - 1, 10**15 - 1, 25_000)),
                    currency_code=dice.choice(("EUR", "SEK")),
                )
                for number in range(1300)
            )
        )
        yield opened


async def export(
    reader: Reader, form: int, *, order: int = 0, counted: bool = True, **which: Any
) -> tuple[bytes, list[wire.ExportTransactionsResponse]]:
    request = request_of(form, order=order, counted=counted, **which)
    pieces = await reader.stream("ExportTransactions", request)
    return b"".join(piece.content for piece in pieces), pieces


def request_of(form: int, *, order: int = 0, counted: bool = False, **which: Any) -> Message:
    return wire.ExportTransactionsRequest(
        filter=wire.TransactionFilter(**which),
        order=order,  # type: ignore[arg-type]  # an enum value
        format=form,  # type: ignore[arg-type]  # an enum value
        counted=counted,
    )


def shown(entry: ServiceTransaction) -> list[str]:
    """Give an entry as a line of the file, made from the list's message."""
    micros, nanos = divmod(entry.start_time.nanos, 1000)[0], entry.start_time.nanos % 1000
    assert nanos == 0
    start = entry.start_time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"
    changed = {
        "start_time": start,
        "status": AnswerStatus.Name(entry.status).removeprefix("ANSWER_STATUS_"),
        "reason": ErrorReason.Name(entry.reason).removeprefix("ERROR_REASON_")
        if entry.reason
        else "",
        "request_digest": entry.request_digest.hex(),
        "answer_digest": entry.answer_digest.hex(),
        "value_micros": entry.value.amount_micros,
        "currency_code": entry.value.currency_code,
    }
    return [str(changed[name] if name in changed else getattr(entry, name)) for name in COLUMNS]


def read(form: int, content: bytes) -> list[list[str]]:
    """Read a file as a program of somebody else would; its first row names the columns."""
    if form == CSV:
        return list(csv.reader(io.StringIO(content.decode(), newline="")))
    if form == JSON_LINES:
        objects = [json.loads(line) for line in content.decode().split("\n") if line]
        assert all(list(each) == list(COLUMNS) for each in objects)
        assert all(isinstance(each["value_micros"], int) for each in objects)
        return [list(COLUMNS), *([str(value) for value in each.values()] for each in objects)]
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        sheet = ElementTree.fromstring(packed.read("xl/worksheets/sheet1.xml"))
    assert not list(sheet.iter(f"{_SHEET}f")), "no cell is a formula"
    return [[_cell(cell) for cell in row] for row in sheet.iter(f"{_SHEET}row")]


def _cell(cell: ElementTree.Element) -> str:
    if cell.get("t") == "inlineStr":
        return "".join(cell.itertext())
    return cell.findtext(f"{_SHEET}v") or ""


def test_an_export_without_a_form_breaks_a_rule_of_the_catalogue() -> None:
    assert violations(wire.ExportTransactionsRequest())
    assert violations(request_of(9))


async def test_an_operator_has_to_name_a_party_here_too(desk: Desk) -> None:
    with pytest.raises(MarketError) as refused:
        await export(desk.operator(), CSV, role=wire.TRANSACTION_ROLE_BUYER)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID


@FORMS
async def test_a_partner_exports_nothing_of_others(desk: Desk, form: int) -> None:
    content, pieces = await export(desk.partner("stranger"), form)
    assert read(form, content) == [list(COLUMNS)]
    assert pieces[0].total_count == 0
    content, _ = await export(desk.partner("c"), form)
    place = COLUMNS.index("provider_id")
    assert {row[place] for row in read(form, content)[1:]} == {"c"}


@FORMS
@pytest.mark.parametrize("order", [0, wire.TRANSACTION_ORDER_LOWEST_VALUE_FIRST])
async def test_the_file_is_the_list(desk: Desk, form: int, order: int) -> None:
    cases: list[tuple[Reader, dict[str, Any]]] = [
        (desk.operator(), {}),
        (desk.partner("a"), {}),
        (desk.partner("a"), {"role": wire.TRANSACTION_ROLE_SELLER, "statuses": [TIMED_OUT]}),
    ]
    for reader, which in cases:
        content, pieces = await export(reader, form, order=order, **which)
        listed = await reader.listed(order=order, **which)
        header, *rows = read(form, content)
        assert header == list(COLUMNS)
        assert rows == [shown(entry) for entry in listed]
        assert pieces[0].total_count == pieces[-1].written_count == len(listed)
        assert pieces[0].content == b""
        assert len(pieces) > 1 + len(listed) // 600, "not all at once"


async def test_an_export_that_is_not_counted_says_no_total(desk: Desk) -> None:
    _, pieces = await export(desk.operator(), CSV, counted=False)
    assert not pieces[0].HasField("total_count")
    assert pieces[0].media_type.startswith("text/csv")


async def test_more_than_a_sheet_holds_is_refused_and_nothing_stays_behind(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spreadsheet, "MOST_ROWS", 1299)
    with pytest.raises(MarketError) as refused:
        await export(desk.operator(), XLSX)
    assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    await eventually(lambda: not list(tmp_path.iterdir()), 5)
    monkeypatch.setattr(spreadsheet, "MOST_ROWS", 1300)
    content, _ = await export(desk.operator(), XLSX)
    assert len(read(XLSX, content)) == 1301
    await eventually(lambda: not list(tmp_path.iterdir()), 5)


@FORMS
async def test_a_caller_who_goes_away_frees_its_place_and_its_connection(
    desk: Desk, form: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reader = desk.partner("a")
    for _ in range(6):  # more often than there are connections
        call = reader.call("ExportTransactions", request_of(form))
        stalled = asyncio.Event()

        async def write(_: bytes, stalled: asyncio.Event = stalled) -> None:
            stalled.set()
            await asyncio.Event().wait()

        call.wire.write = write  # type: ignore[method-assign, assignment]  # a caller that reads no more
        serving = asyncio.create_task(reader.served(call))
        await stalled.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    content, _ = await export(reader, form)
    assert len(read(form, content)) > 1
    await eventually(lambda: not list(tmp_path.iterdir()), 5)


async def test_the_third_export_at_a_time_has_to_wait(desk: Desk) -> None:
    reader, serving = desk.partner("a"), []
    go_on = asyncio.Event()
    for _ in range(transaction_export.MOST_EXPORTS):
        call = reader.call("ExportTransactions", request_of(CSV))
        stalled = asyncio.Event()

        async def write(_: bytes, stalled: asyncio.Event = stalled) -> None:
            stalled.set()
            await go_on.wait()

        call.wire.write = write  # type: ignore[method-assign, assignment]  # a caller that reads slowly
        serving.append(asyncio.create_task(reader.served(call)))
        await stalled.wait()
    with pytest.raises(MarketError) as refused:
        await export(desk.partner("b"), CSV)
    assert refused.value.reason == ErrorReason.ERROR_REASON_TOO_MANY_CALLS
    assert refused.value.retry_after_s
    go_on.set()
    await asyncio.gather(*serving)
    await export(desk.partner("b"), CSV)


async def test_a_workbook_is_put_together_while_no_snapshot_is_open(
    desk: Desk, log_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes long for a full sheet, and the database cuts sessions that idle in a snapshot."""
    started, go_on = threading.Event(), threading.Event()
    finish = Spreadsheet.finish

    def slowly(sheet: Spreadsheet) -> None:
        started.set()
        assert go_on.wait(20)
        finish(sheet)

    monkeypatch.setattr(Spreadsheet, "finish", slowly)
    exporting = asyncio.create_task(export(desk.operator(), XLSX))
    try:
        assert await asyncio.to_thread(started.wait, 20)
        async with connected(log_url) as connection:
            open_ones = await connection.fetchval(_SNAPSHOTS)
    finally:
        go_on.set()
        content, _ = await exporting
    assert open_ones == 0
    assert len(read(XLSX, content)) == 1301


def test_a_text_is_never_a_formula_and_a_great_number_stays_exact() -> None:
    rows: Sequence[Sequence[str | int]] = [["=1+1", 2**62 + 1], ["http://x.example", -(10**15) + 1]]
    sheet = Spreadsheet("Any", ("text", "number"))
    try:
        sheet.add(rows)
        sheet.finish()
        content = b"".join(sheet.pieces())
    finally:
        sheet.remove()
    assert read(XLSX, content)[1:] == [[str(value) for value in row] for row in rows]
