"""Settings of a provider: what is wrong is refused by the name of the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import SettingsError
from mobility.provider import serve
from mobility.provider_settings import read_settings
from tests.identities import TRUST_DOMAIN


def config_file(folder: Path, **change: object) -> Path:
    """Write a configuration whose files are beside it."""
    values = {
        "operator_name": "ABC",
        "database_url": "postgresql://nobody@/nothing?host=/nonexistent",
        "key_file": "key_file",
        "certificate_file": "certificate_file",
        "ca_file": "ca_file",
        "trust_domain": TRUST_DOMAIN,
        **change,
    }
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"operator_name": None}, "config"),
        ({"partner_id": "abc"}, "config"),
        ({"port": 99_999}, "port"),
        ({"prot": 1}, "prot"),
        ({"database_url": ""}, "database_url"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name(
    tmp_path: Path, change: dict[str, object], key: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(config_file(tmp_path, **change))
    assert caught.value.key == key


def test_a_config_that_is_no_json_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in (None, "", "[]", "{" * 70_000):
        if text is not None:
            path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            read_settings(path)
        assert caught.value.key == "config"


async def test_a_missing_key_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        await serve(read_settings(config_file(tmp_path)))
    assert caught.value.key == "key_file"
