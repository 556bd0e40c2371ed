"""`gem.roaming.v1.TariffService`: operators publish tariffs, by which records are rated."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import asyncpg
from google.protobuf.message import Message

from clearinghouse import storage_tariff as storage
from clearinghouse.answering import Answering, Context
from clearinghouse.paging import after_number, after_text, cut, page_size
from clearinghouse.rateable import NotRateableError, instant_of, read_session
from clearinghouse.rating import rate
from clearinghouse.rating_comparison import compare
from clearinghouse.refusals import invalid, not_found
from clearinghouse.storage import Connection, transaction
from clearinghouse.storage_agreement_view import operators_agreed_with
from clearinghouse.storage_tariff import NewVersion, TariffStorage, VersionRow
from clearinghouse.tariff_publication import (
    Publication,
    operator_key_of,
    read_publication,
    valid_from_of,
)
from clearinghouse.tariff_rules import TariffRules, read_rules
from foundation.errors import FieldViolation, MarketError
from foundation.validation import require_valid
from gem.common.v1.paging_pb2 import PageInfo
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import tariff_service_pb2 as messages
from gem.roaming.v1 import tariff_service_pb2_grpc as services
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.rating_pb2 import RatingComparison
from gem.roaming.v1.tariff_version_pb2 import TariffVersion
from interceptors.provider_side import market_call

#: The router takes answers of a mebibyte.
_ANSWER_BYTES = 1_000_000
_PAGE_BYTES = 512 * 1024
_MOST_ENTRIES = 1000
#: Behind every version.
_LAST = 2**63 - 1
#: Versions of one tariff; a price an hour for a year.
MOST_VERSIONS = 10_000
#: Records that one process rates at a time, each in a thread.
_MOST_RATINGS = 2
_RATING_TIMEOUT_S = 30.0
#: Tariffs of one record; the interface's limit.
_MOST_TARIFFS = 10


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)


class TariffServicer(services.TariffServiceServicer):
    """Shows an operator his tariffs, and an EVSP those of operators with which it agreed."""

    def __init__(self, tariffs: TariffStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self._tariffs = tariffs
        self._clock = clock
        self._ratings = asyncio.Semaphore(_MOST_RATINGS)

    async def PublishTariff(  # noqa: N802  # the rpc's name
        self, request: messages.PublishTariffRequest, context: Context
    ) -> messages.PublishTariffResponse:
        """Publish a version of one of the caller's tariffs."""
        async with Answering(context):
            require_valid(request)
            publication = read_publication(request.version)
            owner_id = market_call().requester_id
            try:
                version = await self._published(owner_id, request, publication)
            except asyncpg.UniqueViolationError:
                # The same request_id came for another tariff at the same time.
                raise _request_id_reused() from None
        return messages.PublishTariffResponse(version=version)

    async def GetTariff(  # noqa: N802  # the rpc's name
        self, request: messages.GetTariffRequest, context: Context
    ) -> messages.GetTariffResponse:
        """Give the version that applies to sessions that start at an instant."""
        async with Answering(context):
            require_valid(request)
            at = self._clock()
            if request.HasField("at_time"):
                at = _instant("at_time", instant_of(request.at_time))
            key, owner_id = await self._owner(request.operator_id, request.tariff_id)
            found = await self._tariffs.at_start(owner_id, key, [request.tariff_id], at)
            if not found:
                raise not_found("version of the tariff at that time")
        return messages.GetTariffResponse(version=found[request.tariff_id])

    async def ListTariffs(  # noqa: N802  # the rpc's name
        self, request: messages.ListTariffsRequest, context: Context
    ) -> messages.ListTariffsResponse:
        """List the tariffs that the caller may see, each in its latest version."""
        async with Answering(context):
            require_valid(request)
            size, after = page_size(request.page, _MOST_ENTRIES), after_text(request.page)
            key = _operator_key(request.operator_id) if request.operator_id else ""
            owners = await self._visible()
            found = await self._tariffs.latest(owners, key, _key_of(after), size + 1)
            rows, info = _cut(found, size, lambda r: f"{r.operator_key} {r.owner_id} {r.tariff_id}")
        return messages.ListTariffsResponse(versions=[row.message() for row in rows], page=info)

    async def ListTariffVersions(  # noqa: N802  # the rpc's name
        self, request: messages.ListTariffVersionsRequest, context: Context
    ) -> messages.ListTariffVersionsResponse:
        """List the versions of a tariff, the latest first."""
        async with Answering(context):
            require_valid(request)
            size, before = page_size(request.page, _MOST_ENTRIES), after_number(request.page, _LAST)
            key, owner_id = await self._owner(request.operator_id, request.tariff_id)
            found = await self._tariffs.versions(owner_id, key, request.tariff_id, before, size + 1)
            rows, info = _cut(found, size, lambda r: r.version_number)
        return messages.ListTariffVersionsResponse(
            versions=[row.message() for row in rows], page=info
        )

    async def RateChargeDetailRecord(  # noqa: N802  # the rpc's name
        self, request: messages.RateChargeDetailRecordRequest, context: Context
    ) -> messages.RateChargeDetailRecordResponse:
        """Rate a record line by line, and compare it with what the record says."""
        async with Answering(context, _RATING_TIMEOUT_S):
            require_valid(request)
            rules = None
            if request.by_published_tariff:
                rules = await self._published_rules(request.record)
            async with self._ratings:
                comparison = await asyncio.to_thread(
                    compared, request.record, rules, request.tolerance_micros
                )
            response = messages.RateChargeDetailRecordResponse(comparison=comparison)
            if response.ByteSize() > _ANSWER_BYTES:
                raise MarketError(
                    ErrorReason.ERROR_REASON_REQUEST_TOO_LARGE,
                    "the rating has more lines than an answer holds",
                )
        return response

    async def _published(
        self, owner_id: str, request: messages.PublishTariffRequest, publication: Publication
    ) -> TariffVersion:
        """Write a version, or give the one that the request wrote before."""
        digest = _digest_of(request)
        async with transaction(self._tariffs.pool) as connection:
            latest = await storage.wait_for_tariff(
                connection, owner_id, publication.operator_key, publication.tariff_id
            )
            before = await storage.version_of_request(connection, owner_id, request.request_id)
            if before is None:
                return await self._add(connection, owner_id, request, publication, latest + 1)
        content, first_digest = before
        if first_digest != digest:
            raise _request_id_reused()
        return TariffVersion.FromString(content)

    async def _add(
        self,
        connection: Connection,
        owner_id: str,
        request: messages.PublishTariffRequest,
        publication: Publication,
        number: int,
    ) -> TariffVersion:
        if number > MOST_VERSIONS:
            raise MarketError(
                ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED, "the tariff has too many versions"
            )
        now = self._clock()
        valid_from = valid_from_of(publication, now, number)
        stored = TariffVersion()
        stored.CopyFrom(publication.version)
        stored.version_number = number
        stored.published_time.FromDatetime(now)
        stored.validity.start_time.FromDatetime(valid_from)
        new = NewVersion(
            owner_id=owner_id,
            operator_key=publication.operator_key,
            tariff_id=publication.tariff_id,
            version_number=number,
            valid_from=valid_from,
            valid_until=publication.valid_until,
            published_at=now,
            request_id=request.request_id,
            digest=_digest_of(request),
            content=stored.SerializeToString(deterministic=True),
        )
        await storage.add_version(connection, new)
        return stored

    async def _visible(self) -> list[str]:
        """Give whose tariffs the caller sees: his own first."""
        requester_id = market_call().requester_id
        return [requester_id, *await operators_agreed_with(self._tariffs.pool, requester_id)]

    async def _owner(self, operator_id: str, tariff_id: str) -> tuple[str, str]:
        """Give the operator's key and who published the tariff; MarketError NOT_FOUND."""
        key = _operator_key(operator_id)
        owner_id = await self._tariffs.owner(await self._visible(), key, tariff_id)
        if owner_id is None:
            raise not_found("tariff")
        return key, owner_id

    async def _published_rules(self, record: ChargeDetailRecord) -> dict[str, TariffRules]:
        """Give the published versions of the tariffs that a record names, its first one first."""
        named = [tariff.tariff_id for tariff in record.tariffs]
        named += [period.tariff_id for period in record.charging_periods if period.tariff_id]
        tariff_ids = list(dict.fromkeys(tariff_id for tariff_id in named if tariff_id))
        if not 0 < len(tariff_ids) <= _MOST_TARIFFS:
            raise invalid("record.tariffs", "must name one to ten published tariffs", "tariff")
        start = _instant("record.start_time", instant_of(record.start_time))
        rules: dict[str, TariffRules] = {}
        for tariff_id in tariff_ids:
            key, owner_id = await self._owner(record.operator_id, tariff_id)
            found = await self._tariffs.at_start(owner_id, key, [tariff_id], start)
            if not found:
                raise not_found("version of the tariff at that time")
            rules[tariff_id] = read_rules(found[tariff_id].tariff)
        return rules


def compared(
    record: ChargeDetailRecord, rules: dict[str, TariffRules] | None, tolerance_micros: int
) -> RatingComparison:
    """Rate a record and compare; MarketError STATE_NOT_ALLOWED for one that cannot be rated.

    Such a record obeys the interface: real ones lack times, and are returned for it, not refused.
    """
    try:
        session = read_session(record, rules)
    except NotRateableError as error:
        violation = FieldViolation(f"record.{error.field}", str(error), "rateable")
        raise MarketError(
            ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
            "The record cannot be rated as it is.",
            violations=(violation,),
        ) from None
    return compare(rate(session), record, session.start, tolerance_micros)


def _cut(
    rows: Sequence[VersionRow], size: int, key: Callable[[VersionRow], object]
) -> tuple[Sequence[VersionRow], PageInfo]:
    """Give a page of no more than fits an answer, one version at least, and what follows."""
    count, written = 0, 0
    for row in rows[:size]:
        written += len(row.content)
        if count and written > _PAGE_BYTES:
            break
        count += 1
    return cut(rows, count, key)


def _key_of(text: str) -> tuple[str, str, str]:
    """Read the key of a tariff: operator id and owner have no space, its own id may have."""
    operator_key, _, rest = text.partition(" ")
    owner_id, _, tariff_id = rest.partition(" ")
    return operator_key, tariff_id, owner_id


def _digest_of(request: Message) -> bytes:
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def _operator_key(operator_id: str) -> str:
    key = operator_key_of(operator_id)
    if key is None:
        raise invalid("operator_id", "a country and three characters: DE*ABC", "operator_id")
    return key


def _instant(field: str, at: datetime | None) -> datetime:
    if at is None:
        raise invalid(field, "must be set, between the years 2000 and 2200", "timestamp")
    return at


def _request_id_reused() -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_ID_REUSED,
        "this request_id was used before for another version",
    )
