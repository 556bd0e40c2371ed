"""Delivery of notices by e-mail: what is written, and when a failed one is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from enum import StrEnum

from marketplace.notice import NoticeKind

#: Tries of one e-mail; with the waits between them they span about a day.
ATTEMPTS_MAX = 30
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 3600.0
#: A notice that is older is of no use any more as an e-mail; its inbox keeps it.
OUTDATED_AFTER = timedelta(days=3)


class DeliveryFailure(StrEnum):
    """Why an e-mail was not taken; the names are those of the proto enum."""

    UNREACHABLE = "UNREACHABLE"
    DEFERRED = "DEFERRED"
    REFUSED = "REFUSED"
    NO_ADDRESS = "NO_ADDRESS"
    OUTDATED = "OUTDATED"


#: Trying again would change nothing.
FINAL = frozenset({DeliveryFailure.REFUSED, DeliveryFailure.NO_ADDRESS, DeliveryFailure.OUTDATED})


class NotDeliveredError(Exception):
    """The mail server did not take an e-mail; what it said is not kept but for its code."""

    def __init__(self, failure: DeliveryFailure, smtp_code: int = 0) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.smtp_code = smtp_code


@dataclass(frozen=True, slots=True)
class Letter:
    """A notice on its way to its recipient's e-mail address."""

    recipient_id: str
    sequence: int
    kind: NoticeKind
    title: str
    text: str
    sender_id: str
    created_at: datetime
    #: Tries before this one.
    attempt_count: int
    #: None where the account has none any more.
    address: str | None


def check_deliverable(letter: Letter, now: datetime) -> str:
    """Give the address to write to; raises NotDeliveredError for what is not worth a try."""
    if now - letter.created_at > OUTDATED_AFTER:
        raise NotDeliveredError(DeliveryFailure.OUTDATED)
    if not letter.address:
        raise NotDeliveredError(DeliveryFailure.NO_ADDRESS)
    return letter.address


def next_try(
    failure: DeliveryFailure, attempts: int, now: datetime, fraction: float
) -> datetime | None:
    """Give when to try again after `attempts` tries; None gives the e-mail up.

    The wait doubles up to an hour; `fraction`, from 0 to 1, spreads it over its second half.
    """
    if failure in FINAL or attempts >= ATTEMPTS_MAX:
        return None
    longest_s = min(FIRST_WAIT_S * 2.0 ** (attempts - 1), LONGEST_WAIT_S)
    return now + timedelta(seconds=longest_s * (1 + fraction) / 2)


def compose(letter: Letter, address: str, sender: str, domain: str) -> EmailMessage:
    """Write the e-mail. Its Message-ID is that of the notice: who gets it twice can tell.

    Raises:
        NotDeliveredError: REFUSED for an address that no header can hold.
    """
    # A line break in an address would begin another header, or another command.
    if not (address.isascii() and address.isprintable()):
        raise NotDeliveredError(DeliveryFailure.REFUSED)
    message = EmailMessage()
    message["From"], message["To"] = sender, address
    message["Subject"] = _subject(letter)
    message["Date"] = format_datetime(letter.created_at)
    message["Message-ID"] = f"<notice.{letter.recipient_id}.{letter.sequence}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_body(letter))
    return message


def _subject(letter: Letter) -> str:
    if letter.kind is NoticeKind.SERVICE_MESSAGE:
        return f"Message of {_writer(letter)}: {letter.title}"
    return letter.title


def _body(letter: Letter) -> str:
    if letter.kind is not NoticeKind.SERVICE_MESSAGE:
        return letter.text + "\n"
    # What a partner wrote must not pass for the marketplace's own words.
    return f"{_writer(letter)} writes:\n\n{letter.text}\n"


def _writer(letter: Letter) -> str:
    return letter.sender_id or "the marketplace's operator"
