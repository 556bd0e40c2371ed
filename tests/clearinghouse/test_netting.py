"""Netting: the sum is always zero, nobody is better or worse off, few payments are left."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearinghouse.netting import Debt, Payment, Position, bilateral, multilateral, payments

PARTIES = ("ash", "birch", "cedar", "elm", "fir", "oak")


@st.composite
def debts(draw: st.DrawFn) -> list[Debt]:
    """Give debts between a few parties in two currencies, credits among them."""
    pairs = st.permutations(PARTIES)
    amounts = st.one_of(st.integers(-(10**18), 10**18), st.integers(-3, 3))
    one = st.builds(
        lambda parties, currency, amount: Debt(parties[0], parties[1], currency, amount),
        pairs,
        st.sampled_from(["EUR", "JPY"]),
        amounts,
    )
    return draw(st.lists(one, max_size=30))


def wealth(found: list[Position]) -> Counter[tuple[str, str]]:
    """Give what each party ends up with."""
    sums: Counter[tuple[str, str]] = Counter()
    for position in found:
        sums[position.partner_id, position.currency_code] += position.net_micros
    return sums


def owed(given_debts: list[Debt]) -> Counter[tuple[str, str]]:
    """Give the same, debt by debt."""
    sums: Counter[tuple[str, str]] = Counter()
    for debt in given_debts:
        sums[debt.creditor_id, debt.currency_code] += debt.amount_micros
        sums[debt.debtor_id, debt.currency_code] -= debt.amount_micros
    return sums


def test_nothing_owed_is_nothing_paid() -> None:
    assert bilateral([]) == multilateral([]) == []
    assert payments([]) == []
    assert bilateral([Debt("ash", "oak", "EUR", 0)]) == []


def test_positions_that_do_not_add_up_are_a_defect() -> None:
    with pytest.raises(AssertionError):
        payments([Position("ash", "", "EUR", 1)])


def test_two_that_owe_each_other_the_same_pay_nothing() -> None:
    both = [Debt("ash", "oak", "EUR", 5), Debt("oak", "ash", "EUR", 5)]
    assert bilateral(both) == multilateral(both) == []


def test_two_that_owe_each_other_pay_the_difference_once() -> None:
    both = [Debt("ash", "oak", "EUR", 7), Debt("oak", "ash", "EUR", 5)]
    assert bilateral(both) == [Position("ash", "oak", "EUR", -2), Position("oak", "ash", "EUR", 2)]


def test_a_circle_of_debts_is_bilaterally_three_payments_and_multilaterally_none() -> None:
    circle = [
        Debt("ash", "oak", "EUR", 4),
        Debt("oak", "elm", "EUR", 4),
        Debt("elm", "ash", "EUR", 4),
    ]
    assert len(payments_of(bilateral(circle))) == 3
    assert multilateral(circle) == []


def payments_of(found: list[Position]) -> list[Position]:
    return [position for position in found if position.net_micros > 0]


def test_a_currency_is_never_set_against_another() -> None:
    both = [Debt("ash", "oak", "EUR", 7), Debt("oak", "ash", "JPY", 7)]
    assert [p.net_micros for p in multilateral(both) if p.partner_id == "ash"] == [-7, 7]


def test_a_credit_greater_than_the_debts_turns_the_payment_round() -> None:
    assert bilateral([Debt("ash", "oak", "EUR", -3)])[0] == Position("ash", "oak", "EUR", 3)


def test_who_pays_exactly_what_another_gets_pays_him() -> None:
    found = [
        Position("ash", "", "EUR", -9),
        Position("elm", "", "EUR", -4),
        Position("fir", "", "EUR", 4),
        Position("oak", "", "EUR", 9),
    ]
    assert payments(found) == [Payment("ash", "oak", "EUR", 9), Payment("elm", "fir", "EUR", 4)]


def test_then_the_largest_pays_the_largest() -> None:
    found = [
        Position("ash", "", "EUR", -9),
        Position("elm", "", "EUR", -4),
        Position("fir", "", "EUR", 6),
        Position("oak", "", "EUR", 7),
    ]
    assert payments(found) == [
        Payment("ash", "oak", "EUR", 7),
        Payment("elm", "fir", "EUR", 4),
        Payment("ash", "fir", "EUR", 2),
    ]


@given(debts())
def test_positions_add_up_to_zero_and_change_nobodys_wealth(given_debts: list[Debt]) -> None:
    expected = {key: amount for key, amount in owed(given_debts).items() if amount}
    for net in (bilateral, multilateral):
        found = net(given_debts)
        per_currency: defaultdict[str, int] = defaultdict(int)
        for position in found:
            assert position.net_micros
            per_currency[position.currency_code] += position.net_micros
        assert not any(per_currency.values())
        assert {key: amount for key, amount in wealth(found).items() if amount} == expected


@given(debts())
def test_both_sides_of_a_bilateral_position_agree(given_debts: list[Debt]) -> None:
    found = {(p.partner_id, p.counterpart_id, p.currency_code): p for p in bilateral(given_debts)}
    for (partner, other, currency), position in found.items():
        assert found[other, partner, currency].net_micros == -position.net_micros


@given(debts(), st.randoms())
def test_the_order_of_the_debts_changes_nothing(given_debts: list[Debt], random: object) -> None:
    before = bilateral(given_debts), multilateral(given_debts)
    random.shuffle(given_debts)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert (bilateral(given_debts), multilateral(given_debts)) == before


@given(debts())
def test_payments_settle_everybody_and_are_fewer_than_parties(given_debts: list[Debt]) -> None:
    positions = multilateral(given_debts)
    left = wealth(positions)
    made = payments(positions)
    for payment in made:
        assert payment.amount_micros > 0
        left[payment.payee_id, payment.currency_code] -= payment.amount_micros
        left[payment.payer_id, payment.currency_code] += payment.amount_micros
    assert not any(left.values())
    for currency in ("EUR", "JPY"):
        parties = sum(1 for position in positions if position.currency_code == currency)
        paid = sum(1 for payment in made if payment.currency_code == currency)
        assert paid <= max(parties - 1, 0)
