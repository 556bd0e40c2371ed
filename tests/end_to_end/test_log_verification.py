"""Use cases 1242 and 1471: whether the log is what was written, over mutual TLS and by command."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from typer.testing import CliRunner, Result

from foundation.database import connect_raw
from gem.marketplace.v1 import transaction_service_pb2 as log
from gemarket.commands.application import application
from gemarket.log_evidence import OwnVerification, fetch_heads
from marketplace.log_heads import NO_HEADS
from marketplace.log_verification import Break
from tests.end_to_end.charging import found, reason_of, search, stub
from tests.end_to_end.ledger import entries_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.whole_market import Party, WholeMarket

CALLS = 4
_CHANGE = """
UPDATE marketplace.service_transaction SET value_micros = value_micros + $2
WHERE transaction_id = $1
"""


@dataclass(frozen=True)
class Trade:
    """A requester that called a provider, and what the two have in the log."""

    requester: Party
    seller: Party
    transaction_ids: list[str]


@pytest.fixture(scope="module")
async def trade(whole: WholeMarket) -> Trade:
    requester, provider = await whole.requester(), ScriptedProvider(answers(found()))
    await whole.contracted(requester, provider)
    for _ in range(CALLS):
        await stub(requester).SearchEvses(search(), timeout=10)
    seller = await whole.with_certificate(provider.partner_id)
    ids = [entry.transaction_id for entry in await entries_of(requester)]
    return Trade(requester, seller, ids)


def database_of(whole: WholeMarket) -> str:
    return whole.market.endpoints({}, {}).database_url


async def run(whole: WholeMarket, party: Party, *arguments: str) -> Result:
    """Run `gemarket log` with a party's identity at hand."""
    described = whole.market.endpoints({party.partner_id: party.identity})
    described.write(whole.market.layout.endpoints)
    given = ("log", *arguments, "--data-dir", str(whole.market.layout.root))

    def work() -> Result:
        environment = {"COLUMNS": "300", "TERM": "dumb"}
        return CliRunner().invoke(application, given, env=environment)

    return await asyncio.to_thread(work)


async def own_breaks(party: Party) -> tuple[OwnVerification, list[Break]]:
    current = await fetch_heads(party.log)
    verification = OwnVerification(party.log, party.partner_id, NO_HEADS, current)
    return verification, [one async for one in verification.breaks(lambda _: None)]


@pytest.mark.usecase(1242)
async def test_a_day_of_no_calendar_and_an_operators_wish_for_evidence_are_refused(
    whole: WholeMarket, trade: Trade
) -> None:
    wrong = log.ExportLogEvidenceRequest(day="2026-02-31")
    with pytest.raises(aio.AioRpcError) as refused:
        [piece async for piece in trade.requester.log.ExportLogEvidence(wrong, timeout=10)]
    assert refused.value.code() is StatusCode.INVALID_ARGUMENT
    right = log.ExportLogEvidenceRequest(day="2026-02-01")
    with pytest.raises(aio.AioRpcError) as refused:
        [piece async for piece in whole.business.log.ExportLogEvidence(right, timeout=10)]
    assert reason_of(refused.value) == "ROLE_NOT_ALLOWED"


@pytest.mark.usecase(1471)
async def test_both_sides_find_their_entries_in_the_chains_and_others_find_none(
    whole: WholeMarket, trade: Trade
) -> None:
    for party in (trade.requester, trade.seller):
        verification, breaks = await own_breaks(party)
        assert breaks == []
        assert verification.own_count == CALLS
        assert verification.entry_count >= CALLS
    stranger = await whole.requester()
    verification, breaks = await own_breaks(stranger)
    assert (verification.own_count, breaks) == (0, [])
    today = f"{datetime.now(tz=UTC):%Y-%m-%d}"
    request = log.ExportLogEvidenceRequest(day=today)
    raw = b"".join(
        [
            piece.SerializeToString()
            async for piece in stranger.log.ExportLogEvidence(request, timeout=20)
        ]
    )
    assert trade.requester.partner_id.encode() not in raw
    assert trade.seller.partner_id.encode() not in raw


@pytest.mark.usecase(1242)
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("verify", "--from", "yesterday"), "'yesterday' is no day such as 2026-02-01"),
        (("verify", "--own", "--to", "2026-02-30"), "is no day such as"),
        (("verify", "--heads", "/nowhere/heads.json"), "No such file"),
        (("verify", "--own", "--as", "nobody"), "is not known here"),
        (("verify", "--database-url", "mysql://there"), "only PostgreSQL serves"),
        (("heads", "/nowhere/heads.json"), "No such file"),
    ],
)
async def test_an_option_that_makes_no_sense_is_refused_with_the_reason(
    whole: WholeMarket, trade: Trade, arguments: tuple[str, ...], reason: str
) -> None:
    result = await run(whole, trade.requester, *arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usecase(1242)
async def test_the_command_line_verifies_finds_a_change_and_is_calm_when_it_is_undone(
    whole: WholeMarket, trade: Trade, tmp_path: Path
) -> None:
    heads = tmp_path / "heads.json"
    kept = await run(whole, trade.requester, "heads", str(heads))
    assert kept.exit_code == 0, kept.output
    assert json.loads(heads.read_text())["register"]["number"] > 0
    everything = ("verify", "--heads", str(heads))
    own = (*everything, "--own", "--as", trade.requester.partner_id)
    whole_log = await run(whole, trade.requester, *everything)
    assert whole_log.exit_code == 0, whole_log.output
    assert "The log is what was written" in whole_log.stdout
    assert "entries" in whole_log.stderr, "a progress bar"
    of_own = await run(whole, trade.requester, *own)
    assert of_own.exit_code == 0, of_own.output
    assert f"{CALLS} own entries among" in of_own.stdout
    await _change(whole, trade.transaction_ids[1], 1)
    try:
        broken = await run(whole, trade.requester, "verify")
        assert broken.exit_code == 1
        (line,) = [line for line in broken.stdout.splitlines() if "changed" in line]
        assert trade.transaction_ids[1] in line
        mine = await run(whole, trade.requester, *own)
        assert mine.exit_code == 1
        assert "rewritten" in mine.stdout
        apart = await run(whole, trade.requester, "verify", "--to", "2026-01-01")
        assert apart.exit_code == 0
    finally:
        await _change(whole, trade.transaction_ids[1], -1)
    assert (await run(whole, trade.requester, *everything)).exit_code == 0


async def _change(whole: WholeMarket, transaction_id: str, micros: int) -> None:
    connection = await connect_raw(database_of(whole))
    try:
        assert await connection.execute(_CHANGE, transaction_id, micros) == "UPDATE 1"
    finally:
        await connection.close()
