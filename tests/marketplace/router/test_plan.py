"""Where a call may go: nowhere without a contract, and never to more than the route says."""

from __future__ import annotations

import pytest

from foundation.errors import Code, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import ProviderChoices
from gem.options.v1.options_pb2 import RouteKey
from marketplace.router.check import route_key
from marketplace.router.method_rules import MethodRules
from marketplace.router.plan import CHOICES_MAX, Hints, Mode, Plan, plan
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Price, Target
from tests.interfaces import PACKAGE, interface, rpc, service

BODY = (
    "message Ask { string id = 1 [(gem.options.v1.route_key) = ROUTE_KEY_EVSE_ID]; }"
    "message Item { string name = 1; }"
    "message Found { repeated gem.mesh.v1.ProviderAnswer answers = 1; }"
    + service(
        rpc("One", "ROUTE_ONE", response="Item"),
        rpc("All", "ROUTE_ALL"),
        rpc("First", "ROUTE_FIRST", response="Item"),
        rpc("Key", "ROUTE_BY_KEY", response="Item"),
    )
)
NAME = f"{PACKAGE}.S"
NO_HINTS = Hints()


def target(provider_id: str, contract_id: str = "") -> Target:
    contract_id = contract_id or f"contract-{provider_id}"
    return Target(contract_id, provider_id, f"service-{provider_id}", "1.0", "h:1", Price())


A, B, C = target("a"), target("b"), target("c")
OWNERS = [
    (RouteKey.ROUTE_KEY_EVSE_ID, "DE*AAA", "a"),
    (RouteKey.ROUTE_KEY_EVSE_ID, "DEBBB", "b"),
    (RouteKey.ROUTE_KEY_EVSE_ID, "DEZZZ", "stranger"),
]


def method(name: str) -> MethodRules:
    return interface(BODY).methods[f"/{NAME}/{name}"]


def snapshot(*targets: Target) -> RoutingSnapshot:
    routes = [("asker", NAME, each) for each in targets]
    return RoutingSnapshot(1, interfaces=[interface(BODY)], routes=routes, owners=OWNERS)


def planned(
    name: str, *targets: Target, hints: Hints = NO_HINTS, key: str = "", requester: str = "asker"
) -> Plan:
    return plan(snapshot(*targets), requester, method(name), hints, key)


def refusal(
    name: str, *targets: Target, hints: Hints = NO_HINTS, key: str = "", requester: str = "asker"
) -> MarketError:
    with pytest.raises(MarketError) as caught:
        planned(name, *targets, hints=hints, key=key, requester=requester)
    return caught.value


@pytest.mark.usecase(1241, 1250)
@pytest.mark.parametrize("name", ["One", "All", "First", "Key"])
def test_nobody_is_reached_without_a_contract(name: str) -> None:
    for error in (refusal(name), refusal(name, A, requester="somebody-else")):
        assert error.reason == ErrorReason.ERROR_REASON_NO_CONTRACT
        assert error.code == Code.PERMISSION_DENIED


@pytest.mark.parametrize("name", ["One", "All", "First", "Key"])
@pytest.mark.parametrize("hints", [Hints(provider="stranger"), Hints(contract="contract-x")])
def test_a_hint_leads_nowhere_that_no_contract_leads(name: str, hints: Hints) -> None:
    error = refusal(name, A, B, hints=hints)
    assert error.reason == ErrorReason.ERROR_REASON_NO_CONTRACT
    assert "stranger" not in error.message


def test_provider_and_contract_of_different_partners_lead_nowhere() -> None:
    error = refusal("One", A, B, hints=Hints(provider="a", contract=B.contract_id))
    assert error.reason == ErrorReason.ERROR_REASON_NO_CONTRACT


def test_the_owner_of_a_key_is_not_reached_without_a_contract() -> None:
    error = refusal("Key", A, B, key="DE*ZZZ*E1")
    assert error.reason == ErrorReason.ERROR_REASON_NO_CONTRACT


def test_a_hint_does_not_override_the_owner_of_a_key() -> None:
    error = refusal("Key", A, B, hints=Hints(provider="b"), key="DE*AAA*E1")
    assert error.reason == ErrorReason.ERROR_REASON_NO_CONTRACT


@pytest.mark.parametrize(("name", "key"), [("One", ""), ("Key", ""), ("Key", "DE*QQQ*E1")])
def test_several_choices_are_listed_in_contract_order(name: str, key: str) -> None:
    error = refusal(name, B, A, key=key)
    assert error.reason == ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS
    assert error.code == Code.FAILED_PRECONDITION
    (choices,) = error.details
    assert isinstance(choices, ProviderChoices)
    assert [choice.provider_id for choice in choices.choices] == ["b", "a"]
    assert [choice.contract_id for choice in choices.choices] == ["contract-b", "contract-a"]


def test_two_contracts_with_one_provider_are_a_choice_too() -> None:
    first, second = target("a", "contract-1"), target("a", "contract-2")
    error = refusal("One", first, second, hints=Hints(provider="a"))
    assert error.reason == ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS
    chosen = planned("One", first, second, hints=Hints(contract="contract-2"))
    assert chosen.targets == (second,)


def test_a_long_list_of_choices_fits_into_trailers() -> None:
    many = [target(f"{number:040d}", f"{number:036d}") for number in range(500)]
    error = refusal("One", *many)
    (choices,) = error.details
    assert isinstance(choices, ProviderChoices)
    assert len(choices.choices) == CHOICES_MAX
    assert choices.ByteSize() < 4096
    assert error.metadata == {"choices": "500"}


def test_one_goes_to_the_only_contract_or_the_named_one() -> None:
    assert planned("One", A) == Plan((A,), Mode.ONE)
    assert planned("One", A, B, hints=Hints(provider="b")) == Plan((B,), Mode.ONE)
    assert planned("One", A, B, hints=Hints(contract="contract-a")) == Plan((A,), Mode.ONE)


def test_all_and_first_go_to_every_contract_in_contract_order() -> None:
    assert planned("All", B, C, A) == Plan((B, C, A), Mode.ALL)
    assert planned("First", B, C, A) == Plan((B, C, A), Mode.FIRST)
    assert planned("All", B, C, A, hints=Hints(provider="c")) == Plan((C,), Mode.ALL)


@pytest.mark.parametrize("key", ["DE*BBB*E1*2", "debbbe12", "DE*BBB*E1"])
def test_by_key_goes_to_the_owner_of_the_identifier_in_any_spelling(key: str) -> None:
    assert planned("Key", A, B, key=key) == Plan((B,), Mode.ONE)


def test_by_key_goes_where_one_goes_when_nobody_owns_the_identifier() -> None:
    assert planned("Key", A, key="DE*QQQ*E1") == Plan((A,), Mode.ONE)
    assert planned("Key", A, key="no identifier at all") == Plan((A,), Mode.ONE)


def test_the_key_is_read_from_the_request() -> None:
    by_key = method("Key")
    assert route_key(by_key, by_key.request_class(id="DE*AAA*E1")) == "DE*AAA*E1"
    assert route_key(by_key, by_key.request_class()) is None
    assert route_key(method("One"), method("One").request_class(id="DE*AAA*E1")) is None
