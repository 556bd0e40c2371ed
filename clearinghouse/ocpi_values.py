"""Numbers, times, parties and costs as OCPI writes them, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.json_reader import Node
from foundation.ocpi_version import V2_3_0, VERSIONS, OcpiVersion
from gem.roaming.v1.authorization_pb2 import AuthorizationMethod
from gem.roaming.v1.charge_detail_record_pb2 import Cost
from gem.roaming.v1.identification_pb2 import Identification, IdentificationKind

MICROS = 1_000_000
MILLI_WH_PER_KWH = 1_000_000
MS_PER_HOUR = 3_600_000
PPM_PER_PERCENT = 10_000
#: Numbers beyond these are errors, whatever they count.
MOST_AMOUNT = 1_000_000_000
MOST_QUANTITY = 1_000_000_000
_MOST_TAXES = 10
_FEWEST_DECIMALS = 4
_PARTY = re.compile(r"([A-Za-z]{2})[-*]?([A-Za-z0-9]{3})")
#: Kinds of identification by OCPI's words for types of tokens; those of one version are its own.
TOKEN_TYPES = MappingProxyType(
    {
        "RFID": IdentificationKind.IDENTIFICATION_KIND_RFID,
        "APP_USER": IdentificationKind.IDENTIFICATION_KIND_APP,
        "AD_HOC_USER": IdentificationKind.IDENTIFICATION_KIND_GUEST,
        "OTHER": IdentificationKind.IDENTIFICATION_KIND_OTHER,
    }
)
_METHODS = {
    "AUTH_REQUEST": AuthorizationMethod.AUTHORIZATION_METHOD_REQUEST,
    "COMMAND": AuthorizationMethod.AUTHORIZATION_METHOD_COMMAND,
    "WHITELIST": AuthorizationMethod.AUTHORIZATION_METHOD_WHITELIST,
}


def decimal_of(number: int, factor: int) -> Decimal | int:
    """Give an integer divided by a power of ten, without zeros at the end."""
    quotient = Decimal(number) / factor
    whole = quotient.to_integral_value()
    return int(whole) if quotient == whole else quotient.normalize()


def hours_of(time_ms: int) -> Decimal | int:
    """Give hours with as few decimals, four or more, as read back to the same milliseconds."""
    exact = Decimal(time_ms) / MS_PER_HOUR
    for decimals in range(_FEWEST_DECIMALS, 12):
        hours = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
        if int((hours * MS_PER_HOUR).to_integral_value(ROUND_HALF_UP)) == time_ms:
            break
    return int(hours) if hours == hours.to_integral_value() else hours.normalize()


def time_text(time: Timestamp) -> str:
    """Give an instant as an OCPI DateTime, with as many decimals as it needs."""
    text = datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{time.nanos:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def party_of(identifier: str) -> dict[str, str]:
    """Give country and party of an operator id or contract id; nothing where it has none."""
    match = _PARTY.match(identifier)
    return {} if match is None else {"country_code": match[1].upper(), "party_id": match[2].upper()}


def read_operator_id(node: Node) -> str | None:
    """Give the operator id of an object's party, for instance `DE*ABC`; None, noted, if none."""
    country, party = node.text("country_code", 16) or "", node.text("party_id", 16) or ""
    if not re.fullmatch(r"[A-Za-z]{2}", country):
        node.wrong("country_code", "value", "not two letters")
        return None
    if not re.fullmatch(r"[A-Za-z0-9]{3}", party):
        node.wrong("party_id", "value", "not three letters or digits")
        return None
    return f"{country}*{party}".upper()


def token_types(version: OcpiVersion) -> Mapping[str, IdentificationKind.ValueType]:
    """Give the kinds of identification that a version has words for, by word."""
    if version.plug_and_charge is None:
        return TOKEN_TYPES
    kind = IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE
    return {**TOKEN_TYPES, version.plug_and_charge: kind}


def read_kind(node: Node, version: OcpiVersion) -> IdentificationKind.ValueType:
    """Give what kind of token it is; OTHER, noted, where the word is not known."""
    word = node.text("type", 32) or ""
    if word not in token_types(version):
        if word not in token_types(V2_3_0):
            node.wrong("type", "unknown", "not a type of token; taken as OTHER")
            return IdentificationKind.IDENTIFICATION_KIND_OTHER
        node.wrong("type", "version", "a type of another version of OCPI")
    return token_types(V2_3_0)[word]


def kind_word(kind: int, version: OcpiVersion) -> str:
    """Give OCPI's word for a kind of identification; OTHER where it has none."""
    return next((word for word, value in token_types(version).items() if value == kind), "OTHER")


def read_identification(node: Node, version: OcpiVersion) -> Identification:
    """Read the token of a session or record."""
    read_operator_id(node)
    return Identification(
        kind=read_kind(node, version),
        contract_id=node.text("contract_id", 40, required=True) or "",
        token_uid=node.text("uid", 64, required=True) or "",
    )


def write_identification(identification: Identification, version: OcpiVersion) -> dict[str, Any]:
    """Write the token of a session or record."""
    return {
        **party_of(identification.contract_id),
        **given(uid=identification.token_uid),
        "type": kind_word(identification.kind, version),
        **given(contract_id=identification.contract_id),
    }


def read_method(node: Node) -> AuthorizationMethod.ValueType:
    """Give how the authorization came about; unspecified, noted, where it is not said."""
    word = node.text("auth_method", 32, required=True)
    if word is not None and word not in _METHODS:
        node.wrong("auth_method", "unknown", "neither AUTH_REQUEST, COMMAND nor WHITELIST")
    return _METHODS.get(word or "", AuthorizationMethod.AUTHORIZATION_METHOD_UNSPECIFIED)


def method_word(method: int) -> str | None:
    """Give OCPI's word for an authorization method; None where it has none."""
    return next((word for word, value in _METHODS.items() if value == method), None)


def read_cost(node: Node, version: OcpiVersion) -> Cost | None:
    """Read a cost in the form of either version; None, noted, where it has no amount."""
    names = {V.before_tax: V.cost_after_tax for V in VERSIONS.values()}
    before = next((name for name in names if node.get(name) is not None), None)
    if before is None:
        node.wrong(version.before_tax, "missing", "a cost has an amount without tax; left out")
        return None
    if before != version.before_tax:
        node.wrong(before, "name", "a member of another version of OCPI")
    without = node.rounded(before, MICROS, MOST_AMOUNT)
    if without is None:
        return None
    cost = Cost(without_tax_micros=without)
    after = names[before]
    with_tax = None if after is None else node.rounded(after, MICROS, MOST_AMOUNT)
    for tax in node.nodes("taxes", _MOST_TAXES):
        amount = tax.rounded("amount", MICROS, MOST_AMOUNT)
        if amount is None:
            tax.wrong("amount", "missing", "a tax without an amount; left out")
            continue
        added = cost.taxes.add(name=tax.text("name", 32, required=True) or "", amount_micros=amount)
        rate_ppm = tax.rounded("percentage", PPM_PER_PERCENT, 100_000)
        if rate_ppm is not None:
            added.rate_ppm = rate_ppm
    if cost.taxes and with_tax is None:
        with_tax = without + sum(tax.amount_micros for tax in cost.taxes)
    if with_tax is not None:
        cost.with_tax_micros = with_tax
    return cost


def write_cost(cost: Cost, version: OcpiVersion) -> dict[str, Any]:
    """Write a cost; where a version has only a list of taxes, what is not told apart is VAT."""
    written: dict[str, Any] = {version.before_tax: decimal_of(cost.without_tax_micros, MICROS)}
    if version.cost_after_tax is not None and cost.HasField("with_tax_micros"):
        written[version.cost_after_tax] = decimal_of(cost.with_tax_micros, MICROS)
    if not version.lists_taxes:
        return written
    taxes = [
        {
            "name": tax.name,
            **(
                {"percentage": decimal_of(tax.rate_ppm, PPM_PER_PERCENT)}
                if tax.HasField("rate_ppm")
                else {}
            ),
            "amount": decimal_of(tax.amount_micros, MICROS),
        }
        for tax in cost.taxes
    ]
    tax_micros = cost.with_tax_micros - cost.without_tax_micros
    if not taxes and cost.HasField("with_tax_micros") and tax_micros:
        taxes = [{"name": "VAT", "amount": decimal_of(tax_micros, MICROS)}]
    return {**written, "taxes": taxes} if taxes else written


def given(**members: Any) -> dict[str, Any]:
    """Give the members that say something: neither None nor empty."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}


def write_json(value: Any, indent: str = "") -> str:
    """Write JSON with every decimal of its numbers; raises TypeError for what is no JSON."""
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {write_json(each, inner)}" for key, each in value.items()]
        return _lines("{", parts, "}", indent)
    if isinstance(value, list):
        return _lines("[", [write_json(each, inner) for each in value], "]", indent)
    if isinstance(value, Decimal):
        return format(value, "f")
    if value is None or isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError("not a value of JSON")


def _lines(opening: str, parts: list[str], closing: str, indent: str) -> str:
    if not parts:
        return opening + closing
    separator = f",\n{indent}  "
    return f"{opening}\n{indent}  {separator.join(parts)}\n{indent}{closing}"
