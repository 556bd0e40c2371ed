"""Files of statements: every form holds each line once, exactly; nothing is left behind."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import re
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearinghouse import statement_document, statement_export
from clearinghouse.statement_document import lines_of, shown
from clearinghouse.statement_export import COLUMNS, ExportPlaces, file_pieces, row_of
from clearinghouse.storage import Pool, open_pool
from clearinghouse.storage_settlement import LineRow, SettlementStorage, StatementRow
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.errors import MarketError
from foundation.money import Money
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import settlement_service_pb2 as messages
from tests.clearinghouse_ledger import (
    APRIL,
    EVSP,
    MARCH,
    OPERATOR,
    booked,
    booking,
    cleared,
    emptied,
    house_database,
)

CSV, XLSX, PDF = (
    messages.STATEMENT_FORMAT_CSV,
    messages.STATEMENT_FORMAT_XLSX,
    messages.STATEMENT_FORMAT_PDF,
)
FORMS = pytest.mark.parametrize("form", [CSV, XLSX, PDF], ids=["CSV", "XLSX", "PDF"])
MEBIBYTE = 1024 * 1024
#: The interface's limit.
PIECE_BYTES = MEBIBYTE // 4
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
#: Ids that a form could take for something else.
ODD_IDS = ("=1+1", 'a"b', "a,b", "line\nbreak", "(paren\\)", "\N{SNOWMAN} snow", "x" * 64)


@pytest.fixture(scope="module")
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    async with house_database(postgres) as url:
        yield url


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, 4) as made:
        await emptied(made)
        yield made


@pytest.fixture
async def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder in which exports write."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


async def statement_of(pool: Pool, ids: Sequence[str]) -> StatementRow:
    first = booking(0)
    credit = first.credit(10**9, "CREDIT", MARCH)
    others = [booking(number, cdr_id=each) for number, each in enumerate(ids, 1)]
    await booked(pool, [first, credit, *others])
    run = await cleared(pool)
    (statement,) = await SettlementStorage(pool).statements(None, run.run_id, 0, 10)
    return statement


async def exported(pool: Pool, statement: StatementRow, form: int) -> bytes:
    storage = SettlementStorage(pool)
    pieces = [piece async for piece in file_pieces(storage, statement, form)]
    assert max(map(len, pieces)) <= PIECE_BYTES
    return b"".join(pieces)


def cells(workbook: bytes) -> list[list[str]]:
    """Read a workbook's only sheet as texts."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as archive:
        sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    return [["".join(cell.itertext()) for cell in row] for row in sheet.iter(f"{_SHEET}row")]


def pdf_text(document: bytes) -> str:
    """Read the pieces of text of a document, as far as this one writes them."""
    found = []
    # No optional carriage return: a stream may end with one of its own.
    for stream in re.findall(rb"stream\n(.*?)\nendstream", document, re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        pieces = re.findall(rb"\(((?:[^()\\]|\\.)*)\) Tj", content, re.DOTALL)
        found += [re.sub(rb"\\(.)", rb"\1", piece).decode("latin-1") for piece in pieces]
    return "\n".join(found)


async def test_a_statement_beyond_a_form_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = await statement_of(pool, ["A"])
    monkeypatch.setattr(statement_export, "MOST_LINES", 2)
    monkeypatch.setattr(statement_export, "MOST_ROWS", 2)
    for form in (PDF, XLSX):
        with pytest.raises(MarketError) as refused:
            await exported(pool, statement, form)
        assert refused.value.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    assert len((await exported(pool, statement, CSV)).splitlines()) == 4


def test_more_exports_than_places_are_refused() -> None:
    places = ExportPlaces(1)
    with places.one():
        with pytest.raises(MarketError) as refused, places.one():
            pass
        assert refused.value.reason == ErrorReason.ERROR_REASON_TOO_MANY_CALLS
        assert refused.value.retry_after_s
    with places.one():
        pass


@FORMS
async def test_an_abandoned_export_leaves_nothing(pool: Pool, scratch: Path, form: int) -> None:
    statement = await statement_of(pool, [f"CDR{number}" for number in range(1, 3000)])
    async with aclosing(file_pieces(SettlementStorage(pool), statement, form)) as pieces:
        assert await anext(pieces)
    async with asyncio.timeout(10):
        while os.listdir(scratch):  # noqa: ASYNC110, PTH208  # a thread removes it
            await asyncio.sleep(0.01)


async def test_a_table_holds_every_line_once_as_it_is(pool: Pool) -> None:
    statement = await statement_of(pool, ODD_IDS)
    text = (await exported(pool, statement, CSV)).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert sorted(row[0] for row in rows[1:]) == sorted([*ODD_IDS, "CDR0", "CREDIT"])
    (credit,) = [row for row in rows if row[0] == "CREDIT"]
    assert credit == [
        *("CREDIT", "DE*ABC", "2026-03-02T00:00:00Z", "-10.000", "-5.00", "-1.00", "-6.00"),
        *("EUR", "CDR0"),
    ]
    assert sum(Decimal(row[6]) for row in rows[1:]) == Decimal("42.00")


async def test_a_workbook_holds_the_same_with_numbers_as_numbers(pool: Pool) -> None:
    statement = await statement_of(pool, ODD_IDS)
    rows = cells(await exported(pool, statement, XLSX))
    assert tuple(rows[0]) == COLUMNS
    assert sorted(row[0] for row in rows[1:]) == sorted([*ODD_IDS, "CDR0", "CREDIT"])
    assert {Decimal(row[6]) for row in rows[1:]} == {6, -6}


async def test_a_document_shows_who_owes_whom_what_and_every_record(pool: Pool) -> None:
    statement = await statement_of(pool, ODD_IDS)
    document = await exported(pool, statement, PDF)
    text = pdf_text(document)
    for part in (
        statement.statement_id,
        "2026-03-02 00:00:00 UTC to 2026-04-01 00:00:00 UTC",
        f"Debtor      {EVSP}",
        f"Creditor    {OPERATOR}",
        "With tax    42.00 EUR",
        "takes back CDR0",
        "\\u2603 snow",
        "line\\nbreak",
    ):
        assert part in text, part
    assert await exported(pool, statement, PDF) == document, "the same statement, the same file"


async def test_a_long_document_has_every_record_once_on_numbered_pages(pool: Pool) -> None:
    ids = [f"CDR{number:05}" for number in range(1, 400)]
    text = pdf_text(await exported(pool, await statement_of(pool, ids), PDF))
    assert re.findall(r"^CDR\d{5} ", text, re.MULTILINE) == [f"{each} " for each in ids]
    pages = re.findall(r"^Page (\d+)$", text, re.MULTILINE)
    assert pages == [str(number) for number in range(1, len(pages) + 1)]
    assert text.count("Without tax") == len(pages) + 1


class _ManyLines(SettlementStorage):
    """Gives lines that nobody stores."""

    count = 0

    async def lines(
        self, statement: StatementRow, after: tuple[str, str], limit: int
    ) -> list[LineRow]:
        first = int(after[1] or 0)
        return [
            LineRow("DE*ABC", f"{number:09}", MARCH, 10**7 + number, 5_000_000, 6_000_000, "")
            for number in range(first + 1, min(first + limit, self.count) + 1)
        ]


def _statement(lines: int) -> StatementRow:
    totals = 5_000_000 * lines, 6_000_000 * lines
    ends = (MARCH, APRIL, APRIL)
    return StatementRow(1, "S", 1, "R", *ends, EVSP, OPERATOR, "EUR", *totals, lines)


async def peak_bytes(form: int, lines: int) -> int:
    """Give the most memory that an export of so many lines takes."""
    storage = _ManyLines(None)  # type: ignore[arg-type]  # it reads no database
    storage.count = lines
    tracemalloc.start()
    try:
        async for _ in file_pieces(storage, _statement(lines), form):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


#: What a document keeps of each line until it is whole, and the machinery around it.
_KEPT_BYTES: dict[int, int] = {CSV: 0, XLSX: 0, PDF: 400}


@FORMS
@pytest.mark.usefixtures("scratch")
async def test_four_times_the_lines_are_written_in_the_same_memory(
    monkeypatch: pytest.MonkeyPatch, form: int
) -> None:
    monkeypatch.setattr(statement_export, "_LINES_OF_BATCH", 100)
    await peak_bytes(form, 1)
    few, many = await peak_bytes(form, 1000), await peak_bytes(form, 4000)
    # A longer file may be read while the piece before is still held. Lines that were all kept
    # would take some 2 MiB more.
    assert many - few < PIECE_BYTES + MEBIBYTE // 8 + 3000 * _KEPT_BYTES[form]


@pytest.mark.torture
@pytest.mark.timeout(900)
@FORMS
@pytest.mark.usefixtures("scratch")
async def test_a_hundred_thousand_lines_are_written_in_flat_memory(form: int) -> None:
    assert await peak_bytes(form, 100_000) < 16 * MEBIBYTE + 100_000 * _KEPT_BYTES[form]


@given(st.integers(-(10**18), 10**18), st.integers(-(10**15), 10**15))
def test_numbers_of_a_line_are_exact_and_short(amount: int, energy: int) -> None:
    line = LineRow("DE*ABC", "C", MARCH, energy, 0, amount, "")
    row = row_of(line, "EUR")
    assert Decimal(row[6]) * 1_000_000 == amount
    assert f"{row[6]} EUR" == str(Money(amount, "EUR")), "as amounts are written elsewhere"
    assert Decimal(row[3]) * 1_000_000 == energy
    assert "E" not in str(row[3])


@given(st.text(max_size=64), st.text(max_size=64))
@settings(max_examples=40)
def test_any_id_can_be_shown_and_none_is_cut(cdr_id: str, credited: str) -> None:
    assert shown(cdr_id).encode("latin-1").decode("latin-1").isprintable()
    numbers = [Decimal("1.5")] * 4
    row: list[str | Decimal] = [cdr_id, "DE*ABC", "2026-03-02T00:00:00Z", *numbers, "EUR", credited]
    written = list(lines_of(row))
    assert max(map(len, written)) <= 178
    assert shown(cdr_id).rstrip() in "".join(written)


def test_the_columns_of_a_document_fit_its_page() -> None:
    assert sum(statement_document._WIDTHS) * 0.6 * statement_document._POINTS * 25.4 / 72 < 277


def test_an_instant_is_shown_in_utc() -> None:
    assert statement_export.utc_text(datetime(2026, 3, 29, 1, tzinfo=UTC)) == "2026-03-29T01:00:00Z"
