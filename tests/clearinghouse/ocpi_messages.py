"""Messages that say what OCPI can say, all of it; and objects of OCPI that are whole."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import strategies as st

from clearinghouse.ocpi_session import OcpiSession
from foundation.ocpi_connector import COUNTRIES, POWER_TYPES
from foundation.ocpi_version import OcpiVersion
from gem.charging.v1 import evse_pb2, tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff, TariffRestriction
from gem.common.v1.money_pb2 import Money
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargeDetailRecord,
    ChargingPeriod,
    Cost,
    LocationSnapshot,
    PeriodDimension,
    SignedMeterData,
    SignedReading,
    TaxAmount,
)
from gem.roaming.v1.clearing_contract_pb2 import ClearingContractState, CustomerContract
from gem.roaming.v1.identification_pb2 import (
    Identification,
    IdentificationKind,
    Token,
    TokenStatus,
    WhitelistPolicy,
)
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

UPDATED = "2026-03-02T09:00:00Z"
_WORDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", min_size=1, max_size=36)
_NATURES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=32)
_TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N"]), max_size=30)
_TIMES = st.builds(
    Timestamp, seconds=st.integers(10**9, 4 * 10**9), nanos=st.integers(0, 10**9 - 1) | st.just(0)
)
_AMOUNTS = st.integers(-(10**12), 10**12)
_LARGE = st.integers(-(10**13), 10**13)
_PARTIES = st.sampled_from(["DE*ABC", "NL*TNM", "SE*0X1"])


def _identifications(version: OcpiVersion) -> st.SearchStrategy[Identification]:
    kinds = [
        IdentificationKind.IDENTIFICATION_KIND_RFID,
        IdentificationKind.IDENTIFICATION_KIND_APP,
        IdentificationKind.IDENTIFICATION_KIND_GUEST,
        IdentificationKind.IDENTIFICATION_KIND_OTHER,
    ]
    if version.plug_and_charge:
        kinds.append(IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE)
    contract_ids = st.sampled_from(["NL-TNM-C00122045-K", "DE8ACC12E46L89", "DEABC000000001"])
    return st.builds(
        Identification, kind=st.sampled_from(kinds), contract_id=contract_ids, token_uid=_WORDS
    )


@st.composite
def contracts(draw: st.DrawFn, version: OcpiVersion) -> CustomerContract:
    """Give contracts of one token."""
    who = draw(_identifications(version))
    status = draw(st.sampled_from(TokenStatus.values()[1:3]))
    token = Token(kind=who.kind, token_uid=who.token_uid, visual_number=draw(_TEXTS), status=status)
    return CustomerContract(
        contract_id=who.contract_id,
        tokens=[token],
        whitelist_policy=draw(st.sampled_from(WhitelistPolicy.values()[1:])),
        state=ClearingContractState.CLEARING_CONTRACT_STATE_ACTIVE,
        language=draw(st.sampled_from(["", "de", "en"])),
        changed_time=draw(st.none() | _TIMES),
    )


_RESTRICTIONS = st.builds(
    TariffRestriction,
    start_minute=st.integers(0, 1439),
    end_minute=st.integers(0, 1440),
    start_date=st.sampled_from(["", "2026-01-01"]),
    end_date=st.sampled_from(["", "2027-12-31"]),
    weekdays=st.lists(st.integers(1, 7), unique=True).map(sorted),
    min_energy_wh=st.integers(0, 10**6),
    max_energy_wh=st.integers(0, 10**6),
    min_current_ma=st.integers(0, 10**6),
    max_current_ma=st.integers(0, 10**6),
    min_power_w=st.integers(0, 10**6),
    max_power_w=st.integers(0, 10**6),
    min_duration_s=st.integers(0, 10**6),
    max_duration_s=st.integers(0, 10**6),
    reservation=st.sampled_from(tariff_pb2.ReservationPricing.values()),
)


@st.composite
def _components(draw: st.DrawFn) -> PriceComponent:
    component = PriceComponent(
        dimension=draw(st.sampled_from(tariff_pb2.PriceDimension.values()[1:])),
        price_micros=draw(st.integers(0, 10**12)),
        vat_ppm=draw(st.integers(0, 10**6)),
    )
    if component.dimension == tariff_pb2.PRICE_DIMENSION_ENERGY:
        component.step_wh = draw(st.integers(0, 10**6))
    elif component.dimension != tariff_pb2.PRICE_DIMENSION_FLAT:
        component.step_s = draw(st.integers(0, 10**6))
    restriction = draw(st.none() | _RESTRICTIONS)
    if restriction is not None and restriction.ByteSize():
        component.restriction.CopyFrom(restriction)
    return component


@st.composite
def tariffs(draw: st.DrawFn, version: OcpiVersion) -> Tariff:
    """Give tariffs."""
    currency = draw(st.sampled_from(["EUR", "SEK", "JPY"]))
    tariff = Tariff(
        tariff_id=draw(_WORDS),
        currency_code=currency,
        components=draw(st.lists(_components(), max_size=4)),
    )
    if version.tariff_says_tax:
        tariff.tax = draw(st.sampled_from(tariff_pb2.TaxTreatment.values()))
    for name in ("min_price", "max_price"):
        for field in (name, f"{name}_with_tax"):
            amount = draw(st.none() | st.integers(0, 10**12))
            if amount is None:
                break
            money = Money(amount_micros=amount, currency_code=currency)
            getattr(tariff, field).CopyFrom(money)
    return tariff


@st.composite
def tariff_versions(draw: st.DrawFn, version: OcpiVersion) -> TariffVersion:
    """Give versions of tariffs, some with a validity."""
    made = TariffVersion(operator_id=draw(_PARTIES), tariff=draw(tariffs(version)))
    made.published_time.CopyFrom(draw(_TIMES))
    starts, ends = sorted(draw(st.lists(_TIMES, min_size=2, max_size=2)), key=lambda t: t.seconds)
    if draw(st.booleans()):
        made.validity.start_time.CopyFrom(starts)
    if draw(st.booleans()) and ends.seconds > starts.seconds:
        made.validity.end_time.CopyFrom(ends)
    return made


@st.composite
def costs(draw: st.DrawFn, version: OcpiVersion) -> Cost:
    """Give costs: with a list of taxes, or with the amount with tax, as the version has it."""
    cost = Cost(without_tax_micros=draw(_AMOUNTS))
    if version.lists_taxes:
        taxes = st.builds(
            TaxAmount,
            name=st.sampled_from(["VAT", "QST"]),
            rate_ppm=st.none() | st.integers(0, 10**6),
            amount_micros=_AMOUNTS,
        )
        cost.taxes.extend(draw(st.lists(taxes, max_size=3)))
        if cost.taxes:
            added = sum(tax.amount_micros for tax in cost.taxes)
            cost.with_tax_micros = cost.without_tax_micros + added
    elif draw(st.booleans()):
        cost.with_tax_micros = draw(_AMOUNTS)
    return cost


_FIELDS = [field.name for field in PeriodDimension.DESCRIPTOR.fields]
_DIMENSIONS = st.tuples(st.sampled_from(_FIELDS), st.integers(-(10**8), 10**10)).map(
    lambda pair: PeriodDimension(**{pair[0]: min(pair[1], 10**8)})
)
_PERIODS = st.builds(
    ChargingPeriod,
    start_time=_TIMES,
    dimensions=st.lists(_DIMENSIONS, min_size=1, max_size=4),
    tariff_id=st.just("") | _WORDS,
)
_SIGNED = st.builds(
    SignedMeterData,
    encoding_method=_WORDS,
    encoding_version=st.integers(0, 9),
    public_key=_TEXTS,
    readings=st.lists(
        st.builds(SignedReading, nature=_NATURES, plain_data=_WORDS, signed_data=_WORDS), max_size=3
    ),
    verification_url=_TEXTS,
)


@st.composite
def _locations(draw: st.DrawFn) -> LocationSnapshot:
    location = LocationSnapshot(
        location_id=draw(_WORDS),
        evse_id=draw(st.sampled_from(["DE*ABC*E1234", "NL*TNM*EX*1"])),
        connector_id=draw(_WORDS),
        name=draw(_TEXTS),
    )
    address = evse_pb2.Address(street=draw(_TEXTS), city=draw(_TEXTS))
    address.country_code = draw(st.sampled_from(["", *COUNTRIES.values()]))
    if address.ByteSize():
        location.address.CopyFrom(address)
    if draw(st.booleans()):
        location.point.latitude_e7 = draw(st.integers(-900_000_000, 900_000_000))
        location.point.longitude_e7 = draw(st.integers(-1_800_000_000, 1_800_000_000))
    if draw(st.booleans()):
        kind, phases = draw(st.sampled_from(sorted(set(POWER_TYPES.values()))))
        location.connector.kind, location.connector.phases = kind, phases
        location.connector.plug = draw(st.sampled_from(evse_pb2.PlugType.values()))
        location.connector.cable_attached = draw(st.booleans())
    return location


@st.composite
def _common(draw: st.DrawFn, version: OcpiVersion) -> ChargeDetailRecord:
    record = ChargeDetailRecord(
        operator_id=draw(_PARTIES),
        operator_session_id=draw(_WORDS),
        identification=draw(_identifications(version)),
        authorization_reference=draw(st.just("") | _WORDS),
        authorization_method=draw(st.sampled_from(AuthorizationMethod.values()[:4])),
        start_time=draw(_TIMES),
        end_time=draw(st.none() | _TIMES),
        updated_time=draw(_TIMES),
        charging_periods=draw(st.lists(_PERIODS, max_size=3)),
        total_energy_milli_wh=draw(_LARGE),
        meter_id=draw(_TEXTS),
        currency_code=draw(st.sampled_from(["EUR", "CAD"])),
    )
    record.total_cost.CopyFrom(draw(costs(version)))
    return record


@st.composite
def sessions(draw: st.DrawFn, version: OcpiVersion) -> OcpiSession:
    """Give sessions."""
    record = draw(_common(version))
    record.cdr_id = record.operator_session_id
    place = draw(_locations())
    record.location.evse_id = place.evse_id
    record.location.location_id = place.location_id
    record.location.connector_id = place.connector_id
    statuses = ["ACTIVE", "COMPLETED", "INVALID", "PENDING", "RESERVATION"]
    return OcpiSession(record, draw(st.sampled_from(statuses)))


@st.composite
def records(draw: st.DrawFn, version: OcpiVersion) -> ChargeDetailRecord:
    """Give charge detail records, credits among them."""
    record = draw(_common(version))
    record.cdr_id = draw(_WORDS)
    record.location.CopyFrom(draw(_locations()))
    record.tariffs.extend(draw(st.lists(tariffs(version), max_size=2)))
    record.total_time_ms = draw(st.integers(-(10**9), 10**9))
    record.total_parking_time_ms = draw(st.integers(0, 10**9))
    for name in ("fixed", "energy", "time", "parking", "reservation"):
        if draw(st.booleans()):
            getattr(record, f"total_{name}_cost").CopyFrom(draw(costs(version)))
    if draw(st.booleans()):
        record.signed_meter_data.CopyFrom(draw(_SIGNED))
    record.credited_cdr_id = draw(st.just("") | _WORDS)
    record.invoice_reference = draw(st.just("") | _WORDS)
    record.remark = draw(_TEXTS)
    return record


def token(**members: Any) -> dict[str, Any]:
    """Give a whole token."""
    return {
        "country_code": "NL",
        "party_id": "TNM",
        "uid": "012345678",
        "type": "RFID",
        "contract_id": "NL-TNM-C00122045-K",
        "issuer": "Somebody",
        "valid": True,
        "whitelist": "ALLOWED",
        "last_updated": UPDATED,
        **members,
    }


def tariff(**members: Any) -> dict[str, Any]:
    """Give a whole tariff."""
    return {
        "country_code": "DE",
        "party_id": "ABC",
        "id": "T1",
        "currency": "EUR",
        "elements": [{"price_components": [{"type": "ENERGY", "price": 0.25, "step_size": 1}]}],
        "tax_included": "NO",
        "last_updated": UPDATED,
        **members,
    }


def _charged(**members: Any) -> dict[str, Any]:
    return {
        "country_code": "DE",
        "party_id": "ABC",
        "id": "S1",
        "start_date_time": "2026-03-02T08:00:00Z",
        "end_date_time": "2026-03-02T09:00:00Z",
        "cdr_token": {
            "country_code": "NL",
            "party_id": "TNM",
            "uid": "012345678",
            "type": "RFID",
            "contract_id": "NL-TNM-C00122045-K",
        },
        "auth_method": "AUTH_REQUEST",
        "authorization_reference": "A1",
        "currency": "EUR",
        "charging_periods": [
            {
                "start_date_time": "2026-03-02T08:00:00Z",
                "dimensions": [{"type": "ENERGY", "volume": 10}, {"type": "TIME", "volume": 1}],
            }
        ],
        "total_cost": {"before_taxes": 2.5, "taxes": [{"name": "VAT", "amount": 0.25}]},
        "last_updated": UPDATED,
        **members,
    }


def session(**members: Any) -> dict[str, Any]:
    """Give a whole session."""
    where = {"location_id": "L1", "evse_uid": "DE*ABC*E1234", "connector_id": "1"}
    return _charged(**{"kwh": 10, "status": "COMPLETED", **where, **members})


def cdr(**members: Any) -> dict[str, Any]:
    """Give a whole charge detail record."""
    where = {
        "id": "L1",
        "address": "Some street 3",
        "city": "Hamburg",
        "country": "DEU",
        "coordinates": {"latitude": "53.5502", "longitude": "9.9920000"},
        "evse_uid": "1234",
        "evse_id": "DE*ABC*E1234",
        "connector_id": "1",
        "connector_standard": "IEC_62196_T2",
        "connector_format": "SOCKET",
        "connector_power_type": "AC_3_PHASE",
    }
    whole = {
        "session_id": "S1",
        "cdr_location": where,
        "tariffs": [tariff()],
        "total_energy": 10,
        "total_time": 1,
        **members,
    }
    return _charged(**{"id": "C1", **whole})
