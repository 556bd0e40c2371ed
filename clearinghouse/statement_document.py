"""A statement as a document for reading and printing (PDF, extra `reports`)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from clearinghouse.storage_settlement import StatementRow
from foundation.money import Money

if TYPE_CHECKING:
    from fpdf import FPDF

#: More lines nobody reads; a document keeps some 200 bytes of each in memory until it is whole.
MOST_LINES = 100_000
_PIECE_BYTES = 256 * 1024
_LEFT_MM, _TOP_MM, _BOTTOM_MM = 10, 14, 196
_LINE_MM = 3.7
_POINTS = 7
#: Characters of each column; of an even width, so that a line is one piece of text.
_WIDTHS = (66, 10, 22, 16, 22, 20, 22)
_TITLES = ("CDR", "Operator", "Start (UTC)", "kWh", "Without tax", "Tax", "With tax")
_TEXTS = 3


class StatementDocument:
    """Blocks on files: its methods are run in a thread, one at a time. `remove` ends it."""

    def __init__(self, statement: StatementRow) -> None:
        # The package takes a third of a second and 25 MB, which only who exports shall pay.
        from fpdf import FPDF  # noqa: PLC0415  # see above; it is an extra

        self._folder = tempfile.TemporaryDirectory(prefix="gem-export-")
        self._path = Path(self._folder.name) / "statement.pdf"
        self._pdf: FPDF = FPDF("landscape", format="A4")
        self._pdf.set_auto_page_break(False)
        self._pdf.set_title(f"Statement {statement.statement_id}")
        # The same statement is the same file, whenever it is asked for.
        self._pdf.set_creation_date(statement.closed_at.astimezone(UTC))
        self._y_mm = 0.0
        self._begin_page()
        self._head(statement)

    def add(self, rows: Sequence[Sequence[str | Decimal]]) -> None:
        """Write lines below those before."""
        for row in rows:
            for text in lines_of(row):
                self._line(text)

    def finish(self) -> None:
        """Put the document together."""
        self._pdf.output(str(self._path))

    def pieces(self) -> Iterator[bytes]:
        """Give the finished file in pieces."""
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def remove(self) -> None:
        """Remove whatever was written, finished or not."""
        self._folder.cleanup()

    def _begin_page(self) -> None:
        self._pdf.add_page()
        self._pdf.set_font("Courier", size=_POINTS)
        self._pdf.text(_LEFT_MM, _BOTTOM_MM + 2 * _LINE_MM, f"Page {self._pdf.page_no()}")
        self._y_mm = _TOP_MM

    def _head(self, statement: StatementRow) -> None:
        currency = statement.currency_code
        self._pdf.set_font("Helvetica", style="B", size=14)
        self._line("Settlement statement")
        self._pdf.set_font("Courier", size=_POINTS)
        for name, text in (
            ("", ""),
            ("Statement", statement.statement_id),
            ("Period", f"{_utc(statement.period_start)} to {_utc(statement.period_end)}"),
            ("Closed", _utc(statement.closed_at)),
            ("Debtor", statement.evsp_id),
            ("Creditor", statement.operator_id),
            ("Records", str(statement.line_count)),
            ("Without tax", str(Money(statement.without_tax_micros, currency))),
            ("With tax", str(Money(statement.with_tax_micros, currency))),
            ("", ""),
        ):
            self._line(f"{name:12}{shown(text)}")
        self._line(_aligned(_TITLES))

    def _line(self, text: str) -> None:
        if self._y_mm > _BOTTOM_MM:
            self._begin_page()
            self._line(_aligned(_TITLES))
        self._pdf.text(_LEFT_MM, self._y_mm, text)
        self._y_mm += _LINE_MM


def lines_of(row: Sequence[str | Decimal]) -> Iterator[str]:
    """Give the lines of the document that show a record; a long id has lines of its own."""
    cdr_id, credited = shown(str(row[0])), shown(str(row[8]))
    if len(cdr_id) >= _WIDTHS[0]:
        yield from _cut(cdr_id)
        cdr_id = ""
    texts = [cdr_id, shown(str(row[1])), *(str(value) for value in row[2:7])]
    yield _aligned(texts)
    if credited:
        yield from _cut(f"  takes back {credited}")


def shown(text: str) -> str:
    """Give a text in the letters that every reader of documents has; others are escaped."""
    return "".join(
        letter
        if letter.isprintable() and ord(letter) < 256
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _aligned(texts: Sequence[str]) -> str:
    """Put texts to the left and numbers to the right of their columns."""
    parts = [
        f"{text:{width}}" if column < _TEXTS else f"{text:>{width}}"
        for column, (text, width) in enumerate(zip(texts, _WIDTHS, strict=True))
    ]
    return "".join(parts).rstrip()


def _cut(text: str) -> Iterator[str]:
    width = sum(_WIDTHS)
    return (text[start : start + width] for start in range(0, len(text), width))


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
