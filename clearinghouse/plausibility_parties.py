"""Whether a record belongs to what is known: place, operator, authorization, contract, EVSE."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

from clearinghouse.local_clock import zone_of
from clearinghouse.plausibility_context import (
    Finding,
    KnownAuthorization,
    PlausibilityContext,
    Tolerances,
)
from clearinghouse.plausibility_times import Times
from foundation.identifiers import ContractId, EvseId, owner_key
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

T = TypeVar("T")
_EARTH_RADIUS_M = 6_371_000
_E7 = 10_000_000
#: Texts that every record has.
_REQUIRED_TEXTS = (
    *("cdr_id", "operator_id", "operator_session_id", "authorization_reference"),
    "authorization_method",
)


def check_form(record: ChargeDetailRecord) -> Iterator[Finding]:
    """Check that what every record has is there and has its form."""
    location, who = record.location, record.identification
    missing = [name for name in _REQUIRED_TEXTS if not getattr(record, name)]
    if not (who.contract_id or who.token_uid or who.payment_reference):
        missing.append("identification")
    if not record.charging_periods:
        missing.append("charging_periods")
    if not location.evse_id:
        missing.append("location.evse_id")
    reason = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MISSING
    yield from (Finding(reason, name, "missing") for name in missing)
    forms: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("operator_id", record.operator_id, owner_key),
        ("location.evse_id", location.evse_id, EvseId.parse),
        ("identification.contract_id", who.contract_id, ContractId.parse),
        ("location.time_zone", location.time_zone, zone_of),
    )
    for name, text, parse in forms:
        if text and _parsed(parse, text) is None:
            malformed = PlausibilityReason.PLAUSIBILITY_REASON_FIELD_MALFORMED
            yield Finding(malformed, name, "does not have the form that it must have")


def check_parties(
    record: ChargeDetailRecord, times: Times, context: PlausibilityContext, tolerances: Tolerances
) -> Iterator[Finding]:
    """Check operator, place, authorization, contract and other sessions on the EVSE."""
    yield from _check_operator(record, context)
    yield from _check_place(record, context, tolerances)
    authorization = context.authorization
    if authorization is None:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_AUTHORIZATION_UNKNOWN
        yield Finding(reason, "authorization_reference", "no authorization has this reference")
    else:
        yield from _check_authorization(record, times, authorization, context, tolerances)
    if authorization is None or not authorization.open_access:
        yield from _check_contract(times, context)
    yield from _check_overlap(times, context)


def _check_operator(record: ChargeDetailRecord, context: PlausibilityContext) -> Iterator[Finding]:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_EVSE_OPERATOR
    operator = _parsed(owner_key, record.operator_id)
    evse = _parsed(EvseId.parse, record.location.evse_id)
    if operator is not None and operator not in context.operator_keys:
        yield Finding(reason, "operator_id", "not an operator id of who sent the record")
    if operator is not None and evse is not None and evse.operator_id != operator:
        yield Finding(reason, "location.evse_id", "not an EVSE of the operator")


def _check_place(
    record: ChargeDetailRecord, context: PlausibilityContext, tolerances: Tolerances
) -> Iterator[Finding]:
    if context.evse_point is None or not record.location.HasField("point"):
        return
    if distance_m(record.location.point, context.evse_point) > tolerances.distance_m:
        reason = PlausibilityReason.PLAUSIBILITY_REASON_LOCATION
        yield Finding(reason, "location.point", "far from where the EVSE is published")


def _check_authorization(
    record: ChargeDetailRecord,
    times: Times,
    known: KnownAuthorization,
    context: PlausibilityContext,
    tolerances: Tolerances,
) -> Iterator[Finding]:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_AUTHORIZATION_NOT_VALID
    if not known.allowed:
        yield Finding(reason, "authorization_reference", "the authorization was a refusal")
    elif times.start is not None and not known.from_list:
        if times.start > known.valid_until + tolerances.clock:
            yield Finding(reason, "start_time", "the authorization had expired")
        if times.start < known.decided_at - tolerances.clock:
            yield Finding(reason, "start_time", "the session started before the authorization")
    evse = _parsed(EvseId.parse, record.location.evse_id)
    pairs = (
        ("operator_id", _parsed(owner_key, record.operator_id), known.operator_key),
        ("location.evse_id", evse.key if evse else None, known.evse_key),
        ("identification", context.identity_key, known.identity_key),
        ("session_id", record.session_id, known.session_id),
    )
    mismatch = PlausibilityReason.PLAUSIBILITY_REASON_AUTHORIZATION_MISMATCH
    for name, of_record, authorized in pairs:
        if of_record and authorized and of_record != authorized:
            yield Finding(mismatch, name, "not what was authorized")


def _check_contract(times: Times, context: PlausibilityContext) -> Iterator[Finding]:
    reason = PlausibilityReason.PLAUSIBILITY_REASON_CONTRACT_NOT_ACTIVE
    if context.contract is None:
        yield Finding(reason, "identification", "there is no such contract")
    elif times.start is not None and not context.contract.holds(times.start):
        yield Finding(reason, "start_time", "the contract was not in force then")


def _check_overlap(times: Times, context: PlausibilityContext) -> Iterator[Finding]:
    start, end = times.start, times.end
    if start is None or end is None:
        return
    if any(start < other.end and other.start < end for other in context.other_sessions):
        reason = PlausibilityReason.PLAUSIBILITY_REASON_SESSION_OVERLAP
        yield Finding(reason, "start_time", "another session on the EVSE overlaps")


def _parsed(parse: Callable[[str], T], text: str) -> T | None:
    """Parse, or give None; what does not parse is found where forms are checked."""
    try:
        return parse(text)
    except ValueError:
        return None


def distance_m(one: GeoPoint, other: GeoPoint) -> float:
    """Give the distance over the ground, by the haversine formula."""
    latitudes = [math.radians(point.latitude_e7 / _E7) for point in (one, other)]
    longitudes = [math.radians(point.longitude_e7 / _E7) for point in (one, other)]
    height = math.sin((latitudes[1] - latitudes[0]) / 2) ** 2
    width = math.sin((longitudes[1] - longitudes[0]) / 2) ** 2
    chord = height + math.cos(latitudes[0]) * math.cos(latitudes[1]) * width
    return 2 * _EARTH_RADIUS_M * math.asin(math.sqrt(min(1.0, chord)))
