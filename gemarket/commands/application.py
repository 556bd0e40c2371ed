"""The command line, put together; a command's module is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from gemarket.console import output

#: Module, and what is in it: a group (`application`) or one command, by the name of the command.
#: What a market or the log needs takes long to import, and most commands need none of it.
_COMMANDS = {
    "up": ("gemarket.commands.up", "up"),
    "demo": ("gemarket.commands.demo", "demo"),
    "call": ("gemarket.commands.call", "call"),
    "doctor": ("gemarket.commands.doctor", "doctor"),
    "replay": ("gemarket.commands.replay", "replay"),
    "explain-route": ("gemarket.commands.explain_route", "explain_route"),
    "login": ("gemarket.commands.session", "login"),
    "logout": ("gemarket.commands.session", "logout"),
    "whoami": ("gemarket.commands.session", "who_am_i"),
    "ca": ("gemarket.commands.authority", "application"),
    "contracts": ("gemarket.commands.contracts", "application"),
    "import": ("gemarket.commands.imports", "application"),
    "export": ("gemarket.commands.exports", "application"),
    "transactions": ("gemarket.commands.transactions", "application"),
    "log": ("gemarket.commands.log", "application"),
    "users": ("gemarket.commands.users", "application"),
    "notifications": ("gemarket.commands.notifications", "application"),
    "interfaces": ("gemarket.commands.interfaces", "application"),
    "requests": ("gemarket.commands.requests", "application"),
    "searches": ("gemarket.commands.searches", "application"),
    "service-files": ("gemarket.commands.service_files", "application"),
    "conformance": ("gemarket.commands.conformance", "application"),
    "partners": ("gemarket.commands.partners", "application"),
    "services": ("gemarket.commands.services", "application"),
}


class _Commands(TyperGroup):
    """All commands by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Give the names in the order in which they are shown."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None where there is none of that name."""
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        found = getattr(import_module(module), name)
        holder = typer.Typer(add_completion=False, rich_markup_mode=None)
        if not isinstance(found, typer.Typer):
            holder.command(cmd_name)(found)
            return get_command(holder)
        holder.add_typer(found, name=cmd_name)
        return get_group(holder).get_command(ctx, cmd_name)


application = typer.Typer(
    cls=_Commands,
    help="The marketplace for electric mobility services.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  # takes long, and few ask

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
