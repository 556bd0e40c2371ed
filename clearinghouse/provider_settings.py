"""Settings of one clearing house process, as the file that starts it holds them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from foundation.identifiers import PARTNER_ID_PATTERN, CheckPolicy
from foundation.settings_file import read_settings_file


class ProviderSettings(BaseModel):
    """Where the clearing house serves, what it is, and the limits of its answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The clearing house's own partner id.
    partner_id: str = Field(pattern=f"^{PARTNER_ID_PATTERN}$")
    database_url: str = Field(min_length=1)
    host: str = Field(default="127.0.0.1", min_length=1)
    #: Zero takes a free port.
    port: int = Field(default=0, ge=0, le=65_535)
    #: PEM files: the clearing house's key, its certificate with the issuing one, the market's root.
    #: They serve towards the marketplace in both directions.
    key_file: Path
    certificate_file: Path
    ca_file: Path
    trust_domain: str = Field(min_length=1)
    #: File of 32 random bytes or more, readable by its owner only: the key of all token hashes.
    token_key_file: Path
    #: `host:port` of the marketplace, through which EVSPs are reached.
    market_address: str = Field(min_length=1)
    #: Name in the marketplace's certificate, where it is not the address's host.
    market_name: str | None = None
    #: What a wrong check character of a contract id means.
    check_policy: CheckPolicy = CheckPolicy.WARN
    #: Currency of an agreement whose contract in the marketplace names none.
    currency_code: str = Field(default="EUR", pattern="^[A-Z]{3}$")
    #: Longest wait for an EVSP that is asked about a customer.
    question_s: float = Field(default=2.0, gt=0.0, le=30.0)
    #: EVSPs that are asked at most about a customer whose EVSP is not known.
    broadcast_max: int = Field(default=20, ge=0, le=100)
    #: How long after the authorization charging may start.
    authorization_s: float = Field(default=900.0, ge=1.0, le=86_400.0)
    #: Loads of contracts at the same time; each holds a connection to the database.
    loads_max: int = Field(default=2, ge=1, le=16)
    #: Longest wait for the next message of a load.
    load_idle_s: float = Field(default=30.0, gt=0.0, le=600.0)
    #: How long a notice that its EVSP does not take is tried again.
    notice_days: float = Field(default=3.0, gt=0.0, le=90.0)
    #: Longest wait for calls in flight when the clearing house stops.
    drain_s: float = Field(default=20.0, ge=0.0, le=600.0)
    #: Connections to the database, those of loads among them.
    pool_size: int = Field(default=8, ge=4, le=64)


def read_settings(path: Path) -> ProviderSettings:
    """Read settings from a JSON file; relative paths in it count from its folder.

    Raises:
        SettingsError: the file cannot be read, or a key is wrong, missing or unknown.
    """
    files = ("key_file", "certificate_file", "ca_file", "token_key_file")
    return read_settings_file(path, ProviderSettings, files)
