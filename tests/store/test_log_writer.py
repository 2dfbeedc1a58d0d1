"""The log writer on a store with a medium: batches, those at fault, and what may wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agorio.hub.log_writer import LAZY_DELAY, RETRY_DELAY, LogWriter
from agorio.hub.stores.memory import MemoryKnowledgeStore
from agorio.hub.stores.protocol import Append, Change, Document, Put, Record
from agorio.mailbox.errors import AgorioError, ConflictError, HubClosedError, QuarantinedError, StoreError


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


async def test_what_gathers_is_committed_together(autojump_clock: MockClock) -> None:
    medium = Medium()
    async with writing(medium) as writer:
        await writer.write(Append("first", (b"1",)))
        assert set((await all_at_once(writer, NAMES)).values()) == {"written"}
        assert [len(batch) for batch in medium.batches] == [1, 16]


@pytest.mark.parametrize("error", [ConflictError("late"), QuarantinedError("damaged")], ids=["late", "damaged"])
async def test_one_at_fault_does_not_harm_the_others(autojump_clock: MockClock, error: AgorioError) -> None:
    medium = Medium()
    medium.refusals = {"session/5": error}
    async with writing(medium) as writer:
        outcomes = await all_at_once(writer, NAMES)
        assert outcomes.pop("session/5") == type(error).__name__
        assert set(outcomes.values()) == {"written"}
        assert writer.total_failures <= 5, "halves find one of sixteen in five attempts"


async def test_a_full_disk_fails_all_of_a_batch_and_only_that(autojump_clock: MockClock) -> None:
    medium = Medium()
    medium.refusals = {"session/5": StoreError("the disk is full")}
    async with writing(medium) as writer:
        assert set((await all_at_once(writer, NAMES)).values()) == {"StoreError"}
        medium.refusals = {}
        assert set((await all_at_once(writer, NAMES)).values()) == {"written"}


async def test_lazy_documents_wait_for_company(autojump_clock: MockClock) -> None:
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


async def test_lazy_documents_are_written_without_company(autojump_clock: MockClock) -> None:
    medium = Medium()
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await trio.sleep(LAZY_DELAY + 0.02)
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_flush_writes_them_at_once(autojump_clock: MockClock) -> None:
    medium = Medium()
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await writer.flush()
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_lazy_document_that_a_full_disk_refused_is_tried_again(autojump_clock: MockClock) -> None:
    medium = Medium()
    medium.refusals = {"cursor/a": StoreError("the disk is full")}
    async with writing(medium) as writer:
        writer.put_lazily("cursor/a", lambda: b"1")
        await writer.flush()
        assert medium.batches == []
        medium.refusals = {}
        await trio.sleep(RETRY_DELAY + 0.02)
        assert medium.batches == [[Put("cursor/a", b"1")]]


async def test_a_damaged_lazy_document_is_let_go(autojump_clock: MockClock) -> None:
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


class Beginner(Medium):
    """A store that can begin commits; they end when they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[Sequence[Change], Callable[[Exception | None], None]]] = []
        self.ready = True

    def begin_commit(self, changes: Sequence[Change], done: Callable[[Exception | None], None]) -> bool:
        if not self.ready or not changes:
            return False
        for change in changes:
            name = change.key if isinstance(change, Put) else change.stream
            if name in self.refusals:
                raise self.refusals[name]
        self.begun.append((changes, done))
        return True

    def end(self, error: Exception | None = None) -> None:
        changes, done = self.begun.pop(0)
        if error is None:
            self.inner.commit_nowait(changes)
        done(error)


@asynccontextmanager
async def alone(medium: Beginner) -> AsyncIterator[LogWriter]:
    """A loop that has committed one entry by itself and waits for the next."""
    async with writing(medium) as writer:
        await writer.write(Append("first", (b"1",)))
        await wait_all_tasks_blocked()
        yield writer


def submit(writer: LogWriter, outcomes: list[object], name: str, expected: int | None = None) -> None:
    writer.submit((Append(name, (b"1",), expected),), outcomes.append)


async def test_a_lone_senders_commit_is_begun_at_once(autojump_clock: MockClock) -> None:
    medium, outcomes = Beginner(), list[object]()
    async with alone(medium) as writer:
        for number in range(3):
            submit(writer, outcomes, "one", number)
            assert len(medium.begun) == 1
            medium.end()
            assert outcomes == [None] * (number + 1), "answered without a turn of the loop"
        assert (writer.total_commits, len(medium.batches)) == (4, 1)


async def test_what_gathers_behind_a_begun_commit_is_one_batch(autojump_clock: MockClock) -> None:
    medium, outcomes = Beginner(), list[object]()
    async with alone(medium) as writer:
        for number in range(5):
            submit(writer, outcomes, "one", number)
        writer.put_lazily("cursor/a", lambda: b"1")
        await trio.sleep(2 * LAZY_DELAY)
        assert (len(medium.begun), outcomes) == (1, [])
        assert writer.statistics()["queued"] == 5, "what is under way counts"
        medium.end()
        await writer.flush()
        assert outcomes == [None] * 5
        assert [len(batch) for batch in medium.batches] == [1, 5]
        submit(writer, outcomes, "one", 5)
        assert medium.begun == [], "after a batch of many the loop waits for company"
        await writer.flush()


async def test_a_begun_commit_that_fails_or_cannot_be_begun(autojump_clock: MockClock) -> None:
    medium, outcomes = Beginner(), list[object]()
    async with alone(medium) as writer:
        submit(writer, outcomes, "one")
        medium.end(StoreError("the disk is full"))
        assert isinstance(outcomes.pop(), StoreError)
        medium.refusals = {"one": ConflictError("late")}
        submit(writer, outcomes, "one")
        await writer.flush()
        assert isinstance(outcomes.pop(), ConflictError)
        medium.refusals, medium.ready = {}, False
        submit(writer, outcomes, "one")
        await writer.flush()
        assert outcomes == [None]


async def test_a_begun_commit_is_not_abandoned(autojump_clock: MockClock) -> None:
    medium, outcomes = Beginner(), list[object]()
    writer = LogWriter(medium)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await writer.write(Append("first", (b"1",)))
        await wait_all_tasks_blocked()
        submit(writer, outcomes, "one")
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert outcomes == []
            medium.end()
    assert outcomes == [None]
    submit(writer, outcomes, "one")
    assert medium.begun == [], "nobody would see to what comes after it"


@pytest.mark.parametrize("begun", [False, True])
async def test_a_callback_that_raises_ends_the_loop_after_the_others_have_heard(
    autojump_clock: MockClock, begun: bool
) -> None:
    medium, outcomes = Beginner(), list[object]()
    medium.ready = begun

    def broken(error: AgorioError | None) -> None:
        raise RuntimeError("no good")

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="no good"), flatten_subgroups=True):
        async with alone(medium) as writer:
            writer.submit((Append("one", (b"1",)),), broken)
            submit(writer, outcomes, "two")
            if begun:
                medium.end()
            await trio.sleep(1)
    if not begun:
        assert outcomes == [None]
    await writer.flush()
    assert outcomes == [None]


async def test_a_flush_does_the_work_where_the_loop_has_ended(autojump_clock: MockClock) -> None:
    medium, outcomes = Medium(), list[object]()
    async with writing(medium) as writer:
        await writer.write(Append("first", (b"1",)))
    submit(writer, outcomes, "one")
    writer.put_lazily("cursor/a", lambda: b"1")
    with trio.fail_after(60):
        await writer.flush()
    assert outcomes == [None]
    assert await medium.get("cursor/a") is not None


async def test_a_flush_takes_over_from_a_loop_that_ends(autojump_clock: MockClock) -> None:
    medium, outcomes = Medium(), list[object]()
    writer = LogWriter(medium)
    async with trio.open_nursery() as nursery:
        scope = await nursery.start(_run_until_cancelled, writer)
        submit(writer, outcomes, "one")
        await trio.sleep(0.005)
        submit(writer, outcomes, "two")
        nursery.start_soon(writer.flush)
        await trio.sleep(0.001)
        scope.cancel()
    assert outcomes == [None, None]


async def _run_until_cancelled(writer: LogWriter, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await writer.run()


async def test_closing_answers_what_nobody_wrote(autojump_clock: MockClock) -> None:
    writer, outcomes = LogWriter(Medium()), list[object]()
    submit(writer, outcomes, "one")
    writer.close()
    submit(writer, outcomes, "two")
    await writer.flush()
    assert [type(one) for one in outcomes] == [HubClosedError, HubClosedError]
