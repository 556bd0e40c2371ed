"""What a charge detail record is held against, and what is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gem.charging.v1.tariff_pb2 import Tariff
from gem.common.v1.geo_pb2 import GeoPoint
from gem.roaming.v1.cdr_clearing_pb2 import PlausibilityFinding, PlausibilityReason
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord

#: Fields that are listed for one reason; a record can have thousands of periods.
MOST_FIELDS_OF_A_REASON = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not plausible; the text never contains values of the record."""

    reason: PlausibilityReason.ValueType
    #: Path in the record, for instance `charging_periods[3].start_time`.
    field: str
    text: str

    def message(self) -> PlausibilityFinding:
        """Give the finding as operators read it."""
        return PlausibilityFinding(reason=self.reason, field=self.field, description=self.text)


@dataclass(frozen=True, slots=True)
class KnownAuthorization:
    """An authorization that the clearing house gave, or was told of."""

    allowed: bool
    #: Keys as `foundation.identifiers` compares them.
    operator_key: str
    evse_key: str
    #: What the caller makes of an identification: a contract's key, a token's hash.
    identity_key: str
    session_id: str
    decided_at: datetime
    valid_until: datetime
    #: Paid without a contract.
    open_access: bool = False
    #: The operator's or the EVSE's own list decided, and the clearing house was told of it later:
    #: when that was is not known.
    from_list: bool = False


@dataclass(frozen=True, slots=True)
class Validity:
    """When a contract was in force, from inclusive, until exclusive; None is open."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Say whether it was in force at an instant."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class OtherSession:
    """Another session on the EVSE."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class PlausibilityContext:
    """What the clearing house knows about a record's session. None is: not known, not checked."""

    now: datetime
    #: Owner keys of the operator who sent the record.
    operator_keys: frozenset[str]
    #: None where there was none with that reference.
    authorization: KnownAuthorization | None = None
    #: The key of the record's identification, made as that of the authorization.
    identity_key: str = ""
    #: None where there is no such contract.
    contract: Validity | None = None
    #: The operator's tariffs that applied to sessions that started then, by id.
    tariffs: Mapping[str, Tariff] | None = None
    #: In which operator and EVSP said that they settle; none said is: not checked.
    currencies: frozenset[str] = frozenset()
    connector_power_w: int | None = None
    evse_point: GeoPoint | None = None
    other_sessions: Sequence[OtherSession] = ()
    #: The record that a credit names; None where it does not exist or is not approved.
    credited: ChargeDetailRecord | None = None


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much two ways of measuring the same thing may differ."""

    #: Clocks of a charging point, its back end and the clearing house.
    clock: timedelta = timedelta(seconds=120)
    #: Sums of rounded energies.
    energy_milli_wh: int = 10_000
    #: Sums of rounded times.
    time_ms: int = 60_000
    #: Above the connector's power, in thousandths: meters and ratings are not exact.
    power_permille: int = 100
    #: Between the charging point and its published place.
    distance_m: int = 500
    #: Between the operator's cost and ours.
    cost_micros: int = 10_000


@dataclass(frozen=True, slots=True)
class Findings:
    """Collects findings, each reason with a bounded number of fields."""

    found: list[Finding] = field(default_factory=list)
    _counts: Counter[int] = field(default_factory=Counter)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Take findings in their order."""
        for finding in findings:
            self._counts[finding.reason] += 1
            if self._counts[finding.reason] <= MOST_FIELDS_OF_A_REASON:
                self.found.append(finding)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)
