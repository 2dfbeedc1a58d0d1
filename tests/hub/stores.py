"""Stores for tests: one whose medium takes its time, one that fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Change, Document, KnowledgeStore, Record
from agorio.mailbox.errors import StoreError


class SlowStore:
    """Another store behind a medium: every call waits, and there is no short cut past the log writer."""

    durable = False

    def __init__(self, inner: KnowledgeStore | None = None, *, seconds: float = 0.01) -> None:
        self.inner = inner if inner is not None else MemoryKnowledgeStore()
        self.seconds = seconds
        self.commits = 0

    async def open(self) -> None:
        await trio.sleep(self.seconds)
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def commit(self, changes: Sequence[Change]) -> None:
        self.commits += 1
        await trio.sleep(self.seconds)
        await self.inner.commit(changes)
        await trio.sleep(self.seconds)

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        await trio.sleep(self.seconds)
        return await self.inner.read(stream, after, limit)

    async def last(self, stream: str) -> int:
        await trio.sleep(self.seconds)
        return await self.inner.last(stream)

    async def get(self, key: str) -> Document | None:
        await trio.sleep(self.seconds)
        return await self.inner.get(key)

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        await trio.sleep(self.seconds)
        return await self.inner.scan(prefix, after, limit)


class FailingStore(MemoryKnowledgeStore):
    """Refuses commits: the one that is `countdown` commits away, or all that `refuses` says."""

    def __init__(self, refuses: Callable[[Sequence[Change]], bool] | None = None) -> None:
        super().__init__()
        self.refuses = refuses
        self.countdown = 0
        self.error: Exception = StoreError("the disk is full")
        self.failed = 0

    def commit_nowait(self, changes: Sequence[Change]) -> None:
        if self.countdown:
            self.countdown -= 1
            if not self.countdown:
                self.failed += 1
                raise self.error
        if self.refuses is not None and self.refuses(changes):
            self.failed += 1
            raise self.error
        super().commit_nowait(changes)


def copied(store: KnowledgeStore) -> KnowledgeStore:
    """What a crash leaves: another store of the kind with everything that is in this one by now."""
    inner = store.inner if isinstance(store, SlowStore) else store
    assert isinstance(inner, MemoryKnowledgeStore)
    copy = MemoryKnowledgeStore()
    copy._streams = {key: list(bodies) for key, bodies in inner._streams.items()}
    copy._documents = dict(inner._documents)
    return SlowStore(copy) if isinstance(store, SlowStore) else copy
