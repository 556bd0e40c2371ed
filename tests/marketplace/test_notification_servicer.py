"""NotificationService over a real database: who is told, once and in order (use case 1687)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from foundation.errors import MarketError
from gem.marketplace.v1.notification_pb2 import NotificationKind
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.contract import ContractStep
from marketplace.notice import Notice, NoticeKind
from marketplace.storage_notice import tell
from marketplace.storage_tables import CONTRACT_EVENT, NOTICE, NOTICE_OUTBOX
from tests.control_plane import (
    BUSINESS,
    EVSE_OPERATOR,
    EVSP,
    INTERFACE_BODY,
    TECHNICAL,
    ControlPlane,
    fields_of,
)
from tests.interceptors.support import raises

NOT_FOUND = raises(ErrorReason.ERROR_REASON_NOT_FOUND)
FORBIDDEN = raises(ErrorReason.ERROR_REASON_ROLE_NOT_ALLOWED)
_PREFIX = "NOTIFICATION_KIND_"


def _kind(name: str) -> int:
    return NotificationKind.Value(_PREFIX + name)


async def _inbox(plane: ControlPlane, who: str, **fields: Any) -> list[Any]:
    answer = await plane.ask(who, "NotificationService/ListNotifications", **fields)
    return list(answer.notifications)


async def _kinds(plane: ControlPlane, who: str) -> list[str]:
    """Give the kinds in a partner's inbox, the oldest first."""
    found = [NotificationKind.Name(each.kind) for each in await _inbox(plane, who)]
    return [name.removeprefix(_PREFIX) for name in reversed(found)]


async def _prefer(plane: ControlPlane, who: str, kind: str, *, inbox: bool, email: bool) -> None:
    preference = {"kind": _kind(kind), "inbox": inbox, "email": email}
    await plane.ask(who, "NotificationService/SetNotificationPreference", preference=preference)


async def _write(plane: ControlPlane, who: str, service_id: str, **fields: Any) -> Any:
    values = {"title": "Maintenance", "text": "On Sunday\nfrom 2 to 3.", **fields}
    method = "NotificationService/NotifyServiceRequesters"
    return await plane.ask(who, method, service_id=service_id, **values)


async def _step(plane: ControlPlane, who: str, step: str, contract_id: str) -> None:
    await plane.ask(who, f"ContractService/{step}Contract", contract_id=contract_id)


async def _count(plane: ControlPlane, table: Any) -> int:
    async with plane.engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(table)) or 0)


@pytest.mark.usecase(1687)
async def test_only_its_provider_and_operators_write_to_a_services_requesters(
    plane: ControlPlane,
) -> None:
    (service,) = await plane.market("volt")
    await plane.partner("watt", EVSE_OPERATOR)
    await plane.contract("evsp", service)
    for stranger in ("watt", "evsp"):
        with pytest.raises(MarketError, check=NOT_FOUND):
            await _write(plane, stranger, service.service_id)
    with pytest.raises(MarketError, check=NOT_FOUND):
        await _write(plane, "volt", "no-such")
    assert "SERVICE_MESSAGE" not in await _kinds(plane, "evsp")
    for writer in ("volt", BUSINESS, TECHNICAL):
        answer = await _write(plane, writer, service.service_id)
        assert answer.requester_count == 1
    found = await _inbox(plane, "evsp", kind=_kind("SERVICE_MESSAGE"))
    assert [each.sender_id for each in found] == ["", "", "volt"]
    assert {(each.title, each.text) for each in found} == {
        ("Maintenance", "On Sunday\nfrom 2 to 3.")
    }


@pytest.mark.usecase(1687)
async def test_a_message_must_have_a_title_in_one_line_and_a_text(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    for fields in (
        {"title": ""},
        {"title": "a\nBcc: b"},
        {"title": "a\r"},
        {"title": "a\u2028b"},
        {"title": "a\u202eb"},
        {"title": "x" * 201},
        {"text": ""},
        {"text": "a\x00b"},
        {"text": "a\x1b[2J"},
        {"text": "x" * 4001},
    ):
        with pytest.raises(MarketError) as caught:
            await _write(plane, "volt", service.service_id, **fields)
        assert fields_of(caught.value) == list(fields)
    assert "SERVICE_MESSAGE" not in await _kinds(plane, "evsp")


@pytest.mark.usecase(1687)
async def test_whose_contract_has_ended_is_no_requester_any_more(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.partner("evsp-2", EVSP)
    await plane.partner("evsp-3", EVSP)
    ended = await plane.contract("evsp", service)
    paused = await plane.contract("evsp-2", service)
    await _step(plane, "evsp", "Terminate", ended.contract_id)
    await _step(plane, "evsp-2", "Suspend", paused.contract_id)
    assert (await _write(plane, "volt", service.service_id)).requester_count == 1
    told = [
        who
        for who in ("evsp", "evsp-2", "evsp-3", "volt")
        if "SERVICE_MESSAGE" in await _kinds(plane, who)
    ]
    assert told == ["evsp-2"]


@pytest.mark.usecase(1687)
async def test_a_repeated_message_is_written_once(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    for _ in range(3):
        answer = await _write(plane, "volt", service.service_id, request_id="once")
        assert answer.requester_count == 1
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_ID_REUSED)):
        await _write(plane, "volt", service.service_id, request_id="once", text="Other.")
    assert (await _kinds(plane, "evsp")).count("SERVICE_MESSAGE") == 1


async def test_a_step_that_is_refused_tells_nobody(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    before = await _count(plane, NOTICE)
    for who, step in (("evsp", "Resume"), ("volt", "Suspend")):
        with pytest.raises(MarketError):
            await _step(plane, who, step, contract.contract_id)
    assert await _count(plane, NOTICE) == before


async def test_a_contracts_life_is_told_to_both_parties(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)
    for who, step in (("evsp", "Suspend"), ("evsp", "Resume"), ("volt", "Terminate")):
        await _step(plane, who, step, contract.contract_id)
    expected = [f"CONTRACT_{step}" for step in ("CREATED", "SUSPENDED", "RESUMED", "TERMINATED")]
    of_service = ["SERVICE_CHANGED", "SERVICE_PUBLISHED"]
    for party, before in (("evsp", []), ("volt", of_service)):
        assert await _kinds(plane, party) == ["PARTNER_ACTIVATED", *before, *expected]
    latest, *_ = await _inbox(plane, "evsp")
    assert latest.sender_id == "volt"


async def test_a_services_life_is_told_to_its_provider_and_its_requesters_only(
    plane: ControlPlane,
) -> None:
    volt, _watt = await plane.market("volt", "watt")
    await plane.contract("evsp", volt)
    await plane.partner("evsp-2", EVSP)
    for step in ("Stop", "Start"):
        method = f"ServiceRegistryService/{step}Service"
        await plane.ask(TECHNICAL, method, service_id=volt.service_id)
    assert (await _kinds(plane, "evsp"))[-2:] == ["SERVICE_STOPPED", "SERVICE_STARTED"]
    assert (await _kinds(plane, "volt"))[-2:] == ["SERVICE_STOPPED", "SERVICE_STARTED"]
    assert await _kinds(plane, "evsp-2") == ["PARTNER_ACTIVATED"]
    assert (await _kinds(plane, "watt"))[-1] == "SERVICE_PUBLISHED"


async def test_a_partner_reads_after_its_return_that_it_was_inactivated(
    plane: ControlPlane,
) -> None:
    await plane.partner("volt")
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="volt")
    await plane.ask(BUSINESS, "PartnerService/ActivatePartner", partner_id="volt")
    expected = ["PARTNER_ACTIVATED", "PARTNER_INACTIVATED", "PARTNER_ACTIVATED"]
    assert await _kinds(plane, "volt") == expected


async def test_a_published_interface_is_told_to_all_but_those_who_do_not_want_it(
    plane: ControlPlane,
) -> None:
    for name in ("volt", "watt", "gone"):
        await plane.partner(name)
    await _prefer(plane, "volt", "INTERFACE_PUBLISHED", inbox=False, email=False)
    await plane.ask(BUSINESS, "PartnerService/InactivatePartner", partner_id="gone")
    await plane.publish_interface(INTERFACE_BODY)
    assert await _kinds(plane, "volt") == ["PARTNER_ACTIVATED"]
    assert await _kinds(plane, "watt") == ["PARTNER_ACTIVATED", "INTERFACE_PUBLISHED"]
    assert "INTERFACE_PUBLISHED" not in await _kinds(plane, "gone")


async def test_preferences_decide_what_is_kept_and_what_is_mailed(plane: ControlPlane) -> None:
    (service,) = await plane.market("volt")
    await plane.contract("evsp", service)
    for inbox, email in ((False, False), (False, True), (True, True), (True, False)):
        await _prefer(plane, "evsp", "SERVICE_MESSAGE", inbox=inbox, email=email)
        answer = await _write(plane, "volt", service.service_id, title=f"{inbox} {email}")
        assert answer.requester_count == 1, "a provider does not learn who reads it"
    found = await _inbox(plane, "evsp", kind=_kind("SERVICE_MESSAGE"))
    assert [each.title for each in found] == ["True False", "True True"]
    assert await _count(plane, NOTICE_OUTBOX) == 2
    method = "NotificationService/ListNotificationPreferences"
    preferences = (await plane.ask("evsp", method)).preferences
    assert [each.kind for each in preferences] == sorted(set(NotificationKind.values()) - {0})
    by_kind = {each.kind: (each.inbox, each.email) for each in preferences}
    assert by_kind[_kind("INTERFACE_PUBLISHED")] == (True, False)
    assert by_kind[_kind("SERVICE_MESSAGE")] == (True, False)


async def test_a_preference_names_a_kind(plane: ControlPlane) -> None:
    await plane.partner("volt")
    method = "NotificationService/SetNotificationPreference"
    for preference in ({"kind": 0}, {"kind": 999}):
        with pytest.raises(MarketError) as caught:
            await plane.ask("volt", method, preference=preference)
        assert fields_of(caught.value) == ["preference.kind"]
    with pytest.raises(MarketError) as caught:
        await plane.ask("volt", method)
    assert fields_of(caught.value) == ["preference"]


async def test_an_inbox_is_its_owners_alone(plane: ControlPlane) -> None:
    await plane.market("volt")
    # What operators share is another inbox.
    for operator in (BUSINESS, TECHNICAL):
        assert await _inbox(plane, operator) == []
    method = "NotificationService/MarkNotificationsRead"
    answer = await plane.ask("evsp", method, first_sequence=0, last_sequence=10)
    assert answer.marked_count == 1
    unread = await _inbox(plane, "volt", unread_only=True)
    assert len(unread) == 3
    assert not any(notice.HasField("read_time") for notice in unread)


async def test_reading_marks_a_range_once(plane: ControlPlane) -> None:
    await plane.partner("volt")
    await _flood(plane, "volt", 5)
    method = "NotificationService/MarkNotificationsRead"
    with pytest.raises(MarketError, check=raises(ErrorReason.ERROR_REASON_REQUEST_INVALID)):
        await plane.ask("volt", method, first_sequence=3, last_sequence=2)
    marked = [
        (await plane.ask("volt", method, first_sequence=first, last_sequence=last)).marked_count
        for first, last in ((2, 3), (3, 4), (2, 4))
    ]
    assert marked == [2, 1, 0]
    unread = await _inbox(plane, "volt", unread_only=True)
    assert [each.sequence for each in unread] == [6, 5, 1]
    read = [each for each in await _inbox(plane, "volt") if each.HasField("read_time")]
    assert [each.sequence for each in read] == [4, 3, 2]


async def test_pages_of_an_inbox_hold_each_notification_once(plane: ControlPlane) -> None:
    await plane.partner("volt")
    await _flood(plane, "volt", 24)
    found, token = [], ""
    while True:
        page = {"page_size": 7, "page_token": token}
        answer = await plane.ask("volt", "NotificationService/ListNotifications", page=page)
        found += [each.sequence for each in answer.notifications]
        token = answer.page.next_page_token
        if not token:
            break
    assert found == list(range(25, 0, -1))


async def _flood(plane: ControlPlane, who: str, count: int) -> None:
    """Tell somebody many things at once."""
    kind = NoticeKind.SERVICE_MESSAGE
    async with plane.engine.begin() as connection:
        now = await connection.scalar(select(func.now()))
        assert now is not None
        await tell(connection, [Notice(who, kind, f"{n}", "Text", now) for n in range(count)])


async def test_what_was_told_never_changes(plane: ControlPlane) -> None:
    await plane.partner("volt")
    async with plane.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="never changes"):
            await connection.execute(text("UPDATE marketplace.notice SET text = 'other'"))


async def test_many_who_tell_the_same_partners_neither_lock_up_nor_leave_a_gap(
    plane: ControlPlane,
) -> None:
    names = [f"p-{n}" for n in range(5)]
    kind = NoticeKind.SERVICE_MESSAGE

    async def one(seed: int) -> None:
        order = random.Random(seed)
        async with plane.engine.begin() as connection:
            at = await connection.scalar(select(func.now()))
            assert at is not None
            chosen = [order.choice(names) for _ in range(8)]
            await tell(connection, [Notice(who, kind, str(seed), "", at) for who in chosen])

    await asyncio.gather(*(one(seed) for seed in range(40)))
    async with plane.engine.connect() as connection:
        rows = (await connection.execute(select(NOTICE.c.recipient_id, NOTICE.c.sequence))).all()
    assert len(rows) == 320
    for name in names:
        mine = sorted(row.sequence for row in rows if row.recipient_id == name)
        assert mine == list(range(1, len(mine) + 1))


async def test_ten_thousand_requesters_are_told_in_one_transaction(plane: ControlPlane) -> None:
    async with plane.engine.begin() as connection:
        at = await connection.scalar(select(func.now()))
        assert at is not None
        kind = NoticeKind.SERVICE_STOPPED
        await tell(connection, [Notice(f"r-{n}", kind, "Title", "Text", at) for n in range(10_000)])
    assert await _count(plane, NOTICE) == 10_000


async def test_history_and_notices_are_written_together_or_not_at_all(plane: ControlPlane) -> None:
    """A contract's history has as many steps as each party has notices of it, under contention."""
    (service,) = await plane.market("volt")
    contract = await plane.contract("evsp", service)

    async def attempt(step: str) -> None:
        try:
            await _step(plane, "evsp", step, contract.contract_id)
        except MarketError:
            return

    await asyncio.gather(*(attempt(step) for step in ("Suspend", "Resume") * 10))
    async with plane.engine.connect() as connection:
        steps = select(CONTRACT_EVENT.c.kind).order_by(CONTRACT_EVENT.c.position)
        history = [ContractStep(kind) for kind in await connection.scalars(steps)]
    for party in ("evsp", "volt"):
        told = [kind for kind in await _kinds(plane, party) if kind.startswith("CONTRACT_")]
        assert told == [f"CONTRACT_{step.value}" for step in history]
