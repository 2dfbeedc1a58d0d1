"""The store's writing thread: one for as long as the store is open, fed through a pipe.

`trio.to_thread` was seen to cost 0.1 ms there and back, as much as a sync. A thread that waits on a pipe is woken at
the very moment at which trio's thread goes to sleep, on the same core where that is best; that takes a fifth of it.
Waiting on a lock or a queue takes twice as long as on a pipe.

It is a daemon, as trio's threads are: a program that ends without closing its store must not hang. What it was
committing then is there wholly or not at all.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import outcome
import trio

T = TypeVar("T")
Result = outcome.Value[T] | outcome.Error
Job = tuple[Callable[[], Any], trio.lowlevel.TrioToken, Callable[[Result[Any]], object]]
_log = logging.getLogger("agorio.store")


class WorkerThread:
    """Runs calls one after another. A call that was handed over is always carried out."""

    def __init__(self, name: str) -> None:
        self._jobs: deque[Job] = deque()
        waits, self._bell = os.pipe()
        self._thread = threading.Thread(target=_work, args=(waits, self._jobs), name=name, daemon=True)
        self._closing = weakref.finalize(self, os.close, self._bell)  # for a store that nobody closed
        self._thread.start()

    def hand(self, work: Callable[[], T], done: Callable[[Result[T]], object]) -> None:
        """Run `work` in the thread and then `done` in trio's, in a turn of the loop to come; `done` must not raise."""
        self._jobs.append((work, trio.lowlevel.current_trio_token(), done))
        os.write(self._bell, b"\0")

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """The result of `work`. If cancelled: it is carried out all the same, and its result returned."""
        task = trio.lowlevel.current_task()
        self.hand(partial(work, *arguments), partial(trio.lowlevel.reschedule, task))
        return cast(T, await trio.lowlevel.wait_task_rescheduled(_never_mind))

    def stop(self) -> None:
        """Let the thread end once it has done what it was handed, and wait for that."""
        self._closing()
        self._thread.join()


def _never_mind(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _work(waits: int, jobs: deque[Job]) -> None:
    try:
        while os.read(waits, 1):
            work, token, done = jobs.popleft()
            result = outcome.capture(work)
            try:
                token.run_sync_soon(done, result)
            except trio.RunFinishedError:
                _log.warning("what was written to the store, %r, was answered when nobody was left to hear it", result)
            del work, token, done, result  # while it waits, it must not keep what they hold alive
    finally:
        os.close(waits)
