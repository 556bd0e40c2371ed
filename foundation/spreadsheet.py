"""A workbook of one sheet, written row by row to a scratch folder in flat memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import xlsxwriter

#: Rows of a sheet by Office Open XML, less the line of names.
MOST_ROWS = 1_048_575
#: Numbers are doubles of 15 digits; greater ones are written as text, exactly.
_MOST_DIGITS = 15
_PIECE_BYTES = 256 * 1024


class Spreadsheet:
    """Blocks on files: its methods are run in a thread, one at a time. `remove` ends it."""

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gem-export-")
        self._path = Path(self._folder.name) / "export.xlsx"
        options = {"constant_memory": True, "tmpdir": self._folder.name}
        self._workbook = xlsxwriter.Workbook(self._path, options)
        self._sheet = self._workbook.add_worksheet(title)
        self._written = 0
        self.add([columns])

    @property
    def row_count(self) -> int:
        """Number of rows, not counting the line of names."""
        return self._written - 1

    def add(self, rows: Sequence[Sequence[str | int | Decimal]]) -> None:
        """Write rows below those before; OverflowError where the sheet is full."""
        for row in rows:
            if self._written > MOST_ROWS:
                raise OverflowError("the sheet is full")
            for column, value in enumerate(row):
                if isinstance(value, int | Decimal) and _fits(value):
                    self._sheet.write_number(self._written, column, value)
                else:
                    # Never `write`: it would take a text such as =A1 for a formula.
                    self._sheet.write_string(self._written, column, str(value))
            self._written += 1

    def finish(self) -> None:
        """Put the workbook together."""
        self._workbook.close()

    def pieces(self) -> Iterator[bytes]:
        """Give the finished file in pieces."""
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def remove(self) -> None:
        """Remove whatever was written, finished or not."""
        self._sheet.row_data_fh.close()
        self._folder.cleanup()


def _fits(value: int | Decimal) -> bool:
    """Say whether a number of a sheet holds the value exactly."""
    if isinstance(value, Decimal):
        return len(value.as_tuple().digits) <= _MOST_DIGITS
    return len(str(abs(value))) <= _MOST_DIGITS
