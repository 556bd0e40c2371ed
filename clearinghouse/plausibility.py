"""Whether a charge detail record can be true: every check, every reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from clearinghouse.plausibility_context import (
    Finding,
    Findings,
    PlausibilityContext,
    Tolerances,
)
from clearinghouse.plausibility_cost import check_cost, check_credit, rate_again
from clearinghouse.plausibility_energy import check_energy
from clearinghouse.plausibility_parties import check_form, check_parties
from clearinghouse.plausibility_times import Times, check_times, oddities
from gem.roaming.v1.cdr_clearing_pb2 import CdrOddity
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.rating_pb2 import RatingComparison

_STANDARD = Tolerances()


@dataclass(frozen=True, slots=True)
class Assessment:
    """What is thought of a record."""

    #: Why it is returned; none means that it is plausible.
    findings: tuple[Finding, ...]
    #: What is odd and occurs; no reason to return it.
    oddities: tuple[CdrOddity.ValueType, ...]
    #: None for a credit, and for a record that cannot be rated.
    rating: RatingComparison | None

    @property
    def is_plausible(self) -> bool:
        return not self.findings


def check_record(
    record: ChargeDetailRecord, context: PlausibilityContext, tolerances: Tolerances = _STANDARD
) -> Assessment:
    """Check a record against itself and against what is known about its session.

    Gives every reason with the field, each reason with a bounded number of fields. Raises nothing,
    whatever the record contains: it is from outside.
    """
    times = Times.of(record)
    findings = Findings()
    findings.extend(check_form(record))
    findings.extend(check_times(record, times, context, tolerances))
    findings.extend(check_energy(record, times, context, tolerances))
    findings.extend(check_cost(record, context))
    rating = None
    if record.credited_cdr_id:
        # It has the session of the record that it gives back, so nothing else is to be known.
        findings.extend(check_credit(record, context))
    else:
        findings.extend(check_parties(record, times, context, tolerances))
        rating, different = rate_again(record, context, tolerances)
        findings.extend(different)
    return Assessment(tuple(findings), tuple(oddities(record, times)), rating)
