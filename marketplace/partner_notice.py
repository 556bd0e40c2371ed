"""What partners and applicants are told about accounts, beside their activation."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from marketplace.notice import Notice, NoticeKind
from marketplace.partner import Partner
from marketplace.partner_change import ChangeState, PartnerChange
from marketplace.partner_registration import Registration, RegistrationState, applicant


def decided_notice(registration: Registration, now: datetime) -> Notice:
    """Tell the applicant what was decided; after an approval that is the new partner."""
    if registration.state is RegistrationState.APPROVED:
        return Notice(
            recipient_id=registration.partner_id,
            kind=NoticeKind.PARTNER_REGISTERED,
            title="Partner registered",
            text=(
                f"Partner {registration.partner_id} is registered. The reference of the request"
                " gives the first certificate and the first administrator, once each, within 30"
                " days."
            ),
            occurred_at=now,
        )
    return Notice(
        recipient_id=applicant(registration.registration_id).subject_id,
        kind=NoticeKind.REGISTRATION_REFUSED,
        title="Registration refused",
        text=(
            f"The registration of partner {registration.partner_id} was refused. The reason:\n\n"
            f"{registration.decision_reason}"
        ),
        occurred_at=now,
    )


def change_notice(change: PartnerChange, now: datetime) -> Notice:
    """Tell a partner that its change request was approved or refused."""
    if change.state is ChangeState.APPROVED:
        text = f"Change request {change.change_id} was approved: the account is as requested."
        return Notice(change.partner_id, NoticeKind.PARTNER_CHANGED, "Account changed", text, now)
    text = f"Change request {change.change_id} was refused. The reason:\n\n{change.decision_reason}"
    kind = NoticeKind.PARTNER_CHANGE_REFUSED
    return Notice(change.partner_id, kind, "Change request refused", text, now)


def person_notice(partner: Partner, now: datetime) -> Notice:
    """Tell a partner that another person answers for its account; no names."""
    text = f"The responsible person of partner {partner.partner_id} was changed."
    kind = NoticeKind.PARTNER_CHANGED
    return Notice(partner.partner_id, kind, "Responsible person changed", text, now)


def contract_published_notices(
    version: int, partner_ids: Iterable[str], now: datetime
) -> tuple[Notice, ...]:
    """Tell partners that there is a version of the partner contract to accept."""
    text = (
        f"Version {version} of the partner contract was published. The version that you accepted"
        " goes on until you accept this one."
    )
    kind, title = NoticeKind.PARTNER_CONTRACT_PUBLISHED, "Partner contract published"
    return tuple(Notice(partner_id, kind, title, text, now) for partner_id in partner_ids)
