"""The command line, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from gemarket.commands import (
    authority,
    call,
    conformance,
    contracts,
    demo,
    doctor,
    explain_route,
    imports,
    interfaces,
    log,
    notifications,
    partners,
    requests,
    searches,
    service_files,
    services,
    session,
    transactions,
    up,
    users,
)
from gemarket.console import output

application = typer.Typer(
    help="The marketplace for electric mobility services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        output.print(version("gemarket"), highlight=False)
        raise typer.Exit


@application.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command."""


application.command("up")(up.up)
application.command("demo")(demo.demo)
application.command("call")(call.call)
application.command("doctor")(doctor.doctor)
application.command("explain-route")(explain_route.explain_route)
application.add_typer(authority.application, name="ca")
application.add_typer(contracts.application, name="contracts")
application.add_typer(imports.application, name="import")
application.add_typer(transactions.application, name="transactions")
application.add_typer(log.application, name="log")
application.command("login")(session.login)
application.command("logout")(session.logout)
application.command("whoami")(session.who_am_i)
application.add_typer(users.application, name="users")
application.add_typer(notifications.application, name="notifications")
application.add_typer(interfaces.application, name="interfaces")
application.add_typer(requests.application, name="requests")
application.add_typer(searches.application, name="searches")
application.add_typer(service_files.application, name="service-files")
application.add_typer(conformance.application, name="conformance")
application.add_typer(partners.application, name="partners")
application.add_typer(services.application, name="services")
