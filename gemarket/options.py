"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemarket.layout import Layout

if TYPE_CHECKING:
    from foundation.settings import Settings

#: What services of the demonstration are called at.
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")

DataDir = Annotated[
    Path | None,
    typer.Option(help="Data directory of the market [env: GEMARKET_DATA_DIR; else .gemarket]."),
]

As = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="PARTY",
        help="Partner, operator, or a folder with key and certificate; else who has logged in.",
    ),
]


def layout_of(data_dir: Path | None) -> Layout:
    """Give the layout of the named data directory, or of the usual one."""
    chosen = data_dir or Path(os.environ.get("GEMARKET_DATA_DIR", ".gemarket"))
    return Layout(chosen.absolute())


def allowing_loopback(settings: Settings) -> Settings:
    """Let services be registered and called on this machine, where the reference partners run."""
    services = settings.services
    allowed = dict.fromkeys((*services.endpoint_networks_allowed, *LOOPBACK_NETWORKS))
    changed = services.model_copy(update={"endpoint_networks_allowed": tuple(allowed)})
    return settings.model_copy(update={"services": changed})


def settings_of(data_dir: Path | None, **overrides: object) -> Settings:
    """Read the settings; options of the command line come before environment and file."""
    from foundation.settings import Settings  # noqa: PLC0415  # few commands need it, it is slow

    given = {name: value for name, value in overrides.items() if value is not None}
    if data_dir is not None:
        given["data_dir"] = data_dir
    return Settings(**given)
