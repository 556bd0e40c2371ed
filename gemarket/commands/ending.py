"""How every command ends that fails: with its reason, and a status that says whose it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from grpc import aio

from foundation.errors import MarketError, SettingsError
from gemarket.console import errors, show_failure, shown
from gemarket.endpoints import NotRunningError


@contextmanager
def ending(program: str, *failures: type[Exception]) -> Iterator[None]:
    """End with 1 where the market, or who answered through it, refuses or fails; `failures` say so.

    With 2 where what was given, a file, the network or this machine stands in the way, also when
    some calls were made by then. With 130 by Ctrl-C.
    """
    try:
        yield
    except aio.AioRpcError as error:
        show_failure(error)
        raise typer.Exit(1) from None
    except MarketError as error:
        errors.print(f"[red]{program}:[/] {shown(error.message)}", highlight=False)
        raise typer.Exit(1) from None
    except failures as error:
        errors.print(f"[red]{program}:[/] {shown(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    except (NotRunningError, KeyError, ValueError, OSError, SettingsError) as error:
        # A KeyError shows its text in quotes; the first argument of others may be a number.
        text = error.args[0] if isinstance(error, KeyError) else error
        errors.print(f"[red]{program}:[/] {shown(str(text))}", highlight=False)
        raise typer.Exit(2) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
