"""Charging stations of OpenStreetMap, as overpass turbo and the Overpass API export them.

Reads GeoJSON (a FeatureCollection, a list of features or one feature, also assigned to a
JavaScript variable) and the Overpass API's own JSON. A station without a registered id gets one
that follows from its country, the operator's name and the number of its map object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from foundation.identifiers import EvseId
from foundation.import_report import Place
from foundation.json_reader import MOST_ELEMENTS, Node, read_json
from gem.charging.v1 import evse_pb2
from mobility.import_report import ImportReport
from mobility.operator_name import OperatorIds
from mobility.osm_place import place_of
from mobility.osm_tags import add_tags

_OBJECT = re.compile(r"(node|way|relation)/([0-9]{1,19})")
#: Numbers of nodes stand as they are; a letter tells the other kinds apart.
_LETTER = {"node": "", "way": "W", "relation": "R"}
_REGISTERED = "ref:EU:EVSE"


def read_osm(
    data: bytes | str,
    file_name: str,
    report: ImportReport,
    operator_ids: OperatorIds,
    country_code: str = "DE",
    currency_code: str = "EUR",
) -> None:
    """Add the stations of one file to the report; `country_code` is that of stations without one.

    `currency_code` is the currency of stations that say that charging is free.
    """
    whole = Place(file_name)
    for feature in _features(read_json(data, report, whole), report, whole):
        report.objects += 1
        _Station(feature, report, operator_ids, country_code, currency_code).read()


def _features(root: Any, report: ImportReport, whole: Place) -> Iterator[Node]:
    """Give the features of a file in any of its forms."""
    if isinstance(root, list):
        root = {"features": root}
    if not isinstance(root, dict):
        if root is not None:
            report.skip(whole, "file.form", "the file holds no object and no list")
        return
    node = Node(root, whole, report)
    if "features" in root:
        yield from node.nodes("features", MOST_ELEMENTS)
    elif "elements" in root:
        for element in node.nodes("elements", MOST_ELEMENTS):
            yield Node(_feature_of(element.value), element.at, report)
    elif "geometry" in root:
        yield node
    else:
        report.skip(whole, "file.form", "the file holds no features")


def _feature_of(element: dict[str, Any]) -> dict[str, Any]:
    """Give an element of the Overpass API as the feature that overpass turbo makes of it."""
    place = element.get("center") if isinstance(element.get("center"), dict) else element
    kind, number = element.get("type"), element.get("id")
    point = [place.get("lon"), place.get("lat")] if isinstance(place, dict) else None
    return {
        "id": f"{kind}/{number}" if isinstance(number, int) else None,
        "properties": element.get("tags"),
        "geometry": {"type": "Point", "coordinates": point},
    }


class _Station:
    """One feature on its way to one or more EVSEs."""

    def __init__(
        self,
        feature: Node,
        report: ImportReport,
        operator_ids: OperatorIds,
        country_code: str,
        currency_code: str,
    ) -> None:
        self._feature = feature
        self._report = report
        self._operator_ids = operator_ids
        self._country_code = country_code
        self._currency_code = currency_code

    def read(self) -> None:
        """Add the station's EVSEs to the report, or say why there are none."""
        tags = self._feature.node("properties")
        if tags is None or tags.text("amenity", 64) != "charging_station":
            self._skip("amenity", "the object is not tagged as a charging station")
            return
        if _is_for_bicycles_only(tags):
            self._skip("vehicles", "the station is for bicycles only")
            return
        operator = tags.text("operator", 128)
        if operator is None:
            self._skip("operator.missing", "nobody is named who could offer the station")
            return
        location = place_of(self._feature)
        if location is None:
            self._skip("geometry", "the geometry has no place on the earth")
            return
        country = self._country(tags)
        evse = evse_pb2.Evse(operator_name=operator)
        evse.location.latitude_e7, evse.location.longitude_e7 = location
        add_tags(evse, tags, country, self._currency_code)
        for evse_id in self._evse_ids(tags, operator, country):
            own = evse_pb2.Evse()
            own.CopyFrom(evse)
            own.evse_id = evse_id
            self._report.add(self._feature.at, operator, own)

    def _skip(self, rule: str, message: str) -> None:
        self._report.skip(self._feature.at, rule, message)

    def _country(self, tags: Node) -> str:
        text = (tags.text("addr:country", 64) or self._country_code).upper()
        if re.fullmatch(r"[A-Z]{2}", text):
            return text
        tags.wrong("addr:country", "value", "not a country code of two letters; left out")
        return self._country_code.upper()

    def _evse_ids(self, tags: Node, operator: str, country: str) -> list[str]:
        """Give the registered ids of the station, or else the one that follows from the map."""
        registered = []
        for text in (tags.text(_REGISTERED, 255) or "").split(";"):
            try:
                registered += [str(EvseId.parse(text))] if text.strip() else []
            except ValueError:
                tags.wrong(_REGISTERED, "value", "not an EVSE id; left out")
        if len(registered) > 1:
            tags.wrong(_REGISTERED, "several", "each EVSE is kept with all sockets of the station")
        if registered:
            return registered
        match = _OBJECT.fullmatch(str(self._feature.value.get("id") or tags.value.get("@id")))
        if match is None:
            self._skip("id", "the object has no number from which an EVSE id could follow")
            return []
        operator_id = self._operator_ids.of(operator, country)
        return [f"{operator_id}*E{_LETTER[match[1]]}{match[2]}"]


def _is_for_bicycles_only(tags: Node) -> bool:
    cars = {str(tags.value.get(key)).casefold() for key in ("car", "motorcar", "motor_vehicle")}
    return "no" in cars and "yes" not in cars and tags.value.get("bicycle") == "yes"
