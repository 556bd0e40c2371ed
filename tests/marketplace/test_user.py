"""Users as pure facts: states, roles, and who may change whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.marketplace.v1.user_pb2 import UserRole
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.options.v1.options_pb2 import AccessRole
from interceptors.call import Caller
from marketplace.actor import Actor, actor_of, party_of
from marketplace.user import (
    ACCESS_OF,
    TRANSITIONS,
    USERS_MAX,
    User,
    UserState,
    UserStep,
    access_of,
    check_may_change,
    check_may_create,
    check_may_invite,
    check_roles,
    check_room,
    check_stays_administered,
    take_step,
)
from tests.interceptors.support import make_call, raises

ADMINISTRATOR = int(UserRole.USER_ROLE_ADMINISTRATOR)
OF_PARTNERS = [ADMINISTRATOR, *map(int, (2, 3, 4))]
OF_OPERATORS = [
    int(UserRole.USER_ROLE_BUSINESS_OPERATOR),
    int(UserRole.USER_ROLE_TECHNICAL_OPERATOR),
]
OPERATOR = Actor("business", is_partner=False)
ADA = Actor("acme", is_partner=True, user_name="ada")
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
INVALID = raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)

roles_of_partners = st.lists(st.sampled_from(OF_PARTNERS), min_size=1, unique=True)
states = st.sampled_from(UserState)


def user(number: int = 0, *roles: int, state: UserState = UserState.ACTIVE) -> User:
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    name = f"user-{number}"
    return User(name, "acme", name, "Name", roles or (ADMINISTRATOR,), state, created_at)


users = st.lists(st.tuples(roles_of_partners, states), max_size=5).map(
    lambda rows: [user(i, *roles, state=state) for i, (roles, state) in enumerate(rows)]
)


@pytest.mark.parametrize("state", UserState)
@pytest.mark.parametrize("step", UserStep)
def test_a_step_that_the_table_does_not_have_is_refused(state: UserState, step: UserStep) -> None:
    if (state, step) in TRANSITIONS:
        assert take_step(state, step) is TRANSITIONS[state, step]
    else:
        with pytest.raises(MarketError, check=NOT_NOW):
            take_step(state, step)


def test_only_a_password_makes_a_user_active() -> None:
    ways = {
        step
        for (before, step), after in TRANSITIONS.items()
        if after is UserState.ACTIVE and before is not UserState.ACTIVE
    }
    assert ways == {UserStep.PASSWORD_SET}
    assert (UserState.DISABLED, UserStep.PASSWORD_SET) not in TRANSITIONS


@pytest.mark.usecase(1618)
def test_every_role_of_a_user_has_its_own_access_and_none_is_a_machines() -> None:
    assert set(ACCESS_OF) == set(UserRole.values()) - {0}
    assert len(set(ACCESS_OF.values())) == len(ACCESS_OF)
    machines = {AccessRole.ACCESS_ROLE_PARTNER, AccessRole.ACCESS_ROLE_PUBLIC}
    assert machines.isdisjoint(access_of(ACCESS_OF))


@given(roles_of_partners, st.lists(st.sampled_from(OF_OPERATORS), min_size=1, unique=True))
def test_roles_of_operators_and_of_partners_do_not_mix(ours: list[int], theirs: list[int]) -> None:
    check_roles("acme", ours)
    check_roles("", theirs)
    for partner_id, wrong in (("acme", theirs), ("", ours), ("acme", ours + theirs)):
        with pytest.raises(MarketError, check=INVALID):
            check_roles(partner_id, wrong)
    with pytest.raises(MarketError, check=INVALID):
        check_roles("", ours + theirs)


@given(roles_of_partners, users)
def test_an_operator_creates_an_administrator_where_there_is_none(
    roles: list[int], before: list[User]
) -> None:
    check_may_create(ADA, "acme", roles, before)
    check_may_create(OPERATOR, "", OF_OPERATORS, before)
    if roles != [ADMINISTRATOR]:
        with pytest.raises(MarketError, check=FORBIDDEN):
            check_may_create(OPERATOR, "acme", roles, before)
    elif any(each.administers for each in before):
        with pytest.raises(MarketError, check=NOT_NOW):
            check_may_create(OPERATOR, "acme", roles, before)
    else:
        check_may_create(OPERATOR, "acme", roles, before)


@given(roles_of_partners)
def test_an_operator_changes_no_user_of_a_partner_and_invites_administrators(
    roles: list[int],
) -> None:
    ours, operator = user(0, *roles), replace(user(1, *OF_OPERATORS), partner_id="")
    check_may_change(ADA, ours)
    check_may_invite(ADA, ours)
    check_may_change(OPERATOR, operator)
    check_may_invite(OPERATOR, operator)
    with pytest.raises(MarketError, check=FORBIDDEN):
        check_may_change(OPERATOR, ours)
    if ADMINISTRATOR in roles:
        check_may_invite(OPERATOR, ours)
    else:
        with pytest.raises(MarketError, check=FORBIDDEN):
            check_may_invite(OPERATOR, ours)


@given(users.filter(bool), roles_of_partners, states)
def test_whatever_is_changed_somebody_administers(
    before: list[User], roles: list[int], state: UserState
) -> None:
    after = replace(before[0], roles=tuple(roles), state=state)
    left = [after, *before[1:]]
    if any(each.administers for each in left):
        check_stays_administered(after, before)
    else:
        with pytest.raises(MarketError, check=NOT_NOW):
            check_stays_administered(after, before)


def test_there_is_a_limit_of_users() -> None:
    check_room([user()] * (USERS_MAX - 1))
    with pytest.raises(MarketError, check=NOT_NOW):
        check_room([user()] * USERS_MAX)


async def test_a_person_acts_for_the_partner_and_is_told_apart_from_it_in_histories() -> None:
    roles = frozenset({int(AccessRole.ACCESS_ROLE_VIEWER)})
    caller = Caller("acme", roles, b"", session_id="s", user_name="ada")
    assert actor_of(make_call(caller=caller)) == ADA
    assert ADA.name == "acme:ada"
    assert party_of(ADA.name) == "acme"
    machine = Actor("acme", is_partner=True)
    assert machine.name == party_of(machine.name) == "acme"
    assert party_of(OPERATOR.name) == OPERATOR.name == "operator/business"
    assert ADA.own_or("") == "acme"
