"""E-mails about registration requests: to applicants, who have no account, and to new partners."""

from __future__ import annotations

import pytest

from tests.control_plane import ControlPlane
from tests.mail_server import Mailbox, mail_server
from tests.notification_post import Post
from tests.partner_office import Office, profile_of


@pytest.mark.usecase(1374)
async def test_a_refusal_goes_to_the_applicant_and_an_approval_to_the_new_partner(
    plane: ControlPlane, control_plane_url: str
) -> None:
    office, post = Office(plane), Post(plane, control_plane_url)
    refused = await office.apply("volt", profile=profile_of("grace@volt.example"))
    approved = await office.apply("acme", profile=profile_of("ada@acme.example"))
    await office.refuse(refused, "The company is in no register.")
    await office.approve(approved)
    async with mail_server(Mailbox()) as mailbox:
        await post.work(post.delivery(mailbox.port))
    letters = {message["To"]: message for message in mailbox.taken}
    assert letters.keys() == {"grace@volt.example", "ada@acme.example"}
    assert letters["grace@volt.example"]["Subject"] == "Registration refused"
    assert "in no register" in letters["grace@volt.example"].get_content()
    assert letters["ada@acme.example"]["Subject"] == "Partner registered"
    for message in letters.values():
        assert refused.reference not in message.get_content()
        assert approved.reference not in message.get_content()
    assert await post.waiting() == 0


@pytest.mark.usecase(1374)
async def test_no_letter_reaches_an_applicant_whose_data_are_erased(
    plane: ControlPlane, control_plane_url: str
) -> None:
    office, post = Office(plane), Post(plane, control_plane_url)
    applied = await office.apply("volt", profile=profile_of("grace@volt.example"))
    await office.approve(applied)
    async with plane.engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE marketplace.partner SET person_name = '', person_email = ''"
        )
    async with mail_server(Mailbox()) as mailbox:
        await post.work(post.delivery(mailbox.port))
    assert mailbox.taken == []
    (dead,) = await post.undelivered()
    assert dead.recipient_id == "volt"
