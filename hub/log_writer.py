"""The log writer: everything that must be durable passes here, and everybody who waits shares one commit.

`submit` is synchronous and keeps order: what was submitted first is durable first, and its callback runs first. With a
store that needs no I/O the commit happens inside `submit`; otherwise a supervised task commits all that has gathered
while the previous commit was under way.

A lone sender's commit is begun inside `submit`, where the store can. Were that done for many, the first of them would
have a commit to itself and the others would wait for it; so it is done only after a commit of one.

What may be written lazily rides along with a commit once it has waited a moment: written at once, the cursor of each
receipt would take a commit of its own, which the next sender would have to wait for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from ..mailbox.errors import AgorioError, ConflictError, HubClosedError, InvalidInput, QuarantinedError, StoreError
from .stores.protocol import BeginningStore, Change, KnowledgeStore, NowaitStore, Put

MAX_BATCH = 1024
LAZY = 256
LAZY_DELAY = 0.05
RETRY_DELAY = 1.0

Done = Callable[[AgorioError | None], None]
Entry = tuple[tuple[Change, ...], Done]
OWN_FAULT = (ConflictError, QuarantinedError, InvalidInput)  # one entry's; the others of its batch are none the worse


class LogWriter:
    """Commits changes in order. `run` is the supervised loop of a store that waits for its medium."""

    def __init__(self, store: KnowledgeStore) -> None:
        self.store = store
        self._nowait: NowaitStore | None = store if isinstance(store, NowaitStore) else None
        self._beginning: BeginningStore | None = store if isinstance(store, BeginningStore) else None
        self._queue: deque[Entry] = deque()
        self._wake = trio.Event()
        self._driver = trio.Lock()
        self._begun: Entry | None = None
        self._in_hand = 0
        self._failure: Exception | None = None
        self._may_begin = self._was_alone = self._is_armed = False
        self._lazy: dict[str, Callable[[], bytes | None]] = {}
        self._lazy_due_at = math.inf
        self._closed = False
        self.total_commits = 0
        self.total_failures = 0

    def submit(self, changes: tuple[Change, ...], done: Done) -> None:
        """Make the changes durable, then call `done(None)`; or change nothing and call `done(error)`."""
        if self._closed:
            done(_closed_error())
            return
        if self._nowait is not None:
            self._commit_nowait(self._nowait, changes, done)
            return
        self._queue.append((changes, done))
        if self._begun is None and not (self._may_begin and self._begin()):
            self._wake.set()

    def put_lazily(self, key: str, body: Callable[[], bytes | None]) -> None:
        """Write a document with a commit in a moment; the newest of several bodies is written; None removes it.

        For what may be lost without harm, such as a cursor: losing one leads to a redelivery.
        """
        self._lazy[key] = body
        if self._nowait is None:
            self._schedule_lazy(LAZY_DELAY if len(self._lazy) < LAZY else 0.0)
        elif len(self._lazy) >= LAZY:
            self._write_lazy_nowait(self._nowait)

    def _schedule_lazy(self, delay: float) -> None:
        if self._lazy and (not delay or self._lazy_due_at == math.inf):
            self._lazy_due_at = min(self._lazy_due_at, trio.current_time() + delay)
            self._wake.set()

    @property
    def _is_lazy_due(self) -> bool:
        return bool(self._lazy) and trio.current_time() >= self._lazy_due_at

    def _take_lazy(self) -> list[Change]:
        lazy, self._lazy, self._lazy_due_at = self._lazy, {}, math.inf
        return [Put(key, body()) for key, body in lazy.items()]

    def _write_lazy_nowait(self, store: NowaitStore) -> None:
        if self._lazy:
            self._commit_nowait(store, tuple(self._take_lazy()), _no_answer)

    async def write(self, *changes: Change) -> None:
        """Make the changes durable. Raises `StoreError`, `ConflictError`. If cancelled: they still become durable."""
        finished = trio.Event()
        outcome: list[AgorioError | None] = []

        def done(error: AgorioError | None) -> None:
            outcome.append(error)
            finished.set()

        self.submit(changes, done)
        await finished.wait()
        if outcome[0] is not None:
            raise outcome[0]

    def _commit_nowait(self, store: NowaitStore, changes: tuple[Change, ...], done: Done) -> None:
        try:
            if changes:
                store.commit_nowait(changes)
        except Exception as exc:
            done(self._judged(exc))
            return
        done(self._judged(None))

    async def run(self) -> None:
        """Commit what gathers, for ever. If cancelled: what is queued stays queued for the next incarnation."""
        async with self._driver:
            try:
                while True:
                    await self._wait_for_work()
                    await self._commit_batch()
            finally:
                self._may_begin = self._is_armed = False
                await self._finish_begun()

    async def _wait_for_work(self) -> None:
        while self._begun or not (self._queue or self._is_lazy_due):
            self._wake = trio.Event()
            self._is_armed = self._begun is None
            self._may_begin = self._was_alone and self._is_armed
            with trio.move_on_at(self._lazy_due_at if self._is_armed else math.inf):
                await self._wake.wait()
            self._raise_failure()
        self._may_begin = False

    # A commit that `submit` begins while the loop waits for work.

    def _begin(self) -> bool:
        assert self._beginning is not None
        entry = self._queue[0]
        try:
            if not self._beginning.begin_commit(entry[0], self._end_begun):
                return False
        except AgorioError:
            return False  # the loop will come upon it as well, and answers
        self._begun, self._may_begin = self._queue.popleft(), False
        return True

    def _end_begun(self, error: Exception | None) -> None:
        """Called by the store. Answers in that very turn of trio's loop; what a callback raises is for `run`."""
        begun, self._begun, self._was_alone = self._begun, None, len(self._queue) <= 1
        assert begun is not None
        try:
            begun[1](self._judged(error))
        except Exception as exc:
            self._failure = exc
        self._may_begin = self._is_armed and not self._queue and self._failure is None
        if not self._may_begin:
            self._wake.set()

    async def _finish_begun(self) -> None:
        with trio.CancelScope(shield=True):
            while self._begun is not None:
                self._wake = trio.Event()
                await self._wake.wait()
        self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # Batches.

    async def _commit_batch(self) -> None:
        batch = self._take_batch()
        self._was_alone = self._beginning is not None and len(batch) <= 1
        self._in_hand = len(batch)
        try:
            await self._commit_in_order(batch)
        finally:
            self._in_hand = 0

    def _take_batch(self) -> list[Entry]:
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
        if self._is_lazy_due:
            lazy, self._lazy, self._lazy_due_at = self._lazy, {}, math.inf
            entries = [((Put(key, body()),), partial(self._lazy_done, key, body)) for key, body in lazy.items()]
            return [*entries, *batch]  # first, so that who waits for a flush waits for them too
        return batch

    def _lazy_done(self, key: str, body: Callable[[], bytes | None], error: AgorioError | None) -> None:
        """What a full disk refused is tried again; what can never be written is let go."""
        if type(error) is StoreError:
            self._lazy.setdefault(key, body)
            self._schedule_lazy(RETRY_DELAY)

    async def _commit_in_order(self, batch: list[Entry]) -> None:
        error = await self._try_commit([change for changes, _ in batch for change in changes])
        if isinstance(error, OWN_FAULT) and len(batch) > 1:
            middle = len(batch) // 2  # halves, so that a few losers cost few commits
            await self._commit_in_order(batch[:middle])
            await self._commit_in_order(batch[middle:])
            return
        self._answer(batch, error)

    async def _try_commit(self, changes: list[Change]) -> AgorioError | None:
        # A commit under way is never abandoned: its outcome decides what the waiting senders are told.
        with trio.CancelScope(shield=True):
            try:
                if changes:
                    await self.store.commit(changes)
            except Exception as exc:
                return self._judged(exc)
        return self._judged(None)

    def _judged(self, error: Exception | None) -> AgorioError | None:
        if error is None:
            self.total_commits += 1
            return None
        self.total_failures += 1
        return _as_store_error(error)

    def _answer(self, batch: list[Entry], error: AgorioError | None) -> None:
        """Tell everybody. One who raises ends the loop, after the others have heard."""
        failure: Exception | None = None
        for _, done in batch:
            self._in_hand -= 1
            try:
                done(error)
            except Exception as exc:
                failure = exc
        if failure is not None:
            raise failure

    async def flush(self) -> None:
        """Wait until what was submitted before is durable or refused. If cancelled: it goes on all the same."""
        if self._nowait is not None:
            self._write_lazy_nowait(self._nowait)
        finished = trio.Event()
        self._schedule_lazy(0.0)
        self.submit((), lambda error: finished.set())
        if self._nowait is None and not self._closed:
            await self._see_to(finished)

    async def _see_to(self, finished: trio.Event) -> None:
        """Wait for it, and do the work where the loop is not running, or ends before it is done."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stand_in)
            await finished.wait()
            nursery.cancel_scope.cancel()

    async def _stand_in(self) -> None:
        async with self._driver:
            while self._queue or self._is_lazy_due:
                await self._commit_batch()

    def close(self) -> None:
        """Refuse what comes from now on, and what nobody has written."""
        self._closed = True
        batch = list(self._queue)
        self._queue.clear()
        self._in_hand += len(batch)
        self._answer(batch, _closed_error())

    def statistics(self) -> dict[str, Any]:
        """Commits, failures and what has no answer yet."""
        queued = len(self._queue) + self._in_hand + (self._begun is not None)
        return {"commits": self.total_commits, "failures": self.total_failures, "queued": queued}


def _closed_error() -> HubClosedError:
    return HubClosedError("the hub is closed; nothing was written")


def _no_answer(error: AgorioError | None) -> None:
    """Nobody waits for it."""


def _as_store_error(exc: Exception) -> AgorioError:
    if isinstance(exc, AgorioError):
        return exc
    error = StoreError(f"the store could not commit: {exc!r}")
    error.__cause__ = exc
    return error
