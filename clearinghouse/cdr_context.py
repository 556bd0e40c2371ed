"""What has to be known about the sessions of charge detail records before they are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from clearinghouse.plausibility_context import PlausibilityContext
from clearinghouse.storage import Connection
from clearinghouse.storage_cdr import CdrRow
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord


@dataclass(frozen=True, slots=True)
class UncheckedCdr:
    """A record that is to be checked."""

    row: CdrRow
    record: ChargeDetailRecord


@dataclass(frozen=True, slots=True)
class SessionKnowledge:
    """What the clearing house knows about a record's session."""

    #: For the check; without the record that a credit names, and without sessions of its own batch.
    context: PlausibilityContext
    #: Who pays, and the customer's contract with him; None where nobody is known.
    evsp_partner_id: str | None = None
    contract_id: str | None = None


class ContextSource(Protocol):
    """Knows sessions: authorizations, contracts, tariffs, and what is on an EVSE beside."""

    async def load(
        self, connection: Connection, unchecked: Sequence[UncheckedCdr], now: datetime
    ) -> list[SessionKnowledge]:
        """Give what is known about each record's session, inside the caller's transaction."""
        ...
