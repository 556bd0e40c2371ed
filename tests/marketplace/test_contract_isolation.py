"""Nobody reads, changes or counts another's contracts, whatever all of them do at random."""

from __future__ import annotations

import random
from collections import defaultdict
from secrets import randbits
from typing import Any

import pytest
from sqlalchemy import text

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.contracts import START, framework_terms, offer, state_of, time
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, ControlPlane

_REQUESTERS = ("evsp", "fleet", "haulier")
_PROVIDERS = ("volt", "watt")
_STEPS = 60
_REFUSED = {
    ErrorReason.ERROR_REASON_ALREADY_EXISTS,
    ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
    ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
    ErrorReason.ERROR_REASON_NOT_FOUND,
}


class Crowd:
    """Partners that do what comes to their minds, and whose each contract is."""

    def __init__(self, plane: ControlPlane, offerings: list[Any], chance: random.Random) -> None:
        self.plane = plane
        self.offerings = offerings
        self.chance = chance
        self.parties: dict[str, set[str]] = {}
        self.requests: dict[str, str] = {}

    async def ask(self, who: str, method: str, **fields: Any) -> Any:
        """Call ContractService as somebody."""
        return await self.plane.ask(who, f"ContractService/{method}", **fields)

    async def act(self) -> None:
        """Let somebody do something, also with what is another's."""
        who = self.chance.choice((*_REQUESTERS, *_PROVIDERS))
        if not self.parties or self.chance.random() < 0.3:
            await self.accept(self.chance.choice(_REQUESTERS))
        elif self.requests and self.chance.random() < 0.4:
            await self.decide(who)
        else:
            await self.step(who)

    async def accept(self, who: str) -> None:
        """Accept an offering."""
        offering = self.chance.choice(self.offerings)
        names = [each.section_id for each in offering.terms.sections]
        made = await self.ask(
            who,
            "CreateContract",
            offering_id=offering.offering_id,
            section_ids=names,
            accepted=True,
        )
        self.parties[made.contract.contract_id] = {who, made.contract.provider_id}

    async def step(self, who: str) -> None:
        """Do something with any contract; whoever is no party has to fail."""
        contract_id = self.chance.choice(sorted(self.parties))
        method = self.chance.choice(["Suspend", "Resume", "Terminate", "ask"])
        fields = {"contract_id": contract_id}
        try:
            if method == "ask":
                rpc = "RequestContractTermination"
                asked = await self.ask(who, rpc, **fields, reason="Because.")
                self.requests[asked.amendment.amendment_id] = contract_id
            else:
                await self.ask(who, f"{method}Contract", **fields)
        except MarketError as error:
            hidden = error.reason == ErrorReason.ERROR_REASON_NOT_FOUND
            assert hidden == (who not in self.parties[contract_id])  # both ways
            raise
        assert who in self.parties[contract_id]

    async def decide(self, who: str) -> None:
        """Decide on any request; whoever is no party has to fail."""
        amendment_id = self.chance.choice(sorted(self.requests))
        step = self.chance.choice(["Accept", "Reject", "Revoke"])
        await self.ask(who, f"{step}ContractAmendment", amendment_id=amendment_id)
        assert who in self.parties[self.requests[amendment_id]]

    async def seen_by(self, who: str) -> set[str]:
        """Give what somebody finds, in a search and in a list, by any condition."""
        found = await self.ask(who, "SearchContracts")
        listed = await self.ask(who, "ListContracts")
        ids = {each.contract_id for each in found.contracts}
        assert ids == {each.contract_id for each in listed.contracts}
        for other in (*_REQUESTERS, *_PROVIDERS):
            criteria = {"party_id": other}
            theirs = (await self.ask(who, "SearchContracts", criteria=criteria)).contracts
            assert {each.contract_id for each in theirs} == {
                name for name in ids if other in self.parties[name]
            }
        return ids


async def crowd_of(plane: ControlPlane, seed: int) -> Crowd:
    """Bring in the partners, with one service on offer for each provider."""
    await plane.publish_interface()
    for requester in _REQUESTERS:
        await plane.partner(requester, EVSP)
    offerings = []
    for provider in _PROVIDERS:
        await plane.partner(provider, EVSE_OPERATOR)
        offerings.append(await offer(plane, await plane.service(provider), framework_terms()))
    return Crowd(plane, offerings, random.Random(seed))


@pytest.mark.usecase(1245, 1479)
async def test_at_random_nobody_meets_what_is_anothers(plane: ControlPlane) -> None:
    seed = randbits(32)
    crowd = await crowd_of(plane, seed)
    reasons: dict[int, int] = defaultdict(int)
    for _ in range(_STEPS):
        try:
            await crowd.act()
        except MarketError as error:
            reasons[error.reason] += 1
    assert reasons.keys() <= _REFUSED, f"seed {seed}"
    assert crowd.parties, f"seed {seed}"
    for who in (*_REQUESTERS, *_PROVIDERS):
        own = {name for name, parties in crowd.parties.items() if who in parties}
        assert await crowd.seen_by(who) == own, f"seed {seed}"
    assert await crowd.seen_by(BUSINESS) == crowd.parties.keys(), f"seed {seed}"


async def test_contracts_of_older_versions_go_on_without_a_period(plane: ControlPlane) -> None:
    plane.now = START
    (service,) = await plane.market("volt")
    insert = text(
        "INSERT INTO marketplace.contract (contract_id, requester_id, provider_id, service_id,"
        " offering_id, state, terms, price_per_call_micros, currency_code, created_at)"
        " VALUES ('old', 'evsp', 'volt', :service, :offering, 'ACTIVE', '', 1, 'EUR', :at)"
    )
    values = {
        "service": service.service_id,
        "offering": service.offerings[0].offering_id,
        "at": START,
    }
    async with plane.engine.begin() as connection:
        await connection.execute(insert, values)
    method = "ContractService/GetContract"
    old = (await plane.ask("evsp", method, contract_id="old")).contract
    assert (state_of(old), old.start_time, old.HasField("end_time")) == (
        "ACTIVE",
        time(START),
        False,
    )
    criteria = {"valid_at_time": time(START)}
    found = await plane.ask("evsp", "ContractService/SearchContracts", criteria=criteria)
    assert [each.contract_id for each in found.contracts] == ["old"]
    ended = await plane.ask("volt", "ContractService/TerminateContract", contract_id="old")
    assert state_of(ended.contract) == "TERMINATED"
