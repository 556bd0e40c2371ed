"""A real mail server for tests: keeps what it takes, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope

TAKEN = "250 OK"


@dataclass
class Mailbox:
    """What the server took, in order; `answer(envelope)` says what it says after the data."""

    answer: Callable[[Envelope], str] = lambda _: TAKEN
    refuse_recipient: Callable[[str], str] = lambda _: TAKEN
    taken: list[EmailMessage] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    port: int = 0

    def sequences(self, recipient_id: str) -> list[int]:
        """Give the sequences of the notices that came for a partner, in the order they came."""
        ids = [str(message["Message-ID"]).strip("<>").split("@")[0] for message in self.taken]
        parts = [each.removeprefix("notice.").rpartition(".") for each in ids]
        return [int(sequence) for who, _, sequence in parts if who == recipient_id]

    async def handle_RCPT(self, _s: Any, _e: Any, envelope: Envelope, to: str, _o: Any) -> str:
        """Take or refuse a recipient."""
        answer = self.refuse_recipient(to)
        if answer == TAKEN:
            envelope.rcpt_tos.append(to)
        return answer

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        """Take or refuse a message."""
        answer = self.answer(envelope)
        if answer == TAKEN:
            assert isinstance(envelope.original_content, bytes)
            message = message_from_bytes(envelope.original_content, policy=default_policy)
            assert isinstance(message, EmailMessage)
            self.taken.append(message)
        return answer

    def authenticate(self, _s: Any, _e: Any, _v: Any, _m: str, data: Any) -> AuthResult:
        """Take one password."""
        self.logins.append(data.login)
        return AuthResult(success=data.password == b"right", handled=False)


@asynccontextmanager
async def mail_server(
    mailbox: Mailbox, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Mailbox]:
    """Run a server on a free port, with STARTTLS and a login where it has a certificate."""
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def protocol() -> SMTP:
        sessions.append(
            SMTP(
                mailbox,
                loop=loop,
                hostname="mail.example",
                tls_context=tls,
                require_starttls=tls is not None,
                auth_required=tls is not None,
                authenticator=mailbox.authenticate if tls else None,
            )
        )
        return sessions[-1]

    listener = socket.create_server(("127.0.0.1", port))
    server = await loop.create_server(protocol, sock=listener)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        for session in sessions:
            if session.transport is not None:
                session.transport.close()
        await server.wait_closed()
