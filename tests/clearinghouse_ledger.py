"""Bookings, agreements and running clearing houses that tests of settlement start from."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]  # it has no stubs

from clearinghouse.clearing_run import ClearingCommand, Netting, run_clearing
from clearinghouse.ledger import Booking
from clearinghouse.provider import serve
from clearinghouse.provider_settings import ProviderSettings
from clearinghouse.storage import Pool, transaction
from clearinghouse.storage_ledger import MOST_BOOKINGS, book
from clearinghouse.storage_settlement import RunRow
from foundation.certificates import provider_dns_name
from foundation.database import connect_raw
from foundation.embedded_postgres import EmbeddedPostgres
from foundation.migrations import migrate
from tests.identities import TRUST_DOMAIN, Identity

HOUSE, OPERATOR, EVSP = "hub", "alpha-operator", "blue-evsp"
MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
_numbers = itertools.count(1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
EUR = "EUR"


def booking(cdr_ref: int = 1, **changes: object) -> Booking:
    """Give a booking of 5.00 and 6.00 EUR for a session in March."""
    values: dict[str, object] = {
        "cdr_ref": cdr_ref,
        "operator_id": OPERATOR,
        "evsp_id": EVSP,
        "amount_without_tax_micros": 5_000_000,
        "amount_with_tax_micros": 6_000_000,
        "currency_code": EUR,
        "booked_at": MARCH + timedelta(days=2),
        "started_at": MARCH + timedelta(days=1),
        "ended_at": MARCH + timedelta(days=1, hours=1),
        "record_operator_id": "DE*ABC",
        "cdr_id": f"CDR{cdr_ref}",
        "energy_milli_wh": 10_000_000,
    }
    return Booking(**{**values, **changes})  # type: ignore[arg-type]  # fields by name


@asynccontextmanager
async def house_database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Make a database for the tests of one file; `emptied` makes it new for each."""
    name = f"house_{uuid4().hex}"
    head, _, query = postgres.url.partition("?")
    url = f"{head.rpartition('/')[0]}/{name}?{query}"
    server = await connect_raw(postgres.url)
    try:
        await server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        await migrate(url, "clearinghouse")
        yield url
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


async def emptied(pool: Pool) -> None:
    """Empty the tables of tariffs, the ledger and settlements."""
    await pool.execute(
        "TRUNCATE clearinghouse.booking, clearinghouse.clearing_run, clearinghouse.tariff_version,"
        " clearinghouse.agreement CASCADE"
    )


async def booked(pool: Pool, bookings: Iterable[Booking]) -> int:
    """Book as approvals do it, in transactions; gives how many are new."""
    given, new = list(bookings), 0
    for start in range(0, len(given), MOST_BOOKINGS):
        async with transaction(pool) as connection:
            new += await book(connection, given[start : start + MOST_BOOKINGS])
    return new


async def cleared(
    pool: Pool,
    end: datetime = APRIL,
    request_id: str = "",
    netting: Netting = Netting.MULTILATERAL,
    start: datetime | None = None,
) -> RunRow:
    """Settle the period up to an instant."""
    ends = start or end - timedelta(days=30), end
    command = ClearingCommand(HOUSE, request_id or uuid4().hex, *ends, netting)
    return await run_clearing(pool, command, NOW)


async def agree(pool: Pool, operator_id: str, evsp_id: str, **changes: object) -> None:
    """Record an agreement in force between two partners."""
    values: dict[str, object] = {
        "agreement_ref": next(_numbers),
        "version_number": 1,
        "agreement_id": uuid4().hex,
        "operator_id": operator_id,
        "evsp_id": evsp_id,
        "market_contract_id": uuid4().hex,
        "active": True,
        "market_active": True,
        "detailed": False,
        "operator_ids": [],
        "operator_keys": [],
        "currency_code": EUR,
        "broadcast_allowed": False,
        "changed_by": operator_id,
        **changes,
    }
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await pool.execute(
        f"INSERT INTO clearinghouse.agreement ({', '.join(values)}) VALUES ({places})",
        *values.values(),
    )


def settings_for(folder: Path, identity: Identity, url: str) -> ProviderSettings:
    """Write the files of a clearing house's process, and give its settings."""
    files = {
        "key_file": identity.key_pem,
        "certificate_file": identity.chain_pem,
        "ca_file": identity.root_pem,
    }
    for name, pem in files.items():
        (folder / name).write_bytes(pem)
    values = {
        "partner_id": HOUSE,
        "database_url": url,
        "trust_domain": TRUST_DOMAIN,
        "market_address": "127.0.0.1:1",
    }
    paths = {name: str(folder / name) for name in (*files, "token_key_file")}
    (folder / "token_key_file").write_bytes(bytes(32))
    (folder / "token_key_file").chmod(0o600)
    (folder / "clearinghouse.json").write_text(json.dumps({**values, **paths}))
    return ProviderSettings.model_validate({**values, **paths})


@asynccontextmanager
async def serving(
    settings: ProviderSettings, identity: Identity
) -> AsyncIterator[grpc.aio.Channel]:
    """Run a clearing house; give a channel with the certificate of the identity."""
    provider = await serve(settings)
    credentials = grpc.ssl_channel_credentials(
        identity.root_pem, identity.key_pem, identity.chain_pem
    )
    options = (
        ("grpc.ssl_target_name_override", provider_dns_name(TRUST_DOMAIN, HOUSE)),
        ("grpc.use_local_subchannel_pool", 1),
    )
    try:
        target = f"127.0.0.1:{provider.port}"
        async with grpc.aio.secure_channel(target, credentials, options) as channel:
            yield channel
    finally:
        await provider.stop(1.0)


def by(partner_id: str) -> Sequence[tuple[str, str]]:
    """Give the marketplace's word that a partner calls."""
    return (
        ("gem-requester", partner_id),
        ("gem-contract", "c-1"),
        ("gem-call", str(uuid4())),
    )


async def refused(call: Awaitable[object] | AsyncIterable[object]) -> tuple[str, str]:
    """Await a call or stream that fails; give its code and the reason of its ErrorInfo."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _ended(call)
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    if status is not None:
        assert status.details[0].Unpack(info)
    return caught.value.code().name, info.reason


async def _ended(call: Awaitable[object] | AsyncIterable[object]) -> None:
    if isinstance(call, AsyncIterable):
        async for _ in call:
            pass
    else:
        await call
