"""The command `gemarket`."""

from __future__ import annotations

import os
import sys

#: Width of what goes into a file or to another program, where an id must be whole in its line.
_FILE_COLUMNS = "240"


def main() -> None:
    """Run the command line; says what to install where only the stubs are installed."""
    # Children are spawned by exec, which needs nothing of grpc; its support of forks only warns.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    if not sys.stdout.isatty():
        os.environ.setdefault("COLUMNS", _FILE_COLUMNS)
    try:
        from gemarket.commands.application import application  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        print(
            f"gemarket: the package {package!r} is missing: this installation has the stubs only; "
            "install 'gemarket[market]' for the command line",
            file=sys.stderr,
        )
        raise SystemExit(3) from None
    application()


if __name__ == "__main__":
    main()
