"""Notifications over mutual TLS: what partners are told, at once and once (1685, use case 1687)."""

from __future__ import annotations

from typing import Any

from grpc import aio

from gem.marketplace.v1 import notification_pb2 as notifications
from gem.marketplace.v1 import notification_service_pb2 as messages
from gem.marketplace.v1.notification_service_pb2_grpc import NotificationServiceStub
from gemarket.administration import new_request_id
from tests.end_to_end.whole_market import Party, WholeMarket

_ENDPOINT = "127.0.0.1:9"


def inbox_of(party: Party, channel: aio.Channel | None = None) -> Any:
    """Give the stub of a party's notifications, over its own connection unless another is named."""
    return NotificationServiceStub(channel or party.core.channel)


async def listed(party: Party, **fields: Any) -> list[Any]:
    """Give the first page of a party's inbox."""
    request = messages.ListNotificationsRequest(**fields)
    return list((await inbox_of(party).ListNotifications(request, timeout=10)).notifications)


def kinds(found: list[Any]) -> list[str]:
    """Give the kinds of notifications by name."""
    prefix = "NOTIFICATION_KIND_"
    return [notifications.NotificationKind.Name(each.kind).removeprefix(prefix) for each in found]


def message(service_id: str, **fields: Any) -> messages.NotifyServiceRequestersRequest:
    """Give a message to the requesters of a service."""
    values = {"title": "Maintenance", "text": "On Sunday\nfrom 2 to 3.", **fields}
    return messages.NotifyServiceRequestersRequest(
        request_id=new_request_id(), service_id=service_id, **values
    )


async def parties(whole: WholeMarket) -> tuple[Party, Party, str, str]:
    """Bring in a requester and a provider with a contract; gives service and contract id too."""
    requester, provider = await whole.requester(), await whole.operator()
    service_id = await whole.offer(provider, _ENDPOINT)
    return requester, provider, service_id, await requester.core.ensure_contract(service_id)


async def test_both_parties_find_a_suspension_in_their_inboxes(whole: WholeMarket) -> None:
    requester, provider, service_id, contract_id = await parties(whole)
    await requester.core.suspend(contract_id)
    for party in (requester, provider):
        latest, *others = await listed(party)
        assert kinds([latest]) == ["CONTRACT_SUSPENDED"]
        assert (latest.contract_id, latest.service_id) == (contract_id, service_id)
        assert latest.sender_id == requester.partner_id
        assert contract_id in latest.text
        assert requester.partner_id in latest.text
        assert kinds(others)[0] == "CONTRACT_CREATED"
        assert latest.sequence > others[0].sequence
