"""Whose a provider id is: the marketplace knows, and says so by how it would route a question.

Asked only about provider ids under which the clearing house holds no contract yet.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc

from clearinghouse.customer_contract import ContractDraft, RefusedDraft
from clearinghouse.market_client import MarketClient
from clearinghouse.refusals import invalid
from clearinghouse.storage import Connection
from foundation.errors import MarketError
from gem.marketplace.v1.contract_service_pb2_grpc import ContractServiceStub
from gem.marketplace.v1.route_explanation_pb2 import (
    ExplainRouteRequest,
    RouteCandidate,
    RouteReason,
)
from gem.mesh.v1.error_reason_pb2 import ErrorReason

AUTHORIZE_CUSTOMER = "/gem.roaming.v1.ContractHolderService/AuthorizeCustomer"
_TIMEOUT_S = 3.0
_RETRY_AFTER_S = 1.0
#: Provider ids that one message of a load may bring for the first time.
_NEW_MAX = 50
_KNOWN = "SELECT provider_key FROM clearinghouse.provider_id WHERE provider_key = ANY($1)"


class ProviderOwners:
    """Asks the marketplace."""

    def __init__(self, market: MarketClient) -> None:
        self._market = market

    async def check(self, connection: Connection, evsp_id: str, draft: ContractDraft) -> None:
        """Refuse a contract whose provider id is another partner's; see `checked`."""
        (checked,) = await self.checked(connection, evsp_id, [draft])
        if isinstance(checked, RefusedDraft):
            raise invalid("contract.contract_id", checked.description, "owner")

    async def owner(self, contract_id: str) -> str | None:
        """Give the one EVSP to which a question about a contract id goes; None where there is none.

        Raises what the call raises: OSError, grpc.aio.AioRpcError.
        """
        routed = [each for each in await self._candidates(contract_id) if each.routed]
        return routed[0].provider_id if len(routed) == 1 else None

    async def checked(
        self, connection: Connection, evsp_id: str, drafts: Iterable[ContractDraft | RefusedDraft]
    ) -> list[ContractDraft | RefusedDraft]:
        """Give drafts, those refused whose provider id is another partner's in the marketplace.

        Raises:
            MarketError: PROVIDER_UNREACHABLE where the marketplace cannot be asked.
        """
        listed = list(drafts)
        ids = {
            draft.contract_key[:5]: draft.contract_id
            for draft in listed
            if isinstance(draft, ContractDraft) and draft.active
        }
        rows = await connection.fetch(_KNOWN, list(ids))
        new = sorted(ids.keys() - {row["provider_key"] for row in rows})
        foreign = {key for key in new[:_NEW_MAX] if await self._is_foreign(ids[key], evsp_id)}
        foreign.update(new[_NEW_MAX:])
        return [
            RefusedDraft(draft.contract_key, "contract_id", "its provider id is not of this EVSP")
            if draft.contract_key[:5] in foreign and isinstance(draft, ContractDraft)
            else draft
            for draft in listed
        ]

    async def _is_foreign(self, contract_id: str, evsp_id: str) -> bool:
        """Say whether the marketplace knows another partner as the owner."""
        try:
            candidates = await self._candidates(contract_id)
        except (OSError, grpc.aio.AioRpcError):
            raise MarketError(
                ErrorReason.ERROR_REASON_PROVIDER_UNREACHABLE,
                "The marketplace cannot be asked whose this provider id is.",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        of_another = RouteReason.ROUTE_REASON_KEY_OF_ANOTHER
        own = [each for each in candidates if each.provider_id == evsp_id]
        others = [each for each in candidates if each.provider_id != evsp_id]
        return any(each.reason == of_another for each in own) or (
            not own and any(each.routed for each in others)
        )

    async def _candidates(self, contract_id: str) -> list[RouteCandidate]:
        stub = ContractServiceStub(self._market.channel())
        request = ExplainRouteRequest(method=AUTHORIZE_CUSTOMER, key=contract_id)
        response = await stub.ExplainRoute(request, timeout=_TIMEOUT_S)
        return list(response.explanation.candidates)
