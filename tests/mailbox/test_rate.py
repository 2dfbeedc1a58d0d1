"""The token bucket: never more than it may, and told exactly how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.rate import TokenBucket

STEPS = st.lists(st.floats(0, 100, allow_subnormal=False), min_size=1, max_size=60)


@given(per_minute=st.floats(0.1, 6000), burst=st.floats(0, 50), steps=STEPS)
def test_no_window_lets_more_through_than_it_may(per_minute: float, burst: float, steps: list[float]) -> None:
    bucket, now, taken = TokenBucket(per_minute, burst, 0.0), 0.0, []
    for step in steps:
        now += step
        wait = bucket.take(now)
        assert wait >= 0
        if not wait:
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            allowed = max(1.0, burst) + (taken[last] - begin) * per_minute / 60
            assert last - first + 1 <= allowed + 1e-6


@given(per_minute=st.floats(1, 6000), burst=st.integers(1, 5))
def test_after_the_wait_there_is_one(per_minute: float, burst: int) -> None:
    bucket = TokenBucket(per_minute, burst, 0.0)
    assert [bucket.take(0.0) for _ in range(burst)] == [0.0] * burst
    wait = bucket.take(0.0)
    assert wait == pytest.approx(60 / per_minute)
    assert bucket.take(wait * 0.99) > 0
    assert bucket.take(wait * 1.0001) == 0


def test_a_token_given_back_can_be_taken_again_but_never_saved_up() -> None:
    bucket = TokenBucket(60, 2, 0.0)
    assert bucket.take(0.0) == bucket.take(0.0) == 0.0
    bucket.give_back()
    assert bucket.take(0.0) == 0.0
    for _ in range(10):
        bucket.give_back()
    assert [bucket.take(0.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(1.0)]


def test_a_clock_that_is_set_back_grants_nothing_and_takes_nothing_away() -> None:
    bucket = TokenBucket(60, 1, 3600.0)
    assert bucket.take(3600.0) == 0
    assert bucket.take(0.0) == pytest.approx(1.0)
    assert bucket.take(0.5) == pytest.approx(0.5)
    assert bucket.take(1.0) == 0
