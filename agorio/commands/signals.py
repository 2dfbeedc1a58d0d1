"""Ending a program that runs until it is told to stop: the first signal asks it to finish, the second cuts it off."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from ..hub.stores.disk_file import beside
from .running import DONE, INTERRUPTED

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@attrs.define
class Stop:
    """Whether and how the program was told to stop."""

    asked: trio.Event = attrs.Factory(trio.Event)
    by: int = 0
    """The first signal's number."""
    connecting: trio.CancelScope | None = None
    """What the first signal cuts off at once, because nothing is in hand there."""

    @property
    def exit_code(self) -> int:
        """0 after SIGTERM, which is how such a program ends; Ctrl-C is an interruption."""
        return INTERRUPTED if self.by == signal.SIGINT else DONE

    def ask(self, number: int) -> None:
        """Ask the program to finish."""
        self.by = self.by or number
        self.asked.set()
        if self.connecting is not None:
            self.connecting.cancel()


async def run_until_stopped(program: Callable[[Stop], Awaitable[None]]) -> int:
    """Run `program` until it ends or is told to; the exit code. If cancelled: so is the program."""
    stop = Stop()
    async with trio.open_nursery() as nursery:
        await nursery.start(_listen, stop, nursery.cancel_scope)
        await program(stop)
        nursery.cancel_scope.cancel()
    return stop.exit_code


async def _listen(stop: Stop, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(*SIGNALS) as arrived:
        task_status.started()
        async for number in arrived:
            if stop.asked.is_set():
                everything.cancel()
            stop.ask(number)


def announce(text: str, ready_file: Path | None, content: str) -> None:
    """Write the file that others wait for, in one step, and say that the program is up."""
    if ready_file is not None:
        draft = beside(ready_file, f".{os.getpid()}")
        draft.write_text(content + "\n", encoding="utf-8")
        draft.replace(ready_file)
    print(text, flush=True)
