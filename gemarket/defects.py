"""Shows what was wrong in files that were read."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.markup import escape

from foundation.import_report import Action, DefectReport
from gemarket.console import output, table

AllDefects = Annotated[bool, typer.Option("--all-defects", help="Show every defect.")]
_MOST_SHOWN = 50


def show_defects(report: DefectReport, all_defects: bool) -> None:
    """Print a table of the defects, the first ones unless all are wanted."""
    shown = report.defects if all_defects else report.defects[:_MOST_SHOWN]
    if shown:
        rows = (
            (escape(each.file), escape(each.path), each.rule, each.action.value, each.message)
            for each in shown
        )
        output.print(table("Defects", ("file", "place", "rule", "done", "why"), rows))
    hidden = len(report.defects) - len(shown) + report.unlisted_defects
    if hidden:
        output.print(f"and {hidden} more defects; --all-defects shows them")


def kept_and_skipped(report: DefectReport) -> str:
    """Give how many things were left out or kept, in words."""
    kept = Counter(each.action for each in report.defects)[Action.KEPT]
    return f"{report.skipped} things skipped, {kept} kept in spite of a defect"
