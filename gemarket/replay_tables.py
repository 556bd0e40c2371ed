"""The closing tables of a replay."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from clearinghouse.replay_cast import Cast
from clearinghouse.replay_plan import Amount
from clearinghouse.replay_result import ReplayResult
from foundation.money import Money
from gemarket.console import output, table

_MILLI_WH_PER_KWH = 1_000_000


def classes_table(result: ReplayResult) -> Table:
    """Show how many sessions are in each class, and what became of them."""
    outcomes = sorted(result.totals, key=lambda outcome: -result.totals[outcome])
    rows = [
        (
            kind,
            str(count),
            *(str(result.outcomes[kind, outcome] or "") for outcome in outcomes),
        )
        for kind, count in sorted(result.classes.items(), key=lambda pair: -pair[1])
    ]
    total = sum(result.totals.values())
    rows.append(("every session once", str(total), *(str(result.totals[o]) for o in outcomes)))
    return table("Sessions by class", ("class", "sessions", *outcomes), rows)


def parties_table(result: ReplayResult, cast: Cast) -> Table:
    """Show energy, money and balance of every party; the last line sums up."""
    columns = ("partner", "role", "sessions", "energy kWh", "approved", "without tax", "with tax")
    return table("Parties", (*columns, "balance"), _parties(result, cast))


def _parties(result: ReplayResult, cast: Cast) -> Iterator[tuple[str, ...]]:
    operators = [(party, "operator") for party in cast.operators.values()]
    evsps = [(party, "EVSP") for party in cast.evsps]
    told, approved = Amount(), Amount()
    for party, role in (*operators, *evsps):
        own = result.told.get(party.partner_id, Amount())
        accepted = result.approved.get(party.partner_id, Amount())
        if role == "operator":
            told, approved = told + own, approved + accepted
        balance = result.balances[party.partner_id, cast.currency_code]
        yield (party.partner_id, role, *_amounts(own, accepted, balance, cast.currency_code))
    total = result.imbalance().get(cast.currency_code, 0)
    yield ("all", "", *_amounts(told, approved, total, cast.currency_code))


def _amounts(told: Amount, approved: Amount, balance: int, currency: str) -> tuple[str, ...]:
    return (
        str(told.sessions),
        f"{told.energy_milli_wh / _MILLI_WH_PER_KWH:.3f}",
        str(approved.sessions),
        str(Money(approved.without_tax_micros, currency)),
        str(Money(approved.with_tax_micros, currency)),
        str(Money(balance, currency)),
    )


def show_result(result: ReplayResult, cast: Cast) -> bool:
    """Print the closing tables; says whether everything adds up."""
    output.print(classes_table(result))
    output.print(parties_table(result, cast))
    unbalanced = {code: micros for code, micros in result.imbalance().items() if micros}
    wrong = result.disagreements(cast)
    if unbalanced:
        output.print("[red]the balances do not add up to zero[/]")
    for partner_id, micros in wrong.items():
        output.print(f"[red]{partner_id} gets {micros} micros more than our own sum[/]")
    if result.unexplained:
        output.print(f"[red]{result.unexplained} sessions are not settled yet: run it again[/]")
    if unbalanced or wrong or result.unexplained:
        return False
    output.print("balances add up to zero, and agree with our own sums")
    return True
