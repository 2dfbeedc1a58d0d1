"""Crashes and what follows: no orphans, mail kept, strategies, budgets, backoff, escalation."""

from __future__ import annotations

import contextvars
import itertools
import random
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agorio.actors.runtime import (
    Actor,
    ActorCrash,
    ActorExit,
    ActorRestart,
    ActorUp,
    Backoff,
    Child,
    Context,
    DeadLetter,
    Escalated,
    Event,
    Group,
    Strategy,
    open_supervisor,
)
from agorio.mailbox.errors import ActorCrashed, ActorStopped, NameTaken, NotFoundError, RestartLimitExceeded
from tests.support.actors import Script, crash, living_tasks, of_type


class Parent(Script):
    """Starts helpers in its nursery."""

    async def receive(self, message: Any, ctx: Context) -> Any:
        if message == "helper":
            ctx.nursery.start_soon(trio.sleep_forever)
        elif message == "failing helpers":
            ctx.nursery.start_soon(self.fail, KeyError("one"))
            ctx.nursery.start_soon(self.fail, OSError("two"))
            await trio.sleep(1)
        return await super().receive(message, ctx)

    async def fail(self, error: Exception) -> None:
        raise error


async def test_a_restart_leaves_no_descendant_behind(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Parent)]) as supervisor:
        ref = supervisor.ref("a")
        base = living_tasks()
        for _ in range(20):
            ref.tell("helper")
        await trio.testing.wait_all_tasks_blocked()
        assert living_tasks() == base + 20
        await crash(ref)
        assert await ref.ask("hi") == (2, "hi")
        await trio.testing.wait_all_tasks_blocked()
        assert living_tasks() == base


async def test_several_failures_of_one_incarnation_are_one_crash(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor([Child("a", Parent)], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        with pytest.raises(ActorCrashed) as caught:
            await ref.ask("failing helpers")
        assert isinstance(caught.value.__cause__, ExceptionGroup)
        assert {type(exc) for exc in caught.value.__cause__.exceptions} == {KeyError, OSError}
        assert await ref.ask("hi") == (2, "hi")
    assert len(of_type(events, ActorCrash)) == 1
    assert [event.restarts for event in of_type(events, ActorRestart)] == [1]


async def test_mail_survives_a_restart_and_the_message_in_hand_is_a_dead_letter(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    log: list[Any] = []
    async with open_supervisor([Child("a", lambda: Script(log))], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        for message in (1, 2, "boom", 3, 4):
            ref.tell(message)
        assert await ref.ask(5) == (2, 5)
    assert [message for _, message in log] == [1, 2, 3, 4, 5]
    [letter] = of_type(events, DeadLetter)
    assert letter.message == "boom"
    assert "ValueError" in letter.reason


async def test_redelivery_has_a_budget_of_attempts_and_keeps_the_order(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    log: list[Any] = []
    child = Child("a", lambda: Script(log), on_crash="redeliver", max_attempts=3)
    async with open_supervisor([child], max_restarts=5, on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        for message in (1, "boom", 2):
            ref.tell(message)
        await trio.testing.wait_all_tasks_blocked()
        assert ref.incarnation == 4
    assert [message for _, message in log] == [1, 2]
    [letter] = of_type(events, DeadLetter)
    assert letter.message == "boom"
    assert letter.reason.startswith("3 crashes")


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["up b"]),
        ("one_for_all", ["stop c", "stop a", "up a", "up b", "up c"]),
        ("rest_for_one", ["stop c", "up b", "up c"]),
    ],
)
async def test_strategies_stop_in_reverse_and_start_in_order(
    strategy: Strategy, expected: list[str], autojump_clock: MockClock
) -> None:
    order: list[str] = []

    class Member(Script):
        async def on_start(self, ctx: Context) -> None:
            order.append(f"up {ctx.name}")

        async def on_stop(self, ctx: Context, why: str) -> None:
            if why != "crashed":
                order.append(f"stop {ctx.name}")

    async with open_supervisor([Child(name, Member) for name in "abc"], strategy=strategy) as supervisor:
        order.clear()
        await crash(supervisor.ref("b"))
        await supervisor.ref("b").ask("again")
        await trio.testing.wait_all_tasks_blocked()
        assert order == expected


async def test_requested_exits_of_siblings_are_no_crashes(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    children = [Child(name, Script) for name in "abcdef"]
    async with open_supervisor(children, strategy="one_for_all", max_restarts=3, on_event=events.append) as supervisor:
        for _ in range(3):
            await crash(supervisor.ref("c"))
            await supervisor.ref("f").ask("hi")
        await trio.testing.wait_all_tasks_blocked()
        assert [child.incarnation for child in supervisor.tree().children] == [4] * 6
    assert len(of_type(events, ActorRestart)) == 3


async def test_siblings_stopped_for_a_restart_whose_start_fails_are_no_crashes(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    starts: list[int] = []

    def fails_once(ctx: Context) -> None:
        starts.append(ctx.incarnation)
        if ctx.incarnation == 2:
            raise OSError("not yet")

    children = [Child("a", lambda: Script(starts=fails_once)), Child("b", Script), Child("c", Script)]
    async with open_supervisor(children, strategy="one_for_all", on_event=events.append) as supervisor:
        await crash(supervisor.ref("c"))
        await trio.testing.wait_all_tasks_blocked()
        assert await supervisor.ref("b").ask("hi") == (2, "hi")
    assert starts == [1, 2, 3]
    assert [event.name for event in of_type(events, ActorRestart)] == ["root/c", "root/a"]


async def test_an_old_exit_does_not_pass_for_a_new_crash(autojump_clock: MockClock) -> None:
    class SlowToReturn(Script):
        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(ctx.incarnation - 1)

    children = [Child("a", Script), Child("b", Script, restart="transient"), Child("c", SlowToReturn)]
    async with open_supervisor(children, strategy="one_for_all") as supervisor:
        await crash(supervisor.ref("a"))
        await trio.sleep(0.5)
        assert supervisor.ref("b").incarnation == 2  # its requested exit is still an unread report
        await crash(supervisor.ref("b"))
        assert await supervisor.ref("b").ask("back") == (3, "back")


async def test_two_crashes_in_one_step_restart_the_group_once(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor(
        [Child("a", Script), Child("b", Script)], strategy="one_for_all", on_event=events.append
    ) as supervisor:
        supervisor.ref("a").tell("boom")
        supervisor.ref("b").tell("boom")
        await trio.testing.wait_all_tasks_blocked()
        assert [child.incarnation for child in supervisor.tree().children] == [2, 2]
    assert len(of_type(events, ActorCrash)) == 2
    assert len(of_type(events, ActorRestart)) == 1


async def test_too_many_restarts_stop_all_in_order_and_raise(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    siblings = []
    with pytest.raises(RestartLimitExceeded, match="max_restarts is 2") as caught:
        async with open_supervisor(
            [Child("z", Script), Child("a", Script)], max_restarts=2, on_event=events.append
        ) as supervisor:
            siblings.append(supervisor.ref("z"))
            for _ in range(3):
                await crash(supervisor.ref("a"))
            await trio.sleep_forever()
    cause = caught.value.__cause__
    assert isinstance(cause, ExceptionGroup)
    assert len(cause.exceptions) == 3
    assert siblings[0].is_stopped
    assert [event.child for event in of_type(events, Escalated)] == ["root/a"]
    assert [event.name for event in of_type(events, ActorExit)] == ["root/a", "root/z", "root"]


async def test_an_error_of_the_block_is_not_lost_when_the_tree_gives_up(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(LookupError, RestartLimitExceeded):
        async with open_supervisor([Child("a", Script)], max_restarts=0) as supervisor:
            supervisor.ref("a").tell("boom")
            with trio.CancelScope(shield=True):
                await supervisor.ref("a").stopped()
            raise LookupError("the block's own")


async def test_restarts_further_apart_than_the_window_do_not_add_up(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script)], max_restarts=1, within=5) as supervisor:
        for incarnation in range(1, 6):
            assert supervisor.ref("a").incarnation == incarnation
            await crash(supervisor.ref("a"))
            await trio.sleep(6)


async def test_a_group_escalates_to_its_parent_which_restarts_it_with_its_mail(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    group = Group("g", [Child("a", Script), Child("b", Script)], max_restarts=1)
    async with open_supervisor([group], on_event=events.append) as supervisor:
        ref, other = supervisor.group("g").ref("a"), supervisor.group("g").ref("b")
        for message in ("boom", "boom", "kept"):
            ref.tell(message)
        assert await ref.ask("still the same ref") == (3, "still the same ref")
        assert await other.ask("restarted as well") == (2, "restarted as well")
        assert supervisor.group("g").incarnation == 2
    assert [event.name for event in of_type(events, Escalated)] == ["root/g"]
    crashes = of_type(events, ActorCrash)
    assert [event.name for event in crashes] == ["root/g/a", "root/g/a", "root/g"]
    assert isinstance(crashes[-1].cause, RestartLimitExceeded)


async def test_escalation_climbs_to_the_root(autojump_clock: MockClock) -> None:
    leaf = Group("leaf", [Child("a", Script)], max_restarts=0)
    branch = Group("branch", [leaf], max_restarts=0)
    with pytest.raises(RestartLimitExceeded) as caught:
        async with open_supervisor([branch], max_restarts=0) as supervisor:
            supervisor.group("branch").group("leaf").ref("a").tell("boom")
            await trio.sleep_forever()
    [of_branch] = caught.value.__cause__.exceptions  # type: ignore[union-attr]
    [of_leaf] = of_branch.__cause__.exceptions
    [crash_itself] = of_leaf.__cause__.exceptions
    assert isinstance(crash_itself, ValueError)


@pytest.mark.parametrize(("restart", "crashes", "stays"), [("temporary", True, False), ("transient", True, True)])
async def test_restart_rules(restart: Any, crashes: bool, stays: bool, autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script, restart=restart)]) as supervisor:
        ref = supervisor.ref("a")
        await crash(ref)
        await trio.testing.wait_all_tasks_blocked()
        assert ("a" in supervisor) is stays
        assert ref.is_stopped is not stays


async def test_an_actor_can_end_itself(autojump_clock: MockClock) -> None:
    class Leaves(Script):
        async def receive(self, message: Any, ctx: Context) -> Any:
            if message == "leave":
                ctx.stop()
            return await super().receive(message, ctx)

    log: list[Any] = []
    async with open_supervisor([Child("p", Leaves), Child("t", lambda: Leaves(log), restart="transient")]) as root:
        transient = root.ref("t")
        for message in ("leave", 1, 2):
            root.ref("p").tell(message)
            transient.tell(message)
        with pytest.raises(NotFoundError):
            await wait_until_gone(root, "t")
        assert await transient.stopped() == "stopped"
        assert [message for _, message in log] == ["leave", 1, 2]
        assert await root.ref("p").ask("fresh") == (2, "fresh")


async def wait_until_gone(root: Any, name: str) -> None:
    while True:
        root.ref(name)
        await trio.sleep(0.1)


async def test_start_failures_at_a_restart_are_retried_with_growing_rests(autojump_clock: MockClock) -> None:
    times: list[float] = []

    def starts(ctx: Context) -> None:
        times.append(trio.current_time())
        if 1 < len(times) < 6:
            raise OSError("the database is down")

    child = Child("a", lambda: Script(starts=starts), backoff=Backoff(min=1, max=30))
    async with open_supervisor([child], max_restarts=50, within=600) as supervisor:
        supervisor.ref("a").tell("boom")
        assert await supervisor.ref("a").ask("kept through it all") == (6, "kept through it all")
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx([1, 2, 4, 8, 16])


async def test_jitter_comes_from_the_given_source(autojump_clock: MockClock) -> None:
    async def rests() -> list[float]:
        events: list[Event] = []
        child = Child("a", Script, backoff=Backoff(min=1, jitter=0.5))
        async with open_supervisor([child], on_event=events.append, rng=random.Random(7)) as supervisor:
            for _ in range(3):
                await crash(supervisor.ref("a"))
                await supervisor.ref("a").ask("up again")
        return [event.delay for event in of_type(events, ActorRestart)]

    first = await rests()
    assert first == await rests()
    assert len({delay / 2**number for number, delay in enumerate(first)}) == 3


async def test_a_child_that_rests_does_not_hold_up_its_siblings(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script, backoff=Backoff(min=100, max=100)), Child("b", Script)]) as root:
        begin = trio.current_time()
        await crash(root.ref("a"))
        await crash(root.ref("b"))
        assert await root.ref("b").ask(1) == (2, 1)
        assert trio.current_time() == begin
        assert await root.ref("a").ask(1) == (2, 1)
        assert trio.current_time() == pytest.approx(begin + 100)


async def test_a_budget_of_its_own_spares_the_supervisors(autojump_clock: MockClock) -> None:
    child = Child("a", Script, max_restarts=5, within=60)
    async with open_supervisor([child, Child("b", Script)], max_restarts=1) as supervisor:
        for _ in range(5):
            await crash(supervisor.ref("a"))
        await crash(supervisor.ref("b"))
        assert await supervisor.ref("a").ask(1) == (6, 1)


async def test_a_failing_first_start_unwinds_what_was_started(autojump_clock: MockClock) -> None:
    events: list[Event] = []

    def fails(ctx: Context) -> None:
        raise OSError("no such device")

    base = living_tasks()
    with pytest.raises(OSError, match="no such device"):
        async with open_supervisor(
            [Child("a", Script), Child("b", lambda: Script(starts=fails)), Child("c", Script)], on_event=events.append
        ):
            raise AssertionError("the block must not be entered")
    assert living_tasks() == base
    assert [event.name for event in of_type(events, ActorUp)] == ["root/a"]
    assert [event.name for event in of_type(events, ActorExit)] == ["root/c", "root/b", "root/a", "root"]


async def test_starting_and_stopping_children_at_run_time(autojump_clock: MockClock) -> None:
    def fails(ctx: Context) -> None:
        raise OSError("no")

    async with open_supervisor() as supervisor:
        ref = await supervisor.start(Child("a", Script))
        with pytest.raises(NameTaken, match="'a'"):
            supervisor.start_soon(Child("a", Script))
        with pytest.raises(OSError, match="no"):
            await supervisor.start(Child("b", lambda: Script(starts=fails)))
        assert supervisor.names() == ("a",)
        assert await ref.ask(1) == (1, 1)
        assert await supervisor.stop("a") == "stopped"
        with pytest.raises(NotFoundError):
            supervisor.ref("a")
        with pytest.raises(ActorStopped):
            ref.tell(1)
        again = await supervisor.start(Child("a", Script))
        assert await again.ask(1) == (1, 1)


async def test_a_child_started_soon_takes_mail_at_once(autojump_clock: MockClock) -> None:
    async with open_supervisor() as supervisor:
        ref = supervisor.start_soon(Child("a", Script))
        ref.tell(1)
        assert not ref.is_running
        assert ref.statistics().current_queued == 1
        assert await ref.ask(2) == (1, 2)


async def test_a_cancelled_start_takes_the_child_back(autojump_clock: MockClock) -> None:
    class Slow(Script):
        async def on_start(self, ctx: Context) -> None:
            await trio.sleep(100)

    async with open_supervisor() as supervisor:
        base = living_tasks()
        with trio.move_on_after(1):
            await supervisor.start(Child("a", Slow, grace=2))
        await trio.sleep(5)
        assert "a" not in supervisor
        assert living_tasks() == base


async def test_keyboard_interrupt_is_never_restarted(autojump_clock: MockClock) -> None:
    class Interrupted(Actor):
        async def receive(self, message: Any, ctx: Context) -> Any:
            raise KeyboardInterrupt

    refs = []
    with pytest.raises(KeyboardInterrupt):
        async with open_supervisor([Child("a", Interrupted), Child("b", Script)]) as supervisor:
            refs = [supervisor.ref("a"), supervisor.ref("b")]
            refs[0].tell(1)
            await trio.sleep(5)
    assert all(ref.is_stopped for ref in refs)


async def test_incarnations_start_in_the_context_of_the_declaration(autojump_clock: MockClock) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")

    class Marked(Actor):
        async def receive(self, message: Any, ctx: Context) -> Any:
            before = mark.get()
            mark.set("changed by a handler")
            if message == "boom":
                raise ValueError
            return before

    mark.set("declared")
    async with open_supervisor([Child("a", Marked)]) as supervisor:
        mark.set("changed by the user")
        assert await supervisor.ref("a").ask(1) == "declared"
        assert await supervisor.ref("a").ask(1) == "changed by a handler"
        await crash(supervisor.ref("a"))
        assert await supervisor.ref("a").ask(1) == "declared"


async def test_an_error_of_on_stop_after_a_crash_hides_nothing(autojump_clock: MockClock) -> None:
    events: list[Event] = []

    class Clumsy(Script):
        async def on_stop(self, ctx: Context, why: str) -> None:
            raise OSError(f"on_stop after {why}")

    async with open_supervisor([Child("a", Clumsy)], on_event=events.append) as supervisor:
        await crash(supervisor.ref("a"))
        await supervisor.ref("a").ask(1)
    first, second = of_type(events, ActorCrash)
    assert {type(exc) for exc in first.cause.exceptions} == {ValueError, OSError}
    assert str(second.cause) == "on_stop after stopped"
    assert "OSError" in of_type(events, ActorExit)[0].reason
