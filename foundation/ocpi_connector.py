"""OCPI's words for connectors as the interface's, and back."""

from __future__ import annotations

from gem.charging.v1 import evse_pb2

_HOUSEHOLD = [f"DOMESTIC_{letter}" for letter in "ABCDEFGHIJKLMNO"]
_NEMA = ["NEMA_5_20", "NEMA_6_30", "NEMA_6_50", "NEMA_10_30", "NEMA_10_50"]
_NEMA_14 = ["NEMA_14_30", "NEMA_14_50"]
_INDUSTRIAL_3 = ["IEC_60309_2_three_16", "IEC_60309_2_three_32", "IEC_60309_2_three_64"]
#: The first word of several for one plug is the one that is written.
PLUGS = {
    "CHADEMO": evse_pb2.PLUG_TYPE_CHADEMO,
    "CHAOJI": evse_pb2.PLUG_TYPE_CHAOJI,
    **dict.fromkeys(_HOUSEHOLD + _NEMA + _NEMA_14, evse_pb2.PLUG_TYPE_HOUSEHOLD),
    "GBT_AC": evse_pb2.PLUG_TYPE_GB_T_AC,
    "GBT_DC": evse_pb2.PLUG_TYPE_GB_T_DC,
    "IEC_60309_2_single_16": evse_pb2.PLUG_TYPE_INDUSTRIAL_1_PHASE,
    **dict.fromkeys(_INDUSTRIAL_3, evse_pb2.PLUG_TYPE_INDUSTRIAL_3_PHASE),
    "IEC_62196_T1": evse_pb2.PLUG_TYPE_TYPE_1,
    "IEC_62196_T1_COMBO": evse_pb2.PLUG_TYPE_CCS_1,
    "IEC_62196_T2": evse_pb2.PLUG_TYPE_TYPE_2,
    "IEC_62196_T2_COMBO": evse_pb2.PLUG_TYPE_CCS_2,
    "IEC_62196_T3A": evse_pb2.PLUG_TYPE_TYPE_3A,
    "IEC_62196_T3C": evse_pb2.PLUG_TYPE_TYPE_3C,
    "MCS": evse_pb2.PLUG_TYPE_MCS,
    "PANTOGRAPH_BOTTOM_UP": evse_pb2.PLUG_TYPE_PANTOGRAPH,
    "PANTOGRAPH_TOP_DOWN": evse_pb2.PLUG_TYPE_PANTOGRAPH,
    "SAE_J3400": evse_pb2.PLUG_TYPE_NACS,
    "TESLA_R": evse_pb2.PLUG_TYPE_TESLA_ROADSTER,
    "TESLA_S": evse_pb2.PLUG_TYPE_TESLA_EUROPE,
}
#: Kind of current and number of phases.
POWER_TYPES = {
    "AC_1_PHASE": (evse_pb2.CHARGING_KIND_AC, 1),
    "AC_2_PHASE": (evse_pb2.CHARGING_KIND_AC, 2),
    "AC_2_PHASE_SPLIT": (evse_pb2.CHARGING_KIND_AC, 2),
    "AC_3_PHASE": (evse_pb2.CHARGING_KIND_AC, 3),
    "DC": (evse_pb2.CHARGING_KIND_DC, 0),
}
#: Countries of ISO 3166 as locations state them, alpha-3, and alpha-2.
COUNTRIES = {
    "AUT": "AT", "BEL": "BE", "BGR": "BG", "CAN": "CA", "CHE": "CH", "CYP": "CY", "CZE": "CZ",
    "DEU": "DE", "DNK": "DK", "ESP": "ES", "EST": "EE", "FIN": "FI", "FRA": "FR", "GBR": "GB",
    "GRC": "GR", "HRV": "HR", "HUN": "HU", "IRL": "IE", "ISL": "IS", "ITA": "IT", "LIE": "LI",
    "LTU": "LT", "LUX": "LU", "LVA": "LV", "MLT": "MT", "NLD": "NL", "NOR": "NO", "POL": "PL",
    "PRT": "PT", "ROU": "RO", "SRB": "RS", "SVK": "SK", "SVN": "SI", "SWE": "SE", "TUR": "TR",
    "UKR": "UA", "USA": "US",
}  # fmt: skip
