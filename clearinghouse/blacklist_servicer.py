"""Identities that are denied at once, whatever any list or EVSP says."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from clearinghouse.answering import Answering, Context
from clearinghouse.contract_rpcs import ContractRpcs
from clearinghouse.instants import ALWAYS_UNTIL, instant_of, stored, timestamp
from clearinghouse.paging import after_number, cut, page_size
from clearinghouse.parts import Parts
from clearinghouse.refusals import invalid, not_found
from clearinghouse.storage import Connection, transaction
from clearinghouse.storage_blacklist import BlacklistDraft, BlacklistStorage
from foundation.validation import require_valid
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from interceptors.provider_side import market_call

_LATEST = 2**63 - 1


class BlacklistServicer(ContractRpcs):
    """Serves the part of ClearingContractService that is about the blacklist."""

    async def AddToBlacklist(  # noqa: N802  # the rpc's name
        self, request: messages.AddToBlacklistRequest, context: Context
    ) -> messages.AddToBlacklistResponse:
        """Deny an identity of the calling EVSP's customers."""
        evsp_id = market_call().requester_id

        async def work(connection: Connection) -> messages.AddToBlacklistResponse:
            storage = BlacklistStorage(connection)
            draft = _draft(self._parts, request.entry, evsp_id)
            if not await storage.owns(draft):
                raise not_found("customer")
            return messages.AddToBlacklistResponse(entry=_render(await storage.add(draft)))

        async with Answering(context):
            require_valid(request)
            kind = messages.AddToBlacklistResponse
            return await self._parts.once(request, kind, work)

    async def RemoveFromBlacklist(  # noqa: N802  # the rpc's name
        self, request: messages.RemoveFromBlacklistRequest, context: Context
    ) -> messages.RemoveFromBlacklistResponse:
        """End a denial; the entry stays for the past."""
        evsp_id = market_call().requester_id

        async def work(connection: Connection) -> messages.RemoveFromBlacklistResponse:
            if not await BlacklistStorage(connection).remove(request.entry_id, evsp_id):
                raise not_found("entry")
            return messages.RemoveFromBlacklistResponse()

        async with Answering(context):
            require_valid(request)
            kind = messages.RemoveFromBlacklistResponse
            return await self._parts.once(request, kind, work)

    async def ListBlacklist(  # noqa: N802  # the rpc's name
        self, request: messages.ListBlacklistRequest, context: Context
    ) -> messages.ListBlacklistResponse:
        """List what the calling EVSP denies, the latest first."""
        async with Answering(context):
            require_valid(request)
            size, before = page_size(request.page), after_number(request.page, _LATEST)
            async with transaction(self._parts.pool) as connection:
                evsp_id = market_call().requester_id
                rows = await BlacklistStorage(connection).page(evsp_id, before, size)
            shown, info = cut(rows, size, lambda row: row["entry_ref"])
            entries = map(_render, shown)
            return messages.ListBlacklistResponse(entries=entries, page=info)


def _draft(parts: Parts, entry: wire.BlacklistEntry, evsp_id: str) -> BlacklistDraft:
    """Read an entry; MarketError REQUEST_INVALID."""
    shown, place = entry.identification, "entry.identification"
    key = None
    if shown.contract_id:
        key = parts.reader.key(shown.contract_id, f"{place}.contract_id")
    try:
        token_hash = parts.hashing.identification(shown)
    except ValueError:
        text = "a card's id has 8, 14 or 20 hexadecimal digits"
        raise invalid(f"{place}.token_uid", text, "token_uid") from None
    if key is None and token_hash is None:
        raise invalid(place, "a contract id or a token", "required")
    ends_at = ALWAYS_UNTIL
    if entry.HasField("end_time"):
        ends_at = instant_of(entry.end_time, "entry.end_time")
    return BlacklistDraft(
        entry_id=uuid4().hex,
        evsp_id=evsp_id,
        contract_key=key,
        contract_id=shown.contract_id,
        token_hash=token_hash,
        kind=shown.kind,
        reason=entry.reason,
        ends_at=ends_at,
    )


def _render(row: Any) -> wire.BlacklistEntry:
    rendered: Any = wire.BlacklistEntry(
        entry_id=row["entry_id"], added_time=timestamp(row["recorded_at"])
    )
    rendered.identification.kind = row["kind"]
    rendered.identification.contract_id = row["contract_id"]
    rendered.reason = row["reason"]
    if stored(row["ends_at"]) != ALWAYS_UNTIL:
        rendered.end_time.CopyFrom(timestamp(row["ends_at"]))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
