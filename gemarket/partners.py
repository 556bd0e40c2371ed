"""Partners as the command line asks for them: criteria, forms, and who asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from gem.common.v1 import identifier_pb2, paging_pb2, time_range_pb2
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_search_pb2 as found
from gem.marketplace.v1.partner_service_pb2_grpc import PartnerServiceStub
from gem.options.v1.options_pb2 import PartnerRole
from gemarket.core_client import open_as, people_channel
from gemarket.endpoints import read_endpoints
from gemarket.layout import Layout
from gemarket.times import instant_of

if TYPE_CHECKING:
    # The stub with awaitable methods is a type only: at run time it is PartnerServiceStub.
    from gem.marketplace.v1.partner_service_pb2_grpc import PartnerServiceAsyncStub

TIMEOUT_S = 20.0
_PAGE_SIZE = 1000
_N = TypeVar("_N")
Work = Callable[["PartnerServiceAsyncStub"], Awaitable[None]]

ORDERS = {
    "id": found.PARTNER_ORDER_PARTNER_ID,
    "company": found.PARTNER_ORDER_COMPANY_NAME,
    "latest": found.PARTNER_ORDER_LATEST_REGISTERED,
}
ACTIVITIES = {
    "provider": found.PARTNER_ACTIVITY_SERVICE_PROVIDER,
    "requester": found.PARTNER_ACTIVITY_SERVICE_REQUESTER,
}


def words(enum: Any, prefix: str, number: int) -> str:
    """Give a value of an enum in lower case words; empty for the unspecified one."""
    return enum.Name(number).removeprefix(f"{prefix}_").lower().replace("_", "-") if number else ""


def named(enum: Any, prefix: str, name: str) -> Any:
    """Read a value of an enum from its words, the unspecified one from none; ValueError."""
    if not name:
        return 0
    known = {words(enum, prefix, number): number for number in enum.values() if number}
    return one_of(known, name, prefix.lower().replace("_", " "))


def one_of(known: Mapping[str, _N], name: str, kind: str) -> _N:
    """Give what a name stands for; ValueError with the known names."""
    if name not in known:
        raise ValueError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    return known[name]


def roles_of(names: Sequence[str]) -> list[PartnerRole.ValueType]:
    """Read roles such as `evsp`; ValueError with the known ones."""
    return [named(PartnerRole, "PARTNER_ROLE", name) for name in names]


def identifiers_of(
    operator_ids: Sequence[str], provider_ids: Sequence[str]
) -> list[identifier_pb2.OwnedIdentifier]:
    """Make messages of operator and provider ids."""
    kinds = identifier_pb2.IDENTIFIER_KIND_OPERATOR_ID, identifier_pb2.IDENTIFIER_KIND_PROVIDER_ID
    return [
        identifier_pb2.OwnedIdentifier(kind=kind, value=value)
        for kind, values in zip(kinds, (operator_ids, provider_ids), strict=True)
        for value in values
    ]


def criteria_of(
    *,
    text: str = "",
    state: Sequence[str] = (),
    role: Sequence[str] = (),
    identifier: str = "",
    country: Sequence[str] = (),
    since: str = "",
    until: str = "",
    activity: str = "",
    order: str = "id",
) -> found.SearchPartnersRequest:
    """Read the options of a search; ValueError with the reason."""
    made = found.SearchPartnersRequest(
        text=text,
        states=[named(partner_pb2.PartnerState, "PARTNER_STATE", name) for name in state],
        roles=roles_of(role),
        identifier=identifier,
        country_codes=country,
        order=one_of(ORDERS, order, "order"),
    )
    if activity:
        made.activity = one_of(ACTIVITIES, activity, "activity")
    if since or until:
        period = time_range_pb2.TimeRange(start_time=_time(since), end_time=_time(until))
        made.register_period.CopyFrom(period)
    return made


async def pages(ask: Callable[..., Any], request: Any, field: str, limit: int) -> list[Any]:
    """Give the first entries of a list, at most `limit`, page by page."""
    entries: list[Any] = []
    page = paging_pb2.PageRequest()
    while len(entries) < limit:
        page.page_size = min(limit - len(entries), _PAGE_SIZE)
        request.page.CopyFrom(page)
        answer = await ask(request, timeout=TIMEOUT_S)
        entries += getattr(answer, field)
        page.page_token = answer.page.next_page_token
        if not page.page_token:
            break
    return entries


@asynccontextmanager
async def connected(layout: Layout, caller: str | None) -> AsyncIterator[PartnerServiceAsyncStub]:
    """Connect as a party, or as anybody for None; the empty name stands for who has logged in.

    Where nobody has, it stands for the business operator. Raises what `open_as` raises.
    """
    if caller is None:
        async with people_channel(read_endpoints(layout.endpoints)) as channel:
            yield PartnerServiceStub(channel)
    else:
        async with open_as(layout, caller, "business") as channel:
            yield PartnerServiceStub(channel)


def _time(text: str) -> Timestamp | None:
    return instant_of(text) if text else None
