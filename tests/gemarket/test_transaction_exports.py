"""`gemarket transactions`: exports that get their name when they are whole."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from gem.marketplace.v1 import transaction_service_pb2 as wire
from tests.gemarket.fake_market import FakeMarket


def exported(content: bytes, written: int, total: int) -> wire.ExportTransactionsResponse:
    """Give a piece of an export."""
    return wire.ExportTransactionsResponse(
        content=content, written_count=written, total_count=total
    )


def test_an_export_gets_its_name_when_it_is_whole(market: FakeMarket) -> None:
    Path("e.csv").write_text("older")
    parts = [exported(b"a,b\n", 0, 2), exported(b"1,2\n", 1, 2), exported(b"3,4\n", 2, 2)]
    market.on("ExportTransactions", [*parts[:2], grpc.StatusCode.UNAVAILABLE])
    broken = market.run("transactions", "export", "e.csv")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert "1/2" in broken.stderr, "the bar shows how far it came"
    assert Path("e.csv").read_text() == "older"
    market.on("ExportTransactions", parts)
    assert market.good("transactions", "export", "e.csv") == "2 transactions in e.csv\n"
    assert Path("e.csv").read_text() == "a,b\n1,2\n3,4\n"
    assert [file.name for file in Path().iterdir()] == ["e.csv"], "no part is left"


@pytest.mark.parametrize("name", ["e.txt", "csv", "e", "e.csv.gz"])
def test_an_export_that_nobody_can_write_is_refused(market: FakeMarket, name: str) -> None:
    result = market.run("transactions", "export", name)
    assert result.exit_code == 2
    assert "there are: .csv, .jsonl, .xlsx" in result.stderr
    absent = market.run("transactions", "export", "absent/e.csv")
    assert absent.exit_code == 2
    assert "No such file or directory" in absent.stderr
    assert market.calls == []


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("e.CSV", wire.EXPORT_FORMAT_CSV),
        ("e.jsonl", wire.EXPORT_FORMAT_JSON_LINES),
        ("e.xlsx", wire.EXPORT_FORMAT_XLSX),
    ],
)
def test_the_ending_says_the_form(
    market: FakeMarket, name: str, form: wire.ExportFormat.ValueType
) -> None:
    market.on("ExportTransactions", [exported(b"", 0, 0)])
    assert market.good("transactions", "export", name) == f"0 transactions in {name}\n"
    (asked,) = market.asked("ExportTransactions", wire.ExportTransactionsRequest)
    assert (asked.format, asked.counted) == (form, True)
