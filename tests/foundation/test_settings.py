from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from foundation.certificates import (
    CertificateAuthority,
    marketplace_uri,
    new_key_and_csr,
    utc_now,
    write_secret,
)
from foundation.errors import SettingsError
from foundation.settings import LimitSettings, Settings
from tests.identities import TRUST_DOMAIN


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take the settings of whoever runs the tests away."""
    for name in [name for name in os.environ if name.upper().startswith("GEMARKET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("GEMARKET_PROT", "8443", "GEMARKET_PROT"),
        ("gemarket_prot", "8443", "gemarket_prot"),
        ("GEMARKET_", "1", "GEMARKET_"),
        ("GEMARKET_LIMITS__DRAIN", "1", "GEMARKET_LIMITS__DRAIN"),
        ("GEMARKET_LIMITS_DRAIN_S", "1", "GEMARKET_LIMITS_DRAIN_S"),
        ("GEMARKET_LIMITS", '{"drain": 1}', "limits.drain"),
        ("GEMARKET_LIMITS", "{", "environment"),
        ("GEMARKET_PORT", "70000", "port"),
        ("GEMARKET_PORT", "http", "port"),
        ("GEMARKET_WORKERS", "0", "workers"),
        ("GEMARKET_LIMITS__DRAIN_S", "0", "limits.drain_s"),
        ("GEMARKET_LIMITS__DRAIN_S", "nan", "limits.drain_s"),
        ("GEMARKET_LIMITS__MAX_CALL_S", "1", "limits"),
        ("GEMARKET_LIMITS__MERGE_RESERVE_S", "10", "limits"),
        ("GEMARKET_SESSION_PORT", "70000", "session_port"),
        ("GEMARKET_LIMITS__SESSION_IDLE_S", "1", "limits.session_idle_s"),
        ("GEMARKET_LIMITS__SESSION_LONGEST_S", "60", "limits"),
        ("GEMARKET_TRUST_DOMAIN", "Gem.Example", "trust_domain"),
        ("GEMARKET_TRUST_DOMAIN", "gem.example/x", "trust_domain"),
        ("GEMARKET_OTLP_ENDPOINT", "localhost:4317", "otlp_endpoint"),
        ("GEMARKET_DATABASE_URL", "mysql://localhost/gem", "database_url"),
        ("GEMARKET_DATABASE_URL", "nonsense", "database_url"),
        ("GEMARKET_CONFIG", "/does/not/exist.toml", "GEMARKET_CONFIG"),
        ("GEMARKET_TLS__KEY_FILE", "key.pem", "tls"),
        ("GEMARKET_SMTP__HOST", "mail.example", "smtp.sender"),
        ("GEMARKET_SMTP__SENDR", "a@mail.example", "GEMARKET_SMTP__SENDR"),
        ("GEMARKET_SMTP", '{"host": "a", "sender": "no address"}', "smtp.sender"),
        ("GEMARKET_SMTP", '{"host": "a", "sender": "a@b.c", "security": "ssl"}', "smtp.security"),
        ("GEMARKET_SMTP", '{"host": "a", "sender": "a@b.c", "timeout_s": 60}', "smtp.timeout_s"),
        ("GEMARKET_SMTP", '{"host": "a", "sender": "a@b.c", "user_name": "u"}', "smtp"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, key: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        Settings()
    assert refusal.value.key == key
    assert str(refusal.value).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("prot = 1", "prot"),
        ("[limits]\ndrain = 1", "limits.drain"),
        ("[limit]\ndrain_s = 1", "limit"),
        ("port = 'http'", "port"),
        ("port =", "gemarket.toml"),
        ("port = 1\nport = 2", "gemarket.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, content: str, key: str) -> None:
    (tmp_path / "gemarket.toml").write_text(content)
    with pytest.raises(SettingsError) as refusal:
        Settings(data_dir=tmp_path)
    assert refusal.value.key == key


def test_a_wrong_argument_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="prot: there is no such setting"):
        Settings(prot=1)


def test_every_wrong_key_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMARKET_PORT", "70000")
    monkeypatch.setenv("GEMARKET_WORKERS", "many")
    with pytest.raises(SettingsError, match=r"^port: .*\(wrong too: workers\)$"):
        Settings()


def test_a_refusal_and_a_print_keep_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMARKET_DATABASE_URL", "mysql://gem:hunter2@db/gem")
    with pytest.raises(SettingsError) as refusal:
        Settings()
    assert "hunter2" not in str(refusal.value)
    monkeypatch.setenv("GEMARKET_DATABASE_URL", "postgresql://gem:hunter2@db/gem")
    assert "hunter2" not in repr(Settings())


def test_settings_cannot_be_changed_once_read() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_without_any_setting_the_defaults_hold() -> None:
    settings = Settings()
    assert settings.data_dir == Path(".gemarket")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8443, 2)
    assert settings.session_port == 8444
    assert settings.database_url is None
    assert settings.limits == LimitSettings()
    assert settings.limits.max_answer_bytes == 1 << 20


def test_an_argument_beats_the_environment_and_the_environment_beats_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gemarket.toml").write_text(
        "port = 1\nworkers = 3\nmetrics_port = 5\n[limits]\ndrain_s = 7\nmax_calls = 8\n"
    )
    monkeypatch.setenv("GEMARKET_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("GEMARKET_PORT", "2")
    monkeypatch.setenv("GEMARKET_WORKERS", "4")
    monkeypatch.setenv("GEMARKET_LIMITS__DRAIN_S", "9")
    settings = Settings(workers=6)
    assert (settings.port, settings.workers, settings.metrics_port) == (2, 6, 5)
    assert (settings.limits.drain_s, settings.limits.max_calls) == (9, 8)


def test_the_named_file_is_read_instead_of_the_one_in_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gemarket.toml").write_text("port = 1")
    (tmp_path / "other.toml").write_text("workers = 5")
    monkeypatch.setenv("GEMARKET_CONFIG", str(tmp_path / "other.toml"))
    settings = Settings(data_dir=tmp_path)
    assert (settings.port, settings.workers) == (8443, 5)


def test_public_names_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMARKET_PUBLIC_NAMES", "market.example, 192.0.2.1,")
    assert Settings().public_names == ("market.example", "192.0.2.1")


def test_a_worker_reads_the_settings_that_its_supervisor_wrote() -> None:
    settings = Settings(port=1, public_names=("a.example",), limits={"drain_s": 3})
    assert Settings(**settings.model_dump(mode="json")) == settings


def _listener(
    folder: Path, *, lifetime: timedelta = timedelta(days=1), server: bool = True
) -> None:
    authority = CertificateAuthority.create(folder / "ca", TRUST_DOMAIN)
    key, csr = new_key_and_csr("listener")
    names = ("market.example", "*.wild.example", "192.0.2.1")
    uri = marketplace_uri(TRUST_DOMAIN)
    issued = authority.issue_from_csr(csr, uri, names, lifetime, client=not server, server=server)
    write_secret(folder / "key.pem", key)
    (folder / "chain.pem").write_bytes(issued.chain_pem)


def _with_certificate(folder: Path, *public_names: str) -> Settings:
    tls = {"certificate_file": folder / "chain.pem", "key_file": folder / "key.pem"}
    return Settings(tls=tls, public_names=public_names)


def test_a_good_certificate_is_taken(tmp_path: Path) -> None:
    _listener(tmp_path)
    settings = _with_certificate(tmp_path, "market.example", "a.wild.example", "192.0.2.1")
    assert settings.tls.key_file == tmp_path / "key.pem"


@pytest.mark.parametrize("name", ["other.example", "a.b.wild.example", "192.0.2.2", "wild.example"])
def test_a_certificate_that_misses_a_public_name_is_refused(tmp_path: Path, name: str) -> None:
    _listener(tmp_path)
    with pytest.raises(SettingsError, match=r"^tls\.certificate_file: does not name"):
        _with_certificate(tmp_path, "market.example", name)


def test_a_certificate_that_ends_at_once_is_refused(tmp_path: Path) -> None:
    _listener(tmp_path, lifetime=timedelta(minutes=1))
    with pytest.raises(SettingsError, match=r"^tls\.certificate_file: is not valid now"):
        _with_certificate(tmp_path)


def test_a_certificate_for_clients_is_refused(tmp_path: Path) -> None:
    _listener(tmp_path, server=False)
    with pytest.raises(SettingsError, match=r"^tls\.certificate_file: is not for servers"):
        _with_certificate(tmp_path)


def test_the_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    _listener(tmp_path)
    write_secret(tmp_path / "key.pem", new_key_and_csr("other")[0])
    with pytest.raises(SettingsError, match=r"^tls\.key_file: is not the key"):
        _with_certificate(tmp_path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    _listener(tmp_path)
    (tmp_path / "key.pem").chmod(0o604)
    with pytest.raises(SettingsError, match=r"^tls\.key_file: must be readable by its owner only"):
        _with_certificate(tmp_path)


@pytest.mark.parametrize(
    ("name", "key"), [("chain.pem", "tls.certificate_file"), ("key.pem", "tls.key_file")]
)
@pytest.mark.parametrize("missing", [True, False])
def test_files_that_cannot_be_read_are_refused(
    tmp_path: Path, name: str, key: str, *, missing: bool
) -> None:
    _listener(tmp_path)
    if missing:
        (tmp_path / name).unlink()
    else:
        write_secret(tmp_path / name, b"garbage")
    with pytest.raises(SettingsError) as refusal:
        _with_certificate(tmp_path)
    assert refusal.value.key == key


def test_the_clock_that_certificates_are_held_against_is_aware_and_in_utc() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_a_mail_server_is_set_by_variables_and_its_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings().smtp is None
    for name, value in {
        "HOST": "mail.example",
        "SENDER": "market@gem.example",
        "USER_NAME": "market",
        "PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(f"GEMARKET_SMTP__{name}", value)
    settings = Settings()
    assert settings.smtp is not None
    assert (settings.smtp.host, settings.smtp.port) == ("mail.example", 587)
    assert (settings.smtp.security, settings.smtp.password) == ("starttls", "hunter2")
    assert "hunter2" not in repr(settings)


def test_a_password_never_travels_unprotected(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "HOST": "mail.example",
        "SENDER": "market@gem.example",
        "USER_NAME": "market",
        "PASSWORD": "hunter2",
        "SECURITY": "none",
    }.items():
        monkeypatch.setenv(f"GEMARKET_SMTP__{name}", value)
    with pytest.raises(SettingsError, match=r"^smtp: ") as refusal:
        Settings()
    assert "hunter2" not in str(refusal.value)


def test_no_network_is_allowed_but_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().services.endpoint_networks_allowed == ()
    assert Settings().services.publication_needs_operator is False
    named = '["127.0.0.0/8", "::1/128"]'
    monkeypatch.setenv("GEMARKET_SERVICES__ENDPOINT_NETWORKS_ALLOWED", named)
    monkeypatch.setenv("GEMARKET_SERVICES__PUBLICATION_NEEDS_OPERATOR", "true")
    services = Settings().services
    assert services.endpoint_networks_allowed == ("127.0.0.0/8", "::1/128")
    assert services.publication_needs_operator is True


@pytest.mark.parametrize("wrong", ['["10.0.0.1/8"]', '["everywhere"]', '["10.0.0.0/99"]'])
def test_what_is_no_network_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("GEMARKET_SERVICES__ENDPOINT_NETWORKS_ALLOWED", wrong)
    with pytest.raises(SettingsError, match=r"services\.endpoint_networks_allowed: must be"):
        Settings()
