"""What the servicers of the clearing house work with; made once, in `provider`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from clearinghouse.cdr_parts import CdrParts
from clearinghouse.customer_contract import ContractReader
from clearinghouse.market_client import MarketClient
from clearinghouse.provider_owner import ProviderOwners
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import Connection, Pool
from clearinghouse.storage_command import once
from clearinghouse.token_hash import TokenHashing
from interceptors.provider_side import market_call

R = TypeVar("R", bound=Message)


@dataclass(frozen=True, slots=True)
class Parts:
    """Database, hashes, settings, and the way to EVSPs."""

    settings: ProviderSettings
    pool: Pool
    hashing: TokenHashing
    reader: ContractReader
    market: MarketClient
    owners: ProviderOwners
    cdrs: CdrParts

    async def once(
        self, request: Any, response_class: type[R], work: Callable[[Connection], Awaitable[R]]
    ) -> R:
        """Do the caller's command once; see `storage_command.once`."""
        requester_id = market_call().requester_id
        return await once(self.pool, self.hashing, requester_id, request, response_class, work)
