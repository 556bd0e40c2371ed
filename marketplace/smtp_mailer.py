"""Hands e-mails to a mail server over SMTP, one connection for each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import aiosmtplib

from marketplace.delivery import DeliveryFailure, NotDeliveredError

#: RFC 5321, 4.2.1: a code from 500 on is for good, one below it for now.
_FOR_GOOD = 500


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where the mail server is and how it is talked to."""

    host: str
    port: int
    security: Literal["tls", "starttls", "none"]
    #: Trust anchors in PEM; None means those of the machine.
    ca_file: Path | None = None
    user_name: str | None = None
    password: str | None = field(default=None, repr=False)
    #: For the whole of one e-mail.
    timeout_s: float = 20.0


class SmtpMailer:
    """Implements `marketplace.notification_delivery.Mailer`."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def send(self, message: EmailMessage, sender: str, address: str) -> None:
        """Return once the server has taken the e-mail.

        Raises:
            NotDeliveredError: REFUSED where the server refuses this recipient or message for good;
                DEFERRED for a refusal for now; UNREACHABLE for everything that lies with the
                server, a refused login or certificate among it.
        """
        server = self._server
        try:
            async with asyncio.timeout(server.timeout_s):
                await aiosmtplib.send(
                    message,
                    sender=sender,
                    recipients=[address],
                    hostname=server.host,
                    port=server.port,
                    use_tls=server.security == "tls",
                    start_tls=server.security == "starttls",
                    cert_bundle=str(server.ca_file) if server.ca_file else None,
                    username=server.user_name,
                    password=server.password,
                    timeout=server.timeout_s,
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refused(error.recipients[0].code) from None
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            raise _refused(error.code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise NotDeliveredError(DeliveryFailure.UNREACHABLE, error.code) from None
        except (aiosmtplib.SMTPException, OSError, ValueError):
            # TimeoutError and ssl.SSLError are OSErrors.
            raise NotDeliveredError(DeliveryFailure.UNREACHABLE) from None


def _refused(code: int) -> NotDeliveredError:
    failure = DeliveryFailure.REFUSED if code >= _FOR_GOOD else DeliveryFailure.DEFERRED
    return NotDeliveredError(failure, code)
