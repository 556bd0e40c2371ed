"""What the clearing house's process logs: where something failed, and nobody's data."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from clearinghouse.process_log import configure_log

CUSTOMER = "NL-TNM-C00122045-K"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Let other tests log as before."""
    before, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    yield
    structlog.configure(**before)
    logging.getLogger().handlers[:] = handlers


def lose(contract_id: str) -> None:
    """Fail as a database does that tells the row."""
    try:
        raise KeyError(contract_id)
    except KeyError as error:
        raise ValueError(f"Key (contract_id)=({contract_id}) already exists") from error


def logged(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[dict[str, Any]]]:
    text = capsys.readouterr().err
    return text, [json.loads(line) for line in text.splitlines()]


@pytest.mark.usecase(1511)
@pytest.mark.parametrize("library", [False, True], ids=["our own", "of a library"])
def test_an_exception_is_told_by_type_and_place(
    capsys: pytest.CaptureFixture[str], library: bool
) -> None:
    configure_log()
    log: Any = logging.getLogger("grpc") if library else structlog.get_logger("clearinghouse")
    try:
        lose(CUSTOMER)
    except ValueError:
        log.exception("defect")
    text, (entry,) = logged(capsys)
    assert CUSTOMER not in text
    assert (entry["event"], entry["level"]) == ("defect", "error")
    assert [each["type"] for each in entry["exception"]] == ["ValueError", "KeyError"]
    assert all("lose" in each["at"][-1] for each in entry["exception"])


def test_an_exception_that_is_given_is_told_alike(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log()
    structlog.get_logger("clearinghouse").error("defect", exc_info=ValueError(CUSTOMER))
    text, (entry,) = logged(capsys)
    assert CUSTOMER not in text
    assert entry["exception"] == [{"type": "ValueError", "at": []}]


def test_what_is_no_failure_is_a_line_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_log()
    structlog.get_logger("clearinghouse").info("not delivered", evsp="evsp-1", failures=2)
    structlog.get_logger("clearinghouse").debug("nobody reads this")
    _, (entry,) = logged(capsys)
    assert {"event": "not delivered", "evsp": "evsp-1", "failures": 2}.items() <= entry.items()
