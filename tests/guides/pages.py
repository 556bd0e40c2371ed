"""Pages of docs/guides as programs: their blocks are run in order, what they show is compared.

A block of `sh` is run, a block whose opening line names a file (```` ```python shop.py ````) is
written, and a block of `text` is what the block before it prints: each of its lines must occur, in
this order, where `…` stands for anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: Stands in the output before what a block prints.
_MARK = "@@ block"
_END_OF_FILE = "END-OF-THE-FILE"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    #: Where it is to be written; empty where it is not a file.
    file_name: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """Give the fenced blocks of a page in order."""
    found = _FENCE.findall(page.read_text())
    return [Block(language, file_name, text) for language, file_name, text in found]


def script_of(blocks: list[Block]) -> str:
    """Make one shell program of a page; it ends at the first command that fails."""
    parts = ["set -euo pipefail\n"]
    for number, block in enumerate(blocks):
        if block.file_name:
            parts.append(f'mkdir -p "$(dirname {block.file_name})"\n')
            parts.append(f"cat > {block.file_name} <<'{_END_OF_FILE}'\n{block.text}")
            parts.append(f"{_END_OF_FILE}\n")
        elif block.language == "sh":
            parts.append(f"echo '{_MARK} {number}'\n{block.text}")
    return "".join(parts)


def missing_lines(blocks: list[Block], output: str) -> list[str]:
    """Give the lines that the page shows and that its program did not print there."""
    printed: dict[int, list[str]] = {}
    for part in output.split(f"{_MARK} ")[1:]:
        mark, _, text = part.partition("\n")
        printed[int(mark)] = text.splitlines()
    missing: list[str] = []
    last: list[str] = []
    for number, block in enumerate(blocks):
        if block.language == "sh" and not block.file_name:
            last = printed.get(number, [])
        elif block.language == "text":
            missing += _not_found(block.text.splitlines(), last)
    return missing


def _not_found(shown: list[str], printed: list[str]) -> list[str]:
    missing, at = [], 0
    for line in shown:
        pattern = re.compile(".*".join(map(re.escape, line.strip().split("…"))))
        there = (number for number in range(at, len(printed)) if pattern.search(printed[number]))
        place = next(there, None)
        if place is None:
            missing.append(line)
        else:
            at = place + 1
    return missing
