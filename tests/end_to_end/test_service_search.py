"""Finding a service and looking at it over mutual TLS (use cases 1239, 1484, feature 566)."""

from __future__ import annotations

from typing import Any

import pytest

from gem.marketplace.v1 import contract_service_pb2 as contracts
from gem.marketplace.v1.service_pb2 import ServiceState
from gem.marketplace.v1.service_search_pb2 import ServiceRelation
from gemarket.administration import new_request_id
from tests.end_to_end.service_desk import ask, published, refused, registered
from tests.end_to_end.whole_market import EVSE_SEARCH, Party, WholeMarket, new_id

INVALID, HIDDEN = "REQUEST_INVALID", "NOT_FOUND"
OFFERED = ServiceRelation.SERVICE_RELATION_OFFERED
CONTRACTED = ServiceRelation.SERVICE_RELATION_CONTRACTED
AVAILABLE = ServiceRelation.SERVICE_RELATION_AVAILABLE


async def titles(party: Party, text: str, **fields: Any) -> list[str]:
    """Search; gives the titles found."""
    found = (await ask(party, "SearchServices", text=text, **fields)).found
    return [each.service.title for each in found]


@pytest.mark.usecase(1239)
async def test_where_nothing_meets_the_criteria_the_page_is_empty(whole: WholeMarket) -> None:
    requester = await whole.requester()
    answer = await ask(requester, "SearchServices", text="qqxzzyw")
    assert (list(answer.found), answer.spelled_alike, answer.page.next_page_token) == (
        [],
        False,
        "",
    )
    assert await titles(requester, "", provider_id="nobody") == []


@pytest.mark.usecase(1239)
@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "..."},
        {"text": "a b c d e f g h i"},
        {"text": "x" * 201},
        {"states": [0]},
        {"hosting_country_code": "de"},
        {"page": {"page_token": "bm9uZQ=="}},
        {"page": {"page_token": "?"}},
        {"page": {"page_token": "MC4xMDAwLjA5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="}},
    ],
)
async def test_criteria_that_make_no_sense_are_refused(
    whole: WholeMarket, wrong: dict[str, Any]
) -> None:
    await refused(await whole.requester(), "SearchServices", INVALID, **wrong)


@pytest.mark.usecase(1239)
async def test_an_operator_is_nothing_to_a_service(whole: WholeMarket) -> None:
    await refused(whole.business, "SearchServices", INVALID, relation=OFFERED)


@pytest.mark.usecase(1239)
async def test_a_search_tells_what_is_offered_contracted_and_available(whole: WholeMarket) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    word = new_id("zirkon").replace("-", "")
    mine = await published(provider, title=f"{word} one")
    await published(provider, title=f"{word} two")
    await registered(provider, title=f"{word} hidden")
    stopped = await published(provider, title=f"{word} stopped")
    await ask(provider, "StopService", service_id=stopped.service_id)
    await requester.core.ensure_contract(mine.service_id)

    every = [f"{word} one", f"{word} two", f"{word} stopped"]
    assert sorted(await titles(requester, word)) == sorted(every)
    assert f"{word} hidden" in await titles(provider, word)
    assert f"{word} hidden" in await titles(whole.technical, word)
    assert await titles(requester, word, relation=CONTRACTED) == [f"{word} one"]
    assert await titles(requester, word, relation=AVAILABLE) == [f"{word} two"]
    assert await titles(requester, word, relation=OFFERED) == []
    assert len(await titles(provider, word, relation=OFFERED)) == 4
    assert await titles(provider, word, relation=AVAILABLE) == []
    states = [ServiceState.SERVICE_STATE_STOPPED]
    assert await titles(requester, word, states=states) == [f"{word} stopped"]


@pytest.mark.usecase(1239)
async def test_words_find_by_part_by_keyword_and_by_likeness_and_the_title_counts_most(
    whole: WholeMarket,
) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    word = new_id("quarz").replace("-", "")
    await published(provider, title="Plain", description=f"Has {word}schrank in its text")
    await published(provider, title=f"{word}schrank", description="Named so")
    await published(provider, title="Keyed", keywords={"words": [f"{word}schrank"]})
    best = await titles(requester, f"{word}schrank")
    assert best == [f"{word}schrank", "Keyed", "Plain"]
    assert await titles(requester, f"{word.upper()}SCH") == best
    assert await titles(requester, f"{word}schrank named") == [f"{word}schrank"]
    assert await titles(requester, f"{word} no-such-thing-anywhere") == []
    answer = await ask(requester, "SearchServices", text=f"{word}shrank")
    assert answer.spelled_alike
    assert answer.found[0].service.title == f"{word}schrank"
    ranks = [each.rank_permille for each in answer.found]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.usecase(1239)
@pytest.mark.parametrize("word", ["", "opal"], ids=["without a text", "with one"])
async def test_pages_of_a_search_join_without_gap_or_double(whole: WholeMarket, word: str) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    made = [await published(provider, title=f"Opal {n % 2}") for n in range(5)]
    criteria = {"text": word, "provider_id": provider.partner_id}
    whole_list = (await ask(requester, "SearchServices", **criteria)).found
    assert len(whole_list) == 5
    joined, page = [], {"page_size": 2, "page_token": ""}
    while True:
        answer = await ask(requester, "SearchServices", **criteria, page=page)
        joined += [each.service.service_id for each in answer.found]
        page["page_token"] = answer.page.next_page_token
        if not page["page_token"]:
            break
    assert joined == [each.service.service_id for each in whole_list]
    assert set(joined) == {each.service_id for each in made}


@pytest.mark.usecase(1239)
async def test_conditions_besides_the_text_apply_together(whole: WholeMarket) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    word = new_id("topas").replace("-", "")
    hosting = {"country_code": "DK", "operator_name": "Rack"}
    await published(provider, title=f"{word} danish", hosting=hosting)
    await published(provider, title=f"{word} anywhere")
    danish = [f"{word} danish"]
    assert await titles(requester, word, hosting_country_code="DK") == danish
    assert len(await titles(requester, word, categories=["charging", "parking"])) == 2
    assert await titles(requester, word, categories=["parking"]) == []
    assert len(await titles(requester, word, interface_name=EVSE_SEARCH)) == 2
    assert await titles(requester, word, interface_name="no.Such") == []


@pytest.mark.usecase(1239)
async def test_what_a_provider_changes_is_found_at_once_and_what_it_deletes_no_more(
    whole: WholeMarket,
) -> None:
    provider, requester = await whole.operator(), await whole.requester()
    old, new = (new_id(stone).replace("-", "") for stone in ("jade", "rubin"))
    made = await published(provider, title=old)
    wanted = {"service_id": made.service_id}
    changed = await ask(provider, "ChangeServiceDescription", title=new, **wanted)
    assert (changed.service.title, changed.service.description) == (new, made.description)
    assert await titles(requester, new) == [new]
    assert old not in await titles(requester, old)
    for step in ("StopService", "DisableService", "DeleteService"):
        await ask(provider, step, **wanted)
    assert new not in await titles(provider, new)
    deleted = [ServiceState.SERVICE_STATE_DELETED]
    assert await titles(provider, new, states=deleted) == [new]
    assert await titles(requester, new, states=deleted) == []


@pytest.mark.usecase(1484)
async def test_the_details_show_interface_offerings_and_ones_own_contracts_only(
    whole: WholeMarket,
) -> None:
    provider, mine, other = (
        await whole.operator(),
        await whole.requester(),
        await whole.requester(),
    )
    made = await published(provider)
    wanted = {"service_id": made.service_id}
    own = await mine.core.ensure_contract(made.service_id)
    theirs = await other.core.ensure_contract(made.service_id)
    shown = await ask(mine, "GetService", **wanted)
    assert [each.contract_id for each in shown.contracts] == [own]
    assert shown.interface.interface_name == EVSE_SEARCH
    assert {method.path.rpartition("/")[2] for method in shown.interface.methods} == {
        "SearchEvses",
        "GetEvse",
    }
    assert [each.offering_id for each in shown.service.offerings]
    assert [each.contract_id for each in (await ask(other, "GetService", **wanted)).contracts] == [
        theirs
    ]
    for party in (provider, whole.business):
        assert not (await ask(party, "GetService", **wanted)).contracts
    await refused(mine, "GetService", HIDDEN, service_id="none")


async def test_related_services_are_shown_beside_one_and_after_contracting_unless_unwanted(
    whole: WholeMarket,
) -> None:
    provider, other = await whole.operator(), await whole.operator()
    buyer, quiet = await whole.requester(), await whole.requester()
    made, second, third = [await published(provider, title=f"Beryl {n}") for n in range(3)]
    hidden = await registered(provider, title="Beryl hidden")
    foreign = await published(other)
    wanted = {"service_id": made.service_id}
    for strange in (foreign.service_id, "none"):
        await refused(
            provider, "SetRelatedServices", HIDDEN, related_service_ids=[strange], **wanted
        )
    related = [third.service_id, second.service_id, hidden.service_id]
    answer = await ask(provider, "SetRelatedServices", related_service_ids=related, **wanted)
    assert [each.title for each in answer.related_services] == ["Beryl 2", "Beryl 1"]

    assert (await ask(quiet, "GetCrossSaleOptOut")).opted_out is False
    await ask(quiet, "SetCrossSaleOptOut", opted_out=True)
    assert (await ask(quiet, "GetCrossSaleOptOut")).opted_out is True
    shown = (await ask(buyer, "GetService", **wanted)).related_services
    assert [each.title for each in shown] == ["Beryl 2", "Beryl 1"]
    assert not (await ask(quiet, "GetService", **wanted)).related_services
    await buyer.core.ensure_contract(second.service_id)
    after = {party: await _contracted(party, made) for party in (buyer, quiet)}
    assert [each.title for each in after[buyer].related_services] == ["Beryl 2"]
    assert not after[quiet].related_services
    await ask(quiet, "SetCrossSaleOptOut", opted_out=False)
    assert len((await ask(quiet, "GetService", **wanted)).related_services) == 2
    await ask(provider, "SetRelatedServices", **wanted)
    assert not (await ask(quiet, "GetService", **wanted)).related_services


async def _contracted(party: Party, service: Any) -> contracts.CreateContractResponse:
    offering = service.offerings[0]
    request = contracts.CreateContractRequest(
        request_id=new_request_id(),
        offering_id=offering.offering_id,
        section_ids=[section.section_id for section in offering.terms.sections],
        accepted=True,
    )
    return await party.core.contracts.CreateContract(request, timeout=10)
