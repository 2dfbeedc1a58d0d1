"""The kernel under arbitrary traffic: tell, ask, crash, slow stop, outer cancel, children that come and go.

What must hold, whatever the order: no two incarnations of one actor alive, every accepted message ends handled, as a
dead letter or queued, every ask resolves, and once the tree is gone so are its tasks.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from agorio.actors.runtime import (
    Actor,
    Backoff,
    Child,
    Context,
    DeadLetter,
    Event,
    Group,
    Ref,
    Supervisor,
    serve_supervisor,
)
from agorio.mailbox.errors import AgorioError, RestartLimitExceeded
from agorio.mailbox.priority import Priority
from tests.support.actors import living_tasks, of_type
from tests.support.trio_machine import TrioStateMachine, initialize, invariant, rule

DECLARED = ("a", "b", "c")
DYNAMIC = ("x", "y")
INNER = ("m", "n")

names = st.sampled_from(DECLARED + DYNAMIC + INNER)
deeds = st.sampled_from(["quick", "quick", "sleep", "boom", "helper boom", "deaf", "ask b", "ask m"])


class Ledger:
    """What the actors of one example did."""

    def __init__(self) -> None:
        self.alive: Counter[str] = Counter()
        self.handled: Counter[int] = Counter()
        self.refs: dict[str, Ref] = {}


class Worker(Actor):
    """Does as it is told, and books it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def on_start(self, ctx: Context) -> None:
        self.ledger.alive[ctx.ref.path] += 1
        assert self.ledger.alive[ctx.ref.path] == 1, "two incarnations are alive"
        await ctx.nursery.start(self.be_alive, ctx.ref.path)

    async def be_alive(self, path: str, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.ledger.alive[path] -= 1

    async def receive(self, message: tuple[int, str], ctx: Context) -> Any:
        number, deed = message
        match deed.split():
            case ["sleep"]:
                await trio.sleep(1)
            case ["boom"]:
                raise ValueError("boom")
            case ["helper", "boom"]:
                ctx.nursery.start_soon(self.fail)
                await trio.sleep(1)
            case ["deaf"]:
                with trio.CancelScope(shield=True):
                    await trio.sleep(4)
            case ["ask", peer]:
                await self.ledger.refs[peer].ask((-1, "sleep"))
        self.ledger.handled[number] += 1
        return number

    async def fail(self) -> None:
        raise OSError("a helper failed")

    async def on_stop(self, ctx: Context, why: str) -> None:
        await trio.sleep(0.5)


class KernelMachine(TrioStateMachine):
    """One supervision tree per example."""

    max_restarts = 1_000_000

    async def setup(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self.base = living_tasks()
        self.ledger = Ledger()
        self.events: list[Event] = []
        self.numbers = 0
        self.accepted: set[int] = set()
        self.asking = 0
        self.ended: list[BaseException | None] = []
        self.scope = trio.CancelScope()
        self.supervisor: Supervisor | None = None

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        rest=st.sampled_from([0.0, 1.5]),
        overflow=st.sampled_from(["reject", "drop_oldest", "drop_newest", "block"]),
        on_crash=st.sampled_from(["dead_letter", "redeliver"]),
    )
    async def open(self, strategy: Any, rest: float, overflow: Any, on_crash: Any) -> None:
        self.make = partial(Worker, self.ledger)
        self.options: dict[str, Any] = {
            "grace": 2.0,
            "capacity": 3,
            "backoff": Backoff(min=rest),
            "overflow": overflow,
            "on_crash": on_crash,
        }
        children: list[Child | Group] = [self.child(name) for name in DECLARED]
        children.append(Group("g", [self.child(name) for name in INNER], strategy=strategy, max_restarts=2))
        self.supervisor = await self.nursery.start(partial(self.serve, children, strategy))
        root = self.supervisor
        assert root is not None
        self.ledger.refs.update({name: root.ref(name) for name in DECLARED})
        self.ledger.refs.update({name: root.group("g").ref(name) for name in INNER})

    def child(self, name: str, **options: Any) -> Child:
        return Child(name, self.make, **(self.options | options))

    async def serve(self, children: Any, strategy: Any, task_status: Any) -> None:
        serve = partial(serve_supervisor, children, strategy=strategy, max_restarts=self.max_restarts)
        with self.scope:
            try:
                await serve(on_event=self.events.append, rng=random.Random(0), task_status=task_status)
                self.ended.append(None)
            except RestartLimitExceeded as exc:
                self.ended.append(exc)

    @rule(name=names, deed=deeds, priority=st.sampled_from([None, *Priority]))
    async def tell(self, name: str, deed: str, priority: Priority | None) -> None:
        ref = self.ledger.refs.get(name)
        if ref is None:
            return
        self.numbers += 1
        try:
            ref.tell((self.numbers, deed), priority=priority, key=self.numbers % 2)
            self.accepted.add(self.numbers)
        except AgorioError:
            statistics = ref.statistics()
            assert statistics.is_closed or statistics.current_used >= statistics.max_capacity

    @rule(name=names, deed=deeds, patience=st.sampled_from([0.0, 0.5, 3.0, 50.0]))
    async def ask(self, name: str, deed: str, patience: float) -> None:
        if name in self.ledger.refs:
            self.asking += 1
            self.nursery.start_soon(self.ask_in_background, self.ledger.refs[name], deed, patience)

    async def ask_in_background(self, ref: Ref, deed: str, patience: float) -> None:
        try:
            with trio.move_on_after(patience):
                assert await ref.ask((-1, deed)) == -1
        except (AgorioError, trio.TooSlowError):
            pass
        finally:
            self.asking -= 1

    @rule(name=names)
    async def send(self, name: str) -> None:
        if name in self.ledger.refs:
            with trio.move_on_after(0.5):
                self.numbers += 1
                try:
                    await self.ledger.refs[name].send((self.numbers, "quick"))
                    self.accepted.add(self.numbers)
                except AgorioError:
                    pass

    @rule(name=st.sampled_from(DYNAMIC), restart=st.sampled_from(["permanent", "transient", "temporary"]))
    async def start(self, name: str, restart: str) -> None:
        assert self.supervisor is not None
        if name not in self.supervisor and not self.supervisor.leaving:
            self.ledger.refs[name] = self.supervisor.start_soon(self.child(name, restart=restart))

    @rule(name=st.sampled_from(DYNAMIC))
    async def stop(self, name: str) -> None:
        assert self.supervisor is not None
        if name in self.supervisor:
            self.supervisor.stop_soon(name)

    @rule(name=st.sampled_from(DYNAMIC), patience=st.sampled_from([0.0, 1.0, 20.0]))
    async def stop_and_wait(self, name: str, patience: float) -> None:
        assert self.supervisor is not None
        if name in self.supervisor:
            with trio.move_on_after(patience):
                await self.supervisor.stop(name)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    async def let_time_pass(self, seconds: float) -> None:
        await trio.sleep(seconds)

    @rule(odds=st.integers(0, 4))
    async def cancel(self, odds: int) -> None:
        if odds == 0:
            self.scope.cancel()

    @rule(odds=st.integers(0, 4))
    async def close(self, odds: int) -> None:
        assert self.supervisor is not None
        if odds == 0:
            self.supervisor.close_soon()

    @invariant()
    async def at_most_one_incarnation_is_alive(self) -> None:
        assert all(count in (0, 1) for count in self.ledger.alive.values())

    @invariant()
    async def no_cap_is_exceeded(self) -> None:
        redeliveries = 1  # one message in hand may come back while others took its slot
        for ref in self.ledger.refs.values():
            assert ref.statistics().current_used <= 3 + redeliveries

    async def shutdown(self) -> None:
        if self.supervisor is None:
            return
        self.supervisor.close_soon()
        await self.supervisor.wait_stopped()
        await trio.sleep(60)  # longer than any asker's patience
        assert not self.asking
        await trio.testing.wait_all_tasks_blocked()
        assert living_tasks() == self.base
        assert not any(self.ledger.alive.values())
        assert len(self.supervisor.kernel.waits) == 0
        assert all(ref.is_stopped for ref in self.ledger.refs.values())
        self.check_accounts()

    def check_accounts(self) -> None:
        dead = Counter(event.message[0] for event in of_type(self.events, DeadLetter) if event.message[0] > 0)
        handled = Counter({number: count for number, count in self.ledger.handled.items() if number > 0})
        ends = dead + handled
        assert all(ends[number] == 1 for number in self.accepted), "an accepted message was lost or ended twice"


class FragileMachine(KernelMachine):
    """The same with a budget that is soon spent: the root gives up in the middle of anything."""

    max_restarts = 1


@pytest.mark.parametrize("machine", [KernelMachine, FragileMachine])
def test_the_kernel_holds_its_promises(machine: type[KernelMachine]) -> None:
    profile = settings(max_examples=60, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=profile)
