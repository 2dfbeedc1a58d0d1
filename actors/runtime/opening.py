"""The two doors to a supervision tree: a block that owns it, and a task for programs that own a nursery.

Cancelling becomes draining here. The children run in a nursery shielded from outer cancellation; beside it, unshielded,
stands a sentinel whose cancellation asks the supervisor to stop, so a cancelled tree closes its intake, handles what
is queued within each child's grace, and leaves in reverse order. The price: leaving takes up to the sum of the graces
of the declared children, or `drain` seconds if that is less; `drain=None` cancels at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import trio

from .child import Child, Group, Strategy
from .events import Event
from .faults import unwrapped
from .node import Kernel
from .supervisor import Supervisor
from .waits import WaitGraph


@asynccontextmanager
async def open_supervisor(
    children: Iterable[Child | Group] = (),
    *,
    name: str = "root",
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    within: float = 5.0,
    drain: float | None = math.inf,
    on_event: Callable[[Event], None] | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[Supervisor]:
    """Start `children` in order, yield their supervisor, and stop them in reverse order when the block ends.

    `drain` bounds the stop in seconds over all children (None: cancel at once); each child is bounded by its own grace
    anyway. `on_event` gets every event. `rng` is the source of jitter. If a child cannot be started the block is not
    entered and its error is raised; if the restart budget is spent the block is cancelled and `RestartLimitExceeded`
    leaves it.

    If cancelled: the children drain within their graces, then the cancellation goes on.
    """
    group = Group(name, children, strategy=strategy, max_restarts=max_restarts, within=within)
    with unwrapped():
        async with trio.open_nursery() as nursery:
            supervisor = await nursery.start(_serve, group, drain, on_event, rng)
            try:
                yield supervisor
            finally:
                supervisor.close_soon()


async def serve_supervisor(
    children: Iterable[Child | Group] = (),
    *,
    name: str = "root",
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    within: float = 5.0,
    drain: float | None = math.inf,
    on_event: Callable[[Event], None] | None = None,
    rng: random.Random | None = None,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The same for `supervisor = await nursery.start(serve_supervisor, children)`: runs until cancelled or closed.

    If cancelled: the children drain within their graces, then the cancellation goes on.
    """
    group = Group(name, children, strategy=strategy, max_restarts=max_restarts, within=within)
    await _serve(group, drain, on_event, rng, task_status=task_status)


async def _serve(
    group: Group,
    drain: float | None,
    on_event: Callable[[Event], None] | None,
    rng: random.Random | None,
    *,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    kernel = Kernel(on_event, rng or random.Random(), WaitGraph())
    supervisor = Supervisor(group, None, kernel, drain)
    failure: Exception | None = None
    try:
        with unwrapped():
            async with trio.open_nursery() as outer:
                outer.start_soon(_sentinel, supervisor)
                with trio.CancelScope(shield=True):
                    failure = await supervisor.serve(lambda: task_status.started(supervisor))
                outer.cancel_scope.cancel()
    finally:
        if failure is not None:
            raise failure  # also where a cancellation from outside was under way: it explains more


async def _sentinel(supervisor: Supervisor) -> None:
    try:
        await trio.sleep_forever()
    finally:
        supervisor.close_soon()
