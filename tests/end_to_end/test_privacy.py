"""What callers and providers send stays between them: nothing of it is kept, logged or counted."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio

from foundation.database import connect_raw
from gem.charging.v1 import evse_search_service_pb2
from gem.marketplace.v1 import partner_service_pb2
from gemarket.administration import PartnerPlan, new_request_id
from tests.end_to_end.charging import SEARCH, evse, found, search, stub
from tests.end_to_end.scripted_provider import ScriptedProvider
from tests.end_to_end.whole_market import EVSP, WholeMarket, new_id

#: Stands in every payload of this test, and nowhere else.
_MARKER = "geheimnis"
_KEPT = ("service_transaction", "transaction_intent", "failed_call")


async def _tell_all(_path: str, requests: Any, context: Any) -> AsyncIterator[bytes]:
    """Answer with the marker, or fail with it where the marker was asked for."""
    async for request in requests:
        if _MARKER.encode() in request:
            await context.abort(StatusCode.NOT_FOUND, f"no {_MARKER} here")
        made = evse("DE*PRV*E1")
        made.name = _MARKER
        yield found(made)


async def _failing(ask: Any) -> str:
    """Make a call that fails, and give all that its error says."""
    with pytest.raises(aio.AioRpcError) as failed:
        await ask
    error = failed.value
    return f"{error.details()} {error.trailing_metadata()}"


async def _written(whole: WholeMarket) -> dict[str, str]:
    """Give everything that the market has written since its start, apart from its partners."""
    settings = whole.market.endpoints()
    logs = whole.market.layout.logs.glob("*")
    texts = {file.name: file.read_text(errors="replace") for file in logs}
    page = await asyncio.to_thread(urllib.request.urlopen, settings.metrics, timeout=10)
    with page:
        texts["metrics"] = page.read().decode()
    connection = await connect_raw(settings.database_url, 10.0)
    try:
        for table in _KEPT:
            rows = await connection.fetch(f"SELECT t::text AS row FROM marketplace.{table} AS t")
            texts[table] = "\n".join(row["row"] for row in rows)
    finally:
        await connection.close()
    return texts


@pytest.mark.usecase(1241, 1491)
async def test_nothing_of_a_payload_is_kept_logged_counted_or_echoed(whole: WholeMarket) -> None:
    requester = await whole.requester()
    await whole.contracted(requester, ScriptedProvider(_tell_all))
    hidden = (("x-note", _MARKER), ("gem-requester", _MARKER))
    answer = await stub(requester).SearchEvses(search(), timeout=10, metadata=hidden)
    assert [each.name for each in answer.evses] == [_MARKER], "between the two it is said"

    raw = search().SerializeToString() + b"\xfa\x3e\x09" + _MARKER.encode()
    unary: Any = requester.core.channel.unary_unary
    said = [await _failing(unary(SEARCH)(raw, timeout=10))]
    said.append(await _failing(unary(SEARCH)(_MARKER.encode(), timeout=10)))
    said.append(await _failing(unary(f"/{_MARKER}/{_MARKER}")(b"", timeout=10)))
    wrong = evse_search_service_pb2.GetEvseRequest(evse_id=_MARKER)
    said.append(await _failing(stub(requester).GetEvse(wrong, timeout=10)))
    plan = PartnerPlan(new_id("private"), _MARKER, [EVSP])
    profile = plan.profile()
    profile.responsible_person.full_name = _MARKER
    profile.responsible_person.email = f"no address of {_MARKER}"
    register = partner_service_pb2.RegisterPartnerRequest(
        request_id=new_request_id(), partner_id=plan.partner_id, profile=profile, roles=[EVSP]
    )
    said.append(await _failing(whole.business.core.partners.RegisterPartner(register, timeout=10)))
    assert [text for text in said if _MARKER in text] == []

    texts = await _written(whole)
    # The name of a method is kept where the call failed: there it is what the caller wanted.
    texts["failed_call"] = texts["failed_call"].replace(f"/{_MARKER}/{_MARKER}", "")
    assert texts["service_transaction"]
    assert texts["failed_call"]
    assert [name for name, text in texts.items() if _MARKER in text.lower()] == []
