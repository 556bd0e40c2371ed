"""The versions of the partner contract (use case 1374). The first comes with the marketplace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

FIRST_VERSION = 1
_TITLE = "Partner contract of the marketplace"


@dataclass(frozen=True, slots=True)
class ContractVersion:
    """One version; `text` is empty where only its name is needed."""

    version: int
    title: str
    text: str
    #: None for the version that comes with the marketplace.
    published_at: datetime | None


@cache
def first_contract() -> ContractVersion:
    """Give the version that comes with the marketplace."""
    text = files("marketplace").joinpath("partner_contract_1.txt").read_text("utf-8")
    return ContractVersion(FIRST_VERSION, _TITLE, text, None)


def check_next(version: int, current_version: int) -> None:
    """Refuse a text that was written for another place in the order; MarketError CONFLICT."""
    if version != current_version + 1:
        raise MarketError(
            ErrorReason.ERROR_REASON_CONFLICT,
            "Another version of the partner contract comes next.",
            metadata={"current_version": str(current_version)},
        )


def check_not_accepted(accepted_version: int, current_version: int) -> None:
    """Refuse to accept the current version twice; MarketError STATE_NOT_ALLOWED."""
    if accepted_version == current_version:
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The partner has accepted the current partner contract already.",
        )
