"""Run the benchmarks: `python -m bench [NAME …]` prints one JSON object a line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

# The benchmarks start programs and never fork: grpc need not prepare for it, nor say so.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import uvloop

from bench import router
from bench.authorize import authorize, authorize_memory
from bench.clearing import cdr_clear, cdr_intake
from bench.contracts_effect import contracts_effect
from bench.evse_search import evse_search
from bench.log_verify import log_verify
from bench.replay import replay
from bench.routing_scale import routing_scale
from bench.services_search import services_search
from bench.transactions import transactions_export, transactions_search

Benchmark = Callable[[], Awaitable[Mapping[str, object]]]

BENCHMARKS: dict[str, Benchmark] = {
    "router-one": router.router_one,
    "router-all-3": router.router_all_3,
    "router-all-3-large": router.router_all_3_large,
    "router-hung": router.router_hung,
    "routing-scale": routing_scale,
    "evse-search": evse_search,
    "transactions-search": transactions_search,
    "transactions-export": transactions_export,
    "log-verify": log_verify,
    "services-search": services_search,
    "contracts-effect": contracts_effect,
    "authorize": authorize,
    "authorize-memory": authorize_memory,
    "cdr-intake": cdr_intake,
    "cdr-clear": cdr_clear,
    "replay": replay,
    "workers": router.workers,
}


async def _run(names: list[str]) -> None:
    for name in names:
        figures = await BENCHMARKS[name]()
        print(json.dumps({"name": name, **figures}), flush=True)


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names = parser.parse_args().names or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        raise SystemExit(2)
    uvloop.run(_run(names))


if __name__ == "__main__":
    main()
