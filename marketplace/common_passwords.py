"""The common passwords: the 30,000 most frequent ones of the list that `zxcvbn` ships (MIT)."""

from __future__ import annotations

from functools import cache


@cache
def common_passwords() -> frozenset[str]:
    """Give them in lower case; read when the first password is set, since they take 15 MB."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # noqa: PLC0415  # the reason stands above

    return frozenset(FREQUENCY_LISTS["passwords"])
