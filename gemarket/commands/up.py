"""`gemarket up`: a whole market on this machine, until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer
import uvloop
from rich.markup import escape

from foundation.errors import SettingsError
from foundation.lifetime import wait_for_stop
from foundation.settings import Settings
from gemarket.console import errors, output
from gemarket.hints import next_steps
from gemarket.logs import configure_logs
from gemarket.market import Market
from gemarket.options import DataDir, allowing_loopback, settings_of
from gemarket.reference import Reference
from gemarket.roaming import Roaming
from gemarket.supervisor import ChildFailedError

WithoutPartners = Annotated[
    bool, typer.Option("--bare", help="Start no reference partners: an empty market.")
]
Workers = Annotated[int | None, typer.Option(help="Worker processes that share the port.")]
Port = Annotated[int | None, typer.Option(help="Port of the listener; 0 takes a free one.")]
SessionPort = Annotated[
    int | None, typer.Option(help="Port of the listener for people; 0 takes a free one.")
]
MetricsPort = Annotated[int | None, typer.Option(help="Port of /metrics; 0 takes a free one.")]


def up(
    *,
    bare: WithoutPartners = False,
    workers: Workers = None,
    port: Port = None,
    session_port: SessionPort = None,
    metrics_port: MetricsPort = None,
    data_dir: DataDir = None,
) -> None:
    """Start database, authority, workers and reference providers; drain on SIGTERM."""
    configure_logs()
    try:
        settings = settings_of(
            data_dir,
            workers=workers,
            port=port,
            session_port=session_port,
            metrics_port=metrics_port,
        )
        uvloop.run(_up(settings if bare else allowing_loopback(settings), bare))
    except (SettingsError, ChildFailedError, OSError) as error:
        errors.print(f"[red]gemarket up:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None


async def _up(settings: Settings, bare: bool) -> None:
    market = Market(settings)
    try:
        with output.status("starting the market"):
            await market.start()
            reference, roaming = Reference(market), Roaming(market)
            identities, providers = {}, {}
            if not bare:
                await reference.start()
                await roaming.start()
                identities = reference.identities() | roaming.identities()
                providers = reference.endpoints() | roaming.endpoints()
            endpoints = market.endpoints(identities, providers)
            endpoints.write(market.layout.endpoints)
        output.print(f"ready: {market.address} ({settings.workers} workers)", highlight=False)
        output.print(next_steps(endpoints, market.layout), highlight=False, soft_wrap=True)
        await wait_for_stop()
        output.print("draining")
    finally:
        await market.stop()
    output.print("stopped")
