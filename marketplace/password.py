"""Which passwords are accepted (use case 1618: "password policy required"). Pure.

Length is what resists guessing, so there is no rule about kinds of characters; what is refused is
what guessers try first (NIST SP 800-63B, 3.1.1.2).
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Set as AbstractSet

from foundation.errors import FieldViolation, MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason

SHORTEST = 12
LONGEST = 128
#: A shorter name may well stand in a good password by chance.
_NAME_COUNTS_FROM = 4
_DISTINCT_MIN = 5
_DECORATION = string.digits + string.punctuation + string.whitespace


def normalised(password: str) -> str:
    """Give the form that is hashed: keyboards differ in how they compose the same characters."""
    return unicodedata.normalize("NFKC", password)


def check_password(
    password: str, user_name: str, common: AbstractSet[str], field: str = "password"
) -> None:
    """Refuse a password that breaks the policy; `common` holds passwords in lower case.

    Raises:
        MarketError: REQUEST_INVALID, naming the rule; the password is not repeated.
    """
    broken = _broken_rule(normalised(password), user_name.casefold(), common)
    if broken is not None:
        rule, description = broken
        raise MarketError(
            ErrorReason.ERROR_REASON_REQUEST_INVALID,
            "The password is not accepted: nothing was changed.",
            violations=(FieldViolation(field, description, f"password.{rule}"),),
        )


def _broken_rule(password: str, user_name: str, common: AbstractSet[str]) -> tuple[str, str] | None:
    if not SHORTEST <= len(password) <= LONGEST:
        return "length", f"must have {SHORTEST} to {LONGEST} characters"
    folded = password.casefold()
    if folded == user_name or (len(user_name) >= _NAME_COUNTS_FROM and user_name in folded):
        return "name", "must not contain the user name"
    if len(set(folded)) < _DISTINCT_MIN:
        return "common", f"must have at least {_DISTINCT_MIN} different characters"
    # "Dragonfly2024!" is as common as what it decorates.
    core = folded.strip(_DECORATION)
    if not core or folded in common or core in common:
        return "common", "must not be a common password, nor one between digits and signs"
    return None
