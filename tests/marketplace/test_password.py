"""The password policy: what guessers try first is refused, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import MarketError
from gem.mesh.v1.error_reason_pb2 import ErrorReason
from marketplace.common_passwords import common_passwords
from marketplace.password import LONGEST, SHORTEST, check_password, normalised
from marketplace.password_hashing import PasswordHashing
from tests.interceptors.support import raises
from tests.session_plane import CountingHashing

COMMON = frozenset({"dragonfly", "qwertyuiop", "iloveyouforever"})


def rule_of(password: str, user_name: str = "ada.byron") -> str:
    """Give the rule that a password breaks, or nothing."""
    try:
        check_password(password, user_name, COMMON)
    except MarketError as refusal:
        error = refusal
    else:
        return ""
    assert error.reason == ErrorReason.ERROR_REASON_REQUEST_INVALID
    (violation,) = error.violations
    assert violation.field == "password"
    if len(password) >= SHORTEST:
        assert password not in f"{error.message}{violation.description}"
    return violation.rule


@pytest.mark.usecase(1618)
@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "password.length"),
        ("short enough", ""),
        ("too short!!", "password.length"),
        ("x y z " * 22, "password.length"),
        ("iloveyouforever", "password.common"),
        ("ILoveYouForever", "password.common"),
        ("dragonfly2024!", "password.common"),
        ("123-qwertyuiop-321", "password.common"),
        ("948301753862", "password.common"),
        ("abababababab", "password.common"),
        ("ada.byron.1815", "password.name"),
        ("my Ada.Byron pass", "password.name"),
        ("correct horse battery staple", ""),
        ("Zwölf Störche ziehen", ""),
    ],
)
def test_a_password_that_is_short_common_or_the_name_is_refused(password: str, rule: str) -> None:
    assert rule_of(password) == rule


@pytest.mark.usecase(1618)
def test_a_short_name_may_stand_in_a_password_but_not_be_it() -> None:
    assert rule_of("canned anchovies", "ann") == ""
    assert rule_of("ada.byron.king", "ada.byron.king") == "password.name"


@given(st.text(min_size=0, max_size=LONGEST + 20), st.sampled_from(["ada", "ada.byron"]))
def test_whatever_is_accepted_has_the_length_and_is_not_on_the_list(
    password: str, user_name: str
) -> None:
    if not rule_of(password, user_name):
        plain = normalised(password)
        assert SHORTEST <= len(plain) <= LONGEST
        assert plain.casefold() not in COMMON | {user_name}


@given(st.sampled_from(sorted(COMMON)), st.text("0123456789!?-. ", max_size=20))
def test_digits_and_signs_around_a_common_password_do_not_help(core: str, around: str) -> None:
    assert rule_of(around + core + around) in ("password.common", "password.length")


def test_the_list_has_the_passwords_that_everybody_knows() -> None:
    common = common_passwords()
    assert len(common) >= 20_000
    assert {"password", "qwertyuiop", "iloveyou", "dragon"} <= common
    assert all(password == password.lower() for password in common)


async def test_a_hash_is_of_one_password_only_and_says_nothing_of_it() -> None:
    hashing = CountingHashing()
    kept = await hashing.hashed("seven green herons")
    assert kept.startswith("$argon2id$")
    assert "heron" not in kept
    assert kept != await hashing.hashed("seven green herons")
    assert await hashing.matches("seven green herons", kept)
    assert not await hashing.matches("seven green heron", kept)
    # The same characters, composed by another keyboard.
    composed = await hashing.hashed("zw\u00f6lf St\u00f6rche")
    assert await hashing.matches("zwo\u0308lf Sto\u0308rche", composed)


@pytest.mark.parametrize("kept", ["", "no hash", "$argon2id$v=19$m=8,t=1,p=1$broken"])
async def test_what_is_no_hash_matches_no_password(kept: str) -> None:
    hashing = CountingHashing()
    for password in ("", kept, "seven green herons"):
        assert not await hashing.matches(password, kept)


async def test_a_hash_of_another_cost_is_to_be_made_anew() -> None:
    cheap, usual = CountingHashing(), PasswordHashing()
    kept = await cheap.hashed("seven green herons")
    assert not cheap.is_outdated(kept)
    assert usual.is_outdated(kept)


async def test_logins_beyond_the_room_for_them_are_refused_and_the_room_comes_back() -> None:
    hashing = PasswordHashing(waiting_max=1)
    refusal = raises(ErrorReason.ERROR_REASON_TOO_MANY_CALLS)
    for _ in range(2):
        async with hashing.turn():
            with pytest.raises(MarketError, check=refusal):
                async with hashing.turn():
                    raise AssertionError("there is no room")
