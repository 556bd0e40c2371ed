"""WatchContractEvents of ContractService: a clearing house keeps its copy of contracts in step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from typing import Any

from foundation.errors import MarketError
from gem.marketplace.v1 import contract_pb2
from gem.marketplace.v1 import contract_watch_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import PartnerRole
from interceptors.call import Call
from marketplace.contract import ContractState
from marketplace.contract_rendering import STATE, render_event
from marketplace.notice_feed import NoticeFeed
from marketplace.rendering import enum_number
from marketplace.storage_command import Commands
from marketplace.storage_contract_feed import events_after, feed_name
from marketplace.storage_partner import PartnerStorage

#: Events that a stream holds in memory at a time.
_PAGE = 100
#: Between two looks, where nothing wakes the stream.
_LOOK_EVERY_S = 1.0


class ContractWatchServicer:
    """Serves the part of `gem.marketplace.v1.ContractService` that clearing houses follow."""

    _commands: Commands
    #: Wakes the streams of a worker; without it they look every second.
    _notices: NoticeFeed | None

    async def WatchContractEvents(  # noqa: N802  # the rpc's name
        self, request: wire.WatchContractEventsRequest, call: Call
    ) -> AsyncIterator[wire.WatchContractEventsResponse]:
        """Give what follows a place in the caller's feed, and each later event when it comes."""
        assert call.caller is not None, "partners have a certificate"
        house, after = call.caller.subject_id, request.after_sequence
        await self._check_clearing_house(call, house)
        feed = self._notices
        with (
            nullcontext(asyncio.Event())
            if feed is None
            else feed.following(feed_name(house)) as news
        ):
            while feed is None or not feed.draining:
                # Before the look: what is committed after it sets the event again.
                news.clear()
                async with self._commands.read(call) as w:
                    rows = await events_after(w.connection, house, after, _PAGE)
                for row in rows:
                    yield _render(row)
                    after = row.event_id
                if len(rows) < _PAGE:
                    await _wait(news, None if feed is not None else _LOOK_EVERY_S)
        raise MarketError(
            ErrorReason.ERROR_REASON_DRAINING, "This worker ends: resume behind the last that came."
        )

    async def _check_clearing_house(self, call: Call, partner_id: str) -> None:
        async with self._commands.read(call) as w:
            partner = await PartnerStorage(w.connection).get(partner_id)
        if PartnerRole.PARTNER_ROLE_CLEARING_HOUSE not in partner.roles:
            raise MarketError(
                ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
                "Only a clearing house follows the contracts of others.",
            )


async def _wait(news: asyncio.Event, longest_s: float | None) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(news.wait(), longest_s)


def _render(row: Any) -> wire.WatchContractEventsResponse:
    rendered: Any = wire.WatchContractEventsResponse(
        sequence=row.event_id,
        contract_id=row.contract_id,
        requester_id=row.requester_id,
        provider_id=row.provider_id,
        interface_names=row.interface_names,
        currency_code=row.currency_code,
    )
    rendered.state = enum_number(contract_pb2.ContractState, STATE, ContractState(row.state))
    if row.kind is not None:
        rendered.event.CopyFrom(render_event(row))
    return rendered  # type: ignore[no-any-return]  # enum fields take plain numbers
