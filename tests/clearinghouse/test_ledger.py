"""The ledger: a booking's postings are zero together, a credit undoes them, nothing else does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.ledger import Account, Booking, balances, owed_to, postings
from foundation.money import LARGEST_MICROS
from tests.clearinghouse_ledger import EUR, EVSP, MARCH, OPERATOR, booking

PARTNERS = ("ash", "birch", "cedar", "elm")


@st.composite
def bookings(draw: st.DrawFn) -> Booking:
    """Give a booking between two of a few partners; tax may be anything."""
    operator_id, evsp_id = draw(st.permutations(PARTNERS))[:2]
    amounts = st.integers(0, LARGEST_MICROS)
    return booking(
        operator_id=operator_id,
        evsp_id=evsp_id,
        amount_without_tax_micros=draw(amounts),
        amount_with_tax_micros=draw(amounts),
        currency_code=draw(st.sampled_from(["EUR", "JPY"])),
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"amount_with_tax_micros": LARGEST_MICROS + 1}, "limit"),
        ({"amount_without_tax_micros": -1}, "negative"),
        ({"credit_of": 7}, "positive"),
        ({"evsp_id": OPERATOR}, "himself"),
    ],
)
def test_what_cannot_be_booked(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        booking(**changes)


def test_a_credit_is_not_credited() -> None:
    credit = booking().credit(2, "CREDIT", MARCH)
    with pytest.raises(ValueError, match="not credited"):
        credit.credit(3, "AGAIN", MARCH)


def test_the_evsp_owes_with_tax_and_the_operator_is_owed_both_parts_apart() -> None:
    assert balances(postings(booking())) == {
        (EVSP, Account.RECEIVABLE, EUR): 6_000_000,
        (OPERATOR, Account.PAYABLE, EUR): -5_000_000,
        (OPERATOR, Account.TAX, EUR): -1_000_000,
    }
    assert owed_to(postings(booking())) == {(EVSP, EUR): -6_000_000, (OPERATOR, EUR): 6_000_000}


def test_a_credit_names_what_it_takes_back() -> None:
    credit = booking(7).credit(8, "CREDIT", MARCH + timedelta(days=90))
    assert (credit.credit_of, credit.credited_cdr_id, credit.cdr_id) == (7, "CDR7", "CREDIT")
    assert credit.energy_milli_wh == -10_000_000
    assert credit.ended_at == booking().ended_at


@given(bookings())
def test_postings_of_a_booking_add_up_to_zero(made: Booking) -> None:
    lines = postings(made)
    assert sum(line.amount_micros for line in lines) == 0
    assert {line.currency_code for line in lines} == {made.currency_code}
    assert len({(line.partner_id, line.account) for line in lines}) == len(lines)


@given(bookings())
def test_a_booking_and_its_credit_leave_every_account_at_zero(made: Booking) -> None:
    both = (*postings(made), *postings(made.credit(2, "CREDIT", MARCH)))
    assert set(balances(both).values()) == {0}


@given(st.lists(bookings(), max_size=20))
def test_no_partner_gets_what_no_other_owes(given_bookings: list[Booking]) -> None:
    lines = [line for each in given_bookings for line in postings(each)]
    for currency in ("EUR", "JPY"):
        owed = owed_to(lines)
        assert sum(owed[key] for key in owed if key[1] == currency) == 0
    for partner in PARTNERS:
        expected = sum(
            each.amount_with_tax_micros
            * ((each.operator_id == partner) - (each.evsp_id == partner))
            for each in given_bookings
            if each.currency_code == "EUR"
        )
        assert owed_to(lines).get((partner, "EUR"), 0) == expected
