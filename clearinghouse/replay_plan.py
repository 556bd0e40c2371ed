"""The calls that a recorded session is, in their order, and what it has to come to.

The amounts here are summed by plain fractions, without the rating that they are held against.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

from google.protobuf.timestamp_pb2 import Timestamp

from clearinghouse.replay_cast import VAT_PPM, Cast, evse_id_of, tariff
from clearinghouse.replay_session import RecordedSession
from clearinghouse.request_id import request_id_of
from foundation.money import coin_micros
from gem.roaming.v1 import clearing_service_pb2 as clearing
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod, DecidingLayer
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargeDetailRecord,
    ChargingPeriod,
    PeriodDimension,
)
from gem.roaming.v1.session_notice_pb2 import SessionNotice, SessionNoticeKind

_MILLISECOND = timedelta(milliseconds=1)
_MS_PER_HOUR = 3_600_000
_MILLI_WH = 1000
_PLAIN_ID = re.compile(r"[A-Za-z0-9._-]{1,30}")
_LISTED = DecidingLayer.DECIDING_LAYER_OPERATOR_LIST
_UNDECIDED = DecidingLayer.DECIDING_LAYER_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Granted:
    """What an authorization gives its session."""

    reference: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Amount:
    """Energy and money of sessions; amounts of several add up."""

    sessions: int = 0
    energy_milli_wh: int = 0
    without_tax_micros: int = 0
    with_tax_micros: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.sessions + other.sessions,
            self.energy_milli_wh + other.energy_milli_wh,
            self.without_tax_micros + other.without_tax_micros,
            self.with_tax_micros + other.with_tax_micros,
        )


def record_id(session: RecordedSession) -> str:
    """Give the id of a session's record: the source's own, or a digest of it."""
    if _PLAIN_ID.fullmatch(session.source_id):
        return session.source_id
    return hashlib.sha256(session.source_id.encode(errors="replace")).hexdigest()[:30]


def authorize_request(
    session: RecordedSession, cast: Cast, *, listed: bool
) -> clearing.AuthorizeRequest:
    """Give the question whether the customer may charge.

    `listed` tells the clearing house that the operator's list decided it when the session started:
    only such a decision can be older than its question.
    """
    request = clearing.AuthorizeRequest(
        evse_id=evse_id_of(session, cast.operator_of(session)),
        identification=cast.customer_of(session).identification,
        operator_session_id=f"S-{record_id(session)}",
        decided_by=_LISTED if listed else _UNDECIDED,
    )
    request.request_id = request_id_of(request)
    return request


def notices(
    session: RecordedSession, cast: Cast, granted: Granted
) -> Iterator[clearing.NotifySessionRequest]:
    """Give the notices of start and, where it is known and possible, of the end."""
    assert session.start is not None, "only sessions are replayed"
    ended = session.end is not None and session.end >= session.start
    kinds = [SessionNoticeKind.SESSION_NOTICE_KIND_START]
    if ended:
        kinds.append(SessionNoticeKind.SESSION_NOTICE_KIND_END)
    for number, kind in enumerate(kinds, 1):
        notice = SessionNotice(
            session_id=granted.session_id,
            operator_session_id=f"S-{record_id(session)}",
            authorization_reference=granted.reference,
            kind=kind,
            sequence_number=number,
            evse_id=evse_id_of(session, cast.operator_of(session)),
        )
        notice.start_time.FromDatetime(session.start)
        notice.notice_time.FromDatetime(session.start)
        if number == 2 and session.end is not None:
            notice.notice_time.FromDatetime(session.end)
            notice.energy_milli_wh = max(session.energy_milli_wh or 0, 0)
        request = clearing.NotifySessionRequest(notice=notice)
        request.request_id = request_id_of(request)
        yield request


def record_of(
    session: RecordedSession, cast: Cast, granted: Granted, *, listed: bool
) -> ChargeDetailRecord:
    """Give the charge detail record of a session, with what the source does not know left out."""
    assert session.start is not None, "only sessions are replayed"
    operator, amount = cast.operator_of(session), amount_of(session, cast)
    record = ChargeDetailRecord(
        cdr_id=record_id(session),
        operator_id=operator.owner_id,
        session_id=granted.session_id,
        operator_session_id=f"S-{record_id(session)}",
        identification=cast.customer_of(session).identification,
        authorization_reference=granted.reference,
        authorization_method=AuthorizationMethod.AUTHORIZATION_METHOD_WHITELIST
        if listed
        else AuthorizationMethod.AUTHORIZATION_METHOD_REQUEST,
        tariffs=[tariff(operator, cast.currency_code)],
        total_energy_milli_wh=session.energy_milli_wh or 0,
        currency_code=cast.currency_code,
    )
    record.location.evse_id = evse_id_of(session, operator)
    record.location.time_zone = session.time_zone
    record.location.name = session.site
    record.start_time.FromDatetime(session.start)
    if session.end is not None:
        record.end_time.FromDatetime(session.end)
        record.total_time_ms = (session.end - session.start) // _MILLISECOND
        record.updated_time.FromDatetime(max(session.start, session.end))
    if session.charging_end is not None:
        record.charging_start_time.FromDatetime(session.start)
        record.charging_end_time.FromDatetime(session.charging_end)
    record.charging_periods.extend(_periods(session))
    record.total_parking_time_ms = parking_ms(session)
    record.total_cost.without_tax_micros = amount.without_tax_micros
    record.total_cost.with_tax_micros = amount.with_tax_micros
    tax_micros = amount.with_tax_micros - amount.without_tax_micros
    if tax_micros:
        record.total_cost.taxes.add(name="VAT", rate_ppm=VAT_PPM, amount_micros=tax_micros)
    return record


def parking_ms(session: RecordedSession) -> int:
    """Give how long a vehicle was connected without charging, as far as the source tells.

    All the time where no energy flowed; otherwise from the end of charging on, where it is known.
    """
    start, end, done = session.start, session.end, session.charging_end
    if start is None or end is None or end < start:
        return 0
    if session.energy_milli_wh == 0:
        return (end - start) // _MILLISECOND
    return (end - done) // _MILLISECOND if done is not None and start <= done <= end else 0


def amount_of(session: RecordedSession, cast: Cast) -> Amount:
    """Give energy and price of a session; nothing where no price can be told.

    Begun watt-hours are paid; every amount is rounded once, half up, to the currency's coin.
    """
    energy = session.energy_milli_wh
    if session.start is None or session.end is None or energy is None or energy < 0:
        return Amount(1)
    if session.end < session.start:
        return Amount(1, energy)
    per_kwh, flat, per_hour = cast.operator_of(session).prices
    paid_wh = -(-energy // _MILLI_WH)
    without = Fraction(paid_wh * per_kwh, 1000) + flat
    without += Fraction(parking_ms(session) * per_hour, _MS_PER_HOUR)
    with_tax = without * Fraction(1_000_000 + VAT_PPM, 1_000_000)
    coin = coin_micros(cast.currency_code)
    return Amount(1, energy, _to_coin(without, coin), _to_coin(with_tax, coin))


def total_of(sessions: Iterable[RecordedSession], cast: Cast) -> Amount:
    """Add up sessions."""
    return sum((amount_of(session, cast) for session in sessions), Amount())


def _periods(session: RecordedSession) -> Iterator[ChargingPeriod]:
    """Give a period of charging and one of parking; one of them where there is no other."""
    assert session.start is not None, "only sessions are replayed"
    energy = PeriodDimension(energy_milli_wh=session.energy_milli_wh or 0)
    parked_ms = parking_ms(session)
    length_ms = 0
    if session.end is not None and session.end > session.start:
        length_ms = (session.end - session.start) // _MILLISECOND
    charged_ms = length_ms - parked_ms
    if charged_ms or not parked_ms:
        charging = [energy, PeriodDimension(charging_time_ms=charged_ms)]
        yield ChargingPeriod(start_time=_stamp(session, 0), dimensions=charging)
    if parked_ms:
        parking = [PeriodDimension(parking_time_ms=parked_ms)]
        if not charged_ms:
            parking.insert(0, energy)
        yield ChargingPeriod(start_time=_stamp(session, charged_ms), dimensions=parking)


def _stamp(session: RecordedSession, after_ms: int) -> Timestamp:
    assert session.start is not None, "only sessions are replayed"
    stamp = Timestamp()
    stamp.FromDatetime(session.start + after_ms * _MILLISECOND)
    return stamp


def _to_coin(amount: Fraction, coin: int) -> int:
    """Round half up; amounts here are not negative."""
    return int((amount / coin + Fraction(1, 2)) // 1) * coin
