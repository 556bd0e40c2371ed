"""Whether the money of a record fits: currency, taxes, tariff, rating, credit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clearinghouse.plausibility_context import Finding, PlausibilityContext, Tolerances
from clearinghouse.rateable import NotRateableError, RateableSession, read_session
from clearinghouse.rating import rate
from clearinghouse.rating_comparison import compare
from clearinghouse.tariff_rules import TariffRules, read_rules
from foundation.money import LARGEST_MICROS, coin_micros
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord, Cost
from gem.roaming.v1.rating_pb2 import RatingComparison, RatingLineKind

COSTS = (
    *("total_cost", "total_fixed_cost", "total_energy_cost", "total_time_cost"),
    *("total_parking_cost", "total_reservation_cost"),
)
_FIELD_OF_KIND = {
    RatingLineKind.RATING_LINE_KIND_UNSPECIFIED: "total_cost",
    RatingLineKind.RATING_LINE_KIND_FLAT: "total_fixed_cost",
    RatingLineKind.RATING_LINE_KIND_ENERGY: "total_energy_cost",
    RatingLineKind.RATING_LINE_KIND_TIME: "total_time_cost",
    RatingLineKind.RATING_LINE_KIND_PARKING_TIME: "total_parking_cost",
    RatingLineKind.RATING_LINE_KIND_RESERVATION_TIME: "total_reservation_cost",
}


def costs_of(record: ChargeDetailRecord) -> dict[str, Cost]:
    """Give the costs that a record states, by field."""
    return {
        name: getattr(record, name)
        for name in COSTS
        if record.HasField(name)  # type: ignore[arg-type]  # each is a field
    }


def check_cost(record: ChargeDetailRecord, context: PlausibilityContext) -> Iterator[Finding]:
    """Check currency, taxes, signs and tariffs; what the session should cost is another step."""
    yield from _check_currency(record, context)
    if not record.HasField("total_cost"):
        reason = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MISSING
        yield Finding(reason, "total_cost", "missing")
    for name, cost in costs_of(record).items():
        yield from _check_taxes(name, cost, record)
    yield from _check_parts(record)
    if context.tariffs is None:
        return
    for number, tariff in enumerate(record.tariffs):
        if context.tariffs.get(tariff.tariff_id) != tariff:
            reason = PlausibilityReason.PLAUSIBILITY_REASON_TARIFF_NOT_VALID
            yield Finding(reason, f"tariffs[{number}]", "not the tariff that was in force then")


def _check_currency(record: ChargeDetailRecord, context: PlausibilityContext) -> Iterator[Finding]:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_CURRENCY
    code = record.currency_code
    if not (len(code) == 3 and code.isascii() and code.isupper() and code.isalpha()):
        yield Finding(reason, "currency_code", "not three capital letters of ISO 4217")
    elif context.currencies and code not in context.currencies:
        yield Finding(reason, "currency_code", "not the currency in which the two settle")
    for number, tariff in enumerate(record.tariffs):
        if tariff.currency_code != code:
            path = f"tariffs[{number}].currency_code"
            yield Finding(reason, path, "not the currency of the record")


def _check_taxes(name: str, cost: Cost, record: ChargeDetailRecord) -> Iterator[Finding]:
    sign = -1 if record.credited_cdr_id else 1
    amounts = [cost.without_tax_micros, *(tax.amount_micros for tax in cost.taxes)]
    if any(amount * sign < 0 for amount in amounts):
        yield Finding(PlausibilityReason.PLAUSIBILITY_REASON_NEGATIVE, name, "of the wrong sign")
    split = PlausibilityReason.PLAUSIBILITY_REASON_TAX_SPLIT
    if max(map(abs, (*amounts, cost.with_tax_micros))) > LARGEST_MICROS:
        yield Finding(split, name, "beyond the limit of amounts")
    if not cost.HasField("with_tax_micros"):
        return
    tax_micros = cost.with_tax_micros - cost.without_tax_micros
    if tax_micros * sign < 0:
        yield Finding(split, name, "less with tax than without")
    slack = _half_coin(record) * (len(cost.taxes) + 1)
    if cost.taxes and abs(tax_micros - sum(amounts[1:])) > slack:
        yield Finding(split, name, "the taxes are not what lies between the amounts")


def _check_parts(record: ChargeDetailRecord) -> Iterator[Finding]:
    """Compare the sum of the parts with the total, where no limit of the tariff is between."""
    costs = costs_of(record)
    total = costs.pop("total_cost", None)
    limited = any(
        tariff.HasField("max_price") or tariff.HasField("max_price_with_tax")
        for tariff in record.tariffs
    )
    if total is None or limited or record.credited_cdr_id:
        return
    parts = sum(cost.without_tax_micros for cost in costs.values())
    if parts > total.without_tax_micros + _half_coin(record) * (len(costs) + 1):
        reason = PlausibilityReason.PLAUSIBILITY_REASON_TAX_SPLIT
        yield Finding(reason, "total_cost", "less than its parts")


def _half_coin(record: ChargeDetailRecord) -> int:
    return coin_micros(record.currency_code) // 2


def rate_again(
    record: ChargeDetailRecord, context: PlausibilityContext, tolerances: Tolerances
) -> tuple[RatingComparison | None, list[Finding]]:
    """Rate a record by the published tariffs, else by those that it carries, and compare.

    Without a comparison where times or tariffs make rating impossible; the finding says which.
    """
    try:
        session = _session(record, context)
        rating = rate(session)
    except NotRateableError as error:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_COST
        return None, [Finding(reason, error.field, "the record cannot be rated")]
    comparison = compare(rating, record, session.start, tolerances.cost_micros)
    reason = PlausibilityReason.PLAUSIBILITY_REASON_COST
    return comparison, [
        Finding(reason, _FIELD_OF_KIND[difference.kind], "not what rating by the tariff gives")
        for difference in comparison.differences
        if not difference.within_tolerance
    ]


def _session(record: ChargeDetailRecord, context: PlausibilityContext) -> RateableSession:
    published: Mapping[str, TariffRules] = {
        tariff.tariff_id: read_rules(context.tariffs[tariff.tariff_id])
        for tariff in record.tariffs
        if context.tariffs is not None and tariff.tariff_id in context.tariffs
    }
    whole = record.tariffs and len(published) == len({each.tariff_id for each in record.tariffs})
    return read_session(record, published if whole else None)


def negated(record: ChargeDetailRecord, credit_cdr_id: str) -> ChargeDetailRecord:
    """Give the credit of a record: another id, the same data, all costs negated."""
    credit = ChargeDetailRecord()
    credit.CopyFrom(record)
    credit.cdr_id, credit.credited_cdr_id = credit_cdr_id, record.cdr_id
    for cost in costs_of(credit).values():
        cost.without_tax_micros = -cost.without_tax_micros
        if cost.HasField("with_tax_micros"):
            cost.with_tax_micros = -cost.with_tax_micros
        for tax in cost.taxes:
            tax.amount_micros = -tax.amount_micros
    return credit


def check_credit(record: ChargeDetailRecord, context: PlausibilityContext) -> Iterator[Finding]:
    """Check that a credit gives back one record in full; its remark and time may differ."""
    reason = PlausibilityReason.PLAUSIBILITY_REASON_CREDIT
    credited = context.credited
    if credited is None or credited.cdr_id != record.credited_cdr_id:
        yield Finding(reason, "credited_cdr_id", "no approved record has this id")
        return
    expected = negated(credited, record.cdr_id)
    if record.cdr_id == credited.cdr_id:
        yield Finding(reason, "cdr_id", "a credit has an id of its own")
    given, wanted = (
        {field.name: value for field, value in each.ListFields()} for each in (record, expected)
    )
    for name in sorted(given.keys() | wanted.keys()):
        free = {"remark", "invoice_reference", "updated_time", "cdr_id"}
        if name not in free and given.get(name) != wanted.get(name):
            yield Finding(reason, name, "not that of the record that is credited")
