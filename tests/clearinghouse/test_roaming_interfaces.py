"""What the interfaces of roaming promise: who calls, how it is routed, what is private, refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from foundation.validation import violations
from gem.options.v1.options_pb2 import PartnerRole, Route, RouteKey
from gem.roaming.v1 import (
    charge_detail_record_pb2,
    clearing_contract_pb2,
    clearing_contract_service_pb2,
    clearing_service_pb2,
    contract_holder_service_pb2,
    dispute_pb2,
    identification_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
)
from marketplace.router.interface import compile_interface
from marketplace.router.method_rules import InterfaceRules
from tests.clearinghouse_records import plausible

FILES = (
    clearing_service_pb2,
    clearing_contract_service_pb2,
    contract_holder_service_pb2,
    settlement_service_pb2,
    tariff_service_pb2,
)
HOUSE, OPERATOR, EVSP = (
    PartnerRole.PARTNER_ROLE_CLEARING_HOUSE,
    PartnerRole.PARTNER_ROLE_EVSE_OPERATOR,
    PartnerRole.PARTNER_ROLE_EVSP,
)


def descriptor_set(file: Any) -> bytes:
    """Give what a partner publishes: a file behind all that it imports."""
    files: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        found = descriptor_pool.Default().FindFileByName(name)
        for dependency in found.dependencies:
            add(dependency.name)
        proto = FileDescriptorProto()
        found.CopyToProto(proto)
        files.setdefault(name, proto)

    add(file.DESCRIPTOR.name)
    return FileDescriptorSet(file=files.values()).SerializeToString()


@pytest.fixture(scope="module")
def interfaces() -> dict[str, InterfaceRules]:
    compiled = (compile_interface(descriptor_set(file))[0] for file in FILES)
    return {rules.name.rsplit(".", 1)[-1]: rules for rules in compiled}


@pytest.mark.parametrize(
    ("name", "implemented_by", "called_by"),
    [
        ("ClearingService", {HOUSE}, {OPERATOR, EVSP}),
        ("ClearingContractService", {HOUSE}, {OPERATOR, EVSP}),
        ("ContractHolderService", {EVSP}, {HOUSE, OPERATOR}),
        ("SettlementService", {HOUSE}, {HOUSE, OPERATOR, EVSP}),
        ("TariffService", {HOUSE}, {OPERATOR, EVSP}),
    ],
)
def test_each_interface_says_who_implements_and_who_calls_it(
    interfaces: dict[str, InterfaceRules], name: str, implemented_by: set[int], called_by: set[int]
) -> None:
    assert interfaces[name].implemented_by == implemented_by
    assert interfaces[name].called_by == called_by


def test_nobody_is_asked_about_a_customer_beside_his_own_evsp(
    interfaces: dict[str, InterfaceRules],
) -> None:
    for rules in interfaces.values():
        for method in rules.methods.values():
            assert method.route in {Route.ROUTE_ONE, Route.ROUTE_BY_KEY}
    asked = interfaces["ContractHolderService"].methods[
        "/gem.roaming.v1.ContractHolderService/AuthorizeCustomer"
    ]
    assert asked.route == Route.ROUTE_BY_KEY
    assert asked.route_key is not None
    assert asked.route_key.kind == RouteKey.ROUTE_KEY_CONTRACT_ID
    request = contract_holder_service_pb2.AuthorizeCustomerRequest(contract_id="NL-TNM-C00122045-K")
    assert asked.route_key.read(request) == "NL-TNM-C00122045-K"


STREAMS = {
    "SubmitChargeDetailRecords": (True, True),
    "ReceiveChargeDetailRecords": (True, True),
    "LoadCustomerContracts": (True, True),
    "StreamCustomerContracts": (False, True),
    "GetWhitelist": (False, True),
    "ExportStatement": (False, True),
}


def test_only_what_can_be_long_is_streamed(interfaces: dict[str, InterfaceRules]) -> None:
    streams = {
        path.rsplit("/", 1)[-1]: (method.client_streaming, method.server_streaming)
        for rules in interfaces.values()
        for path, method in rules.methods.items()
        if method.client_streaming or method.server_streaming
    }
    assert streams == STREAMS


def test_reading_has_no_side_effects(interfaces: dict[str, InterfaceRules]) -> None:
    reading = ("Get", "List", "Pull", "Stream", "Explain", "Export", "Rate")
    for rules in interfaces.values():
        for path, method in rules.methods.items():
            reads = path.rsplit("/", 1)[-1].startswith(reading)
            assert method.side_effects != reads, path


def fields_below(message: Descriptor, seen: set[str]) -> list[FieldDescriptor]:
    if message.full_name in seen or message.file.package != "gem.roaming.v1":
        return []
    seen.add(message.full_name)
    found = list(message.fields)
    for field in message.fields:
        if field.message_type is not None:
            found += fields_below(field.message_type, seen)
    return found


PRIVATE = {"token_uid", "token_hash", "customer_secret", "visual_number", "vehicle_id"}


def test_what_names_a_customer_is_private() -> None:
    seen: set[str] = set()
    fields = [
        field
        for file in FILES
        for message in file.DESCRIPTOR.message_types_by_name.values()
        for field in fields_below(message, seen)
    ]
    assert {field.name for field in fields} >= PRIVATE
    customers = {*PRIVATE, "contract_id", "payment_reference"}
    for field in fields:
        if field.name in customers:
            assert field.GetOptions().debug_redact, field.full_name


def who(**fields: Any) -> identification_pb2.Identification:
    fields.setdefault("kind", identification_pb2.IDENTIFICATION_KIND_RFID)
    return identification_pb2.Identification(**fields)


def asked(**fields: Any) -> clearing_service_pb2.AuthorizeRequest:
    fields.setdefault("request_id", "R1")
    fields.setdefault("evse_id", "DE*ABC*E1")
    fields.setdefault("identification", who(token_uid="04A1B2C3"))
    return clearing_service_pb2.AuthorizeRequest(**fields)


REFUSED: list[tuple[Message, str]] = [
    (asked(request_id=""), "request_id"),
    (asked(evse_id=""), "evse_id"),
    (asked(identification=who()), ""),
    (asked(identification=who(kind=0, token_uid="04A1B2C3")), "identification.kind"),
    (asked(identification=who(token_uid="0" * 65)), "identification.token_uid"),
    (asked(decided_by=6), "decided_by"),
    (
        clearing_service_pb2.SubmitChargeDetailRecordsRequest(request_id="R1"),
        "records",
    ),
    (
        clearing_service_pb2.SubmitChargeDetailRecordsRequest(
            request_id="R1", records=501 * [plausible()]
        ),
        "records",
    ),
    (
        clearing_contract_pb2.CustomerContract(
            whitelist_policy=identification_pb2.WHITELIST_POLICY_NEVER
        ),
        "contract_id",
    ),
    (
        clearing_contract_pb2.CustomerContract(contract_id="NL-TNM-C00122045-K"),
        "whitelist_policy",
    ),
    (
        clearing_contract_service_pb2.ChangeOwnContractRequest(
            request_id="R1", contract_id="NL-TNM-C00122045-K", customer_secret="s"
        ),
        "change",
    ),
    (
        clearing_service_pb2.AnswerDisputeRequest(
            request_id="R1", dispute_id="D", answer=dispute_pb2.DISPUTE_STATE_OPEN
        ),
        "answer",
    ),
    (charge_detail_record_pb2.ChargeDetailRecord(operator_id="DE*ABC"), "cdr_id"),
]


@pytest.mark.parametrize(("message", "field"), REFUSED)
def test_a_request_that_breaks_the_rules_is_refused_with_the_field(
    message: Message, field: str
) -> None:
    assert field in {violation.field for violation in violations(message)}


def test_requests_that_keep_the_rules_pass() -> None:
    assert not violations(asked())
    assert not violations(asked(decided_by=2))
    assert not violations(plausible())


def test_an_implausible_record_keeps_the_rules_so_that_it_can_be_returned() -> None:
    made = plausible()
    made.end_time.seconds = 0
    made.total_energy_milli_wh = -(2**63)
    made.total_cost.without_tax_micros = -1
    made.currency_code = "?"
    del made.charging_periods[0].dimensions[:]
    made.ClearField("location")
    assert not violations(made)
