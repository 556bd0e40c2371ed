"""`gemarket conformance`: waiting for a run, reports, certification, and how each ends."""

from __future__ import annotations

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import certification_pb2 as wire
from gem.mesh.v1 import error_reason_pb2
from gemarket.commands import conformance
from gemarket.layout import Layout
from tests.gemarket.fake_market import FakeMarket

_STATES = wire.ConformanceState


def report(state: str, *details: str) -> wire.ConformanceReport:
    """Give a report in a state, with a failed check for each detail."""
    checks = [
        wire.ConformanceCheck(
            kind=wire.CONFORMANCE_CHECK_KIND_INVALID_REQUEST,
            method="/a.B/Call",
            outcome=wire.CONFORMANCE_OUTCOME_NOT_APPLICABLE,
            detail=detail,
            duration_us=1_250,
        )
        for detail in details
    ]
    value = _STATES.Value(f"CONFORMANCE_STATE_{state}")
    return wire.ConformanceReport(run_id="r-1", endpoint="h:1", state=value, checks=checks)


def got(state: str) -> wire.GetConformanceReportResponse:
    """Give the answer about a run in a state."""
    return wire.GetConformanceReportResponse(report=report(state, "seen"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask often."""
    monkeypatch.setattr(conformance, "_POLL_S", 0.001)


@pytest.mark.parametrize(("state", "status"), [("PASSED", 0), ("FAILED", 1), ("ABANDONED", 1)])
def test_a_run_is_waited_for_and_its_end_is_the_status(
    market: FakeMarket, state: str, status: int
) -> None:
    market.on("RunConformance", wire.RunConformanceResponse(report=report("RUNNING")))
    market.on("GetConformanceReport", got("RUNNING"), got("RUNNING"), got(state))
    result = market.run("conformance", "run", "s-1", "--include-side-effects")
    assert result.exit_code == status
    assert f"Run r-1: {state.lower()}" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "invalid request" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells == ["invalid request", "Call", "not applicable", "1.2", "seen"]
    (asked,) = market.asked("RunConformance", wire.RunConformanceRequest)
    assert (asked.service_id, asked.include_side_effects) == ("s-1", True)
    polls = market.asked("GetConformanceReport", wire.GetConformanceReportRequest)
    assert [poll.run_id for poll in polls] == ["r-1"] * 3


def test_who_does_not_wait_sees_the_run_that_goes_on(market: FakeMarket) -> None:
    market.on("RunConformance", wire.RunConformanceResponse(report=report("RUNNING")))
    (shown,) = market.json("conformance", "run", "s-1", "--no-wait", "--json")
    assert shown["state"] == "CONFORMANCE_STATE_RUNNING"
    assert [call.method for call in market.calls] == ["RunConformance"]


def test_a_run_that_takes_too_long_is_left_with_its_id(
    market: FakeMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "_WAIT_S", 0.05)
    market.on("RunConformance", wire.RunConformanceResponse(report=report("RUNNING")))
    market.on("GetConformanceReport", got("RUNNING"))
    result = market.run("conformance", "run", "s-1")
    assert result.exit_code == 2
    assert "gemarket conformance: run r-1 goes on: look at it later" in result.stderr


def test_runs_are_listed_or_there_are_none(market: FakeMarket) -> None:
    market.on("ListConformanceReports", wire.ListConformanceReportsResponse())
    assert market.good("conformance", "list", "s-1") == "The service was never checked.\n"
    reports = [report("PASSED"), report("FAILED")]
    market.on("ListConformanceReports", wire.ListConformanceReportsResponse(reports=reports))
    lines = [row for row in market.good("conformance", "list", "s-1").splitlines() if "h:1" in row]
    assert ["passed" in line for line in lines] == [True, False]
    found = market.json("conformance", "list", "s-1", "--json")
    assert [each["run_id"] for each in found] == ["r-1", "r-1"]


def test_a_service_without_a_certification_is_said_to_have_none(market: FakeMarket) -> None:
    market.on("GetCertification", wire.GetCertificationResponse())
    assert market.good("conformance", "status", "s-1") == "The service is not certified.\n"
    assert market.json("conformance", "status", "s-1", "--json") == [{}]


def test_the_technical_operator_certifies_and_revokes(market: FakeMarket) -> None:
    made = wire.Certification(interface_name="a.B", interface_version=3)
    made.certify_time.FromJsonString("2026-02-01T08:00:00Z")
    market.on("CertifyService", wire.CertifyServiceResponse(certification=made))
    said = market.good("conformance", "certify", "r-1")
    assert said == "Certified since 2026-02-01T08:00:00Z for version 3 of a.B.\n"
    market.on("RevokeCertification", wire.RevokeCertificationResponse())
    said = market.good("conformance", "revoke", "s-1", "--reason", "It lies.")
    assert said == "The certification is revoked.\n"
    (asked,) = market.asked("RevokeCertification", wire.RevokeCertificationRequest)
    assert (asked.service_id, asked.reason) == ("s-1", "It lies.")
    technical = Layout(market.folder).operator("technical").certificate_file.read_bytes()
    for call in market.calls:
        assert technical.startswith(call.certificate_pem.strip())


@pytest.mark.parametrize("command", [("run", "s"), ("show", "r"), ("certify", "r"), ("list", "s")])
def test_a_refusal_ends_each_command_with_its_reason(
    market: FakeMarket, command: tuple[str, ...]
) -> None:
    error = MarketError(error_reason_pb2.ERROR_REASON_NOT_FOUND, "There is none.")
    for method in ("RunConformance", "GetConformanceReport", "CertifyService"):
        market.on(method, error)
    market.on("ListConformanceReports", error)
    result = market.run("conformance", *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "NOT_FOUND There is none." in result.stderr
