"""Logs: one JSON object a line, nothing private, and no line is worth the program."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from gemarket.logs import PRIVATE_KEYS, configure_logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the session's own configuration as it was."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level


def test_a_reader_that_has_gone_away_costs_the_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    configure_logs()
    log = structlog.get_logger("supervisor")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log.error("child_ended", child="worker-0")
    logging.getLogger("library").error("something happened")


def test_private_fields_are_never_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger().warning("call", **dict.fromkeys(PRIVATE_KEYS, "secret"), partner="volt")
    line = json.loads(capsys.readouterr().err)
    assert line.keys() == {"event", "level", "timestamp", "partner"}


def test_both_kinds_of_logger_write_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(logging.WARNING)
    structlog.get_logger().info("not shown")
    structlog.get_logger().warning("ours", number=1)
    logging.getLogger("library").warning("theirs")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["ours", "theirs"]
    assert {line["level"] for line in lines} == {"warning"}
