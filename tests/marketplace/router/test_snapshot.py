"""The routing table: a change is seen in the new snapshot and never in the old one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gem.options.v1.options_pb2 import RouteKey
from interceptors.certificate import CertificateRecord
from marketplace.router.plan import Hints, plan
from marketplace.router.sharded_map import SHARDS, ShardedMap
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Price, Target
from tests.interfaces import PACKAGE, interface, rpc, service

NAME = f"{PACKAGE}.S"
BODY = (
    "message Ask { } message Found { repeated gem.mesh.v1.ProviderAnswer answers = 1; }"
    + service(rpc())
)
PATH = f"/{NAME}/Search"
RECORD = CertificateRecord("a", "partner", frozenset({1}), True, False, 2e9)


def target(provider_id: str, number: int = 0) -> Target:
    return Target(f"contract-{provider_id}-{number}", provider_id, "s", "1.0", "h:1", Price())


def test_an_empty_snapshot_knows_nothing() -> None:
    empty = RoutingSnapshot()
    assert empty.targets("asker", NAME) == ()
    assert empty.method(PATH) is None
    assert empty.interfaces() == {}
    assert empty.by_fingerprint(b"f") is None
    assert empty.owner(RouteKey.ROUTE_KEY_EVSE_ID, "DE*ABC*E1") is None


@pytest.mark.parametrize("text", ["", "E", "DE*AB*E1", "DE*ABC", "\0", "DE*ABC*E1" * 100])
@pytest.mark.parametrize("kind", [RouteKey.ROUTE_KEY_EVSE_ID, RouteKey.ROUTE_KEY_CONTRACT_ID])
def test_text_that_is_no_identifier_has_no_owner(kind: int, text: str) -> None:
    snapshot = RoutingSnapshot(1, owners=[(kind, "DE*ABC", "a")])
    assert snapshot.owner(kind, text) is None


def test_owners_are_found_by_any_spelling_and_apart_by_kind() -> None:
    snapshot = RoutingSnapshot(
        1,
        owners=[
            (RouteKey.ROUTE_KEY_EVSE_ID, "de*abc", "operator"),
            (RouteKey.ROUTE_KEY_CONTRACT_ID, "DE-ABC", "provider"),
        ],
    )
    assert snapshot.owner(RouteKey.ROUTE_KEY_EVSE_ID, "DEABCE1") == "operator"
    assert snapshot.owner(RouteKey.ROUTE_KEY_CONTRACT_ID, "DE-ABC-C00000001-K") == "provider"
    assert snapshot.owner(RouteKey.ROUTE_KEY_PARTNER_ID, "anybody") == "anybody"
    assert snapshot.owner(RouteKey.ROUTE_KEY_PARTNER_ID, "") is None


def test_a_suspended_contract_is_gone_from_the_next_snapshot_only() -> None:
    before = RoutingSnapshot(1, routes=[("asker", NAME, target("a")), ("asker", NAME, target("b"))])
    after = before.with_routes(2, "asker", NAME, (target("b"),))
    gone = after.with_routes(3, "asker", NAME, ())
    assert [before.version, after.version, gone.version] == [1, 2, 3]
    assert before.targets("asker", NAME) == (target("a"), target("b"))
    assert after.targets("asker", NAME) == (target("b"),)
    assert gone.targets("asker", NAME) == ()


def test_a_revoked_certificate_is_seen_in_the_next_snapshot_only() -> None:
    before = RoutingSnapshot(1, certificates=[(b"f", RECORD)])
    revoked = CertificateRecord("a", "partner", frozenset({1}), True, True, 2e9)
    after = before.with_changes(2, certificates={b"f": revoked})
    removed = after.with_changes(3, certificates={b"f": None, b"never": None})
    assert before.by_fingerprint(b"f") is RECORD
    assert after.by_fingerprint(b"f") is revoked
    assert removed.by_fingerprint(b"f") is None
    assert dict(before.certificates()) == {b"f": RECORD}


@pytest.mark.usecase(1485)
def test_an_interface_comes_and_goes_with_its_methods() -> None:
    rules = interface(BODY)
    before = RoutingSnapshot(1)
    published = before.with_changes(2, interfaces={NAME: rules})
    withdrawn = published.with_changes(3, interfaces={NAME: None})
    assert before.method(PATH) is None
    assert published.method(PATH) is rules.methods[PATH]
    assert published.interfaces() == {NAME: rules}
    assert published.methods() == rules.methods
    assert withdrawn.method(PATH) is None


def test_an_owner_changes_hands() -> None:
    kind = int(RouteKey.ROUTE_KEY_EVSE_ID)
    before = RoutingSnapshot(1, owners=[(kind, "DEABC", "a")])
    after = before.with_changes(2, owners={(kind, "DE*ABC"): "b"})
    nobody = after.with_changes(3, owners={(kind, "de*abc"): None})
    found = [each.owner(kind, "DE*ABC*E1") for each in (before, after, nobody)]
    assert found == ["a", "b", None]


KEYS = st.integers(0, 40)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.integers()))


@given(st.dictionaries(KEYS, st.integers()), st.lists(CHANGES, max_size=5))
def test_a_sharded_map_behaves_like_a_dictionary(start: Any, changes: Any) -> None:
    expected = dict(start)
    current: ShardedMap[int, int] = ShardedMap(start.items())
    for change in changes:
        older, old_items = current, dict(current)
        current = current.changed(change)
        for key, value in change.items():
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
        assert dict(older) == old_items
    assert dict(current) == expected
    assert len(current) == len(expected)
    assert all(current.get(key) == expected.get(key) for key in range(45))


def test_keys_in_one_shard_stay_apart() -> None:
    crowded = ShardedMap((SHARDS * number, number) for number in range(10))
    changed = crowded.changed({SHARDS: None, SHARDS * 2: 22})
    assert crowded[SHARDS] == 1
    assert SHARDS not in changed
    assert changed[SHARDS * 2] == 22
    assert len(changed) == 9


def test_a_change_among_a_hundred_thousand_contracts_copies_next_to_nothing() -> None:
    rows = [
        (f"requester-{number % 1000}", f"gem.i{number // 1000}.v1.S", target("p", number))
        for number in range(100_000)
    ]
    before = RoutingSnapshot(1, interfaces=[interface(BODY)], routes=rows)
    after = before.with_routes(2, "requester-7", NAME, (target("q"),))
    pairs = zip(before._routes._shards, after._routes._shards, strict=True)
    copied = [new for old, new in pairs if old is not new]
    assert len(copied) == 1
    assert len(copied[0]) < 300
    method = after.method(PATH)
    assert method is not None
    assert plan(after, "requester-7", method, Hints(), None).targets == (target("q"),)
    assert before.targets("requester-7", NAME) == ()
    assert before.targets("requester-7", "gem.i0.v1.S") == (target("p", 7),)
