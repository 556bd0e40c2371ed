from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from marketplace.router.ejection import Ejection, EjectionLimits

KEY = ("alpha", "alpha.example:443")
LIMITS = EjectionLimits(failures=3, base_s=1.0, longest_s=8.0, endpoints=4)


def ejected(times: int = 1) -> tuple[Ejection, float]:
    """Give a breaker whose endpoint was ejected so often in a row, and the time of the last one."""
    ejection, now_s = Ejection(LIMITS), 100.0
    for _ in range(LIMITS.failures):
        ejection.failed(KEY, now_s)
    for _ in range(times - 1):
        now_s += LIMITS.longest_s + 0.1
        assert ejection.admits(KEY, now_s)
        ejection.failed(KEY, now_s)
    return ejection, now_s


def test_an_endpoint_is_left_out_after_failures_in_a_row() -> None:
    ejection = Ejection(LIMITS)
    for _ in range(LIMITS.failures - 1):
        ejection.failed(KEY, 100.0)
    assert ejection.admits(KEY, 100.0)
    ejection.failed(KEY, 100.0)
    assert not ejection.admits(KEY, 100.5)


def test_a_success_in_between_starts_the_count_again() -> None:
    ejection = Ejection(LIMITS)
    for _ in range(10):
        ejection.failed(KEY, 100.0)
        ejection.failed(KEY, 100.0)
        ejection.succeeded(KEY)
    assert ejection.admits(KEY, 100.0)


def test_another_partner_with_the_same_endpoint_is_not_left_out() -> None:
    ejection, now_s = ejected()
    assert ejection.admits(("beta", KEY[1]), now_s)


def test_after_the_time_out_one_call_tries_and_the_others_wait() -> None:
    ejection, now_s = ejected()
    assert ejection.admits(KEY, now_s + 1.1)
    assert not ejection.admits(KEY, now_s + 1.1)
    ejection.succeeded(KEY)
    assert ejection.admits(KEY, now_s + 1.1)


def test_a_call_that_tries_and_says_nothing_lets_the_next_one_try() -> None:
    ejection, now_s = ejected()
    assert ejection.admits(KEY, now_s + 1.1)
    ejection.abandoned(KEY)
    assert ejection.admits(KEY, now_s + 1.1)


def test_a_call_that_tries_and_never_reports_does_not_block_for_ever() -> None:
    ejection, now_s = ejected()
    assert ejection.admits(KEY, now_s + 1.1)
    assert not ejection.admits(KEY, now_s + 1.0 + LIMITS.longest_s - 0.1)
    assert ejection.admits(KEY, now_s + 1.0 + LIMITS.longest_s + 0.1)


def test_the_time_out_doubles_up_to_a_limit() -> None:
    for times, expected_s in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 8.0), (60, 8.0)):
        ejection, now_s = ejected(times)
        assert not ejection.admits(KEY, now_s + expected_s - 0.01)
        assert ejection.admits(KEY, now_s + expected_s + 0.01)


def test_calls_that_began_before_the_ejection_do_not_prolong_it() -> None:
    ejection, now_s = ejected()
    for _ in range(50):
        ejection.failed(KEY, now_s + 0.5)
    assert ejection.admits(KEY, now_s + 1.1)


def test_the_memory_is_bounded_and_forgets_the_oldest() -> None:
    ejection, now_s = ejected()
    for number in range(LIMITS.endpoints):
        ejection.failed((f"p{number}", "x"), now_s)
    assert ejection.admits(KEY, now_s)


@given(
    st.lists(st.tuples(st.sampled_from(["ok", "failed", "gone"]), st.floats(0, 20)), max_size=60)
)
def test_an_endpoint_is_never_left_out_longer_than_the_limit(
    history: list[tuple[str, float]],
) -> None:
    ejection, now_s = Ejection(LIMITS), 0.0
    for outcome, wait_s in history:
        now_s += wait_s
        if not ejection.admits(KEY, now_s):
            continue
        if outcome == "ok":
            ejection.succeeded(KEY)
        elif outcome == "failed":
            ejection.failed(KEY, now_s)
        else:
            ejection.abandoned(KEY)
    assert ejection.admits(KEY, now_s + LIMITS.longest_s + 0.001)
