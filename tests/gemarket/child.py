"""A child process that behaves as its arguments say: `python -m tests.gemarket.child WAY`."""

from __future__ import annotations

import os
import signal
import sys
import time

from gemarket.supervisor import KEPT_MEMORY, OWN_POLLING

_LONG_S = 120.0


def say(text: str) -> None:
    """Print in one piece."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do one of the ways of a child."""
    way = sys.argv[1]
    if way == "fails":
        say("something is wrong")
        sys.exit(3)
    if way == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if way == "settings":
        say(repr({name: os.environ.get(name) for name in (*KEPT_MEMORY, *OWN_POLLING)}))
    if way == "slow":
        time.sleep(1.0)
    if way == "json":
        say('{"port": 1234}')
    elif way != "silent":
        say("a line before\nready")
    time.sleep(_LONG_S)


if __name__ == "__main__":
    main()
