"""Who is told of changes of users: their partner, and of operators the operators (1618)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from marketplace.notice import OPERATORS_INBOX, Notice, NoticeKind
from marketplace.user import User, UserStep

_WORDS: Mapping[UserStep, str] = {
    UserStep.CREATED: "was created",
    UserStep.LINK_MADE: "was given a link for a password",
    UserStep.PASSWORD_SET: "has set a password",
    UserStep.ROLES_SET: "has other roles",
    UserStep.DISABLED: "was disabled",
    UserStep.ENABLED: "was enabled",
}


def user_notices(user: User, step: UserStep, actor_name: str, now: datetime) -> tuple[Notice, ...]:
    """Tell of a step of a user; `actor_name` is as it stands in the history."""
    who, _, person = actor_name.partition(":")
    by_operator = who.startswith("operator/")
    by = "an operator of the marketplace" if by_operator else f"user {person}" if person else who
    text = f"User {user.user_name} {_WORDS[step]}, by {by}."
    notice = Notice(
        recipient_id=user.partner_id or OPERATORS_INBOX,
        kind=NoticeKind.USER_CHANGED,
        title="User changed",
        text=text,
        occurred_at=now,
        sender_id="" if by_operator else who,
    )
    return (notice,)
