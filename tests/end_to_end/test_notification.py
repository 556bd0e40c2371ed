"""Notifications over mutual TLS: what partners are told, at once and once (1685, use case 1687)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest
from grpc import StatusCode, aio

from gem.marketplace.v1 import notification_pb2 as notifications
from gem.marketplace.v1 import notification_service_pb2 as messages
from gem.marketplace.v1.notification_service_pb2_grpc import NotificationServiceStub
from gemarket.administration import new_request_id
from tests.end_to_end.charging import reason_of
from tests.end_to_end.load import until
from tests.end_to_end.whole_market import Party, WholeMarket, running_market
from tests.mail_server import Mailbox, mail_server

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


@pytest.mark.usecase(1687)
async def test_who_is_not_its_provider_reaches_no_requester_of_a_service(
    whole: WholeMarket,
) -> None:
    requester, provider, service_id, _ = await parties(whole)
    stranger = await whole.operator()
    for party, request, reason in (
        (stranger, message(service_id), "NOT_FOUND"),
        (requester, message(service_id), "NOT_FOUND"),
        (provider, message("no-such-service"), "NOT_FOUND"),
        (provider, message(service_id, title=""), "REQUEST_INVALID"),
        (provider, message(service_id, title="Two\nlines"), "REQUEST_INVALID"),
        (provider, message(service_id, text=""), "REQUEST_INVALID"),
    ):
        with pytest.raises(aio.AioRpcError) as refused:
            await inbox_of(party).NotifyServiceRequesters(request, timeout=10)
        assert reason_of(refused.value) == reason
    assert "SERVICE_MESSAGE" not in kinds(await listed(requester))


@pytest.mark.usecase(1687)
async def test_the_requesters_of_a_service_are_notified_by_its_provider_and_by_operators(
    whole: WholeMarket,
) -> None:
    requester, provider, service_id, _ = await parties(whole)
    bystander = await whole.requester()
    writers = (provider, whole.business, whole.technical)
    for party in writers:
        request = message(service_id)
        for _ in range(2):
            answer = await inbox_of(party).NotifyServiceRequesters(request, timeout=10)
            assert answer.requester_count == 1
    found = await listed(requester, kind=notifications.NOTIFICATION_KIND_SERVICE_MESSAGE)
    assert [each.sender_id for each in found] == ["", "", provider.partner_id]
    assert {(each.title, each.text, each.service_id) for each in found} == {
        ("Maintenance", "On Sunday\nfrom 2 to 3.", service_id)
    }
    assert "SERVICE_MESSAGE" not in kinds(await listed(bystander))


async def test_what_is_marked_as_read_is_read_on_every_worker(whole: WholeMarket) -> None:
    requester, _, _, contract_id = await parties(whole)
    await requester.core.suspend(contract_id)
    latest, *others = await listed(requester)
    request = messages.MarkNotificationsReadRequest(
        request_id=new_request_id(), first_sequence=0, last_sequence=others[0].sequence
    )
    channels = await whole.channels(requester)
    for channel in channels.values():
        answer = await inbox_of(requester, channel).MarkNotificationsRead(request, timeout=10)
        assert answer.marked_count == len(others)
        await channel.close()
    unread = await listed(requester, unread_only=True)
    assert [each.sequence for each in unread] == [latest.sequence]


async def test_streams_on_every_worker_resume_without_a_gap_and_without_a_double(
    whole: WholeMarket,
) -> None:
    requester, _, _, contract_id = await parties(whole)
    before = [each.sequence for each in reversed(await listed(requester))]
    channels = list((await whole.channels(requester)).values())
    steps = 12

    async def follow(number: int) -> list[Any]:
        """Read everything, over a new stream after each few, from one worker and the other."""
        seen: list[Any] = []
        while len(seen) < len(before) + steps:
            after = seen[-1].sequence if seen else 0
            request = messages.WatchNotificationsRequest(after_sequence=after)
            channel = channels[(number + len(seen)) % len(channels)]
            stream = inbox_of(requester, channel).WatchNotifications(request, timeout=30)
            count = min(1 + number, len(before) + steps - len(seen))
            seen += [(await stream.read()).notification for _ in range(count)]
            stream.cancel()
        return seen

    followers = [asyncio.create_task(follow(number)) for number in range(4)]
    for _ in range(steps // 2):
        await requester.core.suspend(contract_id)
        await requester.core.resume(contract_id)
    expected = ["CONTRACT_SUSPENDED", "CONTRACT_RESUMED"] * (steps // 2)
    for came in await asyncio.wait_for(asyncio.gather(*followers), 30):
        assert [each.sequence for each in came] == list(range(1, len(before) + steps + 1))
        assert kinds(came[len(before) :]) == expected
    for channel in channels:
        await channel.close()


async def test_a_market_without_a_mail_server_promises_no_e_mail(whole: WholeMarket) -> None:
    requester = await whole.requester()
    preference = notifications.NotificationPreference(
        kind=notifications.NOTIFICATION_KIND_CONTRACT_SUSPENDED, inbox=True, email=True
    )
    request = messages.SetNotificationPreferenceRequest(
        request_id=new_request_id(), preference=preference
    )
    with pytest.raises(aio.AioRpcError) as refused:
        await inbox_of(requester).SetNotificationPreference(request, timeout=10)
    assert reason_of(refused.value) == "STATE_NOT_ALLOWED"


@pytest.mark.fault
async def test_a_killed_worker_keeps_no_e_mail_back_and_streams_end_with_the_market() -> None:
    async with mail_server(Mailbox()) as mailbox:
        smtp = {
            "host": "127.0.0.1",
            "port": mailbox.port,
            "sender": "market@gem.example",
            "security": "none",
        }
        async with running_market(workers=1, smtp=smtp) as own:
            requester, _, _, contract_id = await parties(own)
            await mailed(requester, notifications.NOTIFICATION_KIND_CONTRACT_SUSPENDED)
            await requester.core.suspend(contract_id)
            os.kill(own.worker_pids()["worker-0"], signal.SIGKILL)
            await until(lambda: bool(mailbox.taken), 30, "the e-mail comes")
            latest = await until_back(requester)
            assert mailbox.sequences(requester.partner_id)[0] == latest.sequence
            assert contract_id in mailbox.taken[0].get_content()

            stream = inbox_of(requester).WatchNotifications(
                messages.WatchNotificationsRequest(after_sequence=latest.sequence), timeout=60
            )
            ended = asyncio.create_task(stream.read())
            await asyncio.sleep(0.5)
            stopping = time.monotonic()
            await own.market.supervisor.close(25.0)
            with pytest.raises(aio.AioRpcError) as told:
                await ended
            assert told.value.code() is StatusCode.UNAVAILABLE
            assert time.monotonic() - stopping < own.market.settings.limits.drain_s / 2


async def mailed(party: Party, kind: notifications.NotificationKind.ValueType) -> None:
    """Have notifications of a kind come by e-mail as well."""
    preference = notifications.NotificationPreference(kind=kind, inbox=True, email=True)
    request = messages.SetNotificationPreferenceRequest(
        request_id=new_request_id(), preference=preference
    )
    await inbox_of(party).SetNotificationPreference(request, timeout=10)


async def until_back(party: Party) -> Any:
    """Wait for the worker that was killed; gives the latest notification of a party."""
    async with asyncio.timeout(20):
        while True:
            try:
                return (await listed(party))[0]
            except aio.AioRpcError as error:
                if error.code() is not StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.2)
