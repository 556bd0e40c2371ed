"""Versions of the partner contract, published and accepted at once or twice (1374, 1377)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from tests.control_plane import BUSINESS, TECHNICAL, fields_of
from tests.interceptors.support import raises
from tests.partner_office import ANYBODY, Office

CONFLICT = raises(ErrorReason.ERROR_REASON_CONFLICT)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
NOT_NOW = raises(ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED)


async def publish(office: Office, version: int, **fields: Any) -> Any:
    """Publish a version."""
    words = {"title": f"Version {version}", "text": f"Text of {version}.", **fields}
    method = "PublishPartnerContract"
    return (await office.ask(BUSINESS, method, version=version, **words)).partner_contract


async def current(office: Office) -> int:
    found = await office.ask(ANYBODY, "GetPartnerContract")
    return int(found.partner_contract.version)


@pytest.mark.usecase(1374)
@pytest.mark.parametrize(
    ("fields", "field"),
    [({"title": ""}, "title"), ({"text": ""}, "text"), ({"text": "x" * 100_001}, "text")],
)
async def test_a_version_without_words_or_with_too_many_is_refused(
    office: Office, fields: dict[str, str], field: str
) -> None:
    with pytest.raises(MarketError) as caught:
        await publish(office, 2, **fields)
    assert fields_of(caught.value) == [field]
    assert await current(office) == 1


async def test_only_the_business_operator_publishes_and_only_partners_accept(
    office: Office,
) -> None:
    await office.plane.partner("acme")
    words = {"title": "T", "text": "T", "version": 2}
    for who in ("acme", TECHNICAL):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await office.ask(who, "PublishPartnerContract", **words)
    for who in (BUSINESS, TECHNICAL):
        with pytest.raises(MarketError, check=FORBIDDEN):
            await office.ask(who, "AcceptPartnerContract", version=1)


async def test_of_two_who_publish_the_same_version_one_wins(office: Office) -> None:
    texts = ("one", "other")
    results: list[Any] = list(
        await asyncio.gather(
            *(publish(office, 2, text=words) for words in texts), return_exceptions=True
        )
    )
    (lost,) = [each for each in results if isinstance(each, MarketError)]
    assert lost.reason == ErrorReason.ERROR_REASON_CONFLICT
    assert await current(office) == 2


async def test_a_published_text_never_changes_and_is_listed_without_gaps(office: Office) -> None:
    for version in (2, 3, 4):
        await publish(office, version)
    for statement in (
        "UPDATE marketplace.partner_contract SET text = 'other'",
        "DELETE FROM marketplace.partner_contract",
    ):
        with pytest.raises(DBAPIError, match="it never changes"):
            async with office.plane.engine.begin() as connection:
                await connection.execute(text(statement))
    listed: list[int] = []
    page: dict[str, Any] = {"page_size": 2}
    while True:
        answer = await office.ask(ANYBODY, "ListPartnerContracts", page=page)
        listed += [each.version for each in answer.partner_contracts]
        assert all(each.text == "" for each in answer.partner_contracts)
        if not answer.page.next_page_token:
            break
        page = {"page_size": 2, "page_token": answer.page.next_page_token}
    assert listed == [4, 3, 2, 1]
    texts = [
        (await office.ask(ANYBODY, "GetPartnerContract", version=version)).partner_contract.text
        for version in (2, 3, 4)
    ]
    assert texts == ["Text of 2.", "Text of 3.", "Text of 4."]


@pytest.mark.usecase(1374)
async def test_a_request_that_was_made_under_the_older_contract_can_still_be_approved(
    office: Office,
) -> None:
    applied = await office.apply()
    await publish(office, 2)
    partner = await office.approve(applied)
    assert partner.accepted_partner_contract_version == 1
    with pytest.raises(MarketError) as caught:
        await office.plane.register("volt")
    assert caught.value.metadata == {"current_version": "2"}
    await office.plane.register("volt", accepted_partner_contract_version=2)


@pytest.mark.usecase(1377)
async def test_a_version_is_accepted_once_however_often_it_is_asked_for(office: Office) -> None:
    await office.plane.partner("acme")
    await publish(office, 2)
    results: list[Any] = list(
        await asyncio.gather(
            *(office.ask("acme", "AcceptPartnerContract", version=2) for _ in range(3)),
            return_exceptions=True,
        )
    )
    lost = [each for each in results if isinstance(each, MarketError)]
    assert [error.reason for error in lost] == [ErrorReason.ERROR_REASON_STATE_NOT_ALLOWED] * 2
    details = [event.detail for event in await office.events("acme")]
    assert details.count("version 2") == 1


async def test_a_repeated_publication_has_the_first_result_and_tells_nobody_twice(
    office: Office,
) -> None:
    await office.plane.partner("acme")
    first = await publish(office, 2, request_id="once")
    assert await publish(office, 2, request_id="once") == first
    told = await office.rows(
        "SELECT 1 FROM marketplace.notice WHERE kind = 'PARTNER_CONTRACT_PUBLISHED'"
    )
    assert len(told) == 1


async def test_an_inactive_partner_accepts_nothing(office: Office) -> None:
    await office.inactive()
    await publish(office, 2)
    refused = raises(ErrorReason.ERROR_REASON_PARTNER_NOT_ACTIVE)
    with pytest.raises(MarketError, check=refused):
        await office.ask("acme", "AcceptPartnerContract", version=2)
