"""What the transaction log writes together, and its form in the spill file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import IntEnum
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

from interceptors.call import FailedCall
from marketplace.router.target import TransactionEntry

Record: TypeAlias = TransactionEntry | FailedCall


class Kind(IntEnum):
    """What a record of the log says; the numbers stand in spill files and never change."""

    #: A provider is about to be asked; durable before it is.
    INTENT = 1
    #: How asking a provider ended, without an intent before.
    FINAL = 2
    #: How asking a provider ended, with an intent before; deletes the intent.
    RESOLUTION = 3
    #: An identified call that reached no provider.
    FAILED = 4


@dataclass(slots=True)
class Batch:
    """Records that become durable together, by kind, each in the order of arrival."""

    intents: list[TransactionEntry] = field(default_factory=list)
    finals: list[TransactionEntry] = field(default_factory=list)
    resolutions: list[TransactionEntry] = field(default_factory=list)
    failed: list[FailedCall] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.intents) + len(self.finals) + len(self.resolutions) + len(self.failed)

    def kinds(self) -> int:
        """Give the number of kinds that the batch has records of."""
        return sum(map(bool, (self.intents, self.finals, self.resolutions, self.failed)))

    def lists(self) -> dict[Kind, list[Any]]:
        """Give the list of every kind, to be added to."""
        return {
            Kind.INTENT: self.intents,
            Kind.FINAL: self.finals,
            Kind.RESOLUTION: self.resolutions,
            Kind.FAILED: self.failed,
        }

    def records(self) -> Iterator[tuple[Kind, Record]]:
        """Give every record, intents before what resolves them."""
        for kind, records in self.lists().items():
            for record in records:
                yield kind, record


_FAILED_FIELDS = tuple(item.name for item in fields(FailedCall))
_FAILED_VALUES = attrgetter(*_FAILED_FIELDS)
#: Fields of an entry that every version wrote; more than any other record has.
_FEWEST = len(TransactionEntry._fields) - len(TransactionEntry._field_defaults)
_IDS = frozenset({"transaction_id", "call_id"})
_DIGESTS = frozenset({"request_digest", "answer_digest"})


def _plain(value: object) -> str:
    if isinstance(value, (UUID, bytes)):
        return value.hex if isinstance(value, UUID) else value.hex()
    msg = f"the log keeps no {type(value).__name__}"
    raise TypeError(msg)


def encode(record: Record) -> str:
    """Write a record as a JSON list of its fields' values; ids and digests in hexadecimal."""
    values = record if isinstance(record, TransactionEntry) else _FAILED_VALUES(record)
    return json.dumps(values, default=_plain, separators=(",", ":"))


def decode(kind: Kind, body: str) -> Record:
    """Read what `encode` wrote; raises ValueError or TypeError for anything else."""
    names = _FAILED_FIELDS if kind is Kind.FAILED else TransactionEntry._fields
    written = json.loads(body)
    # An earlier version wrote entries without their last fields, which have defaults.
    values = dict(zip(names[: max(len(written), _FEWEST)], written, strict=True))
    for name in _IDS & values.keys():
        values[name] = UUID(hex=values[name])
    for name in _DIGESTS & values.keys():
        values[name] = bytes.fromhex(values[name])
    return FailedCall(**values) if kind is Kind.FAILED else TransactionEntry(**values)
