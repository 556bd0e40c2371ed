"""What commands about the service registry share: who asks, and how failures end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import uvloop

from gem.marketplace.v1.service_registry_service_pb2_grpc import ServiceRegistryServiceStub
from gemarket.commands.ending import ending
from gemarket.core_client import open_as
from gemarket.options import layout_of

if TYPE_CHECKING:
    from gem.marketplace.v1.service_registry_service_pb2_grpc import (
        ServiceRegistryServiceAsyncStub,
    )

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Work = Callable[["ServiceRegistryServiceAsyncStub"], Awaitable[None]]


def run(work: Work, caller: str, data_dir: Path | None, group: str) -> None:
    """Do the work as one of the market's parties; ends with the reason where it fails."""

    async def connected() -> None:
        async with open_as(layout_of(data_dir), caller) as channel:
            await work(ServiceRegistryServiceStub(channel))

    with ending(f"gemarket {group}"):
        uvloop.run(connected())
