"""What actors and supervisors have in common as members of the tree: a name, a state, and incarnations one at a time.

A node outlives its incarnations. Each incarnation is one task in the parent's nursery, started in a fresh copy of the
context in which the child was declared, never in that of a crashing predecessor. The task raises no ordinary exception
into that nursery, where it would cancel the siblings: it files a report with its parent instead.
"""

from __future__ import annotations

import contextvars
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs
import trio

from ...mailbox.errors import ActorStopped
from .child import Child, Group
from .events import ActorCrash, ActorExit, ActorUp, Event
from .faults import describe, split
from .restarts import Budget
from .waits import WaitGraph

if TYPE_CHECKING:
    from .coordinator import Coordinator

State: TypeAlias = Literal["waiting", "starting", "up", "stopping", "down", "stopped"]

_log = logging.getLogger("agorio.runtime")
_RUNNING: Final = ("starting", "up", "stopping")


@attrs.frozen
class Kernel:
    """What all nodes of one tree share; held by the root supervisor, so that two trees in one process share nothing."""

    sink: Callable[[Event], None] | None
    """Takes every event."""
    rng: random.Random
    """The one source of chance: jitter."""
    waits: WaitGraph[Any]
    """Who waits for whom."""

    def emit(self, event: Event) -> None:
        """Hand `event` to the sink. A failing sink is logged and hurts nobody."""
        if self.sink is not None:
            try:
                self.sink(event)
            except Exception:
                _log.exception("the event sink failed on %r", event)


class Node:
    """A member of the supervision tree. `parent` is None for a root."""

    __slots__ = (
        "_down",
        "_started",
        "_stopped",
        "budget",
        "cause",
        "context",
        "declared",
        "doomed",
        "incarnation",
        "kernel",
        "leaving",
        "parent",
        "probation",
        "reason",
        "spec",
        "state",
        "stopping",
        "streak",
        "task",
        "up_since",
    )

    kind = "node"

    def __init__(self, spec: Child | Group, parent: Coordinator | None, kernel: Kernel) -> None:
        self.spec = spec
        self.parent = parent
        self.kernel = kernel
        self.context = contextvars.copy_context()
        self.state: State = "waiting"
        self.incarnation = 0
        self.streak = 0
        self.up_since = -1.0  # when the current incarnation came up
        self.stopping = False  # an exit was asked for, so it is no news
        self.leaving = False  # and it is for good
        self.doomed = False  # cancelled, perhaps before its task had its first step
        self.declared = False  # stood in its supervisor's specification
        self.probation = False  # somebody waits for the first start and gets its error
        self.cause: BaseException | None = None
        self.reason = ""
        self.budget: Budget | None = None  # its own instead of a share in its supervisor's
        self.task: trio.lowlevel.Task | None = None
        self._started: trio.Event | None = None
        self._down: trio.Event | None = None
        self._stopped: trio.Event | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def path(self) -> str:
        """The names from the root down, joined by `/`."""
        return self.spec.name if self.parent is None else f"{self.parent.path}/{self.spec.name}"

    @property
    def is_running(self) -> bool:
        """True while an incarnation's task exists."""
        return self.state in _RUNNING

    # The life of one incarnation.

    def launch(self, nursery: trio.Nursery) -> None:
        """Start the next incarnation in the background."""
        assert not self.is_running, f"{self.path} runs already"
        self.incarnation += 1
        self.state = "starting"
        self.stopping = self.doomed = False
        self.up_since = -1.0
        self.cause = None
        self.context.copy().run(lambda: nursery.start_soon(self._live, name=self.name))

    async def _live(self) -> None:
        """One incarnation from start to end, inside `with Reporting(self)`."""
        raise NotImplementedError

    def went_up(self) -> None:
        """The incarnation has started."""
        self.up_since = trio.current_time()
        if self.state == "starting":
            self.state = "stopping" if self.stopping else "up"
        self.kernel.emit(ActorUp(self.path, self.incarnation, self.kind))
        if self._started is not None:
            self._started.set()
            self._started = None
        if self.parent is not None:
            self.parent.nudge()

    def ended(self, exc: BaseException | None) -> BaseException | None:
        """The incarnation is over: account for it and tell the parent. What of `exc` is not ours is returned."""
        rest = None
        if exc is not None:
            self.cause, rest = split(exc)
        started, self.state = self.state != "starting", "down"
        self.task = None
        self._settle()
        if self.cause is not None:
            self.kernel.emit(ActorCrash(self.path, self.incarnation, self.cause, started))
        for event in (self._started, self._down):
            if event is not None:
                event.set()
        self._started = self._down = None
        if self.parent is not None:
            self.parent.report(self)
        return rest

    def _settle(self) -> None:
        """Account for what the incarnation had in hand."""

    # What a supervisor asks of it.

    def request_stop(self, final: bool) -> None:
        """Ask the incarnation to end; `final` closes the intake, and what is queued is handled first."""
        self.stopping = True
        self.leaving = self.leaving or final
        if self.state == "up":
            self.state = "stopping"

    def cancel(self) -> None:
        """Cancel the incarnation."""
        raise NotImplementedError

    def finish(self, reason: str) -> None:
        """Stop for good: nothing runs any more, and whatever still waits is told so."""
        if self.state == "stopped":
            return
        self.state = "stopped"
        self.leaving = True
        self.reason = reason
        self._close_out(reason)
        self.kernel.emit(ActorExit(self.path, self.incarnation, reason))
        for event in (self._started, self._stopped):
            if event is not None:
                event.set()

    def _close_out(self, reason: str) -> None:
        raise NotImplementedError

    # Waiting for it.

    async def wait_started(self) -> None:
        """Wait until the incarnation that is starting is up, or has ended, in which case its error is raised.

        If cancelled: the start goes on.
        """
        if self.state in ("waiting", "starting"):
            if self._started is None:
                self._started = trio.Event()
            await self._started.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.cause is not None and self.up_since < 0:
            raise self.cause
        if self.state == "stopped":
            raise ActorStopped(f"{self.path} was stopped before it had started", agent=self.path)

    async def wait_down(self) -> None:
        """Wait until no incarnation runs.

        If cancelled: nothing has changed.
        """
        if self.is_running:
            if self._down is None:
                self._down = trio.Event()
            await self._down.wait()

    async def wait_stopped(self) -> str:
        """Wait until the node has stopped for good; why it did.

        If cancelled: nothing has changed.
        """
        if self.state == "stopped":
            await trio.lowlevel.checkpoint()
        else:
            if self._stopped is None:
                self._stopped = trio.Event()
            await self._stopped.wait()
        return self.reason

    def exit_reason(self) -> str:
        """Why the last incarnation ended, in words."""
        return f"crashed: {describe(self.cause)}" if self.cause is not None else "stopped"


class Reporting:
    """Around the body of an incarnation: no ordinary exception leaves it, its end is reported, all else goes on.

    A context manager and not a coroutine around another, since every frame of an idle actor costs a quarter of a KB.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> bool:
        rest = self._node.ended(exc)
        if rest is not None and rest is not exc:
            raise rest
        return rest is None
