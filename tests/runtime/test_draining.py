"""Leaving: drains within the graces, reverse order, outer cancellation, deaf handlers, many children."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agorio.actors.runtime import (
    ActorExit,
    Child,
    Context,
    DeadLetter,
    Draining,
    Event,
    Group,
    Stuck,
    open_supervisor,
    serve_supervisor,
)
from agorio.mailbox.errors import ActorStopped
from tests.support.actors import Script, living_tasks, of_type


async def test_an_outer_cancellation_becomes_a_drain_in_reverse_order(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    log: list[Any] = []
    children = [Child("wal", lambda: Script(log), grace=30), Child("agent", lambda: Script(log), grace=30)]
    begin = trio.current_time()
    with trio.move_on_after(1) as scope:
        async with open_supervisor(children, on_event=events.append) as supervisor:
            for _ in range(5):
                supervisor.ref("agent").tell(("sleep", 1))
            supervisor.ref("wal").tell("flush")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - begin == pytest.approx(5)
    assert log.count(("agent", ("sleep", 1))) == 5
    assert not of_type(events, DeadLetter)
    assert [event.name for event in of_type(events, ActorExit)] == ["root/agent", "root/wal", "root"]


async def test_intake_is_closed_while_draining(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script)]) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 1))
        supervisor.stop_soon("a")
        await trio.sleep(0.5)
        with pytest.raises(ActorStopped):
            ref.tell("late")
        assert await ref.stopped() == "stopped"


async def test_the_grace_bounds_the_drain_and_what_is_left_is_dead(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begin = trio.current_time()
    with trio.move_on_after(1):
        async with open_supervisor([Child("a", Script, grace=2)], on_event=events.append) as supervisor:
            for number in range(5):
                supervisor.ref("a").tell(("sleep", 10 + number))
            await trio.sleep_forever()
    assert trio.current_time() - begin == pytest.approx(3)
    letters = of_type(events, DeadLetter)
    assert [letter.message for letter in letters] == [("sleep", 10 + number) for number in range(5)]
    assert letters[0].reason == "in hand when the actor was cancelled"


@pytest.mark.parametrize(("drain", "took"), [(None, 0), (0, 0), (3, 3), (math.inf, 20)])
async def test_drain_bounds_the_whole_stop(drain: float | None, took: float, autojump_clock: MockClock) -> None:
    children = [Child(name, Script, grace=20) for name in "ab"]
    begin = trio.current_time()
    async with open_supervisor(children, drain=drain) as supervisor:
        for name in "ab":
            supervisor.ref(name).tell(("sleep", 10))
            supervisor.ref(name).tell(("sleep", 10))
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - begin == pytest.approx(took)


async def test_a_drain_that_is_over_reaches_nested_groups(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begin = trio.current_time()
    async with open_supervisor(
        [Group("g", [Child("a", Script, grace=50)])], drain=2, on_event=events.append
    ) as supervisor:
        supervisor.group("g").ref("a").tell(("sleep", 40))
        supervisor.group("g").ref("a").tell("never reached")
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - begin == pytest.approx(2)
    assert len(of_type(events, DeadLetter)) == 2


async def test_a_deaf_handler_is_reported_with_its_stack_and_joined_all_the_same(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begin = trio.current_time()
    async with open_supervisor([Child("a", Script, grace=2), Child("b", Script)], on_event=events.append) as supervisor:
        supervisor.ref("a").tell(("deaf", 100))
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - begin == pytest.approx(100)
    [stuck] = of_type(events, Stuck)
    assert stuck.name == "root/a"
    assert any("Script.receive (actors.py:" in line for line in stuck.stack)
    assert of_type(events, ActorExit)[-1].name == "root"


async def test_on_stop_may_await_even_in_a_cancelled_tree_within_the_grace(autojump_clock: MockClock) -> None:
    said: list[Any] = []

    class Polite(Script):
        async def on_stop(self, ctx: Context, why: str) -> None:
            said.append(why)
            await trio.sleep(1)
            said.append("saved")
            await trio.sleep(100)
            said.append("never")

    begin = trio.current_time()
    with trio.move_on_after(0):
        async with open_supervisor([Child("a", Polite, grace=3)]):
            await trio.sleep_forever()
    assert said == ["stopped", "saved"]
    assert trio.current_time() - begin == pytest.approx(3)


async def test_on_stop_hears_why(autojump_clock: MockClock) -> None:
    said: list[str] = []

    class Says(Script):
        async def on_stop(self, ctx: Context, why: str) -> None:
            said.append(why)

    async with open_supervisor([Child("a", Says, grace=1)]) as supervisor:
        supervisor.ref("a").tell("boom")
        supervisor.ref("a").tell(("sleep", 50))
        await trio.testing.wait_all_tasks_blocked()
    assert said == ["crashed", "cancelled"]


async def test_children_added_at_run_time_stop_together_before_the_declared_ones(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    begin = trio.current_time()
    async with open_supervisor([Child("declared", Script)], on_event=events.append) as supervisor:
        for number in range(20):
            supervisor.start_soon(Child(f"n{number}", Script)).tell(("sleep", 3))
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - begin == pytest.approx(3)
    exits = [event.name for event in of_type(events, ActorExit)]
    assert exits[-2:] == ["root/declared", "root"]
    assert exits[0] == "root/n19"


async def test_ten_thousand_children_come_and_go(autojump_clock: MockClock) -> None:
    base = living_tasks()
    async with open_supervisor([Group("crowd")]) as supervisor:
        crowd = supervisor.group("crowd")
        refs = [crowd.start_soon(Child(f"n{number}", Script)) for number in range(10_000)]
        assert await refs[-1].ask(1) == (1, 1)
        refs[5000].tell("boom")
        assert await refs[5000].ask(1) == (2, 1)
        assert sum(node.state == "up" for node in crowd.tree().walk()) == 10_001
        await supervisor.stop("crowd")
        assert all(ref.is_stopped for ref in refs)
    assert living_tasks() == base


async def test_stopping_twice_waits_for_one_stop(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script)]) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 2))
        reasons = []

        async def stop() -> None:
            reasons.append(await supervisor.stop("a"))

        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            nursery.start_soon(stop)
        assert reasons == ["stopped", "stopped"]
        assert trio.current_time() - begin == pytest.approx(2)


async def test_a_cancelled_stop_goes_on(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script)]) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 2))
        with trio.move_on_after(1):
            await supervisor.stop("a")
        assert not ref.is_stopped
        await trio.sleep(1.5)
        assert ref.is_stopped


async def test_stopping_a_child_that_rests_after_a_crash(autojump_clock: MockClock) -> None:
    from agorio.actors.runtime import Backoff

    events: list[Event] = []
    async with open_supervisor([Child("a", Script, backoff=Backoff(min=50))], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        ref.tell("boom")
        ref.tell("waits")
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.tree().children[0].state == "down"
        begin = trio.current_time()
        await supervisor.stop("a")
        assert trio.current_time() == pytest.approx(begin)
        assert ref.is_stopped
    assert [letter.message for letter in of_type(events, DeadLetter)] == ["boom", "waits"]


async def test_the_form_for_programs_that_own_a_nursery(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with trio.open_nursery() as nursery:
        supervisor = await nursery.start(serve_supervisor, [Child("a", lambda: Script(log))])
        assert supervisor.name == "root"
        supervisor.ref("a").tell(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log == [("a", ("sleep", 1))]
    async with trio.open_nursery() as nursery:
        supervisor = await nursery.start(serve_supervisor)
        supervisor.close_soon()


async def test_a_cancelled_opening_unwinds(autojump_clock: MockClock) -> None:
    class Slow(Script):
        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(100)

    base = living_tasks()
    events: list[Event] = []
    with trio.move_on_after(1) as scope:
        async with open_supervisor([Child("a", Script), Child("b", Slow)], on_event=events.append):
            raise AssertionError("the block must not be entered")
    assert scope.cancelled_caught
    assert living_tasks() == base
    assert [event.name for event in of_type(events, ActorExit)] == ["root/b", "root/a", "root"]


async def test_a_child_cancelled_before_its_first_step_does_not_start(autojump_clock: MockClock) -> None:
    class Slow(Script):
        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(100)

    begin = trio.current_time()
    async with open_supervisor(drain=None) as supervisor:
        ref = supervisor.start_soon(Child("a", Slow))
        inner = supervisor.start_soon(Group("g", [Child("b", Slow)]))
    assert trio.current_time() == pytest.approx(begin)
    assert ref.is_stopped
    assert inner.state == "stopped"


async def test_draining_is_announced(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor([Child("a", Script), Group("g", [Child("b", Script)])], on_event=events.append):
        pass
    assert [(event.name, event.children) for event in of_type(events, Draining)] == [("root", 2), ("root/g", 1)]


async def test_a_stopping_supervisor_starts_nothing_more(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script)]) as supervisor:
        supervisor.ref("a").tell(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        supervisor.close_soon()
        with pytest.raises(ActorStopped, match="stopping"):
            supervisor.start_soon(Child("b", Script))
