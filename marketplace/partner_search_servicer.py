"""The part of PartnerService that finds partners and shows what happened to them (1373, 1377)."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from foundation.errors import FieldViolation, MarketError
from gem.marketplace.v1 import partner_pb2
from gem.marketplace.v1 import partner_search_pb2 as wire
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.call import Call
from marketplace.actor import Actor
from marketplace.partner import PartnerState
from marketplace.partner_rendering import PARTNER_STATE, render_event, render_summary
from marketplace.storage_command import Commands
from marketplace.storage_paging import page_by_number
from marketplace.storage_partner import PartnerStorage
from marketplace.storage_partner_search import Activity, Order, PartnerCriteria, PartnerSearch

#: What others may not ask about a partner, since they may not know it either.
_FOR_OPERATORS = ("states", "identifier", "register_period", "activity")
_ORDERS = {
    wire.PARTNER_ORDER_UNSPECIFIED: Order.PARTNER_ID,
    wire.PARTNER_ORDER_PARTNER_ID: Order.PARTNER_ID,
    wire.PARTNER_ORDER_COMPANY_NAME: Order.COMPANY_NAME,
    wire.PARTNER_ORDER_LATEST_REGISTERED: Order.LATEST_REGISTERED,
}
_ACTIVITIES = {
    wire.PARTNER_ACTIVITY_SERVICE_PROVIDER: Activity.SERVICE_PROVIDER,
    wire.PARTNER_ACTIVITY_SERVICE_REQUESTER: Activity.SERVICE_REQUESTER,
}


class PartnerSearchServicer:
    """Shows operators every partner, and partners the public part of active ones."""

    _commands: Commands

    async def SearchPartners(  # noqa: N802  # the rpc's name
        self, request: wire.SearchPartnersRequest, call: Call
    ) -> wire.SearchPartnersResponse:
        """Give one page of the partners that meet the criteria."""
        async with self._commands.read(call) as w:
            criteria = _criteria(request, w.actor)
            order, in_full = _ORDERS[request.order], not w.actor.is_partner
            rows, info = await PartnerSearch(w.connection).page(request.page, criteria, order)
            ids = [row.partner_id for row in rows] if in_full else []
            owned = await PartnerStorage(w.connection).identifiers(ids)
        found = (render_summary(r, owned.get(r.partner_id, []), in_full=in_full) for r in rows)
        return wire.SearchPartnersResponse(partners=found, page=info)

    async def GetPartnerSummary(  # noqa: N802  # the rpc's name
        self, request: wire.GetPartnerSummaryRequest, call: Call
    ) -> wire.GetPartnerSummaryResponse:
        """Give what the caller may know of one partner."""
        async with self._commands.read(call) as w:
            hidden = w.actor.is_partner
            search = PartnerSearch(w.connection)
            row = await search.one(request.partner_id, active_only=hidden)
            owned = await PartnerStorage(w.connection).identifiers([row.partner_id])
        identifiers = owned.get(row.partner_id, [])
        summary = render_summary(row, identifiers, in_full=not hidden)
        return wire.GetPartnerSummaryResponse(partner=summary)

    async def ListPartnerEvents(  # noqa: N802  # the rpc's name
        self, request: wire.ListPartnerEventsRequest, call: Call
    ) -> wire.ListPartnerEventsResponse:
        """List what happened to an account, the oldest first."""
        page = page_by_number(request.page)
        async with self._commands.read(call) as w:
            storage = PartnerStorage(w.connection)
            partner = await storage.get(w.actor.own_or(request.partner_id))
            rows, info = await storage.events(page, partner.partner_id)
        return wire.ListPartnerEventsResponse(events=map(render_event, rows), page=info)


def _criteria(request: wire.SearchPartnersRequest, actor: Actor) -> PartnerCriteria:
    """Read the criteria; MarketError REQUEST_INVALID for a partner's that are not its business."""
    states = tuple(_state(number) for number in request.states)
    if actor.is_partner:
        given = {field.name for field, _ in request.ListFields()}
        refused = [field for field in _FOR_OPERATORS if field in given]
        if refused:
            raise _not_for_partners(refused)
        states = (PartnerState.ACTIVE,)
    period = request.register_period
    return PartnerCriteria(
        text=request.text,
        states=states,
        roles=tuple(request.roles),
        identifier=request.identifier,
        country_codes=tuple(request.country_codes),
        registered_from=_instant(period.start_time) if period.HasField("start_time") else None,
        registered_before=_instant(period.end_time) if period.HasField("end_time") else None,
        activity=_ACTIVITIES.get(request.activity),
    )


def _state(number: partner_pb2.PartnerState.ValueType) -> PartnerState:
    return PartnerState(partner_pb2.PartnerState.Name(number).removeprefix(f"{PARTNER_STATE}_"))


def _instant(message: Timestamp) -> datetime:
    """Read an instant; MarketError REQUEST_INVALID for one outside of the calendar."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The period names an instant that does not exist.",
            violations=(FieldViolation("register_period", "must be in years 1 to 9999", "time"),),
        ) from None


def _not_for_partners(fields: list[str]) -> MarketError:
    return MarketError(
        ErrorReason.ERROR_REASON_REQUEST_INVALID,
        "The search names what partners may not know of each other.",
        violations=tuple(
            FieldViolation(field, "is a criterion for operators only", "access") for field in fields
        ),
    )
