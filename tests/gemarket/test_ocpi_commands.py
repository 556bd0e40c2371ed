"""`gemarket import ocpi-…` and `gemarket export ocpi-…` against a clearing house over mTLS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gem.roaming.v1 import clearing_contract_service_pb2 as contracts
from gem.roaming.v1.authorization_pb2 import DecidingLayer
from gem.roaming.v1.session_notice_pb2 import SessionNoticeKind
from gemarket.commands.application import application
from tests.clearing_stand_in import ClearingStandIn, clearing_house
from tests.clearinghouse.ocpi_messages import cdr, session, tariff, token
from tests.identities import MakeIdentity

pytestmark = pytest.mark.usecase(1511)


@pytest.fixture
def stand_in() -> ClearingStandIn:
    return ClearingStandIn()


@pytest.fixture
async def folder(
    stand_in: ClearingStandIn, make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[Path]:
    async with clearing_house(stand_in, make_identity, tmp_path, "volt") as made:
        yield made


def write(folder: Path, content: Any, name: str = "some.json") -> str:
    path = folder / name
    path.write_text(json.dumps(content))
    return str(path)


async def run(folder: Path, *arguments: str) -> Result:
    """Run the command beside the event loop of the tests."""

    def work() -> Result:
        given = (*arguments, "--as", "volt", "--data-dir", str(folder))
        return CliRunner().invoke(application, given, env={"COLUMNS": "300", "TERM": "dumb"})

    return await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--as", "nobody"), "'nobody' is not known here"),
        (("--ocpi", "2.1.1"), "is not one of '2.2.1', '2.3.0'"),
        (("--time-zone", "Mars/Olympus"), "the time zone is not one"),
    ],
)
async def test_wrong_options_are_refused(
    folder: Path, stand_in: ClearingStandIn, arguments: tuple[str, ...], text: str
) -> None:
    file = write(folder, [cdr()])

    def work() -> Result:
        given = ("import", "ocpi-cdrs", file, "--as", "volt", "--data-dir", str(folder))
        return CliRunner().invoke(application, (*given, *arguments), env={"COLUMNS": "300"})

    result = await asyncio.to_thread(work)
    assert result.exit_code == 2
    assert text in result.output
    assert stand_in.calls == []


async def test_where_no_market_runs_the_reason_is_told(tmp_path: Path) -> None:
    result = await run(tmp_path, "import", "ocpi-cdrs", write(tmp_path, [cdr()]))
    assert result.exit_code == 2
    assert "try `gemarket up`" in result.output


async def test_a_clearing_house_that_is_away_is_a_failure_with_its_code(
    make_identity: MakeIdentity, tmp_path: Path
) -> None:
    async with clearing_house(ClearingStandIn(), make_identity, tmp_path, "volt"):
        pass
    result = await run(tmp_path, "import", "ocpi-cdrs", write(tmp_path, [cdr()]))
    assert result.exit_code == 1
    assert "UNAVAILABLE" in result.output
    tariffs = await run(tmp_path, "import", "ocpi-tariffs", write(tmp_path, [tariff()]))
    assert tariffs.exit_code == 1
    assert "1 refused" in tariffs.stdout
    exported = await run(tmp_path, "export", "ocpi-cdrs", str(tmp_path / "out.json"))
    assert exported.exit_code == 1
    assert not (tmp_path / "out.json").exists()


async def test_defects_are_told_with_their_place_and_good_records_are_handed_in(
    folder: Path, stand_in: ClearingStandIn
) -> None:
    stand_in.refused = {"C2"}
    content = [cdr(), cdr(id=None), cdr(id="C2", credit=True), 17]
    file = write(folder, content)
    options = ("--time-zone", "Europe/Berlin", "--provider", "house")
    result = await run(folder, "import", "ocpi-cdrs", file, *options)
    assert result.exit_code == 1
    for place, rule in (
        ("$[1]", "cdr.form"),
        ("$[2].credit", "credit.reference"),
        ("$[3]", "object.type"),
    ):
        (line,) = [line for line in result.stdout.splitlines() if rule in line]
        assert place in line
    assert "refused; the EVSE is not one of the operator's" in result.stdout
    assert "1 refused, 1 stored" in result.stdout
    (request,) = stand_in.requests("SubmitChargeDetailRecords")
    assert [record.cdr_id for record in request.records] == ["C1", "C2"]
    assert {record.location.time_zone for record in request.records} == {"Europe/Berlin"}
    assert stand_in.metadata[0]["gem-provider"] == "house"


async def test_an_import_that_is_repeated_has_the_same_ids(
    folder: Path, stand_in: ClearingStandIn
) -> None:
    file = write(folder, [cdr(id=f"C{number}") for number in range(150)])
    for _ in range(2):
        result = await run(folder, "import", "ocpi-cdrs", file)
        assert "150 stored" in result.stdout
    ids = [each.request_id for each in stand_in.requests("SubmitChargeDetailRecords")]
    assert ids[:2] == ids[2:]
    assert len(set(ids)) == 2


async def test_a_file_without_a_good_object_calls_nobody(
    folder: Path, stand_in: ClearingStandIn
) -> None:
    result = await run(folder, "import", "ocpi-tariffs", write(folder, {"id": 1}))
    assert result.exit_code == 0
    assert "none handed in" in result.stdout
    assert stand_in.calls == []


@pytest.mark.usecase(1513)
async def test_tokens_are_loaded_as_contracts(folder: Path, stand_in: ClearingStandIn) -> None:
    stand_in.refused = {"NL-TNM-000122045-U"}
    content = [
        token(uid="AA"),
        token(uid="BB"),
        token(uid="CC", contract_id="NL-TNM-000122045-U"),
        token(uid=None),
    ]
    file = write(folder, content)
    result = await run(folder, "import", "ocpi-tokens", file, "--full", "--atomic")
    assert "the contract is another's" in result.stdout
    assert "1 created, 2 disabled, not named, 1 refused" in result.stdout
    (request,) = stand_in.requests("LoadCustomerContracts")
    assert (request.mode, request.atomic) == (contracts.LOAD_MODE_FULL, True)
    assert [len(each.tokens) for each in request.contracts] == [2, 1]


async def test_tariffs_are_published_each_by_itself(
    folder: Path, stand_in: ClearingStandIn
) -> None:
    stand_in.refused = {"T3"}
    file = write(folder, [tariff(id=f"T{number}") for number in range(20)])
    result = await run(folder, "import", "ocpi-tariffs", file)
    assert "invalid argument: the tariff is refused" in result.stdout
    assert "$[3]" in result.stdout
    assert "19 published, 1 refused" in result.stdout
    requests = stand_in.requests("PublishTariff")
    assert not any(each.version.HasField("published_time") for each in requests)
    assert 1 < stand_in.most_in_flight <= 8


@pytest.mark.usecase(1512)
async def test_notices_of_a_session_come_in_order_and_with_an_authorization(
    folder: Path, stand_in: ClearingStandIn
) -> None:
    stand_in.strangers = {"nobody"}
    bare = {"authorization_reference": None, "auth_method": "WHITELIST"}
    content = [
        session(id="S2", **bare),
        session(id="S2", status="ACTIVE", last_updated="2026-03-02T08:00:00Z", kwh=0, **bare),
        session(id="S1"),
        session(id="S3", status="PENDING"),
        session(id="S4", **bare, cdr_token={"uid": "nobody", "type": "RFID"}),
    ]
    result = await run(folder, "import", "ocpi-sessions", write(folder, content))
    assert "the customer is not authorized" in result.stdout
    assert "1 not started or invalid, 3 notified, 1 refused" in result.stdout
    asked = stand_in.requests("Authorize")
    assert sorted(each.operator_session_id for each in asked) == ["S2", "S4"]
    assert {each.decided_by for each in asked} == {DecidingLayer.DECIDING_LAYER_OPERATOR_LIST}
    notices = [each.notice for each in stand_in.requests("NotifySession")]
    of_two = [each for each in notices if each.operator_session_id == "S2"]
    kinds = SessionNoticeKind
    assert [each.kind for each in of_two] == [
        kinds.SESSION_NOTICE_KIND_START,
        kinds.SESSION_NOTICE_KIND_END,
    ]
    assert {each.authorization_reference for each in of_two} == {"A-S2"}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("cdrs", [cdr(), cdr(id="C2", home_charging_compensation=True)]),
        ("tariffs", [tariff(type="REGULAR", tariff_alt_text=[{"language": "de", "text": "x"}])]),
    ],
)
async def test_what_was_imported_is_exported_as_it_was(
    folder: Path, kind: str, content: list[dict[str, Any]]
) -> None:
    aside, out = str(folder / "aside.json"), folder / "out.json"
    file = write(folder, content)
    await run(folder, "import", f"ocpi-{kind}", file, "--aside", aside)
    result = await run(folder, "export", f"ocpi-{kind}", str(out), "--aside", aside)
    assert result.exit_code == 0, result.output
    assert f"{len(content)} {kind} written" in result.stdout
    exported = json.loads(out.read_text())
    if kind == "tariffs":  # only the clearing house knows when it published them
        exported = [{**each, "last_updated": content[0]["last_updated"]} for each in exported]
    assert exported == content
    assert out.stat().st_mode & 0o077 == 0


async def test_sessions_are_exported_from_records_and_tokens_by_their_hash(folder: Path) -> None:
    out = folder / "out.json"
    await run(folder, "import", "ocpi-cdrs", write(folder, [cdr()]))
    await run(folder, "export", "ocpi-sessions", str(out), "--ocpi", "2.2.1")
    (written,) = json.loads(out.read_text())
    assert (written["id"], written["status"]) == ("S1", "COMPLETED")
    assert written["total_cost"] == {"excl_vat": 2.5, "incl_vat": 2.75}
    await run(folder, "import", "ocpi-tokens", write(folder, [token(uid="AB")]))
    result = await run(folder, "export", "ocpi-tokens", str(out))
    assert "tokens.unsaid" in result.stdout
    (written,) = json.loads(out.read_text())
    assert written["uid"] == b"AB".hex()


async def test_a_file_of_another_kind_is_not_taken_for_what_was_kept_aside(folder: Path) -> None:
    aside = write(folder, [1], "aside.json")
    file = write(folder, [tariff()])
    result = await run(folder, "import", "ocpi-tariffs", file, "--aside", aside)
    assert result.exit_code == 2
    assert "was not written by an import" in result.output
