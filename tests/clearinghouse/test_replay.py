"""A replay against a clearing house that fails in ways which the real one hardly does."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from clearinghouse.replay import EarlyEndError, Replay, ReplayFailedError
from clearinghouse.replay_result import ReplayResult
from gem.roaming.v1.session_notice_pb2 import SessionNoticeKind
from gemarket.endpoints import read_endpoints
from gemarket.recordings import Format, Recording
from tests.clearing_stand_in import clearing_house
from tests.clearinghouse.test_replay_readers import HEAD, row
from tests.identities import MakeIdentity
from tests.replay_stand_in import ReplayStandIn

pytestmark = pytest.mark.usecase(1502, 1511, 1512)


@pytest.fixture
def house() -> ReplayStandIn:
    return ReplayStandIn()


@pytest.fixture
async def address(
    house: ReplayStandIn, make_identity: MakeIdentity, tmp_path: Path
) -> AsyncIterator[str]:
    async with clearing_house(house, make_identity, tmp_path, "anybody") as folder:
        yield read_endpoints(folder / "endpoints.json").marketplace


def city(folder: Path, count: int = 20) -> Recording:
    """Write sessions of a city, some of them dirty."""
    rows = [row(event=str(number), user=str(number % 7)) for number in range(count)]
    if count > 3:
        rows += [
            row(event="negative", kwh="-1"),
            row(event="endless", end="", end_date=""),
            row(event="nowhere", cp=""),
        ]
    path = folder / "city.csv"
    path.write_text(HEAD + "".join(rows))
    return Recording(path, Format.DUNDEE, 0)


async def replayed(
    recording: Recording, address: str, make_identity: MakeIdentity, listed: bool = True
) -> ReplayResult:
    """Replay a recording; every party calls for itself."""
    cast = recording.cast()
    async with AsyncExitStack() as stack:
        channels = {}
        for party in (*cast.operators.values(), *cast.evsps):
            own = make_identity(party.partner_id)
            credentials = grpc.ssl_channel_credentials(own.root_pem, own.key_pem, own.chain_pem)
            channel = grpc.aio.secure_channel(
                address, credentials, [("grpc.ssl_target_name_override", "localhost")]
            )
            channels[party.partner_id] = await stack.enter_async_context(channel)
        replay = Replay(cast, channels, clearing_house="house", listed=listed)
        await replay.prepare()
        await replay.run(recording.sessions(), lambda _: None)
        assert await replay.wait_for_approvals(5.0)
        return await replay.result(recording.sessions())


async def test_a_refused_contract_ends_the_replay(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    house.refused = {"any"}
    with pytest.raises(ReplayFailedError, match="a contract was refused"):
        await replayed(city(tmp_path), address, make_identity)
    assert house.stored == {}


@pytest.mark.fault
async def test_a_stream_that_ends_early_is_an_error_and_no_loss(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    house.ends_early = True
    # Whichever comes first: that the stream ended, or that it cannot be written to.
    with pytest.raises((EarlyEndError, grpc.aio.AioRpcError)):
        await replayed(city(tmp_path, 60), address, make_identity)
    house.ends_early = False
    again = await replayed(city(tmp_path, 60), address, make_identity)
    assert len(house.stored) == 62
    assert again.totals["approved"] == 60


@pytest.mark.fault
async def test_calls_that_fail_for_a_while_are_repeated(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    house.failures.update({"NotifySession": 3, "CreateRoamingAgreement": 2})
    result = await replayed(city(tmp_path, 3), address, make_identity)
    assert result.totals == {"approved": 3}
    ids = [each.request_id for each in house.requests("NotifySession")]
    assert len(ids) == len(set(ids)) + 3


async def test_money_that_does_not_agree_with_our_own_sums_is_told(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    house.too_much_micros = 10_000
    recording = city(tmp_path, 3)
    result = await replayed(recording, address, make_identity)
    assert result.imbalance() == {"GBP": 30_000}
    assert list(result.disagreements(recording.cast()).values()) == [30_000]


async def test_calls_of_each_session_come_in_their_order_and_are_bounded(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    result = await replayed(city(tmp_path), address, make_identity, listed=False)
    assert {each.get("gem-provider") for each in house.metadata[-20:]} == {"house"}
    assert {each.decided_by for each in house.requests("Authorize")} == {0}
    steps: dict[str, list[str]] = {}
    for name, request in house.calls:
        if name == "Authorize":
            steps.setdefault(request.operator_session_id, []).append("authorize")
        elif name == "NotifySession":
            kind = SessionNoticeKind.Name(request.notice.kind).rpartition("_")[2].lower()
            steps[request.notice.operator_session_id].append(kind)
        elif name == "SubmitChargeDetailRecords":
            for record in request.records:
                steps[record.operator_session_id].append("record")
    assert Counter(map(tuple, steps.values())) == {
        ("authorize", "start", "end", "record"): 21,
        ("authorize", "start", "record"): 1,
    }
    assert house.most_in_flight <= 32
    assert result.totals["approved"] == 20
    assert result.totals["not told: no session"] == 1


async def test_a_customer_who_may_not_charge_has_no_record(
    house: ReplayStandIn, address: str, make_identity: MakeIdentity, tmp_path: Path
) -> None:
    (session,) = (recording := city(tmp_path, 1)).sessions()
    house.strangers = {recording.cast().customer_of(session).identification.contract_id}
    result = await replayed(recording, address, make_identity)
    assert house.stored == {}
    assert result.totals == {"not authorized: unknown": 1}
