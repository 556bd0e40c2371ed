"""Which providers a call goes to: the pure choice, apart from any asking.

Use case 1241: a contract in force is the only route.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from gem.mesh.v1.provider_answer_pb2 import ProviderChoices
from gem.options.v1.options_pb2 import Route
from marketplace.router.method_rules import MethodRules
from marketplace.router.snapshot import RoutingSnapshot
from marketplace.router.target import Target

#: Status details travel in the trailers, where peers refuse more than 8 KiB in all.
CHOICES_MAX = 40


class Mode(Enum):
    """How the targets of a plan are asked."""

    #: Exactly one target, whose answer is the call's.
    ONE = "one"
    #: All at once; the answers are merged.
    ALL = "all"
    #: One after the other until one succeeds.
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller says about the provider, from the metadata `gem-provider`, `gem-contract`."""

    provider: str | None = None
    contract: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The targets to ask, in contract order, never empty; and how."""

    targets: tuple[Target, ...]
    mode: Mode


_MODES: Mapping[int, Mode] = {Route.ROUTE_ALL: Mode.ALL, Route.ROUTE_FIRST: Mode.FIRST}


def plan(
    snapshot: RoutingSnapshot,
    requester_id: str,
    method: MethodRules,
    hints: Hints,
    key: str | None,
) -> Plan:
    """Choose the targets of a call.

    Hints narrow the choice for every route. `key` is the identifier in the request's routing field
    for BY_KEY methods (`route_key.read`), else None or empty. Where somebody owns it, only the
    owner is asked; where nobody does, the call is routed as ROUTE_ONE.

    Raises:
        MarketError: NO_CONTRACT where no contract in force fits; PROVIDER_AMBIGUOUS, with the first
            choices as details, where one provider is to be asked and several fit.
    """
    targets = snapshot.targets(requester_id, method.interface)
    if hints.provider is not None:
        targets = tuple(target for target in targets if target.provider_id == hints.provider)
    if hints.contract is not None:
        targets = tuple(target for target in targets if target.contract_id == hints.contract)
    if key and method.route_key is not None:
        owner_id = snapshot.owner(method.route_key.kind, key)
        if owner_id is not None:
            targets = tuple(target for target in targets if target.provider_id == owner_id)
    if not targets:
        raise MarketError(
            ErrorReason.ERROR_REASON_NO_CONTRACT,
            "No contract in force leads to a provider for this call.",
        )
    mode = _MODES.get(method.route, Mode.ONE)
    if mode is Mode.ONE and len(targets) > 1:
        raise _ambiguous(targets)
    return Plan(targets, mode)


def _ambiguous(targets: tuple[Target, ...]) -> MarketError:
    choices = ProviderChoices()
    for target in targets[:CHOICES_MAX]:
        choices.choices.add(provider_id=target.provider_id, contract_id=target.contract_id)
    return MarketError(
        ErrorReason.ERROR_REASON_PROVIDER_AMBIGUOUS,
        "Several contracts fit this call: name one with gem-provider or gem-contract.",
        metadata={"choices": str(len(targets))},
        details=(choices,),
    )
