"""Who is told what (pure), and when an e-mail is tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gem.marketplace.v1.notification_pb2 import DeliveryFailure as DeliveryFailureNumber
from gem.marketplace.v1.notification_pb2 import NotificationKind
from marketplace.actor import Actor
from marketplace.contract import Contract, ContractState, ContractStep
from marketplace.delivery import (
    ATTEMPTS_MAX,
    FINAL,
    LONGEST_WAIT_S,
    OUTDATED_AFTER,
    DeliveryFailure,
    Letter,
    NotDeliveredError,
    check_deliverable,
    compose,
    next_try,
)
from marketplace.notice import (
    DEFAULT_PREFERENCES,
    NoticeKind,
    concerns_requesters,
    contract_notices,
    interface_notices,
    message_notices,
    partner_notices,
    provider_notices,
    refusal_notices,
    service_notices,
)
from marketplace.partner import Partner, PartnerState, PartnerStep
from marketplace.service import Service, ServiceState, ServiceStep

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTRACT = Contract("c-1", 1, "evsp", "volt", "s-1", "o-1", ContractState.ACTIVE, b"", NOW, None)
SERVICE = Service(
    *("s-1", 1, "volt", "Title\nof the provider", "Text", "acme.test.v1.S", 1, "1.0"),
    *("volt.example:1", ServiceState.PUBLISHED, NOW),
)
PARTNER = Partner("volt", PartnerState.ACTIVE, (1,), 1, NOW)
LETTER = Letter(
    "evsp",
    7,
    NoticeKind.CONTRACT_SUSPENDED,
    "Contract suspended",
    "It is.",
    "volt",
    NOW,
    0,
    "a@b.de",
)


def test_of_steps_that_concern_nobody_else_nobody_is_told() -> None:
    heard = {
        *(ServiceStep.PUBLISHED, ServiceStep.STOPPED, ServiceStep.STARTED),
        *(ServiceStep.VERSION_PREPARED, ServiceStep.VERSION_PUBLISHED),
    }
    silent = set(ServiceStep) - heard
    # What the provider alone does, and nobody else decides.
    own = {ServiceStep.ENDPOINT_CHANGED, ServiceStep.DESCRIPTION_CHANGED, ServiceStep.RELATED_SET}
    for step in ServiceStep:
        told = service_notices(SERVICE, step, ["evsp"], NOW)
        assert (told == ()) is (step in silent)
        assert concerns_requesters(step) is (step not in silent)
        of_own = provider_notices(SERVICE, step, NOW)
        assert {notice.recipient_id for notice in of_own} == (set() if step in own else {"volt"})
    told_steps = {PartnerStep.ACTIVATED, PartnerStep.INACTIVATED}
    for account in PartnerStep:
        assert bool(partner_notices(PARTNER, account, NOW)) is (account in told_steps)


@pytest.mark.parametrize("step", ContractStep)
def test_every_step_of_a_contract_is_told_to_both_parties(step: ContractStep) -> None:
    told = contract_notices(CONTRACT, step, Actor("evsp", is_partner=True), NOW)
    assert [notice.recipient_id for notice in told] == ["evsp", "volt"]
    own = {"CREATED", "SUSPENDED", "RESUMED", "TERMINATED"}
    ended = "TERMINATED" if step is ContractStep.EXPIRED else "CHANGED"
    kind = step.value if step.value in own else ended
    assert {notice.kind.value for notice in told} == {f"CONTRACT_{kind}"}
    assert {notice.sender_id for notice in told} == {"evsp"}
    assert all("c-1" in notice.text and " by evsp" in notice.text for notice in told)


def test_an_operator_stays_nameless_in_what_partners_read() -> None:
    boss = Actor("boss", is_partner=False)
    (first, _) = contract_notices(CONTRACT, ContractStep.TERMINATED, boss, NOW)
    (written,) = message_notices(SERVICE, ("Title", "Text"), ["evsp"], boss, NOW)
    assert "boss" not in first.text
    assert (first.sender_id, written.sender_id) == ("", "")


def test_the_texts_hold_ids_and_nothing_that_partners_write() -> None:
    (told,) = service_notices(SERVICE, ServiceStep.STOPPED, ["evsp"], NOW)
    assert "Title" not in told.title + told.text
    assert told.text == "Service s-1 of volt was stopped."


def test_a_refused_step_says_how_many_contracts_are_in_the_way() -> None:
    (told,) = refusal_notices(SERVICE, "disabled", 3, NOW)
    assert (told.recipient_id, told.kind) == ("volt", NoticeKind.SERVICE_STEP_REFUSED)
    assert told.text.startswith("Service s-1 was not disabled: 3 of its contracts")


def test_subscribers_are_told_of_every_interface() -> None:
    told = interface_notices([("a.v1.A", 2), ("a.v1.B", 1)], ["evsp", "volt"], NOW)
    assert [(each.recipient_id, each.interface_name) for each in told] == [
        ("evsp", "a.v1.A"),
        ("evsp", "a.v1.B"),
        ("volt", "a.v1.A"),
        ("volt", "a.v1.B"),
    ]
    assert told[0].text == "Version 2 of interface a.v1.A was published."


def test_the_names_here_are_those_of_the_schema() -> None:
    schema = {name.removeprefix("NOTIFICATION_KIND_") for name in NotificationKind.keys()}  # noqa: SIM118  # an enum wrapper
    assert schema == {*map(str, NoticeKind), "UNSPECIFIED"}
    failures = {name.removeprefix("DELIVERY_FAILURE_") for name in DeliveryFailureNumber.keys()}  # noqa: SIM118  # the same
    assert failures == {*map(str, DeliveryFailure), "UNSPECIFIED"}
    assert DEFAULT_PREFERENCES.keys() == set(NoticeKind)
    by_email = {kind for kind, preference in DEFAULT_PREFERENCES.items() if preference.email}
    assert by_email == {NoticeKind.PARTNER_REGISTERED, NoticeKind.REGISTRATION_REFUSED}


@given(
    st.sampled_from(sorted(DeliveryFailure)),
    st.integers(1, 3 * ATTEMPTS_MAX),
    st.floats(0, 1),
)
def test_waits_grow_up_to_an_hour_and_every_e_mail_comes_to_an_end(
    failure: DeliveryFailure, attempts: int, fraction: float
) -> None:
    due_at = next_try(failure, attempts, NOW, fraction)
    if failure in FINAL or attempts >= ATTEMPTS_MAX:
        assert due_at is None
        return
    assert due_at is not None
    assert NOW < due_at <= NOW + timedelta(seconds=LONGEST_WAIT_S)
    later = next_try(failure, attempts + 1, NOW, fraction)
    assert later is None or later >= due_at


def test_what_is_out_of_date_or_has_no_address_is_not_tried() -> None:
    late = NOW + OUTDATED_AFTER + timedelta(seconds=1)
    with pytest.raises(NotDeliveredError) as old:
        check_deliverable(LETTER, late)
    with pytest.raises(NotDeliveredError) as nowhere:
        check_deliverable(replace(LETTER, address=None), NOW)
    assert old.value.failure is DeliveryFailure.OUTDATED
    assert nowhere.value.failure is DeliveryFailure.NO_ADDRESS
    assert check_deliverable(LETTER, NOW) == "a@b.de"


@pytest.mark.parametrize("address", ["a@b.de\nBcc: c@d.de", "a@b.de\r\n", "a\nb@c.de"])
def test_an_address_never_becomes_another_header(address: str) -> None:
    with pytest.raises(NotDeliveredError) as caught:
        compose(LETTER, address, "market@gem.example", "gem.example")
    assert caught.value.failure is DeliveryFailure.REFUSED


def test_what_a_partner_writes_is_marked_as_its_words() -> None:
    letter = replace(LETTER, kind=NoticeKind.SERVICE_MESSAGE, title="Ünpaid bill", text="Pay.")
    message = compose(letter, "a@b.de", "market@gem.example", "gem.example")
    assert message["Subject"] == "Message of volt: Ünpaid bill"
    assert message.get_content() == "volt writes:\n\nPay.\n"
    again = compose(letter, "a@b.de", "market@gem.example", "gem.example")
    assert message["Message-ID"] == again["Message-ID"] == "<notice.evsp.7@gem.example>"
