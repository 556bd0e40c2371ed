"""One customer's contract at a time, by its EVSP or by himself (use cases 1514 to 1517)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from hmac import compare_digest
from uuid import uuid4

from clearinghouse.answering import Answering, Context
from clearinghouse.contract_rpcs import ContractRpcs
from clearinghouse.customer_contract import (
    ContractDraft,
    HeldVersion,
    render_contract,
)
from clearinghouse.own_change import changed_by_customer
from clearinghouse.paging import after_text, cut, page_size
from clearinghouse.parts import Parts
from clearinghouse.refusals import changed_meanwhile, invalid, not_found, not_in_this_state
from clearinghouse.storage import Connection, transaction
from clearinghouse.storage_contract_staging import Batch, ContractStaging
from clearinghouse.storage_customer_contract import CustomerContractStorage
from foundation.errors import MarketError
from foundation.validation import require_valid
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1.clearing_contract_service_pb2 import LoadStatus
from interceptors.provider_side import market_call

#: So many wrong secrets of one partner within the time stop its tries for one contract.
_FAILURES_MAX = 5
_FAILURES_WITHIN = timedelta(minutes=15)


class CustomerContractServicer(ContractRpcs):
    """Serves the part of ClearingContractService that is about single customers' contracts."""

    async def CreateCustomerContract(  # noqa: N802  # the rpc's name
        self, request: messages.CreateCustomerContractRequest, context: Context
    ) -> messages.CreateCustomerContractResponse:
        """Store a contract of the calling EVSP."""
        evsp_id = market_call().requester_id

        async def work(connection: Connection) -> messages.CreateCustomerContractResponse:
            draft = self._parts.reader.read(request.contract)
            if not draft.active:
                raise invalid("contract.state", "a new contract is in force", "state")
            await self._parts.owners.check(connection, evsp_id, draft)
            await ContractStaging(connection).hold(evsp_id)
            held = CustomerContractStorage(connection)
            if await held.get(evsp_id, draft.contract_key) is not None:
                raise MarketError(
                    ErrorReason.ERROR_REASON_ALREADY_EXISTS,
                    "The EVSP has this contract already.",
                    metadata={"kind": "contract"},
                )
            made = await stored(connection, evsp_id, draft)
            return messages.CreateCustomerContractResponse(contract=render_contract(made))

        async with Answering(context):
            require_valid(request)
            kind = messages.CreateCustomerContractResponse
            return await self._parts.once(request, kind, work)

    async def GetCustomerContract(  # noqa: N802  # the rpc's name
        self, request: messages.GetCustomerContractRequest, context: Context
    ) -> messages.GetCustomerContractResponse:
        """Give a contract to its EVSP."""
        async with Answering(context):
            require_valid(request)
            key = self._parts.reader.key(request.contract_id)
            async with snapshot(self._parts) as storage:
                held = await storage.get(market_call().requester_id, key)
            if held is None:
                raise not_found("contract")
            return messages.GetCustomerContractResponse(contract=render_contract(held))

    async def ListCustomerContracts(  # noqa: N802  # the rpc's name
        self, request: messages.ListCustomerContractsRequest, context: Context
    ) -> messages.ListCustomerContractsResponse:
        """List the calling EVSP's contracts by contract id."""
        async with Answering(context):
            require_valid(request)
            size, after = page_size(request.page), after_text(request.page)
            async with snapshot(self._parts) as storage:
                rows = await storage.page(
                    market_call().requester_id, after, size, with_disabled=request.with_disabled
                )
            shown, info = cut(rows, size, lambda held: held.contract_key)
            contracts = map(render_contract, shown)
            return messages.ListCustomerContractsResponse(contracts=contracts, page=info)

    async def ChangeCustomerContract(  # noqa: N802  # the rpc's name
        self, request: messages.ChangeCustomerContractRequest, context: Context
    ) -> messages.ChangeCustomerContractResponse:
        """Change a contract of the calling EVSP."""
        evsp_id = market_call().requester_id

        async def work(connection: Connection) -> messages.ChangeCustomerContractResponse:
            draft = self._parts.reader.read(request.contract)
            if not draft.active:
                raise invalid("contract.state", "DisableCustomerContract disables", "state")
            held = await _held(connection, evsp_id, draft.contract_key)
            if held.version_number != request.expected_version_number:
                raise changed_meanwhile()
            changed = await stored(connection, evsp_id, draft)
            return messages.ChangeCustomerContractResponse(contract=render_contract(changed))

        async with Answering(context):
            require_valid(request)
            kind = messages.ChangeCustomerContractResponse
            return await self._parts.once(request, kind, work)

    async def DisableCustomerContract(  # noqa: N802  # the rpc's name
        self, request: messages.DisableCustomerContractRequest, context: Context
    ) -> messages.DisableCustomerContractResponse:
        """Disable a contract of the calling EVSP for ever."""
        evsp_id = market_call().requester_id

        async def work(connection: Connection) -> messages.DisableCustomerContractResponse:
            key = self._parts.reader.key(request.contract_id)
            held = await _held(connection, evsp_id, key)
            draft = self._parts.reader.read(render_contract(held))
            ended = await stored(connection, evsp_id, replace(draft, active=False))
            return messages.DisableCustomerContractResponse(contract=render_contract(ended))

        async with Answering(context):
            require_valid(request)
            kind = messages.DisableCustomerContractResponse
            return await self._parts.once(request, kind, work)

    async def ChangeOwnContract(  # noqa: N802  # the rpc's name
        self, request: messages.ChangeOwnContractRequest, context: Context
    ) -> messages.ChangeOwnContractResponse:
        """Change what the customer may change, for who knows the customer's secret."""
        async with Answering(context):
            require_valid(request)
            key = self._parts.reader.key(request.contract_id)
            evsp_id = await self._check_secret(request, key)

            async def work(connection: Connection) -> messages.ChangeOwnContractResponse:
                held = await _held(connection, evsp_id, key)
                changed = await self._changed_by_customer(connection, held, request)
                return messages.ChangeOwnContractResponse(contract=render_contract(changed))

            kind = messages.ChangeOwnContractResponse
            return await self._parts.once(request, kind, work)

    async def _changed_by_customer(
        self,
        connection: Connection,
        held: HeldVersion,
        request: messages.ChangeOwnContractRequest,
    ) -> HeldVersion:
        wanted = changed_by_customer(held, request)
        draft = replace(self._parts.reader.read(wanted), limits=None)
        changed = await stored(connection, held.evsp_id, draft)
        if request.WhichOneof("change") == "block_token_hash":
            storage = CustomerContractStorage(connection)
            await storage.mark_customers_block(held.contract_key, request.block_token_hash)
        return changed

    async def _check_secret(
        self, request: messages.ChangeOwnContractRequest, contract_key: str
    ) -> str:
        """Give the EVSP of the contract that the secret belongs to; else NOT_FOUND.

        Wrong secrets are counted in a transaction of their own, which stays.
        """
        key = (contract_key, market_call().requester_id)
        secret_hash = self._parts.hashing.secret(contract_key, request.customer_secret)
        async with transaction(self._parts.pool) as connection:
            storage = CustomerContractStorage(connection)
            held = await storage.of_key(contract_key)
            if held is not None and held.secret_hash is not None:
                tried = await storage.failures(*key, _FAILURES_WITHIN)
                if tried < _FAILURES_MAX and compare_digest(held.secret_hash, secret_hash):
                    return held.evsp_id
                await storage.count_failure(*key, _FAILURES_WITHIN)
        raise not_found("contract")


@asynccontextmanager
async def snapshot(parts: Parts) -> AsyncIterator[CustomerContractStorage]:
    """Give what reads contracts and their tokens as of one instant."""
    async with (
        parts.pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield CustomerContractStorage(connection)


async def _held(connection: Connection, evsp_id: str, contract_key: str) -> HeldVersion:
    """Give an EVSP's contract that is not disabled, which nobody else changes until the commit."""
    await ContractStaging(connection).hold(evsp_id)
    held = await CustomerContractStorage(connection).get(evsp_id, contract_key)
    if held is None:
        raise not_found("contract")
    if not held.active:
        raise not_in_this_state("The contract is disabled.")
    return held


async def stored(connection: Connection, evsp_id: str, draft: ContractDraft) -> HeldVersion:
    """Write one contract; MarketError REQUEST_INVALID where it cannot be as it is."""
    staging = ContractStaging(connection)
    batch = Batch(uuid4(), evsp_id, 0, 0)
    await staging.stage(batch, [draft])
    await staging.apply(batch)
    (report,) = await staging.reports(batch)
    await staging.forget(batch.load_id)
    if report["outcome"] == LoadStatus.LOAD_STATUS_REFUSED:
        field = f"contract.{report['field']}"
        raise invalid(field, report["description"], "contract")
    held = await CustomerContractStorage(connection).get(evsp_id, draft.contract_key)
    assert held is not None, "what was written is there"
    return held
