"""Whatever partners do with requests and searches, nobody sees or changes what is another's.

Random operations go to the service and, beside it, to a model of a few lines that says what each
partner may see. After each of them every partner looks at everything.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from foundation.errors import MarketError
from gem.marketplace.v1 import service_request_pb2 as messages
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, ControlPlane
from tests.request_desk import SERVICE, change, create, respond, step

PARTNERS = ("volt", "watt", "ohm")
_OPEN = messages.SERVICE_REQUEST_STATE_OPEN
_CLOSED = messages.SERVICE_REQUEST_STATE_CLOSED
_DELETED = messages.SERVICE_REQUEST_STATE_DELETED
_REASONS = {
    "hidden": ErrorReason.ERROR_REASON_NOT_FOUND,
    "forbidden": ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED,
    "not now": ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED,
}


@dataclass
class Asked:
    """What the model knows of one request."""

    request: Any
    author: str
    title: str
    state: int = _OPEN
    revision_number: int = 1
    #: Responder and text, the oldest first.
    responses: list[tuple[str, str]] = field(default_factory=list)

    def refusal(self, who: str, operation: str) -> str:
        """Say why somebody may not do something; empty where it may."""
        if self.state == _DELETED and who != self.author:
            return "hidden"
        if (operation == "respond") == (who == self.author):
            return "forbidden"
        if self.state == _OPEN or (operation == "delete" and self.state == _CLOSED):
            return ""
        return "not now"


async def attempt(plane: ControlPlane, asked: Asked, who: str, operation: str, text: str) -> str:
    """Do an operation; gives the refusal, or an empty text and what the model makes of it."""
    expected = asked.refusal(who, operation)
    try:
        if operation == "respond":
            await respond(plane, asked.request, who, text=text)
        elif operation == "change":
            await change(plane, asked.request, who, title=text)
        elif operation == "close":
            await step(plane, "CloseServiceRequest", asked.request, who)
        else:
            await step(plane, "DeleteServiceRequest", asked.request, who)
    except MarketError as error:
        found = next((words for words, each in _REASONS.items() if each == error.reason), "else")
    else:
        found = ""
    assert found == expected, f"{who} wants to {operation} a request of {asked.author}"
    if found:
        return found
    if operation == "respond":
        asked.responses.append((who, text))
    elif operation == "change":
        asked.title, asked.revision_number = text, asked.revision_number + 1
    else:
        asked.state = _CLOSED if operation == "close" else _DELETED
    return ""


async def check_seen_by(plane: ControlPlane, who: str, everything: list[Asked]) -> None:
    """Compare what somebody sees with what the model says."""
    operates = who == BUSINESS
    own = {id(each) for each in everything if operates or each.author == who}
    visible = [each for each in everything if each.state != _DELETED or id(each) in own]
    found = await plane.ask(who, f"{SERVICE}/SearchServiceRequests")
    assert [
        (each.author_id, each.wish.title, each.state, each.revision_number)
        for each in found.service_requests
    ] == [(each.author, each.title, each.state, each.revision_number) for each in reversed(visible)]
    counts = {each.wish.title: each.response_count for each in found.service_requests}
    for each in visible:
        all_responses = id(each) in own
        assert counts[each.title] == (len(each.responses) if all_responses else 0)
        answer = await step(plane, "ListServiceRequestResponses", each.request, who)
        assert [(one.responder_id, one.text) for one in answer.responses] == [
            one for one in each.responses if all_responses or one[0] == who
        ]


@pytest.mark.usecase(1620, 1623, 1626, 1627, 1629)
async def test_partners_see_and_change_what_the_model_says(plane: ControlPlane) -> None:
    chance = random.Random(1)
    for partner_id in PARTNERS:
        await plane.partner(partner_id)
    everything: list[Asked] = []
    refusals = set()
    for number in range(40):
        who = chance.choice(PARTNERS)
        if not everything or (len(everything) < 5 and chance.random() < 0.3):
            title = f"Wish {number}"
            made = await create(plane, who, title=title)
            everything.append(Asked(made, who, title))
            continue
        operations = ("respond", "respond", "change", "close", "delete")
        asked = chance.choice(everything)
        operation = chance.choice(operations)
        refusals.add(await attempt(plane, asked, who, operation, f"Text {number}"))
    for who in (*PARTNERS, BUSINESS):
        await check_seen_by(plane, who, everything)
    assert refusals > {"", "forbidden"}, "the operations were too tame"


async def test_searches_of_others_never_come_up(plane: ControlPlane) -> None:
    chance = random.Random(3)
    saved: dict[str, dict[str, str]] = {who: {} for who in (*PARTNERS, BUSINESS)}
    method = "gem.marketplace.v1.ContractService/ListContracts"
    for number in range(30):
        who = chance.choice(list(saved))
        own = saved[who]
        ids = [search_id for names in saved.values() for search_id in names]
        operation = chance.choice(("save", "save", "rename", "delete"))
        if operation == "save" or not ids:
            name = f"search {number}"
            fields = {"name": name, "method": method}
            answer = await plane.ask(who, "SavedSearchService/SaveSearch", **fields)
            own[answer.saved_search.saved_search_id] = name
            continue
        search_id = chance.choice(ids)
        rpc = "RenameSavedSearch" if operation == "rename" else "DeleteSavedSearch"
        fields = {"saved_search_id": search_id}
        if operation == "rename":
            fields["name"] = f"renamed {number}"
        try:
            await plane.ask(who, f"SavedSearchService/{rpc}", **fields)
            refused = 0
        except MarketError as error:
            refused = error.reason
        assert refused == (0 if search_id in own else ErrorReason.ERROR_REASON_NOT_FOUND)
        if refused:
            continue
        if operation == "rename":
            own[search_id] = fields["name"]
        else:
            del own[search_id]
    for who, own in saved.items():
        found = (await plane.ask(who, "SavedSearchService/ListSavedSearches")).saved_searches
        assert {each.saved_search_id: each.name for each in found} == own
