"""The stage of the clearing house's benchmarks: a market, it, an operator and an EVSP."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import psutil
from grpc import aio

from bench.cdr_records import OPERATOR_ID
from bench.stage import market, start_python
from clearinghouse.customer_contract import ContractDraft, ContractReader, TokenDraft
from clearinghouse.storage import open_pool
from clearinghouse.storage_contract_staging import Batch, ContractStaging
from clearinghouse.token_hash import TokenHashing, read_token_key
from foundation.identifiers import CheckPolicy
from gem.options.v1 import options_pb2
from gem.roaming.v1 import clearing_contract_pb2, identification_pb2
from gemarket.administration import Connection, PartnerPlan, ServicePlan
from gemarket.identity import channel_credentials
from gemarket.market import Market
from gemarket.ports import free_port
from gemarket.roaming import CHILD, CLEARING, HOUSE, Roaming

OPERATOR, EVSP = "bench-operator", "bench-evsp"
CONTRACTS = "gem.roaming.v1.ClearingContractService"
HOLDER = "gem.roaming.v1.ContractHolderService"
EVSE = "DE*BNC*E1"
RFID = identification_pb2.IDENTIFICATION_KIND_RFID
_ROLES = {
    OPERATOR: options_pb2.PARTNER_ROLE_EVSE_OPERATOR,
    EVSP: options_pb2.PARTNER_ROLE_EVSP,
}
_FILL_BATCH = 20_000
_FOLLOW_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RoamingStage:
    """Everything that a benchmark of the clearing house measures against."""

    market: Market
    house: psutil.Process
    hashing: TokenHashing

    def channel(self, partner_id: str) -> aio.Channel:
        """Open a channel to the marketplace as one of the parties."""
        credentials = channel_credentials(self.market.layout.partner(partner_id))
        options = [("grpc.use_local_subchannel_pool", 1)]
        return aio.secure_channel(self.market.address, credentials, options=options)

    async def processes(self) -> list[psutil.Process]:
        """Give the clearing house and the sessions of its database, whose CPU is measured."""
        async with open_pool(self.market.database_url, 1) as pool:
            text = (
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'gem-clearinghouse'"
                " AND pid <> pg_backend_pid()"
            )
            rows = await pool.fetch(text)
        return [self.house, *(psutil.Process(row["pid"]) for row in rows)]

    async def fill(self, first: int, last: int) -> None:
        """Let the EVSP have customers of these numbers, each with a card of its number."""
        async with open_pool(self.market.database_url, 2) as pool, pool.acquire() as connection:
            staging = ContractStaging(connection)
            drafts = _drafts(self.hashing, first, last)
            while chunk := list(itertools.islice(drafts, _FILL_BATCH)):
                batch = Batch(uuid4(), EVSP, 0, len(chunk) - 1)
                async with connection.transaction():
                    await staging.stage(batch, chunk)
                    await staging.apply(batch)
                await staging.forget(batch.load_id)
            for table in ("customer_contract", "token", "staged_contract", "staged_token"):
                text = f"VACUUM (ANALYZE) clearinghouse.{table}"
                await connection.execute(text, timeout=600)
            # Else writing it all back would be measured.
            await connection.execute("CHECKPOINT", timeout=600)


def card(number: int) -> str:
    """Give the card of a customer."""
    return f"{number:014X}"


def contract(number: int) -> clearing_contract_pb2.CustomerContract:
    """Give the contract of a customer as its EVSP sends it."""
    token = identification_pb2.Token(
        kind=RFID, token_uid=card(number), status=identification_pb2.TOKEN_STATUS_VALID
    )
    return clearing_contract_pb2.CustomerContract(
        contract_id=f"DE-BNC-{number:09d}",
        tokens=[token],
        whitelist_policy=identification_pb2.WHITELIST_POLICY_ALWAYS,
    )


def _drafts(hashing: TokenHashing, first: int, last: int) -> Iterator[ContractDraft]:
    """Give contracts without reading each: only ids, tokens and digests differ."""
    reader = ContractReader(hashing, CheckPolicy.OFF)
    model = reader.read(contract(0))
    (token,) = model.tokens
    for number in range(first, last):
        key = f"DEBNC{number:09d}"
        own: TokenDraft = replace(token, token_hash=hashing.token(RFID, card(number)))
        yield replace(
            model,
            contract_key=key,
            contract_id=f"DE-BNC-{number:09d}",
            tokens=(own,),
            digest=key.encode(),
        )


@asynccontextmanager
async def roaming_stage() -> AsyncIterator[RoamingStage]:
    """Run a market with a clearing house in its database, and an EVSP that approves every record.

    Each party is a process of its own.
    """
    limits = {"partner_max_calls": 1000, "partner_calls_per_s": 1_000_000}
    async with market(1, limits=limits) as running:
        roaming = Roaming(running)
        await roaming.start()
        holder = f"127.0.0.1:{free_port()}"
        service_id = await _register(running, holder)
        process = await start_python("bench.contract_holder", _holder_plan(running, holder))
        try:
            await _contract(running, service_id)
            key = read_token_key(running.layout.partner(HOUSE.partner_id).folder / "token.key")
            house = running.supervisor.pids()[CHILD]
            yield RoamingStage(running, psutil.Process(house), TokenHashing(key))
        finally:
            process.terminate()
            await process.wait()


def _holder_plan(running: Market, address: str) -> str:
    return json.dumps(
        {
            "address": address,
            "identity": str(running.layout.partner(EVSP).folder),
            "trust_domain": running.settings.trust_domain,
        }
    )


async def _register(running: Market, holder: str) -> str:
    """Bring in the operator, and the EVSP with its service; gives the service's id."""
    layout, roots = running.layout, running.authority.root_pem
    async with (
        Connection(running.address, layout.operator("business")) as business,
        Connection(running.address, layout.operator("technical")) as technical,
    ):
        for partner_id, role in _ROLES.items():
            owned = [OPERATOR_ID] if partner_id == OPERATOR else []
            plan = PartnerPlan(partner_id, "Bench", [role], operator_ids=owned)
            await business.ensure_partner(plan)
            await business.issue_identity(partner_id, layout.partner(partner_id), roots)
        async with Connection(running.address, layout.partner(EVSP)) as seller:
            service_id = await seller.ensure_service(ServicePlan(EVSP, HOLDER, HOLDER, holder))
        await technical.publish_service(service_id)
    return service_id


async def _contract(running: Market, holder_id: str) -> None:
    """Let both contract the clearing house, and it and the operator the EVSP.

    Waits until the clearing house knows of the agreement that follows.
    """
    layout = running.layout
    async with Connection(running.address, layout.partner(HOUSE.partner_id)) as buyer:
        await buyer.ensure_contract(holder_id)
    for partner_id in (EVSP, OPERATOR):
        async with Connection(running.address, layout.partner(partner_id)) as buyer:
            for interface in (CLEARING, CONTRACTS):
                found = await buyer.find_services(interface)
                await buyer.ensure_contract(found[HOUSE.partner_id].service_id)
            if partner_id == OPERATOR:
                await buyer.ensure_contract(holder_id)
    async with open_pool(running.database_url, 1) as pool, asyncio.timeout(_FOLLOW_TIMEOUT_S):
        text = "SELECT count(*) FROM clearinghouse.agreement"
        while not await pool.fetchval(text):  # noqa: ASYNC110  # another process follows
            await asyncio.sleep(0.1)
