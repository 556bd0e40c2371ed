"""Parts of sessions and charge detail records of OCPI: periods, places, signed meter data."""

from __future__ import annotations

from decimal import ROUND_HALF_UP
from typing import Any

from clearinghouse.ocpi_values import (
    MILLI_WH_PER_KWH,
    MOST_QUANTITY,
    MS_PER_HOUR,
    decimal_of,
    given,
    hours_of,
    time_text,
)
from foundation.json_reader import Node, number_of
from foundation.ocpi_connector import COUNTRIES, PLUGS, POWER_TYPES
from foundation.ocpi_file import timestamp_of
from gem.charging.v1.evse_pb2 import Connector
from gem.roaming.v1.charge_detail_record_pb2 import (
    ChargingPeriod,
    LocationSnapshot,
    PeriodDimension,
    SignedMeterData,
)

#: Field and factor to its unit, by OCPI's word; energy in kWh, times in hours, power in kW.
_DIMENSIONS = {
    "ENERGY": ("energy_milli_wh", MILLI_WH_PER_KWH),
    "ENERGY_EXPORT": ("energy_export_milli_wh", MILLI_WH_PER_KWH),
    "TIME": ("charging_time_ms", MS_PER_HOUR),
    "PARKING_TIME": ("parking_time_ms", MS_PER_HOUR),
    "RESERVATION_TIME": ("reservation_time_ms", MS_PER_HOUR),
    "CURRENT": ("current_ma", 1000),
    "MIN_CURRENT": ("min_current_ma", 1000),
    "MAX_CURRENT": ("max_current_ma", 1000),
    "POWER": ("power_w", 1000),
    "MIN_POWER": ("min_power_w", 1000),
    "MAX_POWER": ("max_power_w", 1000),
    "STATE_OF_CHARGE": ("state_of_charge_percent", 1),
}
_WORDS = {field: (word, factor) for word, (field, factor) in _DIMENSIONS.items()}
_E7 = 10_000_000
_COUNTRY_WORDS = {short: long for long, short in COUNTRIES.items()}
_POWER_WORDS = {(kind, phases): word for word, (kind, phases) in reversed(POWER_TYPES.items())}
_PLUG_WORDS = {plug: word for word, plug in reversed(PLUGS.items())}
_MOST_PERIODS, _MOST_DIMENSIONS, _MOST_READINGS = 2000, 16, 64
_LONGEST_PLAIN, _LONGEST_SIGNED = 512, 5000


def read_periods(node: Node) -> list[ChargingPeriod]:
    """Read the charging periods of a session or record."""
    periods = []
    for each in node.nodes("charging_periods", _MOST_PERIODS):
        period = ChargingPeriod(tariff_id=each.text("tariff_id", 36) or "")
        start = timestamp_of(each, "start_date_time")
        if start is None:
            each.wrong("start_date_time", "missing", "a period has a start")
        else:
            period.start_time.CopyFrom(start)
        for dimension in each.nodes("dimensions", _MOST_DIMENSIONS):
            read = _dimension(dimension)
            if read is not None:
                period.dimensions.append(read)
        if not period.dimensions:
            each.wrong("dimensions", "missing", "a period measures something")
        periods.append(period)
    return periods


def write_periods(periods: list[ChargingPeriod]) -> list[dict[str, Any]]:
    """Write charging periods."""
    return [
        {
            **(
                {"start_date_time": time_text(period.start_time)}
                if period.HasField("start_time")
                else {}
            ),
            "dimensions": [_write_dimension(each) for each in period.dimensions],
            **given(tariff_id=period.tariff_id),
        }
        for period in periods
    ]


def read_hours(node: Node, key: str) -> int | None:
    """Give hours as milliseconds; of a thousandth of one nobody can tell, so it is not noted."""
    return node.rounded(key, MS_PER_HOUR, MOST_QUANTITY, tell=False)


def _dimension(node: Node) -> PeriodDimension | None:
    word = node.text("type", 32) or ""
    if word not in _DIMENSIONS:
        node.wrong("type", "unknown", "not a dimension that the market knows; left out")
        return None
    field, factor = _DIMENSIONS[word]
    tell = factor != MS_PER_HOUR
    volume = node.rounded("volume", factor, MOST_QUANTITY, tell=tell)
    if volume is None:
        node.wrong("volume", "missing", "a dimension has a volume; left out")
        return None
    return PeriodDimension(**{field: volume})


def _write_dimension(dimension: PeriodDimension) -> dict[str, Any]:
    field = dimension.WhichOneof("volume")
    assert field is not None, "a dimension measures something"
    word, factor = _WORDS[field]
    volume = getattr(dimension, field)
    hours = factor == MS_PER_HOUR
    return {"type": word, "volume": hours_of(volume) if hours else decimal_of(volume, factor)}


def read_location(node: Node) -> LocationSnapshot:
    """Read where a record's session took place."""
    location = LocationSnapshot(
        location_id=node.text("id", 36) or "",
        evse_id=node.text("evse_id", 48, required=True) or "",
        connector_id=node.text("connector_id", 36) or "",
        name=node.text("name", 255) or "",
    )
    address = {
        "street": node.text("address", 128) or "",
        "postal_code": node.text("postal_code", 16) or "",
        "city": node.text("city", 96) or "",
        "country_code": _country(node),
    }
    if any(address.values()):
        location.address.MergeFrom(type(location.address)(**address))
    coordinates = node.node("coordinates")
    if coordinates is not None:
        _read_point(location, coordinates)
    _read_connector(location, node)
    return location


def write_location(location: LocationSnapshot) -> dict[str, Any]:
    """Write where a record's session took place."""
    address = location.address
    written = given(
        id=location.location_id,
        name=location.name,
        address=address.street,
        city=address.city,
        postal_code=address.postal_code,
        country=_COUNTRY_WORDS.get(address.country_code),
    )
    if location.HasField("point"):
        point = location.point
        written["coordinates"] = {
            "latitude": f"{decimal_of(point.latitude_e7, _E7):f}",
            "longitude": f"{decimal_of(point.longitude_e7, _E7):f}",
        }
    written.update(given(evse_uid=location.evse_id, evse_id=location.evse_id))
    written.update(given(connector_id=location.connector_id))
    if location.HasField("connector"):
        connector = location.connector
        power = _POWER_WORDS.get((connector.kind, connector.phases))
        written.update(given(connector_standard=_PLUG_WORDS.get(connector.plug)))
        written["connector_format"] = "CABLE" if connector.cable_attached else "SOCKET"
        written.update(given(connector_power_type=power))
    return written


def _country(node: Node) -> str:
    text = (node.text("country", 3) or "").upper()
    if text and text not in COUNTRIES:
        node.wrong("country", "unknown", "not a country code of three letters; left out")
    return COUNTRIES.get(text, "")


def _read_point(location: LocationSnapshot, coordinates: Node) -> None:
    """Set the point, rounded to 1e-7 degrees, unless it is not on the earth, which is noted."""
    place = []
    for key, most in (("latitude", 90), ("longitude", 180)):
        degrees = number_of(coordinates.get(key))
        if degrees is None or abs(degrees) > most:
            coordinates.wrong(key, "range", "not a place on the earth; left out")
            return
        place.append(int((degrees * _E7).to_integral_value(ROUND_HALF_UP)))
    location.point.latitude_e7, location.point.longitude_e7 = place


def _read_connector(location: LocationSnapshot, node: Node) -> None:
    standard, power = node.text("connector_standard", 64), node.text("connector_power_type", 32)
    kind = node.text("connector_format", 32)
    if not (standard or power or kind):
        return
    connector = Connector(cable_attached=kind == "CABLE")
    if standard in PLUGS:
        connector.plug = PLUGS[standard]
    elif standard is not None:
        node.wrong("connector_standard", "unknown", "not a standard that the market knows")
    if power in POWER_TYPES:
        connector.kind, connector.phases = POWER_TYPES[power]
    elif power is not None:
        node.wrong("connector_power_type", "unknown", "not a power type of OCPI")
    location.connector.CopyFrom(connector)


def read_signed(node: Node) -> SignedMeterData | None:
    """Read signed meter data; None, noted, where a text is too long: a part proves nothing."""
    signed = SignedMeterData(
        encoding_method=node.text("encoding_method", 36, required=True) or "",
        encoding_version=node.rounded("encoding_method_version", 1, 2**31 - 1) or 0,
        public_key=node.text("public_key", 2048) or "",
        verification_url=node.text("url", 512) or "",
    )
    for each in node.nodes("signed_values", _MOST_READINGS):
        texts = {"plain_data": _LONGEST_PLAIN, "signed_data": _LONGEST_SIGNED}
        if any(len(str(each.get(key) or "")) > longest for key, longest in texts.items()):
            each.report.keep(each.at, "signed_value.length", "too long; nothing signed is kept")
            return None
        signed.readings.add(
            nature=each.text("nature", 32, required=True) or "",
            plain_data=each.text("plain_data", _LONGEST_PLAIN, required=True) or "",
            signed_data=each.text("signed_data", _LONGEST_SIGNED, required=True) or "",
        )
    return signed


def write_signed(signed: SignedMeterData) -> dict[str, Any]:
    """Write signed meter data."""
    values = [
        {"nature": each.nature, "plain_data": each.plain_data, "signed_data": each.signed_data}
        for each in signed.readings
    ]
    return {
        "encoding_method": signed.encoding_method,
        **given(
            encoding_method_version=signed.encoding_version or None,
            public_key=signed.public_key,
            signed_values=values,
            url=signed.verification_url,
        ),
    }
