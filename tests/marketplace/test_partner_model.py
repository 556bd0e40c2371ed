"""Random operations on accounts beside a model of them: no step slips through, none is lost.

Seeds are fixed and part of a failure's text, so that a failure can be repeated.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.common.v1.identifier_pb2 import IdentifierKind
from gem.marketplace.v1 import partner_pb2
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, EVSE_OPERATOR, EVSP, ControlPlane
from tests.partner_office import ANYBODY, Office

STEPS = 90
NAMES = ("ant", "bee", "cat")
IDENTIFIERS = ("DEAAA", "DEBBB")
KIND = IdentifierKind.IDENTIFIER_KIND_OPERATOR_ID
OK = "OK"
NOT_NOW = "STATE_NOT_ALLOWED"
THERE = "ALREADY_EXISTS"
HIDDEN = "NOT_FOUND"
CONFLICT = "CONFLICT"


@dataclass
class Account:
    """A partner as the model has it."""

    state: str = "REGISTERED"
    revision: int = 1
    roles: frozenset[int] = frozenset({EVSE_OPERATOR})
    identifiers: set[str] = field(default_factory=set)
    #: Ids of change requests that wait, with revision and roles.
    waiting: dict[str, tuple[int, frozenset[int]]] = field(default_factory=dict)


class Model:
    """Runs an operation on the marketplace, and says what should have come of it."""

    def __init__(self, office: Office, seed: int) -> None:
        self.office = office
        self.random = random.Random(seed)
        self.accounts: dict[str, Account] = {}
        #: References of requests that wait, with the wished id.
        self.requests: list[tuple[Any, str]] = []

    def name(self) -> str:
        return self.random.choice(NAMES)

    async def outcome(self, ask: Awaitable[Any]) -> tuple[str, Any]:
        """Give the reason of a refusal, or OK and the answer."""
        try:
            return OK, await ask
        except MarketError as error:
            return ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_"), None  # type: ignore[arg-type]  # a number

    def owner_of(self, value: str) -> str | None:
        owners = [name for name, each in self.accounts.items() if value in each.identifiers]
        assert len(owners) <= 1, "an identifier has one owner"
        return owners[0] if owners else None

    async def request(self) -> tuple[str, str]:
        name = self.name()
        expected = THERE if name in self.accounts else OK
        if expected == OK and sum(wished == name for _, wished in self.requests) >= 3:
            expected = "RATE_EXCEEDED"
        got, answer = await self.outcome(self.office.apply(name))
        if got == OK:
            self.requests.append((answer, name))
        return expected, got

    async def decide(self) -> tuple[str, str]:
        if not self.requests:
            return OK, OK
        asked, name = self.requests.pop(self.random.randrange(len(self.requests)))
        step = self.random.choice(("approve", "refuse", "withdraw"))
        if step == "approve":
            expected = THERE if name in self.accounts else OK
            got, _ = await self.outcome(self.office.approve(asked))
            if got == OK:
                self.accounts[name] = Account()
            else:
                self.requests.append((asked, name))
            return expected, got
        if step == "refuse":
            got, _ = await self.outcome(self.office.refuse(asked))
            return OK, got
        method = "WithdrawPartnerRegistration"
        got, _ = await self.outcome(self.office.ask(ANYBODY, method, reference=asked.reference))
        return OK, got

    async def switch(self) -> tuple[str, str]:
        name = self.name()
        method, allowed, after = self.random.choice(
            (
                ("ActivatePartner", {"REGISTERED", "INACTIVE"}, "ACTIVE"),
                ("ActivatePartner", {"REGISTERED", "INACTIVE"}, "ACTIVE"),
                ("InactivatePartner", {"ACTIVE"}, "INACTIVE"),
                ("DeletePartner", {"INACTIVE"}, "DELETED"),
            )
        )
        account = self.accounts.get(name)
        expected = HIDDEN
        if account is not None:
            expected = OK if account.state in allowed else NOT_NOW
        got, _ = await self.outcome(self.office.ask(BUSINESS, method, partner_id=name))
        if got == OK and account is not None:
            account.state = after
            if after == "DELETED":
                account.identifiers.clear()
                account.waiting.clear()
                account.revision += 1
        return expected, got

    async def identify(self) -> tuple[str, str]:
        name, value = self.name(), self.random.choice(IDENTIFIERS)
        account = self.accounts.get(name)
        adds = self.random.random() < 0.6
        expected = OK
        if account is None:
            expected = HIDDEN
        elif adds and account.state == "DELETED":
            expected = NOT_NOW
        elif adds and self.owner_of(value) is not None:
            expected = THERE
        elif not adds and value not in account.identifiers:
            expected = HIDDEN
        method = "AddPartnerIdentifier" if adds else "RemovePartnerIdentifier"
        fields = {"partner_id": name, "identifier": {"kind": KIND, "value": value}}
        got, _ = await self.outcome(self.office.ask(BUSINESS, method, **fields))
        if got == OK and account is not None:
            (account.identifiers.add if adds else account.identifiers.discard)(value)
            account.revision += 1
        return expected, got

    async def ask_change(self) -> tuple[str, str]:
        name = self.name()
        account = self.accounts.get(name)
        if account is None:
            return OK, OK
        roles = self.random.choice(([EVSP], [EVSE_OPERATOR], [EVSP, EVSE_OPERATOR]))
        revision = account.revision - (1 if self.random.random() < 0.2 else 0)
        expected = OK
        if account.state != "ACTIVE":
            expected = "PARTNER_NOT_ACTIVE"
        elif revision != account.revision:
            expected = CONFLICT
        elif frozenset(roles) == account.roles:
            expected = "REQUEST_INVALID"
        elif len(account.waiting) >= 10:
            expected = NOT_NOW
        if revision == 0:
            expected = "REQUEST_INVALID"
        fields = {"revision": revision, "roles": roles}
        got, answer = await self.outcome(self.office.ask(name, "RequestPartnerChange", **fields))
        if got == OK:
            account.waiting[answer.change.change_id] = (revision, frozenset(roles))
        return expected, got

    async def decide_change(self) -> tuple[str, str]:
        waiting = [(name, each) for name, each in self.accounts.items() if each.waiting]
        if not waiting:
            return OK, OK
        name, account = self.random.choice(waiting)
        change_id = self.random.choice(sorted(account.waiting))
        revision, roles = account.waiting[change_id]
        method = self.random.choice(("ApprovePartnerChange", "WithdrawPartnerChange"))
        who = BUSINESS if method.startswith("Approve") else name
        expected = CONFLICT if who == BUSINESS and revision != account.revision else OK
        got, _ = await self.outcome(self.office.ask(who, method, change_id=change_id))
        if got == OK:
            del account.waiting[change_id]
            if who == BUSINESS:
                account.roles, account.revision = roles, account.revision + 1
        return expected, got

    async def agree(self) -> None:
        """Compare all accounts with the model."""
        found = await self.office.ask(BUSINESS, "ListPartners")
        seen = {
            each.partner_id: (
                partner_pb2.PartnerState.Name(each.state).removeprefix("PARTNER_STATE_"),
                each.revision,
                frozenset(each.roles),
                {item.value for item in each.identifiers},
            )
            for each in found.partners
        }
        assert seen == {
            name: (each.state, each.revision, each.roles, each.identifiers)
            for name, each in self.accounts.items()
        }
        state = 1
        waiting = await self.office.ask(BUSINESS, "ListPartnerChanges", state=state)
        ids = {change_id for each in self.accounts.values() for change_id in each.waiting}
        assert {each.change_id for each in waiting.changes} == ids
        listed = await self.office.ask(BUSINESS, "ListPartnerRegistrations", state=state)
        assert len(listed.registrations) == len(self.requests)


@pytest.mark.usecase(1374, 1376, 1379, 1380)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_is_done_in_whatever_order_accounts_are_as_the_model_says(
    plane: ControlPlane, seed: int
) -> None:
    model = Model(Office(plane), seed)
    operations: list[Callable[[], Awaitable[tuple[str, str]]]] = [
        model.request,
        model.decide,
        model.switch,
        model.switch,
        model.identify,
        model.ask_change,
        model.decide_change,
    ]
    happened: list[str] = []
    for _ in range(STEPS):
        operation = model.random.choice(operations)
        expected, got = await operation()
        happened.append(f"{operation.__name__}: {got}")
        assert got == expected, (seed, happened[-10:])
    await model.agree()
    histories = [len(await model.office.events(name)) for name in model.accounts]
    assert all(length >= 1 for length in histories)
