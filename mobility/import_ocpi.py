"""Locations of OCPI 2.3.0, with tariffs: one object, a list, or a response that wraps either."""

from __future__ import annotations

import hashlib
import re
from decimal import ROUND_HALF_UP

from foundation.identifiers import EvseId
from foundation.json_reader import Node, number_of
from foundation.ocpi_connector import COUNTRIES
from foundation.ocpi_file import ocpi_objects
from foundation.ocpi_tariff import read_tariff
from foundation.ocpi_version import V2_3_0
from gem.charging.v1 import evse_pb2, tariff_pb2
from mobility.import_report import ImportReport
from mobility.ocpi_evse import TariffKey, Tariffs, add_evse, tariff_key
from mobility.ocpi_hours import add_energy_mix, add_opening
from mobility.operator_name import base36


def read_ocpi_tariffs(
    data: bytes | str, file_name: str, report: ImportReport
) -> dict[TariffKey, tariff_pb2.Tariff]:
    """Give the tariffs of one file by country, party and id."""
    tariffs: dict[TariffKey, tariff_pb2.Tariff] = {}
    for node in ocpi_objects(data, file_name, report):
        tariff = read_tariff(node, V2_3_0)
        if tariff is None:
            report.skip(node.at, "tariff", "a part is wrong: no price is sure")
            continue
        node.text("last_updated", 40, required=True)
        key = tariff_key(node, tariff.tariff_id)
        if key in tariffs:
            report.keep(node.at, "tariff.duplicate", "a tariff before this one has the same id")
        tariffs[key] = tariff
    return tariffs


def read_ocpi_locations(
    data: bytes | str, file_name: str, report: ImportReport, tariffs: Tariffs | None = None
) -> None:
    """Add the EVSEs of one file's locations to the report.

    Locations that are not to be published are skipped: a search shows them to anybody.
    """
    for node in ocpi_objects(data, file_name, report):
        report.objects += 1
        _Location(node, tariffs or {}, report).read()


class _Location:
    """One location on its way to EVSEs."""

    def __init__(self, node: Node, tariffs: Tariffs, report: ImportReport) -> None:
        self._node = node
        self._report = report
        self._tariffs = tariffs

    def read(self) -> None:
        """Add the location's EVSEs to the report, or say why there are none."""
        node = self._node
        if "coordinates" not in node.value or "evses" not in node.value:
            self._skip("location.form", "not a whole location with coordinates and EVSEs")
            return
        if node.flag("publish") is not True:
            self._skip("location.publish", "the location is not to be published")
            return
        common = evse_pb2.Evse()
        if not self._add_place(common):
            self._skip("coordinates", "the location has no place on the earth")
            return
        party = self._party()
        operator = self._operator_name(party)
        if operator is None:
            self._skip("party_id", "neither party nor operator are known")
            return
        node.text("last_updated", 40, required=True)
        self._add_description(common, operator)
        for evse in node.nodes("evses"):
            self._read_evse(evse, common, party, operator)

    def _skip(self, rule: str, message: str) -> None:
        self._report.skip(self._node.at, rule, message)

    def _party(self) -> str | None:
        """Give the operator id, for instance `DE*ABC`; None, noted, when it cannot be one."""
        country, party = (str(self._node.value.get(key)) for key in ("country_code", "party_id"))
        if not re.fullmatch(r"[A-Za-z]{2}", country):
            self._node.wrong("country_code", "value", "not two letters")
            return None
        if not re.fullmatch(r"[A-Za-z0-9]{3}", party):
            self._node.wrong("party_id", "value", "not three letters or digits")
            return None
        return f"{country}*{party}".upper()

    def _operator_name(self, party: str | None) -> str | None:
        for key in ("operator", "suboperator", "owner"):
            details = self._node.node(key)
            name = None if details is None else details.text("name", 100)
            if name is not None:
                return name
        return party

    def _add_place(self, evse: evse_pb2.Evse) -> bool:
        """Set the location, rounded to 1e-7 degrees; False when there is none on the earth."""
        coordinates = self._node.node("coordinates")
        if coordinates is None:
            return False
        place = []
        for key, most in (("latitude", 90), ("longitude", 180)):
            value = coordinates.value.get(key)
            degrees = number_of(value)
            if degrees is None or abs(degrees) > most:
                return False
            if not isinstance(value, str):
                coordinates.wrong(key, "type", "a coordinate is a string in OCPI")
            place.append(int((degrees * 10_000_000).to_integral_value(ROUND_HALF_UP)))
        evse.location.latitude_e7, evse.location.longitude_e7 = place
        return True

    def _add_description(self, evse: evse_pb2.Evse, operator: str) -> None:
        """Set what all EVSEs of the location share."""
        node = self._node
        evse.operator_name = operator
        evse.name = node.text("name", 128) or ""
        evse.address.street = node.text("address", 128, required=True) or ""
        evse.address.postal_code = node.text("postal_code", 10) or ""
        evse.address.city = node.text("city", 45, required=True) or ""
        country = (node.text("country", 3, required=True) or "").upper()
        if country and country not in COUNTRIES:
            node.wrong("country", "unknown", "not a country code of three letters; left out")
        evse.address.country_code = COUNTRIES.get(country, "")
        hours = node.node("opening_times")
        if hours is not None:
            add_opening(evse.opening, hours)
        time_zone = node.text("time_zone", 64)
        if time_zone is not None and evse.HasField("opening"):
            evse.opening.time_zone = time_zone
        mix = node.node("energy_mix")
        if mix is not None:
            add_energy_mix(evse.energy_mix, mix)

    def _read_evse(
        self, node: Node, common: evse_pb2.Evse, party: str | None, operator: str
    ) -> None:
        if node.value.get("status") == "REMOVED":
            self._report.skip(node.at, "evse.removed", "the EVSE was removed")
            return
        evse_id = self._evse_id(node, party)
        if evse_id is None:
            self._report.skip(node.at, "evse_id", "no EVSE id, and none follows from party and uid")
            return
        evse = evse_pb2.Evse()
        evse.CopyFrom(common)
        evse.evse_id = evse_id
        add_evse(evse, node, self._node, self._tariffs)
        self._report.add(node.at, operator, evse)

    def _evse_id(self, node: Node, party: str | None) -> str | None:
        """Give the EVSE's id, or one that follows from party and uid; noted where it does."""
        stated = node.text("evse_id", 48)
        if stated is not None:
            try:
                parsed = EvseId.parse(stated)
            except ValueError:
                node.wrong("evse_id", "value", "not an EVSE id; another was made")
            else:
                if party is not None and parsed.operator_id != party.replace("*", ""):
                    node.wrong("evse_id", "party", "the id belongs to another party; kept")
                return str(parsed)
        uid = node.text("uid", 200)
        if party is None or uid is None:
            return None
        if stated is None:
            node.wrong("evse_id", "missing", "made from party and uid")
        outlet = uid.upper()
        if not re.fullmatch(r"[A-Z0-9]{1,30}", outlet):
            outlet = base36(hashlib.sha256(uid.encode()).digest(), 20)
        return f"{party}*E{outlet}"
