"""The log writer on a store with a medium: batches, those at fault, and what may wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from agorio.hub.log_writer import LAZY_DELAY, RETRY_DELAY, LogWriter
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Change, Document, Put, Record
from agorio.mailbox.errors import AgorioError, ConflictError, QuarantinedError, StoreError


@pytest.fixture(autouse=True)
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


class Medium:
    """A store whose commits take 10 ms, that refuses what it is told to refuse and keeps the batches."""

    durable = False

    def __init__(self) -> None:
        self.inner = MemoryKnowledgeStore()
        self.batches: list[list[Change]] = []
        self.refusals: dict[str, AgorioError] = {}

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def commit(self, changes: Sequence[Change]) -> None:
        await trio.sleep(0.01)
        for change in changes:
            name = change.key if isinstance(change, Put) else change.stream
            if name in self.refusals:
                raise self.refusals[name]
        await self.inner.commit(changes)
        self.batches.append(list(changes))

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        return await self.inner.read(stream, after, limit)

    async def last(self, stream: str) -> int:
        return await self.inner.last(stream)

    async def get(self, key: str) -> Document | None:
        return await self.inner.get(key)

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        return await self.inner.scan(prefix, after, limit)


@asynccontextmanager
async def writing(medium: Medium) -> AsyncIterator[LogWriter]:
    writer = LogWriter(medium)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


async def all_at_once(writer: LogWriter, names: Sequence[str]) -> dict[str, str]:
    """Submit one append each in one step, so that they make one batch; what became of each."""
    outcomes: dict[str, str] = {}

    def done(name: str, error: AgorioError | None) -> None:
        outcomes[name] = "written" if error is None else type(error).__name__

    for name in names:
        writer.submit((Append(name, (b"1",), 0),), partial(done, name))
    await writer.flush()
    return outcomes


NAMES = [f"session/{number}" for number in range(16)]


async def test_what_gathers_is_committed_together() -> None:
    medium = Medium()
    async with writing(medium) as writer:
        await writer.write(Append("first", (b"1",)))
        assert set((await all_at_once(writer, NAMES)).values()) == {"written"}
        assert [len(batch) for batch in medium.batches] == [1, 16]


@pytest.mark.parametrize("error", [ConflictError("late"), QuarantinedError("damaged")], ids=["late", "damaged"])
async def test_one_at_fault_does_not_harm_the_others(error: AgorioError) -> None:
    medium = Medium()
    medium.refusals = {"session/5": error}
    async with writing(medium) as writer:
        outcomes = await all_at_once(writer, NAMES)
        assert outcomes.pop("session/5") == type(error).__name__
        assert set(outcomes.values()) == {"written"}
        assert writer.total_failures <= 5, "halves find one of sixteen in five attempts"


async def test_a_full_disk_fails_all_of_a_batch_and_only_that() -> None:
    medium = Medium()
    medium.refusals = {"session/5": StoreError("the disk is full")}
    async with writing(medium) as writer:
        assert set((await all_at_once(writer, NAMES)).values()) == {"StoreError"}
        medium.refusals = {}
        assert set((await all_at_once(writer, NAMES)).values()) == {"written"}


async def test_lazy_documents_wait_for_company() -> None:
    medium = Medium()
    async with writing(medium) as writer:
        for number in range(3):
            writer.put_lazily("cursor/a", lambda number=number: b"%d" % number)  # type: ignore[misc]  # bound now
            await writer.write(Append("one", (b"1",)))
        assert [len(batch) for batch in medium.batches] == [1, 1, 1], "no commit is made for them, or longer by them"
        await trio.sleep(LAZY_DELAY)
        await writer.write(Append("one", (b"1",)))
        puts = [change for batch in medium.batches for change in batch if isinstance(change, Put)]
        assert puts == [Put("cursor/a", b"2")], "the newest, once"


async def test_lazy_documents_are_written_without_company() -> None:
    medium = Medium()
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await trio.sleep(LAZY_DELAY + 0.02)
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_flush_writes_them_at_once() -> None:
    medium = Medium()
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await writer.flush()
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_lazy_document_that_a_full_disk_refused_is_tried_again() -> None:
    medium = Medium()
    medium.refusals = {"cursor/a": StoreError("the disk is full")}
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await writer.flush()
        assert medium.batches == []
        medium.refusals = {}
        await trio.sleep(RETRY_DELAY + 0.02)
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_damaged_lazy_document_is_let_go() -> None:
    medium = Medium()
    medium.refusals = {"cursor/a": QuarantinedError("damaged")}
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        writer.put_lazily("cursor/b", lambda: b"1")
        assert set((await all_at_once(writer, NAMES)).values()) == {"written"}
        assert await medium.get("cursor/b") is not None
        before = writer.total_failures
        await trio.sleep(2 * RETRY_DELAY)
        assert writer.total_failures == before
