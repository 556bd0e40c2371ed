"""Many contracts at once: loads, streams and the whitelist of any past instant (1514 to 1516)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from gem.common.v1.time_range_pb2 import TimeRange
from gem.roaming.v1 import clearing_contract_pb2 as wire
from gem.roaming.v1 import clearing_contract_service_pb2 as messages
from gem.roaming.v1.clearing_contract_service_pb2 import LoadStatus
from tests.clearinghouse.house import (
    CARD,
    EVSE,
    EVSP,
    OPERATOR,
    OTHER_EVSP,
    PAST,
    House,
    by_contract,
    card,
    contract,
    hours,
    instant,
    new_request_id,
    reason_of,
    refused,
    shows,
)
from tests.clearinghouse.market_stand import hangs

pytestmark = pytest.mark.usecase(1514, 1515, 1516)

FULL, DELTA = messages.LOAD_MODE_FULL, messages.LOAD_MODE_DELTA
DISABLED = wire.CLEARING_CONTRACT_STATE_DISABLED
LIST = "CLEARING_HOUSE_LIST"


def customer(number: int, *tokens: Any, **fields: Any) -> wire.CustomerContract:
    """Give the contract of the customer with a number, with a card of the same number."""
    return contract(f"DE-EVS-C{number:08d}", *(tokens or (card(f"{number:08X}"),)), **fields)


def statuses(answers: list[messages.LoadCustomerContractsResponse]) -> list[str]:
    """Give what became of each contract, in their order."""
    reports = [report for answer in answers for report in answer.reports]
    assert [report.item_index for report in reports] == list(range(len(reports)))
    return [
        LoadStatus.Name(report.status).removeprefix("LOAD_STATUS_")[:3] + report.field
        for report in reports
    ]


async def held_ids(house: House, evsp: str = EVSP, **fields: Any) -> list[int]:
    """Give the numbers of the customers whom an EVSP has in force."""
    found = await house.ask(evsp, "ListCustomerContracts", **fields)
    return [int(each.contract_id[-8:]) for each in found.contracts]


async def test_an_empty_load_and_one_that_changes_its_mind_are_refused(house: House) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.load()
    assert reason_of(caught.value) == "REQUEST_COUNT"

    async def two_modes() -> AsyncIterator[messages.LoadCustomerContractsRequest]:
        for mode in (DELTA, FULL):
            yield messages.LoadCustomerContractsRequest(
                request_id="same", mode=mode, contracts=[customer(mode)]
            )

    call = house.contracts.LoadCustomerContracts(
        two_modes(), metadata=house.as_partner(EVSP), timeout=20
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert reason_of(caught.value) == "REQUEST_INVALID"
    assert await held_ids(house) == [2], "each message of a load by items stands alone"


async def test_items_stand_alone_and_each_wrong_one_is_reported_with_its_field(
    house: House,
) -> None:
    house.stand.holders = dict.fromkeys((EVSP, OTHER_EVSP), hangs)
    house.stand.owners["DEOTH"] = OTHER_EVSP
    await house.load([customer(1)], [customer(5)])
    await house.ask(EVSP, "DisableCustomerContract", contract_id="DE-EVS-C00000005")
    answers = await house.load(
        [
            customer(1, card("AAAAAAAA")),
            contract("no contract id", card("BBBBBBBB")),
            customer(2, card("12")),
            customer(3, card("AAAAAAAA")),
            customer(1),
        ],
        [
            customer(4),
            customer(5),
            contract("DE-OTH-C00000001", card("CCCCCCCC")),
            customer(6, card("", token_hash=b"h" * 32)),
            customer(1, state=DISABLED),
            customer(7, state=DISABLED),
            customer(4, card("00000004")),
        ],
    )
    assert statuses(answers) == [
        "CHA",
        "REFcontract_id",
        "REFtokens[0].token_uid",
        "REFtokens",
        "REFcontract_id",
        "CRE",
        "REFstate",
        "REFcontract_id",
        "REFtokens",
        "REFcontract_id",
        "UNC",
        "REFcontract_id",
    ]
    assert [answer.finished for answer in answers] == [False, False, True]
    assert await held_ids(house) == [1, 4]


async def test_a_load_that_is_repeated_changes_nothing(house: House) -> None:
    everything = [customer(number) for number in range(1, 4)]
    assert statuses(await house.load(everything)) == ["CRE"] * 3
    assert statuses(await house.load(everything)) == ["UNC"] * 3
    changed = [customer(1, language="de"), customer(2, state=DISABLED), customer(3)]
    assert statuses(await house.load(changed)) == ["CHA", "DIS", "UNC"]
    versions = (await house.stream("StreamCustomerContracts"))[-1].up_to_sequence
    assert versions == 5


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_full_load_disables_what_it_does_not_name_but_nothing_of_others(
    house: House, atomic: bool
) -> None:
    await house.load([customer(number) for number in (1, 2, 3)])
    await house.hold(contract("DE-OTH-C00000001"), OTHER_EVSP)
    answers = await house.load(
        [customer(2)], [customer(4), customer(3, card("12"))], mode=FULL, atomic=atomic
    )
    if atomic:
        assert (answers[-1].rolled_back, answers[-1].disabled_count) == (True, 0)
        assert await held_ids(house) == [1, 2, 3]
    else:
        # What is named wrongly is named.
        assert (answers[-1].rolled_back, answers[-1].disabled_count) == (False, 1)
        assert await held_ids(house) == [2, 3, 4]
    assert await held_ids(house, OTHER_EVSP) == [1]


async def test_an_atomic_load_is_all_or_nothing(house: House) -> None:
    await house.load([customer(1)])
    good = [customer(1, language="de"), customer(2)]
    refused_ = await house.load(good, [customer(3, card("12"))], atomic=True)
    assert refused_[-1].rolled_back
    assert statuses(refused_) == ["CHA", "CRE", "REFtokens[0].token_uid"]
    assert await held_ids(house) == [1]
    done = await house.load(good, [customer(3)], atomic=True, mode=FULL)
    assert (done[-1].finished, done[-1].rolled_back) == (True, False)
    assert await held_ids(house) == [1, 2, 3]


@pytest.mark.fault
async def test_a_load_that_breaks_off_or_hangs_leaves_no_part_of_an_atomic_one(
    house: House,
) -> None:
    async def hanging() -> AsyncIterator[messages.LoadCustomerContractsRequest]:
        yield messages.LoadCustomerContractsRequest(
            request_id="r", mode=FULL, atomic=True, contracts=[customer(1)]
        )
        await asyncio.Event().wait()

    metadata = house.as_partner(EVSP)
    begun_s = time.monotonic()
    call = house.contracts.LoadCustomerContracts(hanging(), metadata=metadata, timeout=1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    # The clearing house's work ends with the call's time, and either of the two says so first.
    assert time.monotonic() - begun_s > 0.95, "it was waited for"
    assert caught.value.code() in {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    }
    assert await held_ids(house) == []
    assert statuses(await house.load([customer(2)], atomic=True)) == ["CRE"]
    staged = await house.pool.fetchval("SELECT count(*) FROM clearinghouse.staged_contract")
    assert staged == 0


async def test_more_loads_than_may_be_are_refused_and_can_come_again(house: House) -> None:
    gate = asyncio.Event()

    async def slow(number: int) -> AsyncIterator[messages.LoadCustomerContractsRequest]:
        yield messages.LoadCustomerContractsRequest(
            request_id=new_request_id(), mode=DELTA, contracts=[customer(number)]
        )
        await gate.wait()

    calls = []
    for number in (1, 2):
        metadata = house.as_partner(EVSP)
        call = house.contracts.LoadCustomerContracts(slow(number), metadata=metadata, timeout=20)
        await call.read()
        calls.append(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.load([customer(3)])
    assert reason_of(caught.value) == "TOO_MANY_CALLS"
    gate.set()
    for call in calls:
        last = await call.read()
        assert isinstance(last, messages.LoadCustomerContractsResponse)
        assert last.finished
        assert await call.read() is grpc.aio.EOF
    assert statuses(await house.load([customer(3)])) == ["CRE"]


async def test_a_stream_gives_everything_once_and_then_what_changed(house: House) -> None:
    await house.load([customer(number) for number in range(1, 251)])
    await house.ask(EVSP, "DisableCustomerContract", contract_id="DE-EVS-C00000007")
    answers = await house.stream("StreamCustomerContracts")
    found = [each.contract_id for answer in answers for each in answer.contracts]
    assert len(found) == len(set(found)) == 249, "those in force"
    sequence = answers[-1].up_to_sequence
    assert sequence == 251
    assert not (await house.stream("StreamCustomerContracts", since_sequence=sequence))[0].contracts
    await house.load([customer(3, language="de"), customer(4, state=DISABLED)])
    (delta,) = await house.stream("StreamCustomerContracts", since_sequence=sequence)
    assert [int(each.contract_id[-8:]) for each in delta.contracts] == [3, 4]
    assert delta.contracts[1].state == DISABLED
    assert delta.up_to_sequence == 253
    (nothing,) = await house.stream("StreamCustomerContracts", OTHER_EVSP)
    assert not nothing.contracts


async def test_the_whitelist_of_any_past_instant_can_be_had(house: House) -> None:
    seen: list[tuple[datetime, list[tuple[str, int, list[int]]]]] = []

    async def whitelist(at: datetime, evsp: str = EVSP) -> list[tuple[str, int, list[int]]]:
        answers = await house.stream("GetWhitelist", evsp, at_time=instant(at))
        return [
            (each.contract_id, each.version_number, [token.status for token in each.tokens])
            for answer in answers
            for each in answer.contracts
        ]

    async def look() -> None:
        at = await house.pool.fetchval("SELECT clock_timestamp()")
        seen.append((at, await whitelist(at)))

    await look()
    steps = (
        [customer(1), customer(2, validity=TimeRange(end_time=instant(PAST)))],
        [customer(1, card("00000001", "BLOCKED"), card("AAAAAAAA"))],
        [customer(1, state=DISABLED), customer(3)],
        [customer(3, language="de")],
    )
    for step in steps:
        await house.load(step)
        await look()
    for at, then in seen:
        assert await whitelist(at) == then
    assert [len(then) for _, then in seen] == [0, 1, 1, 1, 1]
    assert [then[0][1] for _, then in seen[1:]] == [1, 2, 1, 2]
    assert await whitelist(seen[-1][0], OTHER_EVSP) == []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await whitelist(datetime.now(UTC) + hours(1))
    assert reason_of(caught.value) == "REQUEST_INVALID"


def _explain(house: House, who: str, shown: Any, at: datetime, reachable: bool = False) -> Any:
    return house.ask(
        who,
        "ExplainAuthorization",
        at_time=instant(at),
        evse_id=EVSE,
        identification=shown,
        evsp_reachable=reachable,
    )


async def test_an_explanation_gives_the_answer_of_the_instant_whatever_came_since(
    house: House,
) -> None:
    await house.agree(operator_ids=["DE*ABC"])
    steps: list[tuple[datetime, Any]] = []
    policies = ("ALWAYS", "ALLOWED_OFFLINE", "NEVER", "ALWAYS")
    for number, policy in enumerate(policies):
        status = "BLOCKED" if number == 3 else "VALID"
        await house.load([contract("DE-EVS-C00000001", card(CARD, status), policy=policy)])
        decision = await house.authorize(shows())
        steps.append((decision.decided_time.ToDatetime(UTC), decision))
    await house.ask(EVSP, "DisableCustomerContract", contract_id="DE-EVS-C00000001")
    for version, (at, decision) in enumerate(steps, 1):
        for who in (OPERATOR, EVSP):
            explained = await _explain(house, who, shows(), at)
            assert explained.version_number == version
            assert explained.decision.status == decision.status
            assert explained.decision.deciding_layer == decision.deciding_layer
    asked = await _explain(house, EVSP, shows(), steps[2][0], reachable=True)
    assert asked.evsp_asked
    assert not asked.HasField("decision")


async def test_an_explanation_is_for_the_customers_evsp_and_where_he_was(house: House) -> None:
    await house.agree()
    await house.hold(contract())
    now = datetime.now(UTC)
    assert await refused(_explain(house, OPERATOR, shows(), now)) == "NOT_FOUND", "he was not there"
    decision = await house.authorize(shows())
    at = decision.decided_time.ToDatetime(UTC)
    assert (await _explain(house, OPERATOR, shows(), at)).decision.status == decision.status
    for who in (OTHER_EVSP, "stranger"):
        for shown in (shows(), by_contract()):
            assert await refused(_explain(house, who, shown, at)) == "NOT_FOUND"
    future = datetime.now(UTC) + hours(1)
    assert await refused(_explain(house, OPERATOR, shows(), future)) == "REQUEST_INVALID"


async def test_a_blacklist_is_the_evsps_own_and_its_entries_end(house: House) -> None:
    await house.agree()
    await house.hold(contract())

    def entry(shown: Any, **fields: Any) -> wire.BlacklistEntry:
        reason = wire.BLACKLIST_REASON_LOST
        return wire.BlacklistEntry(identification=shown, reason=reason, **fields)

    for who, shown in (
        (OTHER_EVSP, shows()),
        (OTHER_EVSP, by_contract()),
        (EVSP, shows("FFFFFFFF")),
    ):
        assert await refused(house.ask(who, "AddToBlacklist", entry=entry(shown))) == "NOT_FOUND"
    over = entry(by_contract(), end_time=instant(PAST))
    await house.ask(EVSP, "AddToBlacklist", entry=over)
    assert await house.decided(shows()) == ("ALLOWED", LIST)
    added = (await house.ask(EVSP, "AddToBlacklist", entry=entry(by_contract()))).entry
    assert await house.decided(shows()) == ("BLOCKED", "BLACKLIST")
    listed = (await house.ask(EVSP, "ListBlacklist")).entries
    assert listed[0].entry_id == added.entry_id
    assert (len(listed), listed[0].identification.token_uid) == (2, "")
    assert not (await house.ask(OTHER_EVSP, "ListBlacklist")).entries
    theirs = house.ask(OTHER_EVSP, "RemoveFromBlacklist", entry_id=added.entry_id)
    assert await refused(theirs) == "NOT_FOUND"
    at = await house.pool.fetchval("SELECT clock_timestamp()")
    await house.ask(EVSP, "RemoveFromBlacklist", entry_id=added.entry_id)
    assert await house.decided(shows()) == ("ALLOWED", LIST)
    then = await _explain(house, OPERATOR, shows(), at)
    assert then.decision.deciding_layer == 1, "the blacklist of that instant"
