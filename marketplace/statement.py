"""Monthly statements: what one contract's entries of a month add up to (business process 1495)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from foundation.money import LARGEST_MICROS
from gem.marketplace.v1.contract_pb2 import ContractTerms
from gem.mesh.v1.provider_answer_pb2 import AnswerStatus

_MILLION = 1_000_000
_THOUSAND = 1_000
_MONTHS = 12


@dataclass(frozen=True, slots=True)
class StatementLine:
    """The entries of one status and currency."""

    status: int
    currency_code: str
    transaction_count: int
    value_micros: int


@dataclass(frozen=True, slots=True)
class Statement:
    """The lines of a month, and the percentiles 50, 95 and 99 of OK answers in microseconds."""

    lines: Sequence[StatementLine]
    percentiles_us: tuple[int, int, int] | None

    def __post_init__(self) -> None:
        if any(abs(value) > LARGEST_MICROS for value in self.values().values()):
            raise ValueError("a sum is beyond what an amount of money can be")

    def count(self, *statuses: int) -> int:
        """Give the number of entries with one of these statuses; of all without any."""
        lines = (line for line in self.lines if not statuses or line.status in statuses)
        return sum(line.transaction_count for line in lines)

    def values(self) -> dict[str, int]:
        """Give the sum of the values in micros by currency, in the order of their codes."""
        sums: Counter[str] = Counter()
        for line in self.lines:
            sums[line.currency_code] += line.value_micros
        return dict(sorted(sums.items()))

    @property
    def ok_count(self) -> int:
        """Number of entries that a provider answered well."""
        return self.count(AnswerStatus.ANSWER_STATUS_OK)

    @property
    def counted_count(self) -> int:
        """Number of entries by which a provider is judged: not what the requester cancelled."""
        return self.count() - self.count(AnswerStatus.ANSWER_STATUS_CANCELLED)

    @property
    def ok_share_ppm(self) -> int | None:
        """Share of OK among those that count, in millionths, rounded down; None without any."""
        return self.ok_count * _MILLION // self.counted_count if self.counted_count else None

    @property
    def availability_permille(self) -> int | None:
        """Share of OK among those that count, in thousandths, rounded down; None without any."""
        return self.ok_count * _THOUSAND // self.counted_count if self.counted_count else None

    def keeps_availability(self, promise: ServiceLevel) -> bool | None:
        """Say whether the availability is what was promised; None where nothing says so."""
        if not (promise.availability_permille and self.counted_count):
            return None
        return self.ok_count * _THOUSAND >= promise.availability_permille * self.counted_count

    def keeps_percentile_95(self, promise: ServiceLevel) -> bool | None:
        """Say whether 95 of 100 OK answers came in time; None without a promise or any of them."""
        if not promise.percentile_95_ms or self.percentiles_us is None:
            return None
        return self.percentiles_us[1] <= promise.percentile_95_ms * _THOUSAND


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """What a contract promises; zero promises nothing."""

    #: Least share of OK among the entries that count, in thousandths.
    availability_permille: int = 0
    #: Time within which 95 of 100 OK answers end, in milliseconds.
    percentile_95_ms: int = 0


def promised_service_level(terms: ContractTerms) -> ServiceLevel | None:
    """Give what the terms of a contract promise; None where they promise nothing."""
    if not terms.HasField("service_level"):
        return None
    promised = terms.service_level
    return ServiceLevel(promised.availability_permille, promised.percentile_95_ms)


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """Give the first instant of a month such as `2026-02` and the first after it, in UTC."""
    year, number = map(int, month.split("-"))
    following = (year + 1, 1) if number == _MONTHS else (year, number + 1)
    return datetime(year, number, 1, tzinfo=UTC), datetime(*following, 1, tzinfo=UTC)
