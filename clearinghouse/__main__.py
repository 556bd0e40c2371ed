"""The clearing house's operator: `python -m clearinghouse --config FILE dead-letters …`.

    dead-letters list             every record that its EVSP did not take, the oldest first
    dead-letters release NUMBER   let it be tried again as if it were new
    dead-letters return NUMBER    return the record to its operator, with the reason

Prints one JSON object a line. Exit status 1 says that there is no such dead letter or that it
cannot be returned, 2 that the settings are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from clearinghouse.dead_letters import give_back, release_letter
from clearinghouse.provider_settings import read_settings
from clearinghouse.storage import DATABASE_ERRORS, Pool, open_pool
from clearinghouse.storage_delivery import dead_letters
from foundation.errors import MarketError, SettingsError

_PAGE = 500


async def operate(url: str, action: str, number: int) -> int:
    """Do what the operator asks for; gives the exit status."""
    async with open_pool(url, 1) as pool:
        if action == "list":
            await _list(pool)
            return 0
        work = release_letter if action == "release" else give_back
        try:
            done = await work(pool, number)
        except MarketError as error:
            sys.stderr.write(f"{error.message}\n")
            return 1
        if not done:
            sys.stderr.write("there is no dead letter with this number\n")
        return 0 if done else 1


async def _list(pool: Pool) -> None:
    after = 0
    while True:
        async with pool.acquire() as connection:
            letters = await dead_letters(connection, after, _PAGE)
        for each in letters:
            shown = {
                "number": each.delivery_ref,
                "operator": each.operator_partner_id,
                "evsp": each.evsp_partner_id,
                "operator_id": each.operator_key,
                "cdr_id": each.cdr_key,
                "revision": each.revision_number,
                "attempts": each.attempt_count,
                "failure": each.failure,
                "since": each.created_at.isoformat(),
            }
            sys.stdout.write(json.dumps(shown) + "\n")
            after = each.delivery_ref
        if len(letters) < _PAGE:
            return


def main(arguments: list[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clearinghouse", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the provider's JSON file")
    parser.add_argument("what", choices=("dead-letters",))
    parser.add_argument("action", choices=("list", "release", "return"))
    parser.add_argument("number", nargs="?", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        url = read_settings(given.config).database_url
        return asyncio.run(operate(url, given.action, given.number))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
    except DATABASE_ERRORS as error:
        sys.stderr.write(f"the database does not answer: {type(error).__name__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
