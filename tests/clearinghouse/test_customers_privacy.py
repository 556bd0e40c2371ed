"""No answer, whatever is asked, depends on customers whom the asker has nothing to do with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gem.roaming.v1 import clearing_contract_pb2 as wire
from tests.clearinghouse.house import (
    CARD,
    CONTRACT,
    EVSE,
    EVSP,
    OPERATOR,
    House,
    by_contract,
    card,
    contract,
    instant,
    reason_of,
    shows,
)

pytestmark = pytest.mark.usecase(1502, 1512, 1514)

CARDS = (CARD, "00000001", "00000002")
_TABLES = ("customer_contract", "token", "blacklist", "evsp", "command", "provider_id")
#: EVSP, its card and whether the card is on its blacklist.
_HELD = st.dictionaries(
    st.tuples(st.sampled_from("BC"), st.sampled_from(CARDS)), st.booleans(), min_size=1, max_size=4
)
few = settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def start(house: House) -> None:
    """Let one operator and one EVSP be there, and nobody's customers."""
    for table in _TABLES:
        await house.pool.execute(f"DELETE FROM clearinghouse.{table}")
    if not house.stand.events:
        await house.agree(broadcast_allowed=True)


async def hold(house: House, others: dict[tuple[str, str], bool]) -> None:
    """Let other EVSPs, with which nobody has an agreement, hold customers."""
    for (letter, uid), blacklisted in others.items():
        evsp_id, number = f"evsp-{letter.lower()}", CARDS.index(uid)
        await house.hold(contract(f"DE-EV{letter}-C0000000{number}", card(uid)), evsp_id)
        if blacklisted:
            reason = wire.BLACKLIST_REASON_STOLEN
            entry = wire.BlacklistEntry(identification=shows(uid), reason=reason)
            await house.ask(evsp_id, "AddToBlacklist", entry=entry)


async def said(house: House, who: str, rpc: str, **fields: Any) -> str:
    """Give an answer, or the reason of a refusal, without what is new each time."""
    try:
        answer = await house.ask(who, rpc, **fields)
    except grpc.aio.AioRpcError as error:
        return f"{reason_of(error)} {error.details()}"
    if rpc in {"Authorize", "ExplainAuthorization"}:
        for name in ("authorization_reference", "session_id", "decided_time", "valid_until_time"):
            answer.decision.ClearField(name)
    return str(answer)


@few
@given(others=_HELD)
async def test_an_operators_answers_are_the_same_whatever_other_evsps_hold(
    house: House, others: dict[tuple[str, str], bool]
) -> None:
    await start(house)
    await house.hold(contract())

    async def everything() -> list[str]:
        return [
            await said(
                house,
                OPERATOR,
                "Authorize",
                identification=shows(uid),
                evse_id=EVSE,
                decided_by=decided_by,
            )
            for uid in CARDS
            for decided_by in (0, 2)
        ]

    before = await everything()
    await hold(house, others)
    assert await everything() == before


@few
@given(others=_HELD)
async def test_an_evsps_answers_are_the_same_whatever_other_evsps_hold(
    house: House, others: dict[tuple[str, str], bool]
) -> None:
    """It asks as an EVSP, as an operator, and for the customers and cards of others."""

    async def everything() -> list[str]:
        at, fresh = instant(datetime.now(UTC)), [card(uid) for uid in CARDS]
        explain: dict[str, Any] = {"evse_id": EVSE, "at_time": at}
        reason = wire.BLACKLIST_REASON_LOST
        answers = []
        for uid in CARDS:
            shown = shows(uid)
            entry = wire.BlacklistEntry(identification=shown, reason=reason)
            answers += [
                await said(house, EVSP, "Authorize", identification=shown, evse_id=EVSE),
                await said(house, EVSP, "ExplainAuthorization", identification=shown, **explain),
                await said(house, EVSP, "AddToBlacklist", entry=entry),
            ]
        answers += [
            await said(house, EVSP, "ListCustomerContracts"),
            await said(house, EVSP, "GetCustomerContract", contract_id="DE-EVB-C00000000"),
            str(await house.stream("StreamCustomerContracts")),
            str(await house.stream("GetWhitelist", at_time=at)),
        ]
        held = contract(CONTRACT, *fresh)
        made = await house.hold(held)
        answers.append(str([token.token_hash for token in made.tokens]))
        answers += [
            await said(house, EVSP, "Authorize", identification=shows(uid), evse_id=EVSE)
            for uid in CARDS
        ]
        return answers

    await start(house)
    before = await everything()
    await start(house)
    await hold(house, others)
    assert await everything() == before


@pytest.mark.parametrize("shown", [shows(), by_contract("DE-EVB-C00000000")])
async def test_a_stranger_hears_the_same_of_a_customer_who_exists_and_of_nobody(
    house: House, shown: Any
) -> None:
    await hold(house, {("B", CARD): False})
    nobody = shows("0000000F") if shown.token_uid else by_contract("DE-EVB-C00000009")
    first = await said(house, "stranger", "Authorize", identification=shown, evse_id=EVSE)
    second = await said(house, "stranger", "Authorize", identification=nobody, evse_id=EVSE)
    assert first == second
