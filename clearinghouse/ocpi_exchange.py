"""Files of OCPI tokens, tariffs, sessions and charge detail records: read and written alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from clearinghouse.ocpi_cdr import read_record, write_record
from clearinghouse.ocpi_rest import Change, difference, lay_over
from clearinghouse.ocpi_session import OcpiSession, read_session_object, write_session
from clearinghouse.ocpi_tariff import read_tariff_version, write_tariff_version
from clearinghouse.ocpi_token import read_token, write_tokens
from clearinghouse.ocpi_values import write_json
from foundation.import_report import DefectReport, Place
from foundation.json_reader import Node
from foundation.ocpi_file import ocpi_objects
from foundation.ocpi_version import OcpiVersion
from foundation.validation import violations
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.clearing_contract_pb2 import CustomerContract
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class OcpiKind(Generic[M]):
    """One kind of object, and how it is read and written."""

    #: For defects, for instance `token`.
    name: str
    read: Callable[[Node, OcpiVersion], M | None]
    write: Callable[[M, OcpiVersion], dict[str, Any]]
    #: The message that has to keep the rules of the interface.
    message: Callable[[M], Message]
    #: Members that name an object.
    key: tuple[str, ...]


TOKENS: OcpiKind[CustomerContract] = OcpiKind(
    "token", read_token, lambda m, v: write_tokens(m, v)[0], lambda m: m, ("type", "uid")
)
TARIFFS: OcpiKind[TariffVersion] = OcpiKind(
    "tariff", read_tariff_version, write_tariff_version, lambda m: m, ("id",)
)
SESSIONS: OcpiKind[OcpiSession] = OcpiKind(
    "session", read_session_object, write_session, lambda m: m.record, ("id",)
)
RECORDS: OcpiKind[ChargeDetailRecord] = OcpiKind(
    "cdr", read_record, write_record, lambda m: m, ("id",)
)


@dataclass(frozen=True, slots=True)
class OcpiObject(Generic[M]):
    """One good object of a file."""

    at: Place
    message: M
    #: Names the object among those of its kind.
    key: str
    #: What the market has no field for.
    rest: tuple[Change, ...]


def read_objects(
    kind: OcpiKind[M],
    data: bytes | str,
    file_name: str,
    version: OcpiVersion,
    report: DefectReport,
) -> Iterator[OcpiObject[M]]:
    """Give the good objects of a file; every defect, and what is not carried, is reported."""
    for node in ocpi_objects(data, file_name, report):
        report.objects += 1
        message = kind.read(node, version)
        if message is None:
            text = "not a whole object, or a part is wrong without which it means nothing"
            report.skip(node.at, f"{kind.name}.form", text)
            continue
        broken = violations(kind.message(message))
        for violation in broken:
            rule = f"{kind.name}.{violation.field}: {violation.rule}"
            report.keep(node.at, rule, "the object breaks a rule of the interface")
        if broken:
            report.skip(node.at, f"{kind.name}.rules", "the market would refuse the object")
            continue
        for place in node.unread():
            report.keep(place, "not_carried", "the market has no field for the member; kept aside")
        written = kind.write(message, version)
        rest = tuple(difference(written, node.value))
        yield OcpiObject(node.at, message, object_key(kind, written), rest)


def object_key(kind: OcpiKind[M], written: Mapping[str, Any]) -> str:
    """Give what names an object among those of its kind, from its JSON."""
    return "/".join(str(written.get(member, "")) for member in kind.key).upper()


def write_file(
    kind: OcpiKind[M],
    objects: Iterable[dict[str, Any]],
    rest: Mapping[str, Iterable[Change]],
) -> str:
    """Give the text of a file with the written objects, each with what was kept aside for it."""
    whole = [lay_over(each, rest.get(object_key(kind, each), ())) for each in objects]
    return write_json(whole) + "\n"


def unsaid(
    kind: OcpiKind[M], message: M, written: dict[str, Any], version: OcpiVersion
) -> set[str]:
    """Give the fields of a message that its JSON does not say, found by reading it again."""
    report = DefectReport()
    again = kind.read(Node(written, Place(""), report), version)
    ours = kind.message(message)
    theirs = type(ours)() if again is None else kind.message(again)
    return {
        field.name
        for field in ours.DESCRIPTOR.fields
        if getattr(ours, field.name) != getattr(theirs, field.name)
    }
