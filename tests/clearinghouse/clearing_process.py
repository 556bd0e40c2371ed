"""The clearing house as a process of its own, which a test kills, and an operator who calls it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import grpc
from grpc import aio

from foundation.certificates import provider_dns_name
from gem.roaming.v1 import clearing_service_pb2 as messages
from gem.roaming.v1.charge_detail_record_pb2 import ChargeDetailRecord
from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceStub
from tests.identities import TRUST_DOMAIN, Identity

if TYPE_CHECKING:
    from gem.roaming.v1.clearing_service_pb2_grpc import ClearingServiceAsyncStub

PARTNER = "clearinghouse"
_PATIENCE_S = 30.0


def metadata(requester_id: str) -> tuple[tuple[str, str], ...]:
    """Give what the marketplace says about a call."""
    return (
        ("gem-requester", requester_id),
        ("gem-contract", "c-1"),
        ("gem-call", str(uuid4())),
    )


def write_config(folder: Path, identity: Identity, url: str, market_port: int) -> Path:
    """Write the settings of a process; gives the file."""
    files = {
        "key_file": identity.key_pem,
        "certificate_file": identity.chain_pem,
        "ca_file": identity.root_pem,
        "token_key_file": b"a key of tests, thirty-two bytes",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    config = folder / "clearinghouse.json"
    values = {
        "partner_id": PARTNER,
        "database_url": url,
        "trust_domain": TRUST_DOMAIN,
        "market_address": f"127.0.0.1:{market_port}",
        **{name: name for name in files},
    }
    config.write_text(json.dumps(values))
    return config


class ClearingProcess:
    """A running process; `port` is where it serves."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        assert process.stdout is not None
        # A log that nobody reads would stop the process.
        self._reading = asyncio.create_task(process.stdout.read())

    @classmethod
    async def start(cls, config: Path) -> ClearingProcess:
        """Start a process and wait until it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "clearinghouse.provider", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE_S)
        return cls(process, json.loads(line)["port"])

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@asynccontextmanager
async def calling(port: int, identity: Identity) -> AsyncIterator[ClearingServiceAsyncStub]:
    """Call a clearing house as the marketplace."""
    credentials = grpc.ssl_channel_credentials(
        identity.root_pem, identity.key_pem, identity.chain_pem
    )
    options = (
        ("grpc.ssl_target_name_override", provider_dns_name(TRUST_DOMAIN, PARTNER)),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield ClearingServiceStub(channel)


async def send(
    stub: ClearingServiceAsyncStub,
    records: Sequence[ChargeDetailRecord],
    acknowledged: set[str],
    size: int = 20,
    operator_id: str = "op",
) -> None:
    """Stream records in batches; note what is acknowledged. Raises where the stream breaks."""
    requests = [
        messages.SubmitChargeDetailRecordsRequest(
            request_id=str(first), records=records[first : first + size]
        )
        for first in range(0, len(records), size)
    ]
    call = stub.SubmitChargeDetailRecords(iter(requests), metadata=metadata(operator_id))
    async for answer in call:
        for receipt in answer.receipts:
            assert receipt.status in {1, 2}, receipt
            acknowledged.add(receipt.cdr_id)
