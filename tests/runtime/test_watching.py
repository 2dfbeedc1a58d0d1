"""Death watch, timers, events, the tree."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agorio.actors.runtime import (
    ActorCrash,
    ActorExit,
    ActorUp,
    Backoff,
    Child,
    Context,
    Event,
    Group,
    HighWater,
    open_supervisor,
    render_tree,
)
from agorio.mailbox.errors import InvalidInput, NotFoundError
from tests.support.actors import Script, crash, living_tasks, of_type


async def test_stopped_waits_over_all_restarts(autojump_clock: MockClock) -> None:
    reasons: list[str] = []
    async with open_supervisor([Child("a", Script)]) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("a")

        async def watch() -> None:
            reasons.append(await ref.stopped())

        nursery.start_soon(watch)
        await crash(ref)
        await ref.ask(1)
        assert reasons == []
        await supervisor.stop("a")
    assert reasons == ["stopped"]
    assert await ref.stopped() == "stopped"


async def test_a_watch_puts_a_message_ahead_of_the_mail_and_ends_with_the_incarnation(
    autojump_clock: MockClock,
) -> None:
    log: list[Any] = []
    others: list[Any] = []

    def starts(ctx: Context) -> None:
        for ref in others:
            ctx.watch(ref, ("gone", ref.name))

    async with open_supervisor(
        [Child("x", Script, restart="temporary"), Child("y", Script)], max_restarts=9
    ) as supervisor:
        others += [supervisor.ref("x"), supervisor.ref("y")]
        watcher = await supervisor.start(Child("w", lambda: Script(log, starts=starts)))
        await crash(watcher)
        await watcher.ask("up again")
        watcher.tell(("sleep", 1))
        watcher.tell("behind")
        await trio.testing.wait_all_tasks_blocked()
        await crash(others[0])
        await watcher.ask("end")
    assert [message for _, message in log] == ["up again", ("sleep", 1), ("gone", "x"), "behind", "end"]


async def test_timers_tick_without_drift_and_die_with_the_incarnation(autojump_clock: MockClock) -> None:
    times: list[tuple[Any, float]] = []

    class Timed(Script):
        async def on_start(self, ctx: Context) -> None:
            ctx.every(10, "tick")
            ctx.after(25, "once")

        async def receive(self, message: Any, ctx: Context) -> Any:
            times.append((message, trio.current_time()))
            if message == "tick":
                await trio.sleep(3)
            return await super().receive(message, ctx)

    begin = trio.current_time()
    async with open_supervisor([Child("a", Timed)]) as supervisor:
        await trio.sleep(35)
        assert [(message, round(time - begin, 6)) for message, time in times] == [
            ("tick", 10),
            ("tick", 20),
            ("once", 25),
            ("tick", 30),
        ]
        times.clear()
        await crash(supervisor.ref("a"))
        await trio.sleep(11)
        assert [message for message, _ in times] == ["boom", "tick"]


async def test_a_timer_waits_where_the_mailbox_is_full_and_can_be_cancelled(autojump_clock: MockClock) -> None:
    scopes: list[trio.CancelScope] = []
    log: list[Any] = []
    child = Child("a", lambda: Script(log, starts=lambda ctx: scopes.append(ctx.every(1, "tick"))), capacity=2)
    async with open_supervisor([child]) as supervisor:
        supervisor.ref("a").tell(("sleep", 100))
        await trio.sleep(50)
        assert supervisor.ref("a").statistics().current_used == 2
        assert supervisor.ref("a").incarnation == 1
        scopes[0].cancel()
        await trio.sleep(100)
        assert [message for _, message in log] == [("sleep", 100), "tick", "tick"]


async def test_timers_do_not_hold_up_a_stop(autojump_clock: MockClock) -> None:
    base = living_tasks()
    async with open_supervisor([Child("a", lambda: Script(starts=lambda ctx: ctx.every(1, "t") and None))]):
        await trio.sleep(2.5)
    assert living_tasks() == base


async def test_events_tell_the_life_of_a_child(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor([Child("a", Script)], name="app", on_event=events.append) as supervisor:
        await crash(supervisor.ref("a"))
        await supervisor.ref("a").ask(1)
    lives = [(type(event).__name__, event.incarnation) for event in events if event.name == "app/a"]  # type: ignore[union-attr]
    assert lives == [("ActorUp", 1), ("ActorCrash", 1), ("ActorRestart", 1), ("ActorUp", 2), ("ActorExit", 2)]
    assert isinstance(of_type(events, ActorCrash)[0].cause, ValueError)
    assert of_type(events, ActorExit)[0].reason == "stopped"


async def test_a_failing_sink_is_logged_and_hurts_nobody(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    def sink(event: Event) -> None:
        if isinstance(event, ActorUp):
            raise RuntimeError("the sink is broken")

    with caplog.at_level(logging.ERROR, "agorio.runtime"):
        async with open_supervisor([Child("a", Script)], on_event=sink) as supervisor:
            await crash(supervisor.ref("a"))
            assert await supervisor.ref("a").ask(1) == (2, 1)
    assert len(caplog.records) == 3
    assert "the sink is broken" in caplog.text


async def test_high_water_is_reported_once_per_rise(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor([Child("a", Script, capacity=10)], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        for _ in range(2):
            for number in range(10):
                ref.tell(number)
            await ref.ask("drained")
    assert [(event.used, event.capacity) for event in of_type(events, HighWater)] == [(8, 10), (8, 10)]


async def test_the_tree_is_the_truth(autojump_clock: MockClock) -> None:
    children: list[Child | Group] = [
        Child("a", Script),
        Group("g", [Child("b", Script, backoff=Backoff(min=5)), Child("c", Script)], strategy="rest_for_one"),
    ]
    async with open_supervisor(children, name="app") as supervisor:
        supervisor.group("g").ref("b").tell("boom")
        supervisor.ref("a").tell(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        supervisor.ref("a").tell("waits")
        tree = supervisor.tree()
        assert [(node.name, node.kind, node.state, node.incarnation) for node in tree.walk()] == [
            ("app", "supervisor", "up", 1),
            ("a", "actor", "up", 1),
            ("g", "supervisor", "up", 1),
            ("b", "actor", "down", 1),
            ("c", "actor", "down", 1),
        ]
        assert tree.children[0].mailbox is not None
        assert tree.children[0].mailbox.current_queued == 1
        assert render_tree(tree).splitlines() == [
            "app (one_for_one) up #1",
            "├─ a up #1, 0 handled, 1 waiting",
            "└─ g (rest_for_one) up #1",
            "   ├─ b down #1, 0 handled",
            "   └─ c down #1, 0 handled",
        ]


async def test_a_ref_is_small_hashable_and_readable(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script), Group("g")]) as supervisor:
        ref = supervisor.ref("a")
        assert {ref: 1}[supervisor.ref("a")] == 1
        assert repr(ref) == "<Ref root/a up>"
        assert (ref.name, ref.path, ref.incarnation, ref.is_running) == ("a", "root/a", 1, True)
        assert not hasattr(ref, "__dict__")
        with pytest.raises(NotFoundError, match="use group"):
            supervisor.ref("g")
        with pytest.raises(NotFoundError, match="use ref"):
            supervisor.group("a")


@pytest.mark.parametrize(
    "options",
    [
        {"restart": "always"},
        {"grace": -1},
        {"capacity": 0},
        {"overflow": "explode"},
        {"on_crash": "panic"},
        {"max_attempts": 0},
        {"grace": math.nan},
    ],
)
def test_a_child_is_validated(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        Child("a", Script, **options)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_names_are_validated(name: str) -> None:
    with pytest.raises(InvalidInput, match="name"):
        Group(name)
