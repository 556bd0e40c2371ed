"""No partner reads, changes or counts what is another's: random calls of every rpc for partners."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from tests.end_to_end.figures import report
from tests.end_to_end.isolation_calls import partner_rpcs
from tests.end_to_end.isolation_cast import four_partners
from tests.end_to_end.isolation_market import Tenancy
from tests.end_to_end.isolation_rows import UNATTENDED, WITHOUT_OWNER
from tests.end_to_end.whole_market import WholeMarket

_OPERATIONS = 300
#: Slow for what they show: each takes a child process or a run in the background.
_ONCE = frozenset(
    {"ProposeInterface", "RunConformance", "UploadServiceSpecification", "PrepareServiceVersion"}
)
#: Lists without criteria: what they list, by which field, and of which table.
_LISTS = [
    ("ListContracts", "contracts", "contract_id", "contract"),
    ("ListTransactions", "transactions", "transaction_id", "service_transaction"),
    ("ListSavedSearches", "saved_searches", "saved_search_id", "saved_search"),
    ("ListCertificates", "certificates", "fingerprint", "certificate"),
    ("ListPartnerChanges", "changes", "change_id", "partner_change"),
]
_TORTURE_SEEDS = range(100, 120)
_packages = itertools.count(1)


@pytest.fixture(scope="module")
async def tenancy(whole: WholeMarket) -> AsyncIterator[Tenancy]:
    """Bring in partners of these tests' own."""
    begun_s = time.monotonic()
    made = await four_partners(whole, f"acme.isolation{next(_packages)}.v1")
    report("isolation set-up", elapsed_s=time.monotonic() - begun_s)
    yield made
    await made.database.close()


async def test_every_table_is_somebodys_or_has_a_reason_not_to_be(tenancy: Tenancy) -> None:
    assert not tenancy.ownership.undecided, "say in WITHOUT_OWNER why their rows are nobody's"
    gone = (WITHOUT_OWNER.keys() | UNATTENDED.keys()) - tenancy.ownership.tables
    assert not gone, "there are no such tables"
    described = {row.table for row in tenancy.rows.values()}
    assert {"contract", "service_file_part", "notice", "saved_search", "certificate"} <= described


async def run(tenancy: Tenancy, seed: int, operations: int) -> None:
    """Call at random, every rpc in turn, and fail with all that was wrong."""
    random = Random(seed)  # not a secret: it has to be the same again
    rpcs = partner_rpcs()
    parties = list(tenancy.parties.values())
    order = [name for name in rpcs if name not in _ONCE]
    wrong: list[str] = []
    begun_s = time.monotonic()
    names = list(_ONCE)
    while len(names) < operations:
        names += random.sample(order, len(order))
    names = names[:operations]
    random.shuffle(names)
    for number, name in enumerate(names):
        party, rpc = random.choice(parties), rpcs[name]
        requests = tenancy.random_request(random, party, rpc)
        outcome, found = await tenancy.checked(party, rpc, *requests)
        wrong += [
            f"seed {seed}, operation {number}: {name} by {party.partner_id}"
            f" ({outcome.code.name}): {each}"
            for each in found
        ]
    assert not wrong, "\n".join(wrong[:40])
    called = {name for name, _ in tenancy.ended}
    assert called == rpcs.keys(), "every rpc for partners was called"
    calls = sum(tenancy.ended.values())
    held = sum(count for (_, code), count in tenancy.ended.items() if code == "OK")
    assert held > calls / 4, "too few calls come through to show anything"
    elapsed_s = time.monotonic() - begun_s
    report(f"isolation seed {seed}", elapsed_s=elapsed_s, ok=held, calls=calls)


@pytest.mark.parametrize(("method", "items", "name", "table"), _LISTS)
async def test_a_list_has_all_that_is_the_callers_and_nothing_else(
    tenancy: Tenancy, method: str, items: str, name: str, table: str
) -> None:
    rpc = partner_rpcs()[method]
    await tenancy.refresh()
    for partner_id, party in tenancy.parties.items():
        request = rpc.request(page={"page_size": 1000})
        outcome = await tenancy.act(party, rpc, request)
        shown = [_shown(getattr(each, name)) for each in getattr(outcome.messages[0], items)]
        rows = [row for row in tenancy.rows.values() if row.table == table]
        own = [row.key.partition("|")[0] for row in rows if partner_id in row.owners]
        assert sorted(shown) == sorted(own)


async def test_lists_and_searches_without_criteria_show_nothing_of_others(
    tenancy: Tenancy,
) -> None:
    wrong = []
    for name, rpc in partner_rpcs().items():
        if not (rpc.is_read and "page" in rpc.request.DESCRIPTOR.fields_by_name):
            continue
        for partner_id, party in tenancy.parties.items():
            _, found = await tenancy.checked(party, rpc, rpc.request(page={"page_size": 1000}))
            wrong += [f"{name} by {partner_id}: {each}" for each in found]
    assert not wrong, "\n".join(wrong[:40])


async def test_a_summary_counts_the_callers_own_entries(tenancy: Tenancy) -> None:
    rpc = partner_rpcs()["SummarizeTransactions"]
    await tenancy.refresh()
    for partner_id, party in tenancy.parties.items():
        outcome = await tenancy.act(party, rpc, rpc.request())
        answer: Any = outcome.messages[0]
        rows = [row for row in tenancy.rows.values() if row.table == "service_transaction"]
        own = [row for row in rows if partner_id in row.owners]
        assert own, "everybody called or was called"
        assert sum(each.transaction_count for each in answer.totals) == len(own)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_partner_reads_changes_or_counts_what_is_anothers(
    tenancy: Tenancy, seed: int
) -> None:
    await run(tenancy, seed, _OPERATIONS)


@pytest.mark.torture
@pytest.mark.parametrize("seed", _TORTURE_SEEDS)
async def test_it_holds_for_many_more_calls(whole: WholeMarket, seed: int) -> None:
    tenancy = await four_partners(whole, f"acme.isolation{next(_packages)}.v1")
    try:
        await run(tenancy, seed, _OPERATIONS)
    finally:
        await tenancy.database.close()


def _shown(value: str | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else value
