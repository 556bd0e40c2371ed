"""Agreements of operators and EVSPs (use cases 1497, 1500, 1513)."""

from __future__ import annotations

import asyncpg

from clearinghouse.agreement import (
    Agreement,
    AgreementDetails,
    check_broadcast,
    check_party,
    read_details,
    render_agreement,
)
from clearinghouse.answering import Answering, Context
from clearinghouse.contract_rpcs import ContractRpcs
from clearinghouse.paging import after_number, cut, page_size
from clearinghouse.refusals import changed_meanwhile, invalid, not_found, not_in_this_state
from clearinghouse.storage import Connection, transaction
from clearinghouse.storage_agreement import AgreementStorage, agreement_of
from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from interceptors.provider_side import market_call


class AgreementServicer(ContractRpcs):
    """Serves the part of ClearingContractService that is about agreements."""

    async def CreateRoamingAgreement(  # noqa: N802  # the rpc's name
        self, request: messages.CreateRoamingAgreementRequest, context: Context
    ) -> messages.CreateRoamingAgreementResponse:
        """Store what a party says about an agreement that came from the marketplace."""
        partner_id = market_call().requester_id

        async def work(connection: Connection) -> messages.CreateRoamingAgreementResponse:
            made = await _created(connection, request.agreement, partner_id)
            return messages.CreateRoamingAgreementResponse(agreement=render_agreement(made))

        async with Answering(context):
            require_valid(request)
            kind = messages.CreateRoamingAgreementResponse
            return await self._parts.once(request, kind, work)

    async def GetRoamingAgreement(  # noqa: N802  # the rpc's name
        self, request: messages.GetRoamingAgreementRequest, context: Context
    ) -> messages.GetRoamingAgreementResponse:
        """Give an agreement to one of its parties."""
        async with Answering(context):
            require_valid(request)
            async with transaction(self._parts.pool) as connection:
                found = await AgreementStorage(connection).get(request.agreement_id)
            agreement = check_party(found, market_call().requester_id)
            return messages.GetRoamingAgreementResponse(agreement=render_agreement(agreement))

    async def ListRoamingAgreements(  # noqa: N802  # the rpc's name
        self, request: messages.ListRoamingAgreementsRequest, context: Context
    ) -> messages.ListRoamingAgreementsResponse:
        """List the caller's agreements."""
        async with Answering(context):
            require_valid(request)
            size, after = page_size(request.page), after_number(request.page, 0)
            partner_id = market_call().requester_id
            async with transaction(self._parts.pool) as connection:
                rows = await AgreementStorage(connection).page(partner_id, after, size)
            shown, info = cut(rows, size, lambda row: row["agreement_ref"])
            agreements = [render_agreement(agreement_of(row)) for row in shown]
            return messages.ListRoamingAgreementsResponse(agreements=agreements, page=info)

    async def ChangeRoamingAgreement(  # noqa: N802  # the rpc's name
        self, request: messages.ChangeRoamingAgreementRequest, context: Context
    ) -> messages.ChangeRoamingAgreementResponse:
        """Change an agreement that is not disabled, by either party."""
        partner_id = market_call().requester_id

        async def work(connection: Connection) -> messages.ChangeRoamingAgreementResponse:
            changed = await _changed(connection, request, partner_id)
            return messages.ChangeRoamingAgreementResponse(agreement=render_agreement(changed))

        async with Answering(context):
            require_valid(request)
            kind = messages.ChangeRoamingAgreementResponse
            return await self._parts.once(request, kind, work)

    async def DisableRoamingAgreement(  # noqa: N802  # the rpc's name
        self, request: messages.DisableRoamingAgreementRequest, context: Context
    ) -> messages.DisableRoamingAgreementResponse:
        """Disable an agreement for ever, by either party."""
        partner_id = market_call().requester_id

        async def work(connection: Connection) -> messages.DisableRoamingAgreementResponse:
            before = await _held(connection, request.agreement_id, partner_id)
            ended = await _written(connection, before.next(partner_id, active=False))
            return messages.DisableRoamingAgreementResponse(agreement=render_agreement(ended))

        async with Answering(context):
            require_valid(request)
            kind = messages.DisableRoamingAgreementResponse
            return await self._parts.once(request, kind, work)


async def _created(
    connection: Connection, message: wire.RoamingAgreement, partner_id: str
) -> Agreement:
    """Put a party's details into the agreement that the marketplace's contract made."""
    operator_id, evsp_id = message.operator_partner_id, message.evsp_partner_id
    if partner_id not in (operator_id, evsp_id):
        raise invalid("agreement", "the caller is the operator or the EVSP", "party")
    details = read_details(message)
    held = await AgreementStorage(connection).active_of(operator_id, evsp_id)
    wanted = message.market_contract_id
    following = [each for each in held if wanted in ("", each.market_contract_id)]
    if not following:
        raise not_in_this_state(
            "The marketplace has told of no contract in force of this operator with this EVSP."
        )
    blank = [each for each in following if not each.detailed]
    if not blank:
        raise MarketError(
            ErrorReason.ERROR_REASON_ALREADY_EXISTS,
            "The two have an agreement already: change it.",
            metadata={"kind": "agreement"},
        )
    return await _detailed(connection, blank[0], details, partner_id)


async def _changed(
    connection: Connection, request: messages.ChangeRoamingAgreementRequest, partner_id: str
) -> Agreement:
    message = request.agreement
    before = await _held(connection, message.agreement_id, partner_id)
    if before.version_number != request.expected_version_number:
        raise changed_meanwhile()
    parties = (message.operator_partner_id, message.evsp_partner_id)
    if parties != (before.operator_id, before.evsp_id):
        raise invalid("agreement", "its parties stay as they are", "parties")
    if message.state == wire.CLEARING_CONTRACT_STATE_DISABLED:
        raise invalid("agreement.state", "DisableRoamingAgreement disables", "state")
    return await _detailed(connection, before, read_details(message), partner_id)


async def _detailed(
    connection: Connection, before: Agreement, details: AgreementDetails, partner_id: str
) -> Agreement:
    allowed = before.details.broadcast_allowed
    check_broadcast(allowed, details, before.evsp_id, partner_id)
    return await _written(connection, before.next(partner_id, details=details, detailed=True))


async def _held(connection: Connection, agreement_id: str, partner_id: str) -> Agreement:
    """Give a party's agreement, locked, that is not disabled."""
    found = await AgreementStorage(connection).get(agreement_id, lock=True)
    agreement = check_party(found, partner_id)
    if not agreement.active:
        raise not_in_this_state("The agreement is disabled.")
    return agreement


async def _written(connection: Connection, agreement: Agreement) -> Agreement:
    try:
        added = await AgreementStorage(connection).add(agreement)
    except asyncpg.UniqueViolationError:
        raise changed_meanwhile() from None
    if added is None:
        raise not_found("agreement")
    return added
