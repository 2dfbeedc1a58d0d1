"""Hypothesis state machines whose rules may be async: one trio run per example, in virtual time, on one thread.

Subclass `TrioStateMachine` and mark methods with this module's `rule`, `initialize` and `invariant`, which take what
hypothesis' own take and accept `async def` as well. `setup` and `shutdown` are async hooks around the example, and
`self.nursery` is open in between.

The trio run is a guest of the state machine: it moves only while a rule runs, so between two rules nothing changes and
no virtual time passes. That is what makes a failing example replay. Hypothesis seeds trio's scheduler by itself.
"""

from __future__ import annotations

import functools
import inspect
import math
import queue
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio
import trio.testing
from hypothesis import stateful

Job = Callable[[], Awaitable[Any]]
Decorator = Callable[[Callable[..., Any]], Any]


def _blocking(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` itself, or for an async one a function that lets the machine's trio run execute it.

    Called by another rule, inside the run, it stays awaitable.
    """
    if not inspect.iscoroutinefunction(method):
        return method

    @functools.wraps(method)
    def call(self: TrioStateMachine, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # pytest shows the rule then, not how it was run
        if trio.lowlevel.in_trio_task():
            return method(self, *args, **kwargs)
        return self.execute(functools.partial(method, self, *args, **kwargs))

    return call


def rule(**kwargs: Any) -> Decorator:
    """`hypothesis.stateful.rule` for sync and async methods."""
    mark: Decorator = stateful.rule(**kwargs)
    return lambda method: mark(_blocking(method))


def initialize(**kwargs: Any) -> Decorator:
    """`hypothesis.stateful.initialize` for sync and async methods."""
    mark: Decorator = stateful.initialize(**kwargs)
    return lambda method: mark(_blocking(method))


def invariant(**kwargs: Any) -> Decorator:
    """`hypothesis.stateful.invariant` for sync and async methods."""
    mark: Decorator = stateful.invariant(**kwargs)
    return lambda method: mark(_blocking(method))


class TrioStateMachine(stateful.RuleBasedStateMachine):
    """A rule-based state machine around one trio run."""

    patience = 600.0
    """Virtual seconds that one rule may take; more means that it hangs."""
    real_patience = 60.0
    """Real seconds without a step of the trio run; more means that something blocks the thread."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = trio.testing.MockClock()
        self._steps: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._is_up = self._is_closing = False
        self._job: Job | None = None
        self._answer: outcome.Outcome[Any] | None = None
        self._over: outcome.Outcome[Any] | None = None
        trio.lowlevel.start_guest_run(
            self._host,
            run_sync_soon_threadsafe=self._steps.put,
            done_callback=self._note_over,
            clock=self.clock,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._step_until(lambda: self._is_up)
        try:
            self.execute(self.setup)
        except BaseException:
            self._end()
            raise

    async def setup(self) -> None:
        """Called first, inside the trio run, with `self.nursery` open."""

    async def shutdown(self) -> None:
        """Called last, before `self.nursery` is cancelled."""

    def execute(self, job: Job) -> Any:
        """Run `job` inside the trio run until it is done, and nothing beyond."""
        __tracebackhide__ = True
        if self._over is None:
            self._job = job
            self._step_until(lambda: self._answer is not None)
        answer, self._answer = self._answer, None
        if answer is None:
            self._raise_end()
            raise RuntimeError("the trio run is over")
        return answer.unwrap()

    def teardown(self) -> None:
        try:
            if self._over is None:
                self.execute(self.shutdown)
        finally:
            self._end()

    def _end(self) -> None:
        if self._over is None:
            self._is_closing = True
            self._step_until(lambda: False)
        self._raise_end()

    def _raise_end(self) -> None:
        """A background task that ended the run is the finding; it is raised once."""
        over, self._over = self._over, outcome.Value(None)
        if over is not None:
            over.unwrap()

    def _note_over(self, over: outcome.Outcome[Any]) -> None:
        self._over = over

    def _step_until(self, done: Callable[[], bool]) -> None:
        while self._over is None and not done():
            self._steps.get(timeout=self.real_patience)()

    async def _host(self) -> None:
        """Take jobs. It spins while it has none: a run that waited for one would do so in a thread, for nothing, since
        no step of it is taken between two jobs."""
        async with trio.open_nursery() as self.nursery:
            self._is_up = True
            while not self._is_closing:
                job, self._job = self._job, None
                if job is None:
                    await trio.lowlevel.checkpoint()
                else:
                    self._answer = await self._run_job(job)
            self.clock.autojump_threshold = 0  # what is cancelled may need time to drain
            self.nursery.cancel_scope.cancel()

    async def _run_job(self, job: Job) -> outcome.Outcome[Any]:
        self.clock.autojump_threshold = 0
        try:
            with trio.fail_after(self.patience):
                return outcome.Value(await job())
        except trio.Cancelled:
            raise  # a background task failed; what it raised will end the run
        except BaseException as exc:
            return outcome.Error(exc)
        finally:
            self.clock.autojump_threshold = math.inf
