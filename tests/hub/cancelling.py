"""Cancels a task at its k-th checkpoint: once while it waits there, once when it has just been woken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import trio
from trio.abc import Instrument

Moment = Literal["waiting", "woken"]


class _Trigger(Instrument):
    """Cancels a scope when a task has waited so many times."""

    def __init__(self, step: int, moment: Moment) -> None:
        self.step = step
        self.moment = moment
        self.task: trio.lowlevel.Task | None = None
        self.scope = trio.CancelScope()
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps += 1
            if self.steps == self.step and self.moment == "waiting":
                self.scope.cancel()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if task is self.task and self.steps == self.step and self.moment == "woken":
            self.scope.cancel()


async def cancelled_at(step: int, moment: Moment, call: Callable[[], Awaitable[Any]]) -> bool:
    """Await `call()` and cancel it at a checkpoint; whether it got as far as that."""
    trigger = _Trigger(step, moment)

    async def run() -> None:
        trigger.task = trio.lowlevel.current_task()
        with trigger.scope:
            await call()
        trigger.task = None

    trio.lowlevel.add_instrument(trigger)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
    finally:
        trio.lowlevel.remove_instrument(trigger)
    return trigger.scope.cancel_called
