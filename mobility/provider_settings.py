"""Settings of one provider process, as the file that starts it holds them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foundation.settings_file import read_settings_file


class ProviderSettings(BaseModel):
    """Whose EVSEs to serve, where they are, and how to prove who serves them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Name of the operator in any spelling, or its partner id; one of the two.
    operator_name: str | None = Field(default=None, min_length=1, max_length=128)
    partner_id: str | None = Field(default=None, min_length=1, max_length=40)
    database_url: str = Field(min_length=1)
    host: str = Field(default="127.0.0.1", min_length=1)
    #: Zero takes a free port.
    port: int = Field(default=0, ge=0, le=65_535)
    #: PEM files: the provider's key, its certificate with the issuing one, the market's root.
    key_file: Path
    certificate_file: Path
    ca_file: Path
    trust_domain: str = Field(min_length=1)
    #: Longest wait for calls in flight when the provider stops.
    drain_s: float = Field(default=20.0, ge=0.0, le=600.0)
    #: Connections to the database.
    pool_size: int = Field(default=4, ge=1, le=64)

    @model_validator(mode="after")
    def _names_one_operator(self) -> ProviderSettings:
        if (self.operator_name is None) == (self.partner_id is None):
            raise ValueError("name the operator by operator_name or by partner_id")
        return self


def read_settings(path: Path) -> ProviderSettings:
    """Read settings from a JSON file; relative paths in it count from its folder.

    Raises:
        SettingsError: the file cannot be read, or a key is wrong, missing or unknown.
    """
    files = ("key_file", "certificate_file", "ca_file")
    return read_settings_file(path, ProviderSettings, files)
