"""Who takes part in a replay: operators, EVSPs and customers, made from what a source tells.

The same source gives the same parties, ids and tokens every time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from clearinghouse.replay_session import RecordedSession
from foundation.identifiers import ContractId
from gem.charging.v1 import tariff_pb2
from gem.charging.v1.tariff_pb2 import PriceComponent, Tariff
from gem.roaming.v1.clearing_contract_pb2 import (
    ClearingContractState,
    CustomerContract,
    RoamingAgreement,
    ServiceLevel,
)
from gem.roaming.v1.identification_pb2 import (
    Identification,
    IdentificationKind,
    Token,
    TokenStatus,
    WhitelistPolicy,
)
from gem.roaming.v1.tariff_version_pb2 import TariffVersion

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RFID = IdentificationKind.IDENTIFICATION_KIND_RFID
_ACTIVE = ClearingContractState.CLEARING_CONTRACT_STATE_ACTIVE
#: Tax of every price, in millionths.
VAT_PPM = 200_000
#: Prices per kWh, per session and per hour of parking, in millionths; operators take turns.
PRICES = ((250_000, 0, 0), (300_000, 500_000, 0), (200_000, 0, 1_200_000))
_EVSP_COUNT = 4
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """What a source of sessions does not say and its parties need."""

    #: Begins the partner ids of its parties.
    name: str
    country_code: str
    currency_code: str


ACN = ReplaySource("acn", "US", "USD")
DUNDEE = ReplaySource("dundee", "GB", "GBP")


@dataclass(frozen=True, slots=True)
class ReplayParty:
    """An operator or EVSP of a replay."""

    partner_id: str
    company_name: str
    #: Operator or provider id, for instance `GB*4RT`.
    owner_id: str
    #: Of an operator, a row of `PRICES`.
    prices: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Customer:
    """Whose token a session was charged with."""

    evsp_partner_id: str
    identification: Identification


@dataclass(slots=True)
class Cast:
    """All parties of a replay."""

    currency_code: str
    #: By group of the source.
    operators: dict[str, ReplayParty]
    evsps: tuple[ReplayParty, ...]
    #: Token uids by user, and the EVSP's position in `evsps`.
    users: dict[str, int] = field(default_factory=dict)
    first_start: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    last_end: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def operator_of(self, session: RecordedSession) -> ReplayParty:
        """Give the operator of a session's station."""
        return self.operators[session.group]

    def customer_of(self, session: RecordedSession) -> Customer:
        """Give the customer of a session; whom the source does not know is the station's guest."""
        user = user_key(session)
        evsp = self.evsps[evsp_number(user, len(self.evsps))]
        return Customer(evsp.partner_id, identification_of(user, evsp))

    def contracts(self, evsp: ReplayParty) -> Iterator[CustomerContract]:
        """Give the contracts of an EVSP's customers."""
        number = self.evsps.index(evsp)
        for user, of_evsp in sorted(self.users.items()):
            if of_evsp == number:
                who = identification_of(user, evsp)
                token = Token(
                    kind=who.kind, token_uid=who.token_uid, status=TokenStatus.TOKEN_STATUS_VALID
                )
                yield CustomerContract(
                    contract_id=who.contract_id,
                    tokens=[token],
                    whitelist_policy=WhitelistPolicy.WHITELIST_POLICY_ALWAYS,
                    state=_ACTIVE,
                    service_level=ServiceLevel(roaming_allowed=True),
                )

    def agreements(self) -> Iterator[RoamingAgreement]:
        """Give an agreement of every operator with every EVSP."""
        for operator in self.operators.values():
            for evsp in self.evsps:
                yield RoamingAgreement(
                    operator_partner_id=operator.partner_id,
                    evsp_partner_id=evsp.partner_id,
                    state=_ACTIVE,
                    currency_code=self.currency_code,
                )

    def tariff_of(self, operator: ReplayParty) -> TariffVersion:
        """Give an operator's tariff, valid from before the first session on."""
        version = TariffVersion(
            operator_id=operator.owner_id, tariff=tariff(operator, self.currency_code)
        )
        version.validity.start_time.FromDatetime(self.first_start - _DAY)
        return version


def make_cast(sessions: Iterable[RecordedSession], source: ReplaySource) -> Cast:
    """Read a source once and give all who take part; memory grows with the users, not with it."""
    country_code = source.country_code
    groups: set[str] = set()
    users: dict[str, int] = {}
    first, last = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
    for session in sessions:
        if not session.is_session or session.start is None:
            continue
        groups.add(session.group)
        user = user_key(session)
        users[user] = evsp_number(user, _EVSP_COUNT)
        first = min(first, session.start)
        last = max(last, session.start, session.end or session.start)
    evsps = tuple(
        ReplayParty(
            f"{source.name}-evsp-{number + 1}",
            f"EVSP {number + 1} of {source.name}",
            f"{country_code}*{_owner(f'evsp {number}', set())}",
        )
        for number in range(_EVSP_COUNT)
    )
    return Cast(source.currency_code, _operators(groups, source), evsps, users, first, last)


def _operators(groups: set[str], source: ReplaySource) -> dict[str, ReplayParty]:
    taken: set[str] = set()
    operators: dict[str, ReplayParty] = {}
    for group in sorted(groups):
        owner = _owner(group, taken)
        taken.add(owner)
        name = " ".join("".join(c if c.isalnum() else " " for c in group).split())[:60]
        operators[group] = ReplayParty(
            # Of the group alone, as far as can be: another recording has other groups beside it.
            f"{source.name}-operator-{owner.lower()}",
            f"Operator {name}".strip(),
            f"{source.country_code}*{owner}",
            PRICES[_digest("prices of", group)[0] % len(PRICES)],
        )
    return operators


def user_key(session: RecordedSession) -> str:
    """Give what names a session's user; a guest of the station where the source knows none."""
    return session.user_id or f"guest of {session.station}"


def evsp_number(user: str, count: int) -> int:
    """Give the EVSP of a user by a hash, so that every reader gives the same."""
    return int.from_bytes(_digest("evsp of", user)[:8]) % count


def identification_of(user: str, evsp: ReplayParty) -> Identification:
    """Give contract id and token of a user."""
    instance = "C" + _base36(_digest("contract of", user), 8)
    contract = ContractId.parse(f"{evsp.owner_id.replace('*', '')}{instance}").with_check()
    uid = _digest("token of", user)[:7].hex().upper()
    return Identification(kind=_RFID, contract_id=str(contract), token_uid=uid)


def evse_id_of(session: RecordedSession, operator: ReplayParty) -> str:
    """Give the EVSE id of a session's connector."""
    parts = (session.station.upper(), session.connector.upper())
    plain = [re.sub(r"[^A-Z0-9]", "", part) for part in parts]
    outlet = "*".join(plain)
    if any(not re.fullmatch(r"[A-Z0-9-]{1,18}", part) for part in parts) or len(outlet) > 30:
        outlet = _base36(_digest("outlet", *parts), 20)
    return f"{operator.owner_id}*E{outlet}"


def tariff(operator: ReplayParty, currency_code: str) -> Tariff:
    """Give an operator's tariff: energy, and for some a fee or a price of parking."""
    energy, flat, parking = operator.prices
    components = [
        PriceComponent(dimension=tariff_pb2.PRICE_DIMENSION_ENERGY, price_micros=energy, step_wh=1)
    ]
    if flat:
        components.append(
            PriceComponent(dimension=tariff_pb2.PRICE_DIMENSION_FLAT, price_micros=flat)
        )
    if parking:
        components.append(
            PriceComponent(
                dimension=tariff_pb2.PRICE_DIMENSION_PARKING_TIME, price_micros=parking, step_s=1
            )
        )
    for component in components:
        component.vat_ppm = VAT_PPM
    return Tariff(
        tariff_id="REPLAY",
        currency_code=currency_code,
        components=components,
        tax=tariff_pb2.TAX_TREATMENT_EXCLUDED,
    )


def _owner(name: str, taken: set[str]) -> str:
    """Give three characters for a name that nobody else has."""
    for attempt in range(10_000):
        owner = _base36(_digest("owner", name, str(attempt)), 3)
        if owner not in taken and not owner.isdecimal():
            return owner
    raise ValueError("the source has more groups than there are operator ids")


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode(errors="replace")).digest()


def _base36(digest: bytes, length: int) -> str:
    number, text = int.from_bytes(digest), ""
    for _ in range(length):
        number, rest = divmod(number, 36)
        text += _ALPHABET[rest]
    return text
