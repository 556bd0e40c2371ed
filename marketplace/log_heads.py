"""Heads of the log's chains as somebody keeps them outside the market: one JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

from marketplace.log_chain import date_of, number_of


@dataclass(frozen=True, slots=True)
class ChainHead:
    """How far a chain of a day came, and its hash there."""

    chain_id: UUID
    day: int
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Heads:
    """The register's last record, and the heads of chains."""

    register_number: int
    register_hash: bytes
    chains: Sequence[ChainHead]

    def of(self, day: int) -> dict[UUID, list[ChainHead]]:
        """Give the heads of a day's chains."""
        found: dict[UUID, list[ChainHead]] = {}
        for head in self.chains:
            if head.day == day:
                found.setdefault(head.chain_id, []).append(head)
        return found


NO_HEADS = Heads(0, b"", ())


def write_heads(file: Path, heads: Heads) -> None:
    """Write a file in one step; raises OSError."""
    content = {
        "register": {"number": heads.register_number, "hash": heads.register_hash.hex()},
        "chains": [
            {
                "chain_id": str(head.chain_id),
                "day": date_of(head.day).isoformat(),
                "sequence": head.sequence,
                "hash": head.hash.hex(),
            }
            for head in heads.chains
        ],
    }
    scratch = file.with_name(f".{file.name}.{os.getpid()}.part")
    scratch.write_text(json.dumps(content, indent=1) + "\n")
    scratch.replace(file)


def read_heads(file: Path) -> Heads:
    """Read a file; raises OSError, and ValueError where it is no file of heads."""
    try:
        content = json.loads(file.read_text())
        register = content["register"]
        chains = [_head(one) for one in content["chains"]]
        return Heads(int(register["number"]), bytes.fromhex(register["hash"]), chains)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{file} is no file of heads") from None


def _head(one: dict[str, Any]) -> ChainHead:
    day = number_of(date.fromisoformat(one["day"]))
    return ChainHead(UUID(one["chain_id"]), day, int(one["sequence"]), bytes.fromhex(one["hash"]))
