"""Ids: unique, strictly rising whatever the clock does, and of a shape that no name may have."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from agorio.mailbox.ids import ID_LENGTH, IdGenerator, looks_like_id

TIMES = st.lists(st.integers(0, 2**62), min_size=1, max_size=50)


@given(times=TIMES, seed=st.integers())
def test_they_rise_whatever_the_clock_does(times: list[int], seed: int) -> None:
    clock = iter(times)
    mint = IdGenerator(lambda: next(clock), random.Random(seed).getrandbits)
    ids = [mint() for _ in times]
    assert ids == sorted(set(ids))
    assert all(len(one) == ID_LENGTH and looks_like_id(one) for one in ids)


@given(times=TIMES, seed=st.integers())
def test_a_seed_gives_the_same_ids(times: list[int], seed: int) -> None:
    def run() -> list[str]:
        clock = iter(times)
        mint = IdGenerator(lambda: next(clock), random.Random(seed).getrandbits)
        return [mint() for _ in times]

    assert run() == run()


@given(first=TIMES, second=TIMES)
def test_they_go_on_rising_after_a_restart(first: list[int], second: list[int]) -> None:
    clock = iter([*first, *second])
    bits = random.Random(1).getrandbits
    mint = IdGenerator(lambda: next(clock), bits)
    before = [mint() for _ in first]
    again = IdGenerator(lambda: next(clock), bits)
    for one in (before[-1], "something else", before[0]):
        again.floor(one)
    assert before[-1] < again()


def test_the_shape_of_an_id() -> None:
    assert looks_like_id("0123456789abcdef" * 2)
    assert not looks_like_id("0123456789ABCDEF" * 2)
    assert not looks_like_id("0" * 31)
    assert not looks_like_id("g" * 32)
