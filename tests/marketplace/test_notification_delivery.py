"""E-mails from the outbox through a real mail server: in order, at least once, or given up."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from foundation.certificates import utc_now
from foundation.database import connect_raw
from foundation.errors import MarketError
from gem.marketplace.v1.notification_pb2 import DeliveryFailure as Failure
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.delivery import ATTEMPTS_MAX, OUTDATED_AFTER
from marketplace.notice import Notice
from marketplace.notification_delivery import Outcome
from marketplace.storage_notice import tell
from marketplace.storage_outbox import OutboxStorage
from tests.control_plane import BUSINESS, TECHNICAL, ControlPlane
from tests.identities import Identity
from tests.interceptors.support import raises
from tests.mail_server import TAKEN, Mailbox, mail_server
from tests.notification_post import KIND, Post


@pytest.fixture
def post(plane: ControlPlane, control_plane_url: str) -> Post:
    return Post(plane, control_plane_url)


def closed_port() -> int:
    """Give a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def test_what_the_server_refuses_for_good_is_given_up_and_the_next_one_goes_out(
    post: Post,
) -> None:
    await post.subscriber("volt")
    await post.write("volt", "volt")
    answers = iter(["554 5.7.1 secret words of the server", TAKEN])
    async with mail_server(Mailbox(answer=lambda _: next(answers))) as mailbox:
        await post.work(post.delivery(mailbox.port))
    assert mailbox.sequences("volt") == [3]
    (dead,) = await post.undelivered()
    assert (dead.recipient_id, dead.sequence, dead.smtp_code) == ("volt", 2, 554)
    assert dead.failure == Failure.DELIVERY_FAILURE_REFUSED
    assert dead.attempt_count == 1
    assert "secret" not in str(dead)


async def test_a_refused_recipient_does_not_hold_up_others(post: Post) -> None:
    await post.subscriber("volt")
    await post.subscriber("watt")
    await post.write("volt", "watt")
    refuse = Mailbox(refuse_recipient=lambda to: "550 no such user" if "volt" in to else TAKEN)
    async with mail_server(refuse) as mailbox:
        await post.work(post.delivery(mailbox.port))
    assert (mailbox.sequences("volt"), mailbox.sequences("watt")) == ([], [2])
    assert [dead.smtp_code for dead in await post.undelivered()] == [550]


async def test_what_is_deferred_waits_and_holds_up_its_recipient_only(post: Post) -> None:
    await post.subscriber("volt")
    await post.subscriber("watt")
    await post.write("volt", "volt", "watt")
    busy = {"volt"}

    def answer(envelope: Any) -> str:
        return "451 try later" if any(each in envelope.rcpt_tos[0] for each in busy) else TAKEN

    async with mail_server(Mailbox(answer=answer)) as mailbox:
        delivery = post.delivery(mailbox.port)
        assert len(await post.work(delivery)) == 2
        assert (mailbox.sequences("volt"), mailbox.sequences("watt")) == ([], [2])
        assert await post.work(delivery) == [], "it is not due before its wait is over"
        busy.clear()
        post.later = timedelta(seconds=5)
        await post.work(delivery)
    assert mailbox.sequences("volt") == [2, 3]
    assert await post.undelivered() == []


async def test_a_server_that_cannot_be_reached_loses_nothing_until_the_tries_are_used_up(
    post: Post,
) -> None:
    await post.subscriber("volt")
    await post.write("volt")
    nobody = post.delivery(closed_port())
    assert await post.work(nobody) == [Outcome.UNREACHABLE]
    for _ in range(ATTEMPTS_MAX - 2):
        post.later += timedelta(hours=1)
        await post.work(nobody, most=1)
    assert (await post.waiting(), await post.undelivered()) == (1, [])
    post.later += timedelta(hours=1)
    await post.work(nobody)
    (dead,) = await post.undelivered(BUSINESS)
    assert dead.attempt_count == ATTEMPTS_MAX
    assert dead.failure == Failure.DELIVERY_FAILURE_UNREACHABLE


async def test_an_e_mail_out_of_date_is_given_up_untried(post: Post) -> None:
    await post.subscriber("volt")
    await post.write("volt")
    post.later = OUTDATED_AFTER + timedelta(minutes=1)
    await post.work(post.delivery(closed_port()))
    (dead,) = await post.undelivered()
    assert dead.failure == Failure.DELIVERY_FAILURE_OUTDATED


async def test_an_operator_has_a_dead_letter_tried_again(post: Post) -> None:
    await post.subscriber("volt")
    await post.write("volt")
    method = "NotificationService/RetryUndeliveredNotification"
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_NOT_FOUND)):
        await post.plane.ask(TECHNICAL, method, recipient_id="volt", sequence=2)
    async with mail_server(Mailbox(answer=lambda _: "550 no")) as refusing:
        await post.work(post.delivery(refusing.port))
    assert len(await post.undelivered()) == 1
    await post.plane.ask(TECHNICAL, method, recipient_id="volt", sequence=2)
    assert await post.undelivered() == []
    post.later = timedelta(seconds=1)
    async with mail_server(Mailbox()) as mailbox:
        await post.work(post.delivery(mailbox.port))
    assert mailbox.sequences("volt") == [2]


async def test_dead_letters_come_in_pages_and_to_operators_only(post: Post) -> None:
    await post.subscriber("volt")
    await post.write(*["volt"] * 3)
    async with mail_server(Mailbox(answer=lambda _: "550 no")) as mailbox:
        await post.work(post.delivery(mailbox.port))
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)):
        await post.undelivered("volt")
    first = await post.undelivered(page={"page_size": 2})
    assert [dead.sequence for dead in first] == [2, 3]


async def test_a_message_reaches_its_reader_as_it_was_written(post: Post) -> None:
    await post.subscriber("volt")
    words = "Grüße,\n.\n" + "x" * 3000
    async with post.plane.engine.begin() as connection:
        notice = Notice("volt", KIND, "Wärmepause ☀", words, utc_now(), sender_id="watt")
        await tell(connection, [notice])
    async with mail_server(Mailbox()) as mailbox:
        await post.work(post.delivery(mailbox.port))
    (message,) = mailbox.taken
    assert message["Subject"] == "Message of watt: Wärmepause ☀"
    assert message["To"] == "ada@volt.example"
    assert message["Auto-Submitted"] == "auto-generated"
    content = message.get_content().replace("\r\n", "\n")
    assert content == f"watt writes:\n\n{words}\n"


async def test_two_workers_share_the_outbox_in_order_and_without_doubles(post: Post) -> None:
    names = [f"p-{n}" for n in range(5)]
    for name in names:
        await post.subscriber(name)
    for _ in range(8):
        await post.write(*names)
    async with mail_server(Mailbox()) as mailbox:
        await asyncio.gather(*(post.work(post.delivery(mailbox.port)) for _ in range(3)))
        await post.work(post.delivery(mailbox.port))
    assert {name: mailbox.sequences(name) for name in names} == {
        name: [*range(2, 10)] for name in names
    }
    assert await post.waiting() == 0


async def test_an_e_mail_that_another_worker_holds_is_passed_by_with_all_behind_it(
    post: Post,
) -> None:
    await post.subscriber("volt")
    await post.subscriber("watt")
    await post.write("volt", "volt")
    connection = await connect_raw(post.url)
    async with mail_server(Mailbox()) as mailbox:
        async with connection.transaction():
            held = await OutboxStorage(connection).take(utc_now())
            assert held is not None
            await post.write("watt")
            await asyncio.wait_for(post.work(post.delivery(mailbox.port)), 10)
            assert (mailbox.sequences("volt"), mailbox.sequences("watt")) == ([], [2])
        await post.work(post.delivery(mailbox.port))
    await connection.close()
    assert mailbox.sequences("volt") == [2, 3]


@pytest.fixture
async def guarded(
    marketplace_identity: Identity, tmp_path: Path
) -> AsyncIterator[tuple[Mailbox, Path]]:
    """Run a server that wants STARTTLS and a login; gives the trust anchors too."""
    chain, key, root = (tmp_path / name for name in ("chain.pem", "key.pem", "root.pem"))
    chain.write_bytes(marketplace_identity.chain_pem)
    key.write_bytes(marketplace_identity.key_pem)
    root.write_bytes(marketplace_identity.root_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    async with mail_server(Mailbox(), context) as mailbox:
        yield mailbox, root


async def test_a_server_that_proves_itself_gets_the_password_and_no_other(
    post: Post, guarded: tuple[Mailbox, Path]
) -> None:
    mailbox, root = guarded
    await post.subscriber("volt")
    await post.write("volt")
    login = {"security": "starttls", "user_name": "market", "password": "right"}
    unproven = await post.work(post.delivery(mailbox.port, **login))
    assert unproven == [Outcome.UNREACHABLE]
    assert mailbox.logins == []
    post.later = timedelta(seconds=5)
    wrong = post.delivery(mailbox.port, ca_file=root, **{**login, "password": "wrong"})
    assert await post.work(wrong) == [Outcome.UNREACHABLE]
    post.later = timedelta(seconds=15)
    assert await post.work(post.delivery(mailbox.port, ca_file=root, **login)) == [Outcome.SETTLED]
    assert mailbox.sequences("volt") == [2]
