"""The state machine itself: rules run in one trio run, in virtual time, and failures reach the rule."""

from __future__ import annotations

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.support.trio_machine import TrioStateMachine, initialize, invariant, rule


class Sleeper(TrioStateMachine):
    """Counts virtual time by rules and by a background task."""

    async def setup(self) -> None:
        self.ticks = 0
        self.slept = 0.0
        self.begin = trio.current_time()
        self.nursery.start_soon(self.tick)

    async def tick(self) -> None:
        while True:
            await trio.sleep(1)
            self.ticks += 1

    @initialize(seconds=st.integers(1, 3))
    async def first(self, seconds: int) -> None:
        await self.sleep(seconds=seconds)

    @rule(seconds=st.integers(1, 3))
    async def sleep(self, seconds: int) -> None:
        await trio.sleep(seconds + 0.5)
        self.slept += seconds + 0.5

    @rule()
    def nothing(self) -> None:
        pass

    @invariant()
    async def time_moves_only_in_rules(self) -> None:
        assert trio.current_time() - self.begin == pytest.approx(self.slept)
        assert self.ticks == int(self.slept)


Quick = settings(max_examples=20, stateful_step_count=8, deadline=None)


def test_rules_share_one_run_in_virtual_time() -> None:
    run_state_machine_as_test(Sleeper, settings=Quick)


def test_an_error_of_a_rule_is_raised() -> None:
    class Fails(TrioStateMachine):
        @rule()
        async def fail(self) -> None:
            raise LookupError("found")

    with pytest.raises(LookupError):
        run_state_machine_as_test(Fails, settings=Quick)


def test_an_error_of_a_background_task_is_raised() -> None:
    class Fails(TrioStateMachine):
        async def crash(self) -> None:
            raise LookupError("found")

        @rule()
        async def start(self) -> None:
            self.nursery.start_soon(self.crash)
            await trio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        run_state_machine_as_test(Fails, settings=Quick)
    assert caught.group_contains(LookupError)


def test_a_rule_that_hangs_is_found_in_virtual_time() -> None:
    class Hangs(TrioStateMachine):
        @rule()
        async def hang(self) -> None:
            await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        run_state_machine_as_test(Hangs, settings=Quick)
