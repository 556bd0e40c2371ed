"""What a change request makes of an account, and how the difference is shown (1376, 1378)."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foundation.errors import MarketError
from foundation.identifiers import owner_key
from gem.common.v1.identifier_pb2 import IdentifierKind, OwnedIdentifier
from gem.marketplace.v1.partner_pb2 import PartnerProfile
from gem.options.v1.options_pb2 import PartnerRole
from marketplace.partner import IDENTIFIERS_MAX
from marketplace.partner_change import AccountData, FieldChange, differences, wanted
from tests.control_plane import fields_of
from tests.strategies import owner_keys

pytestmark = pytest.mark.usecase(1376, 1378)

KINDS = (
    IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID,
    IdentifierKind.IDENTIFIER_KIND_PROVIDER_ID,
)
texts = st.sampled_from(["", "a", "b", "Weg 1\n10115 Berlin"])
roles = st.sets(st.sampled_from([1, 2, 3]), min_size=1)
keys = st.sets(st.tuples(st.sampled_from(list(map(int, KINDS))), owner_keys()), max_size=4)


@st.composite
def profiles(draw: st.DrawFn) -> PartnerProfile:
    """Give profiles with any field empty."""
    made = PartnerProfile(
        company_name=draw(texts), postal_address=draw(texts), country_code=draw(texts)
    )
    person = made.responsible_person
    person.full_name, person.email, person.phone = draw(texts), draw(texts), draw(texts)
    return made


accounts = st.builds(
    lambda profile, own, ids: AccountData(profile, tuple(sorted(own)), tuple(sorted(ids))),
    profiles(),
    roles,
    keys,
)


def _owned(key: tuple[int, str]) -> OwnedIdentifier:
    """Give an identifier as a request spells it."""
    kind, value = key
    made = OwnedIdentifier(value=f"{value[:2].lower()}*{value[2:]}")
    made.kind = kind  # type: ignore[assignment]  # an enum value
    return made


@given(accounts, accounts)
def test_a_difference_holds_what_differs_with_both_values_and_nothing_else(
    old: AccountData, new: AccountData
) -> None:
    found = {change.field: change for change in differences(old, new)}
    assert (found == {}) == (old == new)
    for field in ("company_name", "postal_address", "country_code"):
        before, after = getattr(old.profile, field), getattr(new.profile, field)
        shown = found.get(f"profile.{field}")
        assert (shown is None) == (before == after)
        if shown is not None:
            assert shown.old_values == ((before,) if before else ())
            assert shown.new_values == ((after,) if after else ())
    for field, kept, then in (
        ("roles", old.roles, new.roles),
        ("identifiers", old.identifiers, new.identifiers),
    ):
        assert (field in found) == (kept != then)
        if field in found:
            assert len(found[field].old_values) == len(kept)
            assert len(found[field].new_values) == len(then)


@given(accounts, accounts)
def test_a_difference_the_other_way_round_has_its_values_swapped(
    old: AccountData, new: AccountData
) -> None:
    there, back = differences(old, new), differences(new, old)
    assert [FieldChange(each.field, each.new_values, each.old_values) for each in back] == [*there]


@given(accounts, profiles(), roles, keys, st.data())
def test_what_is_wanted_is_the_account_with_exactly_that_changed(
    base: AccountData,
    profile: PartnerProfile,
    own: set[int],
    added: set[tuple[int, str]],
    data: st.DataObject,
) -> None:
    removed = {each for each in base.identifiers if data.draw(st.booleans())}
    expected = AccountData(
        profile,
        tuple(sorted(own)),
        tuple(sorted((set(base.identifiers) - removed) | added)),
    )
    assume(expected != base)
    found = wanted(base, profile, own, map(_owned, added), map(_owned, removed))
    assert found == expected
    # Nothing said means that it stays.
    if expected.identifiers != base.identifiers:
        same = wanted(base, None, (), map(_owned, added), map(_owned, removed))
        assert same == AccountData(base.profile, base.roles, expected.identifiers)


@given(accounts, keys)
def test_what_is_not_owned_is_not_removed_and_nothing_is_no_request(
    base: AccountData, strange: set[tuple[int, str]]
) -> None:
    with pytest.raises(MarketError) as caught:
        wanted(base, base.profile, base.roles, [], [])
    assert fields_of(caught.value) == ["profile"]
    if strange - set(base.identifiers):
        with pytest.raises(MarketError) as caught:
            wanted(base, None, (), [], map(_owned, strange))
        assert fields_of(caught.value) == ["removed_identifiers"]


def test_an_account_has_so_many_identifiers_and_one_may_replace_another() -> None:
    kind = int(KINDS[0])
    full = tuple(sorted((kind, f"DE{number:03}") for number in range(IDENTIFIERS_MAX)))
    base = AccountData(PartnerProfile(company_name="Volt"), (1,), full)
    more = _owned((kind, "SEABC"))
    with pytest.raises(MarketError) as caught:
        wanted(base, None, (), [more], [])
    assert fields_of(caught.value) == ["added_identifiers"]
    found = wanted(base, None, (), [more], [_owned(full[0])])
    assert (kind, owner_key("SE*ABC")) in found.identifiers
    (change,) = differences(base, found)
    assert change.field == "identifiers"
    assert set(change.new_values) - set(change.old_values) == {"OPERATOR_ID SEABC"}


def test_roles_are_shown_by_their_names() -> None:
    base = AccountData(PartnerProfile(), (int(PartnerRole.PARTNER_ROLE_EVSP),), ())
    both = wanted(base, None, [*base.roles, int(PartnerRole.PARTNER_ROLE_EVSE_OPERATOR)], [], [])
    (change,) = differences(base, both)
    assert change.old_values == ("EVSP",)
    assert set(change.new_values) == {"EVSP", "EVSE_OPERATOR"}
