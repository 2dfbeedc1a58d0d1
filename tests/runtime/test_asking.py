"""Questions: replies, refusals, crashes, deadlines, askers who leave, circles of askers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from agorio.actors.runtime import (
    Actor,
    Child,
    Context,
    DeadLetter,
    Event,
    Group,
    Ref,
    current_chain,
    handles,
    open_supervisor,
)
from agorio.mailbox.errors import (
    ActorCrashed,
    ActorStopped,
    AskCycle,
    InboxFull,
    NotFoundError,
    RateLimited,
    Refuse,
)
from agorio.mailbox.priority import Priority
from tests.support.actors import Script, of_type

Handler = Callable[[Any, Context], Awaitable[Any]]


class Calls(Actor):
    """Hands its messages to a function."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def receive(self, message: Any, ctx: Context) -> Any:
        return await self.handler(message, ctx)


def calls(name: str, handler: Handler, **options: Any) -> Child:
    return Child(name, lambda: Calls(handler), **options)


async def test_a_refusal_is_a_reply_and_the_actor_lives(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    async with open_supervisor([Child("a", Script)], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        with pytest.raises(Refuse, match="no"):
            await ref.ask("no")
        ref.tell("no")
        assert await ref.ask(1) == (1, 1)
    assert [(letter.message, letter.reason) for letter in of_type(events, DeadLetter)] == [("no", "refused: no")]


async def test_a_network_error_is_a_refusal_also_out_of_a_nursery(autojump_clock: MockClock) -> None:
    async def handler(message: Any, ctx: Context) -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(limited)

    async def limited() -> None:
        raise RateLimited("too fast", retry_after=2.0)

    async with open_supervisor([calls("a", handler)]) as supervisor:
        with pytest.raises(RateLimited) as caught:
            await supervisor.ref("a").ask(1)
        assert caught.value.retry_after == 2.0
        assert supervisor.ref("a").incarnation == 1


async def test_a_crash_fails_the_asker_at_once_with_the_cause(autojump_clock: MockClock) -> None:
    class Slow(Script):
        async def on_stop(self, ctx: Context, why: str) -> None:
            await trio.sleep(4)

    async with open_supervisor([Child("a", Slow)]) as supervisor:
        begin = trio.current_time()
        with pytest.raises(ActorCrashed, match="root/a#1") as caught:
            await supervisor.ref("a").ask("boom")
        assert trio.current_time() == pytest.approx(begin)
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.details == {"agent": "root/a", "incarnation": 1}


async def test_the_deadline_of_the_asker_bounds_the_handler_without_a_restart(autojump_clock: MockClock) -> None:
    seen: list[tuple[str, float]] = []

    async def handler(message: Any, ctx: Context) -> Any:
        seen.append(("deadline", trio.current_effective_deadline()))
        try:
            await trio.sleep(100)
        finally:
            seen.append(("left", trio.current_time()))

    async with open_supervisor([calls("a", handler)]) as supervisor:
        begin = trio.current_time()
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            await supervisor.ref("a").ask(1)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [("deadline", begin + 3), ("left", pytest.approx(begin + 3))]
        assert supervisor.ref("a").incarnation == 1


async def test_an_asker_who_is_cancelled_takes_the_handler_along(autojump_clock: MockClock) -> None:
    left: list[float] = []

    async def handler(message: Any, ctx: Context) -> Any:
        try:
            await trio.sleep(100)
        finally:
            left.append(trio.current_time())

    async with open_supervisor([calls("a", handler)]) as supervisor:
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.ref("a").ask, 1)
            await trio.sleep(2)
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert left == [pytest.approx(begin + 2)]
        assert supervisor.ref("a").incarnation == 1


async def test_a_queued_question_of_an_asker_who_left_is_skipped(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with open_supervisor([Child("a", lambda: Script(log))]) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 5))
        with trio.move_on_after(1):
            await ref.ask("forgotten")
        assert await ref.ask("wanted") == (1, "wanted")
        [node] = supervisor.tree().children
        assert (node.handled, node.skipped) == (2, 1)
    assert [message for _, message in log] == [("sleep", 5), "wanted"]


async def test_a_question_whose_deadline_was_extended_too_late_still_resolves(autojump_clock: MockClock) -> None:
    async def handler(message: Any, ctx: Context) -> Any:
        await trio.sleep(100)

    async with open_supervisor([calls("a", handler)]) as supervisor, trio.open_nursery() as nursery:
        with trio.CancelScope(deadline=trio.current_time() + 2) as scope:

            async def extend() -> None:
                await trio.sleep(1)
                scope.deadline = math.inf

            nursery.start_soon(extend)
            with pytest.raises(trio.TooSlowError):
                await supervisor.ref("a").ask(1)


async def test_questions_fail_when_the_actor_stops(autojump_clock: MockClock) -> None:
    failures: list[BaseException] = []

    async def ask(ref: Ref, message: Any) -> None:
        try:
            await ref.ask(message)
        except ActorStopped as exc:
            failures.append(exc)

    async with open_supervisor([Child("a", Script, grace=1)]) as supervisor, trio.open_nursery() as nursery:
        ref = supervisor.ref("a")
        nursery.start_soon(ask, ref, ("sleep", 50))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, ref, "queued")
        await trio.testing.wait_all_tasks_blocked()
        await supervisor.stop("a")
    assert len(failures) == 2
    with pytest.raises(ActorStopped):
        await ref.ask("too late")


async def test_ask_and_send_wait_for_a_slot_and_tell_does_not(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Script, capacity=2)]) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(1)
        ref.tell(2)
        with pytest.raises(InboxFull) as caught:
            ref.tell(3)
        assert caught.value.details == {"agent": "a", "depth": 2, "cap": 2}
        begin = trio.current_time()
        await ref.send(3)
        assert trio.current_time() == pytest.approx(begin + 1)
        assert await ref.ask(4) == (1, 4)


async def test_many_senders_through_a_small_mailbox(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    async with open_supervisor([Child("a", lambda: Script(log), capacity=10)]) as supervisor:
        ref = supervisor.ref("a")

        async def produce(who: int) -> None:
            for number in range(200):
                await ref.send((who, number))

        async with trio.open_nursery() as nursery:
            for who in range(8):
                nursery.start_soon(produce, who)
        await ref.ask("done")
        assert ref.statistics().peak_used <= 10
    for who in range(8):
        assert [message[1] for _, message in log if message[0] == who] == list(range(200))


async def test_a_question_dropped_by_the_policy_fails_its_asker(autojump_clock: MockClock) -> None:
    events: list[Event] = []
    child = Child("a", Script, capacity=1, overflow="drop_newest")
    async with open_supervisor([child], on_event=events.append) as supervisor:
        ref = supervisor.ref("a")
        ref.tell(("sleep", 1))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell("fills")
        with pytest.raises(InboxFull, match="drop_newest"):
            await ref.ask("too much")
    assert [(letter.message, letter.reason) for letter in of_type(events, DeadLetter)] == [("too much", "drop_newest")]


async def test_priorities_and_keys(autojump_clock: MockClock) -> None:
    log: list[Any] = []
    child = Child(
        "a",
        lambda: Script(log),
        key=lambda message: message[0],
        priority=lambda message: Priority.URGENT if message[1] == "!" else Priority.NORMAL,
    )
    async with open_supervisor([child]) as supervisor:
        ref = supervisor.ref("a")
        for message in (("x", 1), ("y", 1), ("y", "!"), ("z", 1)):
            ref.tell(message)
        ref.tell(("w", 1), priority=Priority.BACKGROUND)
        await ref.send(("u", "!"))
    assert [message for _, message in log] == [("y", 1), ("y", "!"), ("u", "!"), ("x", 1), ("z", 1), ("w", 1)]


# Circles.


async def test_a_chain_of_asks_that_comes_back_fails_at_once_and_names_the_circle(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    def asks(peer: str) -> Handler:
        async def handler(message: Any, ctx: Context) -> Any:
            return await refs[peer].ask(message)

        return handler

    children = [calls("a", asks("b")), calls("b", asks("c")), calls("c", asks("a"))]
    async with open_supervisor(children) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "abc"})
        begin = trio.current_time()
        with pytest.raises(ActorCrashed) as caught:
            await refs["a"].ask(1)
        assert trio.current_time() == pytest.approx(begin)
        cause: BaseException | None = caught.value
        while isinstance(cause, ActorCrashed):
            cause = cause.__cause__
        assert isinstance(cause, AskCycle)
        assert cause.details["cycle"] == ["root/c", "root/a", "root/b", "root/c"]


async def test_two_independent_requests_that_cross_have_one_victim(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}
    outcomes: dict[str, Any] = {}

    def asks(peer: str) -> Handler:
        async def handler(message: Any, ctx: Context) -> Any:
            if message == "go":
                await trio.sleep(1)
                return await refs[peer].ask("ping")
            return "pong"

        return handler

    async def go(name: str) -> None:
        try:
            outcomes[name] = await refs[name].ask("go")
        except ActorCrashed as exc:
            outcomes[name] = type(exc.__cause__)

    async with open_supervisor([calls("a", asks("b")), calls("b", asks("a"))]) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "ab"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go, "a")
            nursery.start_soon(go, "b")
        assert sorted(outcomes.values(), key=str) == [AskCycle, "pong"]
        assert len(supervisor.kernel.waits) == 0


async def test_asks_in_parallel_are_a_set_of_edges(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    async def fans_out(message: Any, ctx: Context) -> Any:
        replies: list[Any] = []

        async def ask(name: str) -> None:
            try:
                replies.append(await refs[name].ask("back?"))
            except Refuse as exc:
                replies.append(str(exc))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "b")
            nursery.start_soon(ask, "c")
        return sorted(replies)

    async def asks_back(message: Any, ctx: Context) -> Any:
        await trio.sleep(1)
        try:
            return await refs["a"].ask(1)
        except AskCycle:
            raise Refuse("circle") from None

    async def answers(message: Any, ctx: Context) -> Any:
        await trio.sleep(2)
        return "fine"

    children = [calls("a", fans_out), calls("b", asks_back), calls("c", answers)]
    async with open_supervisor(children) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "abc"})
        assert await refs["a"].ask(1) == ["circle", "fine"]
        assert len(supervisor.kernel.waits) == 0


async def test_the_graph_spans_nested_supervisors(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    async def asks_outer(message: Any, ctx: Context) -> Any:
        return await refs["outer"].ask(1)

    async def asks_inner(message: Any, ctx: Context) -> Any:
        try:
            return await refs["inner"].ask(1)
        except ActorCrashed as exc:
            raise Refuse(type(exc.__cause__).__name__) from None

    async with open_supervisor([calls("outer", asks_inner), Group("g", [calls("inner", asks_outer)])]) as supervisor:
        refs.update(outer=supervisor.ref("outer"), inner=supervisor.group("g").ref("inner"))
        with pytest.raises(Refuse, match="AskCycle"):
            await refs["outer"].ask(1)


async def test_an_actor_that_asks_itself(autojump_clock: MockClock) -> None:
    async def handler(message: Any, ctx: Context) -> Any:
        return await ctx.ref.ask(message)

    async with open_supervisor([calls("a", handler)]) as supervisor:
        with pytest.raises(ActorCrashed, match="AskCycle"):
            await supervisor.ref("a").ask(1)


async def test_helpers_beside_the_handler_hold_nobody_up(autojump_clock: MockClock) -> None:
    replies: list[Any] = []

    async def handler(message: Any, ctx: Context) -> Any:
        async def helper() -> None:
            replies.append(await ctx.ref.ask("from the helper"))

        if message == "start":
            ctx.nursery.start_soon(helper)
            await trio.sleep(1)
        return message

    async with open_supervisor([calls("a", handler)]) as supervisor:
        await supervisor.ref("a").ask("start")
        await trio.testing.wait_all_tasks_blocked()
        assert replies == ["from the helper"]


async def test_waiting_for_a_slot_counts_as_waiting(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    async def floods(message: Any, ctx: Context) -> Any:
        for number in range(3):
            await refs["b"].send(number)

    async def asks_back(message: Any, ctx: Context) -> Any:
        await trio.sleep(1)
        return await refs["a"].ask("hello")

    async with open_supervisor([calls("a", floods), calls("b", asks_back, capacity=1)], max_restarts=9) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "ab"})
        with trio.fail_after(60):
            await refs["a"].ask(1)


async def test_an_asker_who_leaves_clears_its_edge(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    async def patient(message: Any, ctx: Context) -> Any:
        with trio.move_on_after(1):
            await refs["b"].ask("slow")
        return len(ctx.ref._cell.kernel.waits)

    async def slow(message: Any, ctx: Context) -> Any:
        await trio.sleep(5)

    async with open_supervisor([calls("a", patient), calls("b", slow)]) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "ab"})
        assert await refs["a"].ask(1) == 0


async def test_the_chain_names_those_who_asked(autojump_clock: MockClock) -> None:
    refs: dict[str, Ref] = {}

    async def first(message: Any, ctx: Context) -> Any:
        return await refs["b"].ask(message)

    async def second(message: Any, ctx: Context) -> Any:
        return current_chain()

    async with open_supervisor([calls("a", first), calls("b", second)]) as supervisor:
        refs.update({name: supervisor.ref(name) for name in "ab"})
        assert await refs["a"].ask(1) == ("root/a", "root/b")
        assert await refs["b"].ask(1) == ("root/b",)
        assert current_chain() == ()


# Handlers by type.


class Shape:
    pass


class Square(Shape):
    pass


class Typed(Actor):
    """Handlers found by annotation."""

    @handles
    async def number(self, message: int | float, ctx: Context) -> str:
        return f"number {message}"

    @handles
    async def text(self, message: str, ctx: Context) -> str:
        return f"text {message}"

    @handles
    async def shape(self, message: Shape, ctx: Context) -> str:
        return f"shape {type(message).__name__}"


class Special(Typed):
    @handles
    async def other_text(self, message: str, ctx: Context) -> str:
        return f"special {message}"


async def test_handlers_by_the_type_of_the_message(autojump_clock: MockClock) -> None:
    async with open_supervisor([Child("a", Typed), Child("b", Special)]) as supervisor:
        ask = supervisor.ref("a").ask
        assert [await ask(1), await ask(1.5), await ask("x"), await ask(Square())] == [
            "number 1",
            "number 1.5",
            "text x",
            "shape Square",
        ]
        with pytest.raises(Refuse, match="Typed has no handler for bytes"):
            await ask(b"")
        assert await supervisor.ref("b").ask("x") == "special x"
        assert await supervisor.ref("b").ask(2) == "number 2"


async def test_a_network_error_of_a_told_message_is_a_crash(autojump_clock: MockClock) -> None:
    async def handler(message: Any, ctx: Context) -> Any:
        raise NotFoundError("gone")

    async with open_supervisor([calls("a", handler)]) as supervisor:
        supervisor.ref("a").tell(1)
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.ref("a").incarnation == 2
