"""Settings: from the environment (`GEMARKET_…`), then `gemarket.toml`; wrong ones are refused.

A nested setting is written with two underscores, `GEMARKET_LIMITS__DRAIN_S=30`, or as a table in
the file. The file is `gemarket.toml` in the data folder, or the one that `GEMARKET_CONFIG` names.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

from foundation.certificates import utc_now
from foundation.database import parse_url
from foundation.errors import SettingsError
from foundation.server_certificate import check_server_certificate

PREFIX = "GEMARKET_"
#: The one variable with our prefix that is no setting: it names the file of settings.
CONFIG_VARIABLE = "GEMARKET_CONFIG"
CONFIG_FILE = "gemarket.toml"
_NESTED = "__"
_NO_SUCH = "there is no such setting"
_DOMAIN_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
#: A certificate that ends sooner than this is refused at the start rather than in the middle.
_CERTIFICATE_MARGIN = timedelta(minutes=5)

Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class LimitSettings(BaseModel):
    """Limits of calls and of the partners that make them; sizes in bytes, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Largest request message.
    max_request_bytes: int = Field(default=4 << 20, ge=1024, le=256 << 20)
    #: Largest answer of one provider.
    max_answer_bytes: int = Field(default=1 << 20, ge=1024, le=256 << 20)
    #: Requests in memory at once, in one worker.
    max_held_bytes: int = Field(default=256 << 20, ge=1 << 20)
    #: Calls in flight at once, in one worker.
    max_calls: int = Field(default=2000, ge=1, le=1_000_000)
    #: Budget of a call whose caller set none.
    default_budget_s: Seconds = 10.0
    #: Longest call with one answer, whatever the caller asks for.
    max_call_s: Seconds = 60.0
    #: Longest call that streams its answer.
    max_stream_s: Seconds = 1800.0
    #: Time for a caller to send its request.
    request_read_timeout_s: Seconds = 5.0
    #: Kept back from a call's budget to merge, record and send the answer.
    merge_reserve_s: Seconds = 0.03
    #: Calls of one partner in flight, in one worker.
    partner_max_calls: int = Field(default=200, ge=1, le=100_000)
    #: Calls of one partner a second, in one worker.
    partner_calls_per_s: float = Field(default=2000, gt=0, le=1_000_000, allow_inf_nan=False)
    #: Age of the routing table after which calls are refused; it ages while the database is away.
    snapshot_max_age_s: Seconds = 900.0
    #: Time for calls in flight to end when the market stops.
    drain_s: Seconds = 20.0
    #: Longest time that a session of a person may be unused.
    session_idle_s: float = Field(default=1800.0, ge=60, le=86_400, allow_inf_nan=False)
    #: Longest time that a session may last however much it is used.
    session_longest_s: float = Field(default=43_200.0, ge=60, le=2_592_000, allow_inf_nan=False)
    #: Largest file that a provider keeps with a service.
    max_service_file_bytes: int = Field(default=100 << 20, ge=1024, le=10 << 30)
    #: Largest sum of the files of one service, and of one provider.
    max_service_files_bytes: int = Field(default=500 << 20, ge=1024, le=1 << 40)
    max_provider_files_bytes: int = Field(default=2 << 30, ge=1024, le=1 << 40)
    #: Age in days at which a conformance run certifies no more.
    conformance_run_max_age_days: int = Field(default=30, ge=1, le=3650)

    @model_validator(mode="after")
    def _check_order(self) -> LimitSettings:
        if self.default_budget_s > self.max_call_s:
            raise ValueError("default_budget_s must not exceed max_call_s")
        if self.merge_reserve_s >= self.default_budget_s:
            raise ValueError("merge_reserve_s must be less than default_budget_s")
        if self.session_idle_s > self.session_longest_s:
            raise ValueError("session_idle_s must not exceed session_longest_s")
        return self


class TlsSettings(BaseModel):
    """Certificate of the listener; without one the market's own authority issues it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Chain in PEM, the listener's own certificate first.
    certificate_file: Path | None = None
    #: Its key in PEM, readable by its owner only.
    key_file: Path | None = None

    @model_validator(mode="after")
    def _check_pair(self) -> TlsSettings:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together")
        return self


class SmtpSettings(BaseModel):
    """The mail server that takes the market's e-mails."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(min_length=1, max_length=253)
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    #: Address from which the market writes.
    sender: str = Field(max_length=254, pattern=r"^[!-?A-~]+@[0-9A-Za-z.-]+$")
    #: How the connection is protected: from its start, from a command on, or not at all.
    security: Literal["tls", "starttls", "none"] = "starttls"
    #: Trust anchors in PEM for the server's certificate; None means those of the machine.
    ca_file: Path | None = None
    user_name: str | None = Field(default=None, max_length=254)
    password: str | None = Field(default=None, max_length=1000, repr=False)
    #: Longest time for one e-mail; a transaction stays open meanwhile.
    timeout_s: float = Field(default=20.0, gt=0, le=30, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_login(self) -> SmtpSettings:
        if (self.user_name is None) != (self.password is None):
            raise ValueError("user_name and password belong together")
        if self.password is not None and self.security == "none":
            raise ValueError("password would travel unprotected: security must not be none")
        return self


class ServiceSettings(BaseModel):
    """What the market asks of the services that partners register."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Whether the technical operator has to approve what a provider publishes.
    publication_needs_operator: bool = False
    #: Whether a service has to be certified before it is published.
    publication_needs_certification: bool = False
    #: Networks in CIDR notation in which endpoints may be besides the public addresses of the
    #: Internet. Every one of them is a way from any partner into that network.
    endpoint_networks_allowed: Annotated[tuple[str, ...], Field(max_length=100)] = ()

    @field_validator("endpoint_networks_allowed")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError("must be networks such as 10.1.0.0/16 or fd00:1::/32") from None
        return value


class Settings(BaseSettings):
    """How one market runs; wrong settings raise SettingsError, which names each wrong key."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True
    )

    #: Everything the market keeps on disk.
    data_dir: Path = Path(".gemarket")
    #: PostgreSQL to use; None means the embedded one in the data folder.
    database_url: str | None = Field(default=None, repr=False)
    #: Address of the listener; port 0 takes a free one.
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    port: Port = 8443
    #: Port of the listener for people, on the same address: TLS without a client certificate.
    session_port: Port = 8444
    #: Further DNS names and IP addresses by which callers reach the listener.
    public_names: Annotated[tuple[str, ...], NoDecode, Field(max_length=100)] = ()
    #: Processes that share the port.
    workers: int = Field(default=2, ge=1, le=256)
    #: Port of `/metrics`, on the same address.
    metrics_port: Port = 9464
    #: First part of every name in the market's certificates; it cannot change later.
    trust_domain: str = Field(default="gem.example", max_length=200, pattern=_DOMAIN_NAME)
    #: Where spans go, `http://host:4317`; None means nowhere, at no cost.
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^\s]+$")
    limits: LimitSettings = LimitSettings()
    tls: TlsSettings = TlsSettings()
    #: None means that the market sends no e-mail.
    smtp: SmtpSettings | None = None
    services: ServiceSettings = ServiceSettings()

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(os.environ)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(error) from None
        except SourceError as error:
            raise SettingsError("environment", str(error)) from None
        _check_certificate(self)

    @field_validator("public_names", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        """Take `a.example,b.example` from the environment."""
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("database_url")
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is not None:
            parse_url(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, file. There is no `.env` and no folder."""
        data_dir = init_settings().get("data_dir") or env_settings().get("data_dir") or ".gemarket"
        return init_settings, env_settings, _FileSource(settings_cls, Path(data_dir))


class _FileSource(PydanticBaseSettingsSource):
    """Settings of the TOML file, where there is one."""

    def __init__(self, settings_cls: type[BaseSettings], data_dir: Path) -> None:
        super().__init__(settings_cls)
        self._data_dir = data_dir

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("the file is read whole")

    def __call__(self) -> dict[str, Any]:
        named = os.environ.get(CONFIG_VARIABLE)
        path = Path(named) if named else self._data_dir / CONFIG_FILE
        if not named and not path.exists():
            return {}
        try:
            return tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            key = CONFIG_VARIABLE if named else CONFIG_FILE
            raise SettingsError(key, f"{path} cannot be read: {type(error).__name__}") from None


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse variables with our prefix that no setting reads: most are a slip of the pen."""
    known = {CONFIG_VARIABLE} | {PREFIX + name.upper() for name in Settings.model_fields}
    groups: dict[str, type[BaseModel]] = {
        "limits": LimitSettings,
        "tls": TlsSettings,
        "smtp": SmtpSettings,
        "services": ServiceSettings,
    }
    for group, model in groups.items():
        prefix = f"{PREFIX}{group.upper()}{_NESTED}"
        known |= {prefix + name.upper() for name in model.model_fields}
    ours = (name for name in environment if name.upper().startswith(PREFIX))
    unknown = sorted(name for name in ours if name.upper() not in known)
    if unknown:
        raise SettingsError(unknown[0], _NO_SUCH + _also(unknown[1:]))


def _refusal(error: ValidationError) -> SettingsError:
    """Name every wrong key; values are not repeated, one of them may be a password."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    first, *others = details
    message = first["msg"].removeprefix("Value error, ").removeprefix(f"{_key(first)}: ")
    if first["type"] == "extra_forbidden":
        message = _NO_SUCH
    return SettingsError(_key(first), message + _also([_key(other) for other in others]))


def _key(detail: ErrorDetails) -> str:
    return ".".join(str(part) for part in detail["loc"]) or "settings"


def _also(keys: list[str]) -> str:
    return f" (wrong too: {', '.join(keys)})" if keys else ""


def _check_certificate(settings: Settings) -> None:
    tls = settings.tls
    if tls.certificate_file is not None and tls.key_file is not None:
        latest = utc_now() + _CERTIFICATE_MARGIN
        names = settings.public_names
        check_server_certificate(tls.certificate_file, tls.key_file, names, latest)
