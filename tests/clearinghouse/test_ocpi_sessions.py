"""Sessions of OCPI as notices, tokens as contracts, and the examples that EVRoaming publishes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clearinghouse.ocpi_exchange import RECORDS, SESSIONS, TARIFFS, TOKENS, OcpiKind, read_objects
from clearinghouse.ocpi_session import notice_of, session_of, write_session
from clearinghouse.ocpi_token import as_contracts
from foundation.import_report import Action, DefectReport
from foundation.ocpi_version import V2_3_0
from foundation.validation import violations
from gem.roaming.v1.identification_pb2 import WhitelistPolicy
from gem.roaming.v1.session_notice_pb2 import SessionNoticeKind
from tests.clearinghouse.ocpi_messages import cdr, session, token
from tests.clearinghouse.test_ocpi_exchange import again, exactly, only, read
from tests.external_data import FOLDER, needs

pytestmark = pytest.mark.usecase(1511)
#: Kind, good objects, skipped ones, and some of the defects, of every published example.
EXAMPLES: list[tuple[str, OcpiKind[Any], int, set[tuple[str, str]]]] = [
    ("token_example_1_app_user", TOKENS, 1, {("$.issuer", "not_carried")}),
    ("token_example_2_full_rfid", TOKENS, 1, {("$.energy_contract", "not_carried")}),
    ("token_put_example", TOKENS, 1, {("$.group_id", "not_carried")}),
    ("token_patch_example", TOKENS, 0, {("$", "token.form")}),
    ("transport_and_format_get_token_example", TOKENS, 0, {("$.data", "token.rules")}),
    ("transport_and_format_get_token_list_example", TOKENS, 0, {("$.data[1]", "token.rules")}),
    ("tariff_1_simple_2hour", TARIFFS, 1, set()),
    ("tariff_8_simple_025kwh", TARIFFS, 1, set()),
    ("tariff_9_025kwh_start", TARIFFS, 1, set()),
    ("tariff_13_simple_3hour_5parking", TARIFFS, 1, set()),
    ("tariff_19_simple_north_american_exclusive", TARIFFS, 1, set()),
    ("tariff_put_example", TARIFFS, 1, {("$.last_updated", "last_updated.missing")}),
    ("session_example_1_simple_start", SESSIONS, 1, {("$.evse_uid", "evse_uid.made")}),
    ("session_example_2_short_finished", SESSIONS, 1, {("$.evse_uid", "evse_uid.made")}),
    ("session_patch_example_charging_period", SESSIONS, 0, {("$", "session.form")}),
    ("session_patch_example_total_cost", SESSIONS, 0, {("$.status", "status.missing")}),
]


@pytest.mark.external_data
@needs("ocpi-2.3.0")
@pytest.mark.parametrize(("name", "kind", "good", "defects"), EXAMPLES, ids=lambda v: str(v)[:40])
def test_a_published_example_comes_back_as_it_was(
    name: str, kind: OcpiKind[Any], good: int, defects: set[tuple[str, str]]
) -> None:
    text = (FOLDER / "ocpi-2.3.0" / f"{name}.json").read_text()
    report = DefectReport()
    found = list(read_objects(kind, text, name, V2_3_0, report))
    assert len(found) == good
    assert defects <= {(each.path, each.rule) for each in report.defects}
    source = exactly(json.loads(text))
    objects = source.get("data", source)
    for each, original in zip(
        found, objects if isinstance(objects, list) else [objects], strict=False
    ):
        assert again(kind, each, V2_3_0) == original


@pytest.mark.external_data
@needs("ocpi-bookings")
def test_what_is_no_object_of_a_kind_is_told_and_breaks_nothing() -> None:
    paths = sorted(FOLDER.glob("ocpi-*/*.json"))
    assert len(paths) >= 40
    kinds: list[OcpiKind[Any]] = [TOKENS, TARIFFS, SESSIONS, RECORDS]
    for kind in kinds:
        report = DefectReport()
        for path in paths:
            list(read_objects(kind, path.read_bytes(), path.name, V2_3_0, report))
        booking = {d.path for d in report.defects if d.file == "booking_example.json"}
        assert ("$" if kind is TOKENS else "$.party_id") in booking


@pytest.mark.parametrize("status", ["PENDING", "RESERVATION", "INVALID"])
def test_a_session_that_has_not_started_or_does_not_count_is_no_notice(status: str) -> None:
    assert notice_of(only(SESSIONS, session(status=status)).message, "A1") is None


def test_a_session_without_a_start_is_no_notice() -> None:
    assert notice_of(only(SESSIONS, session(start_date_time=None)).message, "A1") is None


@pytest.mark.usecase(1512)
@pytest.mark.parametrize(
    ("changes", "kind", "number"),
    [
        ({"status": "ACTIVE", "kwh": 0}, SessionNoticeKind.SESSION_NOTICE_KIND_START, 3601),
        ({"status": "ACTIVE", "kwh": 1}, SessionNoticeKind.SESSION_NOTICE_KIND_UPDATE, 3601),
        ({"status": "COMPLETED"}, SessionNoticeKind.SESSION_NOTICE_KIND_END, 3601),
        (
            {"last_updated": "2026-03-02T07:00:00Z"},
            SessionNoticeKind.SESSION_NOTICE_KIND_END,
            1,
        ),
        ({"last_updated": None}, SessionNoticeKind.SESSION_NOTICE_KIND_END, 1),
    ],
)
def test_notices_of_a_session_are_ordered_by_its_changes(
    changes: dict[str, Any], kind: int, number: int
) -> None:
    notice = notice_of(only(SESSIONS, session(**changes)).message, "A1")
    assert notice is not None
    assert not violations(notice)
    assert (notice.kind, notice.sequence_number) == (kind, number)
    assert notice.cost.amount_micros == 2_500_000


def test_a_record_has_its_session() -> None:
    record = only(RECORDS, cdr()).message
    written = write_session(session_of(record), V2_3_0)
    assert only(SESSIONS, json.loads(json.dumps(written, default=float))).key == "S1"
    assert (written["id"], written["status"], written["kwh"]) == ("S1", "COMPLETED", 10)


@pytest.mark.usecase(1513)
def test_tokens_of_one_contract_are_one_contract_with_the_strictest_policy() -> None:
    source = [
        token(uid="1", whitelist="ALWAYS"),
        token(uid="2", whitelist="NEVER", contract_id="nltnmc00122045k"),
        token(uid="3", contract_id="NL-TNM-C00122046-J"),
        token(uid="1"),
    ]
    found, report = read(TOKENS, source)
    report.defects.clear()
    first, second = as_contracts([(each.at, each.message) for each in found], report)
    assert [each.token_uid for each in first.tokens] == ["1", "2"]
    assert first.whitelist_policy == WhitelistPolicy.WHITELIST_POLICY_NEVER
    assert not first.HasField("changed_time")
    assert [each.token_uid for each in second.tokens] == ["3"]
    assert [(d.path, d.rule, d.action) for d in report.defects] == [
        ("$[1].whitelist", "whitelist.differs", Action.KEPT),
        ("$[3].whitelist", "whitelist.differs", Action.KEPT),
        ("$[3]", "uid.duplicate", Action.SKIPPED),
    ]
