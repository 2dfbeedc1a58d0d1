"""The log writer: everything that must be durable passes here, and everybody who waits shares one commit.

`submit` is synchronous and keeps order: what was submitted first is durable first, and its callback runs first. With a
store that needs no I/O the commit happens inside `submit`; otherwise a supervised task commits all that has gathered
while the previous commit was under way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from ..mailbox.errors import AgorioError, ConflictError, HubClosedError, StoreError
from .stores.protocol import Change, KnowledgeStore, NowaitStore, Put

MAX_BATCH = 1024
LAZY = 256

Done = Callable[[AgorioError | None], None]


class LogWriter:
    """Commits changes in order. `run` is the supervised loop of a store that waits for its medium."""

    def __init__(self, store: KnowledgeStore) -> None:
        self.store = store
        self._nowait: NowaitStore | None = store if isinstance(store, NowaitStore) else None
        self._queue: deque[tuple[tuple[Change, ...], Done]] = deque()
        self._wake = trio.Event()
        self._idle = trio.Event()
        self._idle.set()
        self._lazy: dict[str, Callable[[], bytes]] = {}
        self._closed = False
        self.total_commits = 0
        self.total_failures = 0

    def submit(self, changes: tuple[Change, ...], done: Done) -> None:
        """Make the changes durable, then call `done(None)`; or change nothing and call `done(error)`."""
        if self._closed:
            done(HubClosedError("the hub is closed; nothing was written"))
            return
        if self._nowait is not None:
            self._commit_nowait(self._nowait, changes, done)
            return
        self._queue.append((changes, done))
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._wake.set()

    def put_lazily(self, key: str, body: Callable[[], bytes]) -> None:
        """Write a document with one of the next commits; the newest of several bodies is written.

        For what may be lost without harm, such as a cursor: losing one leads to a redelivery.
        """
        self._lazy[key] = body
        if self._nowait is None:
            self._idle = trio.Event() if self._idle.is_set() else self._idle
            self._wake.set()
        elif len(self._lazy) >= LAZY:
            self._write_lazy_nowait(self._nowait)

    def _take_lazy(self) -> list[Change]:
        lazy, self._lazy = self._lazy, {}
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
            store.commit_nowait(changes)
        except Exception as exc:
            self.total_failures += 1
            done(_as_store_error(exc))
            return
        self.total_commits += 1
        done(None)

    async def run(self) -> None:
        """Commit what gathers, for ever. If cancelled: what is queued stays queued for the next incarnation."""
        while True:
            while not self._queue and not self._lazy:
                self._idle.set()
                self._wake = trio.Event()
                await self._wake.wait()
            await self._commit_batch()

    async def _commit_batch(self) -> None:
        batch = [self._queue[index] for index in range(min(len(self._queue), MAX_BATCH))]
        lazy = self._take_lazy()
        error = await self._try_commit([*(change for changes, _ in batch for change in changes), *lazy])
        for changes, done in batch:
            self._queue.popleft()
            if isinstance(error, ConflictError) and len(batch) + len(lazy) > 1:
                # Somebody in the batch lost a race; each is tried alone so that the others do not lose with it.
                done(await self._try_commit(list(changes)))
            else:
                done(error)

    async def _try_commit(self, changes: list[Change]) -> AgorioError | None:
        # A commit under way is never abandoned: its outcome decides what the waiting senders are told.
        with trio.CancelScope(shield=True):
            try:
                await self.store.commit(changes)
            except Exception as exc:
                self.total_failures += 1
                return _as_store_error(exc)
        self.total_commits += 1
        return None

    async def flush(self) -> None:
        """Wait until everything submitted is durable. If cancelled: it goes on all the same."""
        if self._nowait is not None:
            self._write_lazy_nowait(self._nowait)
        await self._idle.wait()

    def close(self) -> None:
        """Refuse what comes from now on."""
        self._closed = True

    def statistics(self) -> dict[str, Any]:
        """Commits, failures and what waits."""
        return {"commits": self.total_commits, "failures": self.total_failures, "queued": len(self._queue)}


def _no_answer(error: AgorioError | None) -> None:
    """Nobody waits for it."""


def _as_store_error(exc: Exception) -> AgorioError:
    if isinstance(exc, AgorioError):
        return exc
    error = StoreError(f"the store could not commit: {exc!r}")
    error.__cause__ = exc
    return error
