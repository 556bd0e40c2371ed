"""What became of recorded sessions, summed up by ourselves, to hold the settlement against."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from clearinghouse.replay_cast import Cast
from clearinghouse.replay_plan import Amount, amount_of
from clearinghouse.replay_session import RecordedSession
from gem.roaming.v1.cdr_clearing_pb2 import CdrState

#: States out of which records come by themselves.
ON_THE_WAY = (
    CdrState.CDR_STATE_RECEIVED,
    CdrState.CDR_STATE_ACCEPTED,
    CdrState.CDR_STATE_FORWARDED,
    CdrState.CDR_STATE_REVISED,
)
#: What is said of a record of which the clearing house has told no state.
NOT_TOLD, SENT = "not told", "on its way"
_PREFIXES = ("PLAUSIBILITY_REASON_", "AUTHORIZATION_STATUS_", "SUBMISSION_STATUS_", "CDR_STATE_")


def word_of(name: str) -> str:
    """Give the name of an enum's value as it is shown."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name.lower().replace("_", " ")


#: What is said of a record of which nobody knows yet what becomes of it.
_UNEXPLAINED = frozenset({NOT_TOLD, SENT, *(word_of(CdrState.Name(each)) for each in ON_THE_WAY)})


@dataclass(slots=True)
class ReplayResult:
    """What became of every record of the source."""

    #: By class of session, and by class and outcome.
    classes: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Outcome of each record, each counted once.
    totals: Counter[str] = field(default_factory=Counter)
    #: Everything that was told, and what was approved, by our own sums; by partner id.
    told: dict[str, Amount] = field(default_factory=dict)
    approved: dict[str, Amount] = field(default_factory=dict)
    #: Net positions after the settlement in millionths, by partner id and currency.
    balances: Counter[tuple[str, str]] = field(default_factory=Counter)

    def imbalance(self) -> dict[str, int]:
        """Give the sum of all balances per currency; anything but zero is an error."""
        sums: Counter[str] = Counter()
        for (_, currency), micros in self.balances.items():
            sums[currency] += micros
        return dict(sums)

    @property
    def unexplained(self) -> int:
        """How many records of the source are on their way still, or lost on it."""
        return sum(count for outcome, count in self.totals.items() if outcome in _UNEXPLAINED)

    def disagreements(self, cast: Cast) -> dict[str, int]:
        """Give by how much operators get more than our own sum of what was approved."""
        return {
            operator.partner_id: difference
            for operator in cast.operators.values()
            if (
                difference := self.balances[operator.partner_id, cast.currency_code]
                - self.approved.get(operator.partner_id, Amount()).with_tax_micros
            )
        }

    def count(self, session: RecordedSession, cast: Cast, outcome: str) -> None:
        """Count a record of the source, with its amount where it is a session."""
        if not session.is_session:
            outcome = "not told: no session"
        else:
            parties = (cast.operator_of(session), cast.customer_of(session))
            amount = amount_of(session, cast)
            for partner_id in (parties[0].partner_id, parties[1].evsp_partner_id):
                self.told[partner_id] = self.told.get(partner_id, Amount()) + amount
                if outcome == "approved":
                    before = self.approved.get(partner_id, Amount())
                    self.approved[partner_id] = before + amount
        self.totals[outcome] += 1
        for kind in session.classes:
            self.classes[kind.value] += 1
            self.outcomes[kind.value, outcome] += 1
