"""A rating beside what an operator says a session costs, line by line; both as messages."""

from __future__ import annotations

from datetime import datetime, timedelta

from clearinghouse.exact import Exact
from clearinghouse.rating import Line, Rating
from clearinghouse.tariff_rules import Dimension
from foundation.money import Rounding, coin_micros, divide
from gem.roaming.v1 import rating_pb2
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, Cost
from gem.roaming.v1.rating_pb2 import RatingComparison, RatingDifference, RatingLineKind

_TIMES = {Dimension.TIME, Dimension.PARKING_TIME, Dimension.RESERVATION_TIME}
#: Kinds of lines, and where a record says what they cost.
_PARTS = (
    (RatingLineKind.RATING_LINE_KIND_FLAT, "total_fixed_cost"),
    (RatingLineKind.RATING_LINE_KIND_ENERGY, "total_energy_cost"),
    (RatingLineKind.RATING_LINE_KIND_TIME, "total_time_cost"),
    (RatingLineKind.RATING_LINE_KIND_PARKING_TIME, "total_parking_cost"),
    (RatingLineKind.RATING_LINE_KIND_RESERVATION_TIME, "total_reservation_cost"),
)


def compare(
    rating: Rating, record: ChargeDetailRecord, start: datetime, tolerance_micros: int
) -> RatingComparison:
    """Compare a rating with the costs of a record.

    A part is compared where the rating has it or the operator says it; the total always. Half the
    currency's smallest coin is no difference: operators round parts, rating does not.
    """
    slack = tolerance_micros + coin_micros(rating.currency_code) // 2
    found = []
    for kind, name in _PARTS:
        rated = rating.of_kind(kind)
        said = record.HasField(name)  # type: ignore[arg-type]  # each is a field
        submitted: Cost | None = getattr(record, name) if said else None
        if any(rated) or submitted is not None:
            found.append(_difference(kind, rated, submitted, slack))
    totals = rating.without_tax_micros, rating.with_tax_micros
    total = record.total_cost if record.HasField("total_cost") else None
    unspecified = RatingLineKind.RATING_LINE_KIND_UNSPECIFIED
    found.append(_difference(unspecified, totals, total, slack))
    return RatingComparison(
        rating=message_of(rating, start),
        differences=found,
        tolerance_micros=tolerance_micros,
        within_tolerance=all(difference.within_tolerance for difference in found),
    )


def _difference(
    kind: RatingLineKind.ValueType, rated: tuple[int, int], submitted: Cost | None, slack: int
) -> RatingDifference:
    difference = RatingDifference(
        kind=kind, rated_without_tax_micros=rated[0], rated_with_tax_micros=rated[1]
    )
    within = True
    if submitted is not None:
        difference.submitted_without_tax_micros = submitted.without_tax_micros
        within = abs(rated[0] - submitted.without_tax_micros) <= slack
        if submitted.HasField("with_tax_micros"):
            difference.submitted_with_tax_micros = submitted.with_tax_micros
            within = within and abs(rated[1] - submitted.with_tax_micros) <= slack
    difference.within_tolerance = within
    return difference


def message_of(rating: Rating, start: datetime) -> rating_pb2.Rating:
    """Give a rating as a message; `start` is the start of the session."""
    return rating_pb2.Rating(
        currency_code=rating.currency_code,
        lines=[_line(line, start) for line in rating.lines],
        without_tax_micros=rating.without_tax_micros,
        with_tax_micros=rating.with_tax_micros,
    )


def _line(line: Line, start: datetime) -> rating_pb2.RatingLine:
    message = rating_pb2.RatingLine(
        kind=line.kind,
        without_tax_micros=line.without_tax_micros,
        with_tax_micros=line.with_tax_micros,
    )
    component = line.component
    if component is None:
        return message
    message.tariff_id = component.tariff_id
    message.component_index = component.index
    message.price_micros = component.price_micros
    message.tax_ppm = component.tax_ppm
    message.start_time.FromDatetime(_at(start, line.start_s))
    message.end_time.FromDatetime(_at(start, line.end_s))
    if component.dimension is Dimension.ENERGY:
        message.energy_milli_wh = _thousandths(line.quantity)
    elif component.dimension in _TIMES:
        message.time_ms = _thousandths(line.quantity)
    return message


def _at(start: datetime, elapsed_s: Exact) -> datetime:
    return start + timedelta(microseconds=int(elapsed_s * 1_000_000))


def _thousandths(quantity: Exact) -> int:
    """Round for showing; amounts are made from the exact quantity."""
    return divide(quantity.numerator * 1000, quantity.denominator, Rounding.HALF_UP)
