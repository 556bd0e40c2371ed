"""Settings of one process of the clearing house, as the file that starts it holds them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foundation.errors import SettingsError

_LARGEST_FILE_BYTES = 65_536


class ProviderSettings(BaseModel):
    """Where the clearing house's database is, and how to prove who serves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The clearing house's own partner id.
    partner_id: str = Field(min_length=1, max_length=40)
    database_url: str = Field(min_length=1)
    host: str = Field(default="127.0.0.1", min_length=1)
    #: Zero takes a free port.
    port: int = Field(default=0, ge=0, le=65_535)
    #: PEM files: the partner's key, its certificate with the issuing one, the market's root.
    key_file: Path
    certificate_file: Path
    ca_file: Path
    trust_domain: str = Field(min_length=1)
    #: Longest wait for calls in flight when the process stops.
    drain_s: float = Field(default=20.0, ge=0.0, le=600.0)
    #: Connections to the database.
    pool_size: int = Field(default=4, ge=1, le=64)


def read_settings(path: Path) -> ProviderSettings:
    """Read settings from a JSON file; relative paths in it count from its folder.

    Raises:
        SettingsError: the file cannot be read, or a key is wrong, missing or unknown.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE_BYTES + 1)
        if len(text) > _LARGEST_FILE_BYTES:
            raise SettingsError("config", "the file is too large for settings")
        settings = ProviderSettings.model_validate_json(text)
    except OSError as error:
        raise SettingsError("config", f"the file cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "config"
        raise SettingsError(place, first["msg"]) from None
    folder = path.absolute().parent
    files = ("key_file", "certificate_file", "ca_file")
    return settings.model_copy(update={name: folder / getattr(settings, name) for name in files})
