"""ContractService over mutual TLS: short ways to ask it, and to be refused."""

from __future__ import annotations

from typing import Any

import pytest
from google.rpc import error_details_pb2
from grpc import aio

from gem.marketplace.v1 import contract_amendment_pb2, contract_framework_pb2, contract_service_pb2
from gemarket.administration import new_request_id
from gemarket.console import details, rich_status
from tests.contracts import amendment_state, framework_terms, state_of
from tests.end_to_end.charging import evse, found, reason_of
from tests.end_to_end.scripted_provider import ScriptedProvider, answers
from tests.end_to_end.test_contracts import Pair
from tests.end_to_end.whole_market import Party, WholeMarket

_MODULES = (contract_service_pb2, contract_amendment_pb2, contract_framework_pb2)
#: How a call is refused: the reason, and the fields that are blamed.
Outcome = tuple[str, list[str]]
HIDDEN: Outcome = ("NOT_FOUND", [])
NOT_NOW: Outcome = ("STATE_NOT_ALLOWED", [])
FORBIDDEN: Outcome = ("ROLE_NOT_ALLOWED", [])
THERE: Outcome = ("ALREADY_EXISTS", [])


def invalid(*fields: str) -> Outcome:
    """Give the outcome for a form whose fields are blamed."""
    return "REQUEST_INVALID", list(fields)


async def new_trade(whole: WholeMarket) -> Pair:
    """Bring in a provider with a service on offer, and a requester."""
    scripted = ScriptedProvider(answers(found(evse("DE*CTR*E1"))))
    provider = await whole.provider(scripted)
    service_id = await whole.offer(provider, scripted.endpoint)
    return Pair(whole, await whole.requester(), provider, service_id, scripted.endpoint)


async def contracted(pair: Pair, **terms: Any) -> str:
    """Make a contract by the framework; gives its id."""
    return (await pair.accept(await pair.offer(**terms))).contract_id


async def is_in(pair: Pair, contract_id: str, state: str) -> bool:
    """Say whether a contract is in a state."""
    return state_of(await pair.contract(contract_id)) == state


async def has_states(pair: Pair, contract_id: str, *wanted: str) -> bool:
    """Say whether the requests about a contract are in these states."""
    return await states(pair.provider, contract_id) == list(wanted)


async def ask(party: Party, method: str, **fields: Any) -> Any:
    """Call a method; a command without `request_id` gets a fresh one."""
    name = f"{method}Request"
    (kind,) = [getattr(module, name) for module in _MODULES if hasattr(module, name)]
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", new_request_id())
    return await getattr(party.core.contracts, method)(kind(**fields), timeout=20)


async def refused(party: Party, method: str, **fields: Any) -> Outcome:
    """Call a method that must be refused; gives the reason and the fields that are blamed."""
    with pytest.raises(aio.AioRpcError) as caught:
        await ask(party, method, **fields)
    found = details(rich_status(caught.value))
    bad = [each for each in found if isinstance(each, error_details_pb2.BadRequest)]
    blamed = [violation.field for each in bad for violation in each.field_violations]
    return reason_of(caught.value), blamed


def proposed(**fields: Any) -> Any:
    """Give what a change asks for: sections and price of these terms."""
    terms = framework_terms(**fields)
    return {"sections": terms["sections"], "price": terms["price"]}


async def change(party: Party, contract_id: str, **fields: Any) -> Any:
    """Ask for a change of a contract, of its price unless `terms` says otherwise; gives it."""
    values = {"terms": proposed(micros=9), "reason": "It costs less.", **fields}
    answer = await ask(party, "RequestContractChange", contract_id=contract_id, **values)
    return answer.amendment


async def decide(party: Party, step: str, amendment: Any) -> Any:
    """Accept, reject or revoke a request; gives it as it is then."""
    method = f"{step}ContractAmendment"
    return (await ask(party, method, amendment_id=amendment.amendment_id)).amendment


async def states(party: Party, contract_id: str) -> list[str]:
    """Give the states of the requests about a contract, the oldest first."""
    answer = await ask(party, "ListContractAmendments", contract_id=contract_id)
    return [amendment_state(each) for each in answer.amendments]
