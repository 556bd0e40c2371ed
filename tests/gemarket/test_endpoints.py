"""`endpoints.json`: written whole or not at all, and read with a reason where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemarket.endpoints import Endpoints, NotRunningError, Party, read_endpoints
from gemarket.identity import Identity


def endpoints() -> Endpoints:
    """Describe a market with one partner and one operator."""
    return Endpoints(
        marketplace="127.0.0.1:8443",
        metrics="http://127.0.0.1:9464/metrics",
        trust_domain="gem.example",
        ca_file="ca.pem",
        database_url="postgresql+asyncpg://nobody@/nothing",
        partners={"evsp": Party("k", "c", "r")},
        operators={"business": Party("ok", "oc", "or")},
        providers={"volt": "127.0.0.1:1"},
        processes={"worker-0": 1},
    )


def test_where_no_market_was_started_the_reason_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="try `gemarket up`"):
        read_endpoints(tmp_path / "endpoints.json")


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"partners": {}, "operators": {}, "future": 1}']
)
def test_a_file_of_another_kind_is_named_as_such(tmp_path: Path, text: str) -> None:
    path = tmp_path / "endpoints.json"
    path.write_text(text)
    with pytest.raises(NotRunningError, match="is not an endpoints file of this version"):
        read_endpoints(path)


def test_an_unknown_party_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="known are: business, evsp"):
        endpoints().party("nobody")


def test_a_folder_with_a_certificate_is_a_party_and_a_known_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("acme", "evsp"):
        Identity(tmp_path / name).write(b"key", b"certificate", b"roots")
    files = (tmp_path / "acme" / name for name in ("key.pem", "certificate.pem", "ca.pem"))
    expected = Party(*map(str, files))
    assert endpoints().party("acme") == endpoints().party(str(tmp_path / "acme")) == expected
    assert endpoints().party("evsp") == Party("k", "c", "r")
    assert endpoints().party("./evsp").key_file == str(tmp_path / "evsp" / "key.pem")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyError, match="any folder with key"):
        endpoints().party("empty")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.json"
    endpoints().write(path)
    assert read_endpoints(path) == endpoints()
    assert read_endpoints(path).party("evsp") == Party("k", "c", "r")
    assert list(tmp_path.iterdir()) == [path], "nothing half written is left"
