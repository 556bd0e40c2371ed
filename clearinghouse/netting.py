"""Debts put together to as few payments as a few sentences can explain. Pure.

Bilateral: what two parties owe each other becomes one payment between them. Multilateral: what a
party is owed by all, less what it owes all, is one payment with the clearing house. Currencies are
never put together and nothing is converted or rounded: over all parties of a currency the
positions add up to zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True, slots=True)
class Debt:
    """What one party owes another; negative where credits outweigh."""

    debtor_id: str
    creditor_id: str
    currency_code: str
    amount_micros: int


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """What a party gets, or where negative pays, after netting; never zero."""

    partner_id: str
    #: Empty where the other side is the clearing house.
    counterpart_id: str
    currency_code: str
    net_micros: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment from one party to another; positive."""

    payer_id: str
    payee_id: str
    currency_code: str
    amount_micros: int


def bilateral(debts: Iterable[Debt]) -> list[Position]:
    """Net each two parties; gives both sides' positions, by partner, other side and currency."""
    net: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for debt in debts:
        net[debt.creditor_id, debt.debtor_id, debt.currency_code] += debt.amount_micros
        net[debt.debtor_id, debt.creditor_id, debt.currency_code] -= debt.amount_micros
    return sorted(Position(*key, amount) for key, amount in net.items() if amount)


def multilateral(debts: Iterable[Debt]) -> list[Position]:
    """Net each party against all others; gives positions by partner and currency."""
    net: defaultdict[tuple[str, str], int] = defaultdict(int)
    for debt in debts:
        net[debt.creditor_id, debt.currency_code] += debt.amount_micros
        net[debt.debtor_id, debt.currency_code] -= debt.amount_micros
    return sorted(
        Position(partner_id, "", currency, amount)
        for (partner_id, currency), amount in net.items()
        if amount
    )


def payments(positions: Iterable[Position]) -> list[Payment]:
    """Settle positions, per currency, by payments between the parties themselves.

    A bilateral position is one payment. Of the others, who pays exactly what another gets pays him;
    then whoever pays most pays whoever gets most, as much as the smaller of the two. Every payment
    settles a party for good, the last one two: at most one payment less than parties. (The least
    possible number is a hard problem; nobody could check it by hand.)
    """
    found = []
    by_currency: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for position in positions:
        currency = position.currency_code
        if not position.counterpart_id:
            by_currency[currency][position.partner_id] += position.net_micros
        elif position.net_micros > 0:
            ends = position.counterpart_id, position.partner_id
            found.append(Payment(*ends, currency, position.net_micros))
    for currency in sorted(by_currency):
        found += _settled(by_currency[currency], currency)
    return found


def _settled(net: Mapping[str, int], currency: str) -> list[Payment]:
    assert sum(net.values()) == 0, "what is paid is what is got"
    gets = {partner: amount for partner, amount in net.items() if amount > 0}
    pays = {partner: -amount for partner, amount in net.items() if amount < 0}
    found = _exact(pays, gets, currency)
    payers, payees = _largest_first(pays), _largest_first(gets)
    while payers:
        (pays_micros, payer), (gets_micros, payee) = heappop(payers), heappop(payees)
        amount = min(-pays_micros, -gets_micros)
        found.append(Payment(payer, payee, currency, amount))
        for side, rest, partner in (
            (payers, pays_micros + amount, payer),
            (payees, gets_micros + amount, payee),
        ):
            if rest:
                heappush(side, (rest, partner))
    return found


def _largest_first(side: Mapping[str, int]) -> list[tuple[int, str]]:
    """Give a heap of amounts, negated: the largest is popped first, of equals by partner."""
    heap = [(-amount, partner) for partner, amount in side.items()]
    heapify(heap)
    return heap


def _exact(pays: dict[str, int], gets: dict[str, int], currency: str) -> list[Payment]:
    """Take out the pairs of which one pays exactly what the other gets."""
    waiting: defaultdict[int, list[str]] = defaultdict(list)
    for partner in sorted(gets, reverse=True):
        waiting[gets[partner]].append(partner)
    found = []
    for payer in sorted(pays):
        if waiting.get(pays[payer]):
            payee = waiting[pays[payer]].pop()
            found.append(Payment(payer, payee, currency, pays.pop(payer)))
            del gets[payee]
    return found
