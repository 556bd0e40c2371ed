"""What an operator may publish as a version of a tariff. Pure.

A version applies to sessions that start within its validity; of several that do, the latest one.
Versions never change and a later one never starts before it is published, so that what a session
costs is known when it starts, and stays so. Only the first one may look back: no session was
promised anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from clearinghouse.rateable import instant_of
from foundation.errors import FieldViolation, MarketError
from foundation.identifiers import owner_key
from gem.charging.v1.tariff_pb2 import Tariff
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

_LIMITS = ("min_price", "max_price", "min_price_with_tax", "max_price_with_tax")


@dataclass(frozen=True, slots=True)
class Publication:
    """A version that keeps the rules."""

    #: Operator id in capitals and without separators.
    operator_key: str
    tariff_id: str
    #: None is the time of publication.
    valid_from: datetime | None
    #: None is without end.
    valid_until: datetime | None
    version: TariffVersion


def read_publication(version: TariffVersion) -> Publication:
    """Read what shall be published; MarketError REQUEST_INVALID with everything that is wrong."""
    found = [*_wrong_fields(version), *_wrong_limits(version.tariff)]
    key = operator_key_of(version.operator_id)
    if key is None:
        found.append(_violation("operator_id", "a country and three characters: DE*ABC"))
    start = _instant(version, "start_time", found)
    end = _instant(version, "end_time", found)
    if found or key is None:
        raise refused(*found)
    return Publication(key, version.tariff.tariff_id, start, end, version)


def _instant(
    version: TariffVersion, name: Literal["start_time", "end_time"], found: list[FieldViolation]
) -> datetime | None:
    if not version.validity.HasField(name):
        return None
    at = instant_of(getattr(version.validity, name))
    if at is None:
        found.append(_violation(f"validity.{name}", "between the years 2000 and 2200"))
    return at


def valid_from_of(
    publication: Publication, published_at: datetime, version_number: int
) -> datetime:
    """Give from when a version applies.

    Raises:
        MarketError: REQUEST_INVALID for a later version that starts before its publication, and
            for one that ends before it starts.
    """
    start = publication.valid_from or published_at
    if version_number > 1 and start < published_at:
        text = "a later version starts when it is published, or after"
        raise refused(_violation("validity.start_time", text))
    if publication.valid_until is not None and publication.valid_until <= start:
        raise refused(_violation("validity.end_time", "must be after the start"))
    return start


def operator_key_of(operator_id: str) -> str | None:
    """Give an operator id as it is compared; None where it is none."""
    try:
        return owner_key(operator_id)
    except ValueError:
        return None


def refused(*found: FieldViolation) -> MarketError:
    """Give the error for a version that breaks rules."""
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "the version breaks rules of the interface",
        violations=found,
    )


def _wrong_fields(version: TariffVersion) -> Iterator[FieldViolation]:
    if not version.tariff.tariff_id:
        yield _violation("tariff.tariff_id", "must be set")
    if version.version_number:
        yield _violation("version_number", "is given by the clearing house")
    if version.HasField("published_time"):
        yield _violation("published_time", "is given by the clearing house")


def _wrong_limits(tariff: Tariff) -> Iterator[FieldViolation]:
    for name in _LIMITS:
        limit = getattr(tariff, name)
        if not tariff.HasField(name):  # type: ignore[arg-type]  # names of its fields
            continue
        if limit.currency_code != tariff.currency_code:
            yield _violation(f"tariff.{name}.currency_code", "must be that of the tariff")
        if limit.amount_micros < 0:
            yield _violation(f"tariff.{name}.amount_micros", "must not be negative")


def _violation(path: str, text: str) -> FieldViolation:
    return FieldViolation(f"version.{path}", text, "tariff")
