"""The ledger of cleared sessions: double entry, in integers, each currency by itself. Pure.

A booking is what one approved charge detail record, or one credit, changes. The EVSP then owes the
clearing house the amount with tax, and the clearing house owes the operator the amount without tax
and, apart, the tax. Debits are positive, credits of an account negative: the postings of a booking
add up to zero, and so do those of any set of bookings. Nothing is rounded here: amounts come from
rating, which rounds once, and are only added.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from foundation.money import LARGEST_MICROS


class Account(StrEnum):
    """The accounts of a partner; there is one of each per currency."""

    #: What the partner owes the clearing house: an EVSP's.
    RECEIVABLE = "RECEIVABLE"
    #: What the clearing house owes the partner, without tax: an operator's.
    PAYABLE = "PAYABLE"
    #: The tax that the clearing house passes on to the partner: an operator's.
    TAX = "TAX"


@dataclass(frozen=True, slots=True)
class Booking:
    """One approved charge detail record, or one credit of it."""

    #: Names the record in the clearing house; it is booked once.
    cdr_ref: int
    #: Partner ids of who is owed and who owes.
    operator_id: str
    evsp_id: str
    amount_without_tax_micros: int
    amount_with_tax_micros: int
    currency_code: str
    #: When it was approved.
    booked_at: datetime
    #: When the session started and ended; the end says to which period it belongs.
    started_at: datetime
    ended_at: datetime
    #: The record as its operator names it, for statements: operator id such as `DE*ABC`, and id.
    record_operator_id: str
    cdr_id: str
    energy_milli_wh: int
    #: The `cdr_ref` of the booking that it takes back in full; None where it takes none back.
    credit_of: int | None = None
    #: That record's id.
    credited_cdr_id: str = ""

    def __post_init__(self) -> None:
        amounts = self.amount_without_tax_micros, self.amount_with_tax_micros
        if max(map(abs, amounts)) > LARGEST_MICROS:
            raise ValueError("the amount is beyond the limit")
        if self.credit_of is None and min(amounts) < 0:
            raise ValueError("only a credit is negative")
        if self.credit_of is not None and max(amounts) > 0:
            raise ValueError("a credit is not positive")
        if self.operator_id == self.evsp_id:
            raise ValueError("nobody owes himself")

    def credit(self, cdr_ref: int, cdr_id: str, booked_at: datetime) -> Booking:
        """Give the booking that takes this one back; the only way to reverse it.

        Raises ValueError for a booking that is a credit itself.
        """
        if self.credit_of is not None:
            raise ValueError("a credit is not credited")
        return replace(
            self,
            cdr_ref=cdr_ref,
            cdr_id=cdr_id,
            booked_at=booked_at,
            amount_without_tax_micros=-self.amount_without_tax_micros,
            amount_with_tax_micros=-self.amount_with_tax_micros,
            energy_milli_wh=-self.energy_milli_wh,
            credit_of=self.cdr_ref,
            credited_cdr_id=self.cdr_id,
        )


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of the ledger."""

    partner_id: str
    account: Account
    currency_code: str
    #: Positive is a debit.
    amount_micros: int


def postings(booking: Booking) -> tuple[Posting, Posting, Posting]:
    """Give what a booking posts; the sum is zero."""
    currency = booking.currency_code
    without, with_tax = booking.amount_without_tax_micros, booking.amount_with_tax_micros
    return (
        Posting(booking.evsp_id, Account.RECEIVABLE, currency, with_tax),
        Posting(booking.operator_id, Account.PAYABLE, currency, -without),
        Posting(booking.operator_id, Account.TAX, currency, without - with_tax),
    )


#: Partner, account and currency.
AccountKey = tuple[str, Account, str]


def balances(lines: Iterable[Posting]) -> Mapping[AccountKey, int]:
    """Add postings up by account; accounts that come out at zero are among them."""
    sums: defaultdict[AccountKey, int] = defaultdict(int)
    for line in lines:
        sums[line.partner_id, line.account, line.currency_code] += line.amount_micros
    return dict(sums)


def owed_to(lines: Iterable[Posting]) -> Mapping[tuple[str, str], int]:
    """Give by partner and currency what all his accounts leave to him; negative: he owes it."""
    sums: defaultdict[tuple[str, str], int] = defaultdict(int)
    for line in lines:
        sums[line.partner_id, line.currency_code] -= line.amount_micros
    return dict(sums)
