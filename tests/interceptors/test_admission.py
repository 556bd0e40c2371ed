"""Limits per party and for the worker, with a clock of the test's."""

from __future__ import annotations

import asyncio

import pytest

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from interceptors.admission import Admission, AdmissionLimits
from interceptors.call import Call
from tests.identities import MakeIdentity
from tests.interceptors.support import make_call, raises

TOO_MANY = ErrorReason.ERROR_REASON_TOO_MANY_CALLS
RATE = ErrorReason.ERROR_REASON_RATE_EXCEEDED
DRAINING = ErrorReason.ERROR_REASON_DRAINING


class Held:
    """Calls that stay in flight until they are released."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.release = asyncio.Event()
        self.running = 0
        self.tasks: list[asyncio.Future[None]] = []

    async def start(self, pem: bytes | None) -> None:
        async def wait(_call: Call) -> None:
            self.running += 1
            await self.release.wait()

        call = make_call(peer_certificate=pem)
        self.tasks.append(asyncio.ensure_future(self.admission(call, wait)))
        await asyncio.sleep(0)

    async def finish(self) -> None:
        self.release.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def go(admission: Admission, pem: bytes | None = None) -> None:
    async def handler(_call: Call) -> None:
        return

    await admission(make_call(peer_certificate=pem), handler)


@pytest.fixture
def acme(make_identity: MakeIdentity) -> bytes:
    return make_identity("acme").certificate.certificate_pem


@pytest.fixture
def other(make_identity: MakeIdentity) -> bytes:
    return make_identity("other").certificate.certificate_pem


async def test_a_party_over_its_calls_in_flight_is_refused_and_another_is_not(
    acme: bytes, other: bytes
) -> None:
    admission = Admission(AdmissionLimits(party_max_calls=2))
    held = Held(admission)
    await held.start(acme)
    await held.start(acme)
    with pytest.raises(MarketError, check=raises(TOO_MANY)) as caught:
        await go(admission, acme)
    assert caught.value.retry_after_s == 0.1
    await go(admission, other)
    await held.finish()
    await go(admission, acme)


async def test_two_certificates_of_one_partner_share_its_limits(
    make_identity: MakeIdentity, acme: bytes
) -> None:
    admission = Admission(AdmissionLimits(party_max_calls=1))
    held = Held(admission)
    await held.start(acme)
    second = make_identity("acme").certificate.certificate_pem
    assert second != acme
    with pytest.raises(MarketError, check=raises(TOO_MANY)):
        await go(admission, second)
    await held.finish()


async def test_a_party_over_its_rate_is_told_when_to_come_again(acme: bytes, other: bytes) -> None:
    now_s = [100.0]
    admission = Admission(AdmissionLimits(party_calls_per_s=10.0), lambda: now_s[0])
    for _ in range(10):
        await go(admission, acme)
    with pytest.raises(MarketError, check=raises(RATE)) as caught:
        await go(admission, acme)
    assert caught.value.retry_after_s == pytest.approx(0.101)
    await go(admission, other)
    now_s[0] += caught.value.retry_after_s or 0.0
    await go(admission, acme)
    with pytest.raises(MarketError, check=raises(RATE)):
        await go(admission, acme)
    now_s[0] += 3600.0  # a long pause gives no more than one second's worth
    for _ in range(10):
        await go(admission, acme)
    with pytest.raises(MarketError, check=raises(RATE)):
        await go(admission, acme)


async def test_a_rate_below_one_a_second_still_lets_a_call_through(acme: bytes) -> None:
    now_s = [0.0]
    admission = Admission(AdmissionLimits(party_calls_per_s=0.5), lambda: now_s[0])
    await go(admission, acme)
    with pytest.raises(MarketError, check=raises(RATE)) as caught:
        await go(admission, acme)
    assert caught.value.retry_after_s == pytest.approx(2.001)


async def test_all_calls_of_the_worker_together_are_limited(acme: bytes, other: bytes) -> None:
    admission = Admission(AdmissionLimits(max_calls=2))
    held = Held(admission)
    await held.start(acme)
    await held.start(other)
    with pytest.raises(MarketError, check=raises(TOO_MANY)):
        await go(admission, None)
    await held.finish()


async def test_connections_without_a_name_share_one_limit() -> None:
    admission = Admission(AdmissionLimits(party_max_calls=1))
    held = Held(admission)
    await held.start(None)
    with pytest.raises(MarketError, check=raises(TOO_MANY)):
        await go(admission, b"no certificate at all")
    await held.finish()


async def test_a_call_that_fails_or_is_cancelled_gives_its_place_back(acme: bytes) -> None:
    admission = Admission(AdmissionLimits(party_max_calls=1, max_calls=1))

    async def broken(_call: Call) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await admission(make_call(peer_certificate=acme), broken)
    held = Held(admission)
    await held.start(acme)
    held.tasks[0].cancel()
    await held.finish()
    await go(admission, acme)


async def test_a_closed_worker_refuses_everybody(acme: bytes) -> None:
    admission = Admission(AdmissionLimits())
    admission.close()
    with pytest.raises(MarketError, check=raises(DRAINING)):
        await go(admission, acme)


async def test_idle_parties_are_forgotten_and_busy_ones_are_not(
    make_identity: MakeIdentity, acme: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interceptors.admission._MAX_PARTIES", 3)
    admission = Admission(AdmissionLimits(party_max_calls=1))
    held = Held(admission)
    await held.start(acme)
    for number in range(6):
        await go(admission, make_identity(f"p{number}").certificate.certificate_pem)
        assert len(admission._uses) <= 3
    with pytest.raises(MarketError, check=raises(TOO_MANY)):
        await go(admission, acme)
    await held.finish()
