"""The reasons of routes, apart from any storage, and that they agree with the router's own plan."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import Route, RouteKey
from marketplace.route_explanation import (
    Candidate,
    CertificateRow,
    Question,
    RouteEvent,
    RouteReason,
    Standing,
    Verdict,
    certificate_verdict,
    explain,
    for_provider,
)
from marketplace.router.plan import Hints, plan
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Price, Target
from tests.relay_market import REQUESTER, RULES, method_of

pytestmark = pytest.mark.usecase(1491)

NOW = datetime(2026, 2, 10, tzinfo=UTC)
IN_FORCE = Verdict(RouteReason.IN_FORCE)
EVENT = RouteEvent("contract", "CREATED", "evsp", NOW)
ROUTES = {"Search": Route.ROUTE_ALL, "Get": Route.ROUTE_ONE, "GetFirst": Route.ROUTE_FIRST}
ROUTES["GetByKey"] = Route.ROUTE_BY_KEY


def stands(state: str, history: str = "contract") -> Standing:
    return Standing(state, RouteEvent(history, f"TO_{state}", "somebody", NOW))


def candidate(name: str = "volt", **changes: Any) -> Candidate:
    """Give a service under a contract that is in force, with changes."""
    made = Candidate(
        provider_id=name,
        service_id=f"s-{name}",
        endpoint="h:1",
        service=stands("PUBLISHED", "service"),
        provider=stands("ACTIVE", "partner"),
        contract_id=f"c-{name}",
        contract=stands("ACTIVE"),
    )
    return replace(made, **changes)


def question(route: int = Route.ROUTE_ALL, **changes: Any) -> Question:
    return replace(Question(IN_FORCE, route), **changes)


@pytest.mark.parametrize(
    ("changes", "reason", "history"),
    [
        ({"contract": None}, RouteReason.NO_CONTRACT, None),
        ({"contract": stands("SUSPENDED")}, RouteReason.CONTRACT_SUSPENDED, "contract"),
        ({"contract": stands("TERMINATED")}, RouteReason.CONTRACT_TERMINATED, "contract"),
        ({"contract": stands("EXPIRED")}, RouteReason.CONTRACT_EXPIRED, "contract"),
        ({"contract": stands("PENDING")}, RouteReason.CONTRACT_NOT_STARTED, "contract"),
        ({"contract": stands("UNHEARD_OF")}, RouteReason.CONTRACT_NOT_IN_FORCE, "contract"),
        ({"service": stands("STOPPED", "service")}, RouteReason.SERVICE_STOPPED, "service"),
        ({"service": stands("DELETED", "service")}, RouteReason.SERVICE_NOT_PUBLISHED, "service"),
        ({"provider": stands("INACTIVE", "partner")}, RouteReason.PROVIDER_NOT_ACTIVE, "partner"),
    ],
)
def test_whatever_stands_in_the_way_is_named_with_its_event(
    changes: dict[str, Any], reason: RouteReason, history: str | None
) -> None:
    bad, good = explain(question(), [candidate(**changes), candidate("amp")])
    assert (bad.verdict.reason, bad.routed, bad.place) == (reason, False, 0)
    event = bad.verdict.event
    assert (event.history if event is not None else None) == history
    assert (good.verdict.reason, good.place) == (RouteReason.IN_FORCE, 1)


def test_the_first_thing_in_the_way_is_told() -> None:
    everything = candidate(
        contract=stands("SUSPENDED"),
        service=stands("STOPPED", "service"),
        provider=stands("INACTIVE", "partner"),
    )
    (found,) = explain(question(key_owner_id="amp"), [everything])
    assert found.verdict.reason is RouteReason.CONTRACT_SUSPENDED


def test_a_partner_whose_roles_may_not_call_is_told_that_and_not_to_make_a_contract() -> None:
    (found,) = explain(question(role_allowed=False), [candidate(contract=None)])
    assert found.verdict.reason is RouteReason.ROLE_NOT_ALLOWED
    (made,) = explain(question(role_allowed=False), [candidate()])
    assert made.routed, "the role is asked for when a contract is made, not at every call"


def test_one_provider_is_asked_where_one_is_named_and_none_where_several_fit() -> None:
    (only,) = explain(question(Route.ROUTE_ONE), [candidate()])
    assert only.routed
    both = explain(question(Route.ROUTE_ONE), [candidate(), candidate("amp")])
    assert [each.verdict.reason for each in both] == [RouteReason.PROVIDER_AMBIGUOUS] * 2
    assert not any(each.routed for each in both)


def test_the_owner_of_an_identifier_alone_is_asked() -> None:
    asked = question(Route.ROUTE_BY_KEY, key_owner_id="amp")
    other, owner = explain(asked, [candidate(), candidate("amp")])
    assert other.verdict == Verdict(RouteReason.KEY_OF_ANOTHER)
    assert owner.place == 1


def test_what_refuses_the_whole_call_stands_at_each_provider_that_would_be_asked() -> None:
    refusal = Verdict(RouteReason.REQUESTER_NOT_ACTIVE, EVENT)
    suspended = candidate("amp", contract=stands("SUSPENDED"))
    would, other = explain(question(verdict=refusal), [candidate(), suspended])
    assert would.verdict == refusal
    assert other.verdict.reason is RouteReason.CONTRACT_SUSPENDED
    assert not would.routed


@pytest.mark.parametrize(
    ("state", "sections", "named"),
    [
        ("TERMINATED", ("price", "notice", "term"), "notice"),
        ("TERMINATED", ("price", "term"), "term"),
        ("EXPIRED", ("term", "trial-period"), "trial-period"),
        ("SUSPENDED", ("price",), ""),
        ("ACTIVE", ("term",), ""),
    ],
)
def test_the_section_that_speaks_of_a_reason_is_named(
    state: str, sections: tuple[str, ...], named: str
) -> None:
    (found,) = explain(question(), [candidate(contract=stands(state), section_ids=sections)])
    assert found.section_id == named


def row(registered: float, before: float, after: float, revoked: float | None) -> CertificateRow:
    """Give a certificate by days from now."""
    at = [NOW + timedelta(days=each) for each in (registered, before, after)]
    revoked_at = None if revoked is None else NOW + timedelta(days=revoked)
    return CertificateRow(at[0], at[1], at[2], revoked_at)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], RouteReason.CERTIFICATE_ABSENT),
        ([row(1, 1, 30, None)], RouteReason.CERTIFICATE_ABSENT),
        ([row(-9, -9, 0, None)], RouteReason.CERTIFICATE_EXPIRED),
        ([row(-9, 1, 30, None)], RouteReason.CERTIFICATE_EXPIRED),
        ([row(-9, -9, 30, -1)], RouteReason.CERTIFICATE_REVOKED),
        ([row(-9, -9, 30, -1), row(-8, -8, -2, None)], RouteReason.CERTIFICATE_EXPIRED),
        ([row(-9, -9, 30, None)], RouteReason.IN_FORCE),
        ([row(-9, -9, 30, 1)], RouteReason.IN_FORCE),
        ([row(-9, -9, 30, None), row(-8, -8, -1, None)], RouteReason.IN_FORCE),
    ],
)
def test_one_valid_certificate_lets_a_partner_in(
    rows: list[CertificateRow], reason: RouteReason
) -> None:
    assert certificate_verdict(rows, NOW).reason is reason


def test_a_provider_is_not_told_what_is_wrong_with_its_requester() -> None:
    of_the_requester = {
        RouteReason.CERTIFICATE_ABSENT,
        RouteReason.CERTIFICATE_EXPIRED,
        RouteReason.CERTIFICATE_REVOKED,
        RouteReason.REQUESTER_NOT_ACTIVE,
    }
    for reason in RouteReason:
        told = for_provider(Verdict(reason, EVENT))
        if reason in of_the_requester:
            assert told == Verdict(RouteReason.REQUESTER_NOT_ADMITTED)
        else:
            assert told == Verdict(reason, EVENT)


STATES = st.sampled_from(("ACTIVE", "ACTIVE", "ACTIVE", "SUSPENDED", "TERMINATED", "PENDING"))
SERVICES = st.sampled_from(("PUBLISHED", "PUBLISHED", "PUBLISHED", "STOPPED", "REGISTERED"))
PARTNERS = st.sampled_from(("ACTIVE", "ACTIVE", "ACTIVE", "INACTIVE"))
PROVIDERS = ("amp", "volt", "watt", "ohm")


@st.composite
def markets(draw: st.DrawFn) -> list[Candidate]:
    """Give services of some providers, some under contract, in contract order."""
    states = {name: draw(PARTNERS) for name in PROVIDERS}
    found = []
    for number in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from(PROVIDERS))
        contract = stands(draw(STATES)) if draw(st.integers(0, 4)) else None
        found.append(
            candidate(
                name,
                service_id=f"s-{number}",
                contract_id=f"c-{number}" if contract is not None else "",
                contract=contract,
                service=stands(draw(SERVICES), "service"),
                provider=stands(states[name], "partner"),
            )
        )
    return found


@given(
    candidates=markets(),
    method=st.sampled_from(sorted(ROUTES)),
    owner=st.none() | st.sampled_from(PROVIDERS),
)
def test_who_is_said_to_be_asked_is_whom_the_router_plans_to_ask(
    candidates: list[Candidate], method: str, owner: str | None
) -> None:
    """Against `plan` itself, over a routing table made as the feed makes it: by the states."""
    targets = [
        Target(each.contract_id, each.provider_id, each.service_id, "1", each.endpoint, Price())
        for each in candidates
        if each.contract is not None
        and (each.contract.state, each.service.state, each.provider.state)
        == ("ACTIVE", "PUBLISHED", "ACTIVE")
    ]
    owners = [(int(RouteKey.ROUTE_KEY_EVSE_ID), "DE*ABC", owner)] if owner else []
    routes = [(REQUESTER, RULES.name, target) for target in targets]
    snapshot = RoutingSnapshot(1, interfaces=[RULES], routes=routes, owners=owners)
    rules = method_of(method)
    by_key = rules.route_key is not None
    asked, failure = [], 0
    try:
        chosen = plan(snapshot, REQUESTER, rules, Hints(), "DE*ABC*E1" if by_key else None)
        asked = [target.contract_id for target in chosen.targets]
    except MarketError as refused:
        failure = refused.reason
    key_owner_id = owner if by_key else None
    found = explain(question(ROUTES[method], key_owner_id=key_owner_id), candidates)
    said = sorted((each.place, each.candidate.contract_id) for each in found if each.routed)
    assert [contract_id for _, contract_id in said] == asked
    assert [place for place, _ in said] == list(range(1, len(said) + 1))
    ambiguous = any(each.verdict.reason is RouteReason.PROVIDER_AMBIGUOUS for each in found)
    assert ambiguous == (failure == ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS)
    assert len(found) == len(candidates), "one row for each service"
