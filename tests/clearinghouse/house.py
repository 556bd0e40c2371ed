"""A clearing house as the marketplace sees it, with the parties and contracts of its tests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.provider import Provider, serve
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.token_hash import write_token_key
from foundation.certificates import provider_dns_name
from gem.roaming.v1 import clearing_contract_pb2 as contracts
from gem.roaming.v1 import clearing_contract_service_pb2 as contract_service
from gem.roaming.v1 import clearing_service_pb2 as clearing_service
from gem.roaming.v1.authorization_pb2 import (
    AuthorizationDecision,
    AuthorizationStatus,
    DecidingLayer,
)
from gem.roaming.v1.clearing_contract_service_pb2_grpc import ClearingContractServiceStub
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from gem.roaming.v1.identification_pb2 import (
    Identification,
    IdentificationKind,
    Token,
    TokenStatus,
    WhitelistPolicy,
)
from tests.clearinghouse.market_stand import CLEARING, MarketStand
from tests.identities import TRUST_DOMAIN, Identity

HOUSE, OPERATOR, EVSP, OTHER_EVSP = "house", "operator", "evsp", "other-evsp"
EVSE = "DE*ABC*E1"
#: A card of the first customer, and his contract.
CARD, CONTRACT = "04A1B2C3", "DE-EVS-C00000001"
OTHER_CONTRACT = "DE-OTH-C00000001"
PATIENCE_S = 10.0
_ids = itertools.count(1)
#: A long time ago, and long from now.
PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)


def new_request_id() -> str:
    """Give a request id that no other has."""
    return f"request-{next(_ids)}"


def instant(at: datetime) -> Timestamp:
    """Give an instant as a message."""
    made = Timestamp()
    made.FromDatetime(at)
    return made


def card(uid: str = CARD, status: str = "VALID", **fields: Any) -> Token:
    """Give a card as its EVSP registers it."""
    return Token(
        kind=fields.pop("kind", IdentificationKind.IDENTIFICATION_KIND_RFID),
        token_uid=uid,
        status=TokenStatus.Value(f"TOKEN_STATUS_{status}"),
        **fields,
    )


def contract(
    contract_id: str = CONTRACT, *tokens: Token, policy: str = "ALWAYS", **fields: Any
) -> contracts.CustomerContract:
    """Give a customer's contract, by default with one card and decided by the list."""
    return contracts.CustomerContract(
        contract_id=contract_id,
        tokens=tokens or [card()],
        whitelist_policy=WhitelistPolicy.Value(f"WHITELIST_POLICY_{policy}"),
        **fields,
    )


def shows(uid: str = CARD, **fields: Any) -> Identification:
    """Give what a customer with a card shows."""
    kind = fields.pop("kind", IdentificationKind.IDENTIFICATION_KIND_RFID)
    return Identification(kind=kind, token_uid=uid, **fields)


def by_contract(contract_id: str = CONTRACT, **fields: Any) -> Identification:
    """Give what a vehicle shows."""
    kind = fields.pop("kind", IdentificationKind.IDENTIFICATION_KIND_PLUG_AND_CHARGE)
    return Identification(kind=kind, contract_id=contract_id, **fields)


def outcome(decision: AuthorizationDecision) -> tuple[str, str]:
    """Give status and layer of a decision without their prefixes."""
    status = AuthorizationStatus.Name(decision.status).removeprefix("AUTHORIZATION_STATUS_")
    layer = DecidingLayer.Name(decision.deciding_layer).removeprefix("DECIDING_LAYER_")
    return status, layer


async def refused(call: Awaitable[object]) -> str:
    """Await a call that fails; give the reason of its ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return reason_of(caught.value)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Give the reason of a failed call's ErrorInfo; its code's name where it has none."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    if status is None or not status.details[0].Unpack(info):
        return error.code().name
    return str(info.reason)


def broken_fields(error: grpc.aio.AioRpcError) -> list[str]:
    """Give the fields that a refusal names."""
    status = rpc_status.from_call(error)
    assert status is not None
    bad = error_details_pb2.BadRequest()
    return [
        violation.field
        for detail in status.details
        if detail.Unpack(bad)
        for violation in bad.field_violations
    ]


class House:
    """A running clearing house; `ask` calls it as the marketplace does for a partner."""

    def __init__(
        self, provider: Provider, channel: grpc.aio.Channel, stand: MarketStand, url: str
    ) -> None:
        self.provider = provider
        self.stand = stand
        self.url = url
        self.channel = channel
        self.contracts = ClearingContractServiceStub(channel)
        self.clearing = ClearingServiceStub(channel)

    @property
    def pool(self) -> asyncpg.Pool[asyncpg.Record]:
        return self.provider.parts.pool

    def as_partner(self, partner_id: str) -> tuple[tuple[str, str], ...]:
        """Give the metadata by which the marketplace says who calls."""
        return (
            ("gem-requester", partner_id),
            ("gem-contract", "c-1"),
            ("gem-call", str(uuid4())),
        )

    async def ask(self, partner_id: str, rpc: str, /, **fields: Any) -> Any:
        """Call an rpc of either service for a partner; commands get a fresh request id."""
        module: Any = contract_service
        stub: Any = self.contracts
        if not hasattr(module, f"{rpc}Request"):
            module, stub = clearing_service, self.clearing
        request_class = getattr(module, f"{rpc}Request")
        if "request_id" in request_class.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", new_request_id())
        request = request_class(**fields)
        metadata = self.as_partner(partner_id)
        return await getattr(stub, rpc)(request, metadata=metadata, timeout=PATIENCE_S)

    async def authorize(
        self, shown: Identification, operator: str = OPERATOR, **fields: Any
    ) -> AuthorizationDecision:
        """Ask for a customer at the operator's EVSE."""
        fields.setdefault("evse_id", EVSE)
        answer = await self.ask(operator, "Authorize", identification=shown, **fields)
        decision: AuthorizationDecision = answer.decision
        return decision

    async def decided(self, shown: Identification, **fields: Any) -> tuple[str, str]:
        """Give status and layer of the decision about a customer."""
        return outcome(await self.authorize(shown, **fields))

    async def hold(
        self, held: contracts.CustomerContract, evsp: str = EVSP
    ) -> contracts.CustomerContract:
        """Let an EVSP create a contract."""
        made = await self.ask(evsp, "CreateCustomerContract", contract=held)
        found: contracts.CustomerContract = made.contract
        return found

    async def load(
        self, *messages: list[contracts.CustomerContract], evsp: str = EVSP, **fields: Any
    ) -> list[contract_service.LoadCustomerContractsResponse]:
        """Load contracts, a list for each message; by default a delta, one by one."""
        fields.setdefault("mode", contract_service.LOAD_MODE_DELTA)
        fields.setdefault("request_id", new_request_id())

        async def requests() -> AsyncIterator[contract_service.LoadCustomerContractsRequest]:
            for message in messages:
                yield contract_service.LoadCustomerContractsRequest(contracts=message, **fields)

        call = self.contracts.LoadCustomerContracts(
            requests(), metadata=self.as_partner(evsp), timeout=60
        )
        return [answer async for answer in call]

    async def stream(self, rpc: str, evsp: str = EVSP, **fields: Any) -> list[Any]:
        """Give all answers of a streaming rpc."""
        request = getattr(contract_service, f"{rpc}Request")(**fields)
        call = getattr(self.contracts, rpc)(request, metadata=self.as_partner(evsp), timeout=30)
        return [answer async for answer in call]

    async def agree(self, operator: str = OPERATOR, evsp: str = EVSP, **details: Any) -> Any:
        """Let operator and EVSP contract in the marketplace; give their agreement."""
        for member in (operator, evsp):
            self.stand.tell(f"m-{member}", member, HOUSE, interface_names=[CLEARING])
        self.stand.tell(f"c-{operator}-{evsp}", operator, evsp)
        await self.follow()
        values = {"currency_code": "EUR", **details}
        agreement = contracts.RoamingAgreement(
            operator_partner_id=operator, evsp_partner_id=evsp, **values
        )
        made = await self.ask(evsp, "CreateRoamingAgreement", agreement=agreement)
        return made.agreement

    async def follow(self) -> None:
        """Wait until the clearing house has all events of the marketplace."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.cursor() < len(self.stand.events):  # noqa: ASYNC110  # the database's
                await asyncio.sleep(0.01)

    async def cursor(self) -> int:
        """Give how far the marketplace's events were read."""
        text = "SELECT last_event_id FROM clearinghouse.market_cursor"
        return int(await self.pool.fetchval(text))


MakeSettings = Callable[..., ProviderSettings]


def house_settings(folder: Path, identity: Identity, **changes: Any) -> ProviderSettings:
    """Write the files of a clearing house and give settings that name them."""
    files = {
        "key_file": identity.key_pem,
        "certificate_file": identity.chain_pem,
        "ca_file": identity.root_pem,
    }
    for name, pem in files.items():
        (folder / name).write_bytes(pem)
    if not (folder / "token_key_file").exists():
        write_token_key(folder / "token_key_file")
    named = {name: folder / name for name in (*files, "token_key_file")}
    values = {"partner_id": HOUSE, "trust_domain": TRUST_DOMAIN, "question_s": 0.5}
    return ProviderSettings(**{**values, **named, **changes})


@asynccontextmanager
async def running_house(
    settings: ProviderSettings, stand: MarketStand, marketplace: Identity
) -> AsyncIterator[House]:
    """Run a clearing house beside a market that stands in."""
    provider = await serve(settings)
    credentials = grpc.ssl_channel_credentials(
        marketplace.root_pem, marketplace.key_pem, marketplace.chain_pem
    )
    options = (
        ("grpc.ssl_target_name_override", provider_dns_name(TRUST_DOMAIN, HOUSE)),
        ("grpc.use_local_subchannel_pool", 1),
    )
    address = f"127.0.0.1:{provider.port}"
    try:
        async with grpc.aio.secure_channel(address, credentials, options) as channel:
            yield House(provider, channel, stand, settings.database_url)
    finally:
        await provider.stop(1.0)


def hours(count: float) -> timedelta:
    """Give a duration."""
    return timedelta(hours=count)
