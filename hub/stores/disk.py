"""`DiskKnowledgeStore`: the store protocol over one SQLite file, written as an append-only log.

The trio thread judges and keeps the index; a thread writes, others read, and none is abandoned when its caller is
cancelled: a commit under way is finished and taken into the index. docs/durability.md says what is promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import trio

from ...mailbox.errors import InvalidInput, QuarantinedError, StoreError
from .damage import Damage, Verification
from .disk_errors import DISK_ERRORS, BrokenConnection, as_store_error, is_full
from .disk_index import Index, Plan
from .disk_pace import hold_time, no_time_passes, pace
from .disk_reader import PAGE, Reader, Unreadable
from .disk_schema import Connect, connect
from .disk_statistics import DiskStatistics
from .disk_thread import Result, WorkerThread
from .disk_writer import Writer, is_due
from .protocol import Change, Document, Record

T = TypeVar("T")
MAX_FAILURES = 3
FILE_NAME = "hub.db"


def _file_of(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


class DiskKnowledgeStore:
    """Keeps everything in the file `path`, or in `hub.db` where that is a folder, for one hub at a time.

    `durability="full"` syncs before each acknowledgement. `"relaxed"` leaves the time of syncing to the system: the
    store stays whole, but the loss of power may take the last acknowledged commits, and `durable` says so. `connect`
    makes the SQLite connections; tests put one in between that fails.
    """

    def __init__(
        self, path: str | Path, *, durability: Literal["full", "relaxed"] = "full", connect: Connect = connect
    ) -> None:
        if durability not in ("full", "relaxed"):
            raise InvalidInput(f"durability={durability!r} is neither 'full' nor 'relaxed'", field="durability")
        self.path = _file_of(Path(path).absolute())
        self.durable = durability == "full"
        self._writer = Writer(self.path, durable=self.durable, connect=connect)
        self._reader = Reader(self.path, connect)
        self._checker = Reader(self.path, connect)
        self._index: Index | None = None
        self._gave_up = ""
        self._failures = 0
        self._counts = [0, 0, 0]
        self._turn = trio.Semaphore(1)  # a lock would belong to a task; a commit that was begun belongs to none
        self._thread: WorkerThread | None = None
        self._reading, self._checking = trio.CapacityLimiter(1), trio.CapacityLimiter(1)

    # Opening and closing.

    async def open(self) -> None:
        """Take the file and read its index. Raises `StoreError`, naming the process that has it where one has.

        If cancelled: not open.
        """
        async with self._turn:
            if self._index is not None:
                raise StoreError("this store is open in another hub; close that hub first")
            thread = WorkerThread(f"store {self.path.name}")
            try:
                with no_time_passes():
                    self._index = await thread.run(self._writer.open)
            except BaseException:
                thread.stop()
                raise
            self._thread = thread
            self._failures, self._gave_up, self._counts = 0, "", [0, 0, 0]
            pace.enter()

    async def close(self) -> None:
        """Finish what is under way, write the index and let go; closing again does nothing.

        If cancelled: closed all the same.
        """
        with trio.CancelScope(shield=True):
            async with self._turn, self._reading, self._checking:
                index, self._index = self._index, None
                if index is None:
                    return
                pace.leave()
                for step in (self._reader.close, self._checker.close, partial(self._writer.close, index)):
                    await self._in_writer(step)
                thread, self._thread = self._thread, None
                assert thread is not None
                thread.stop()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _opened(self) -> Index:
        if self._index is None:
            raise StoreError(f"the store {str(self.path)!r} is not open")
        if self._gave_up:
            raise StoreError(self._gave_up)
        return self._index

    async def _in_writer(self, work: Callable[..., T], *arguments: object) -> T:
        assert self._thread is not None
        with no_time_passes():
            return await self._thread.run(work, *arguments)

    async def _in_thread(self, limiter: trio.CapacityLimiter, work: Callable[..., T], *arguments: object) -> T:
        with no_time_passes():
            return await trio.to_thread.run_sync(work, *arguments, limiter=limiter)

    # Writing.

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes durable, or none. Raises `ConflictError`, `QuarantinedError`, `StoreError`.

        If cancelled: it has happened as a whole or not at all.
        """
        await self._take_turn()
        try:
            await self._commit(changes)
        finally:
            self._turn.release()

    async def _take_turn(self) -> None:
        if self._turn.value:
            self._turn.acquire_nowait()  # without the turn of the loop that `acquire` always takes
        else:
            await self._turn.acquire()

    def begin_commit(self, changes: Sequence[Change], done: Callable[[Exception | None], None]) -> bool:
        """Begin a commit without waiting for a turn; False where it takes more than writing, such as a reconnection.

        Raises `ConflictError`, `QuarantinedError`. Otherwise `done` is called with the outcome in a turn to come.
        """
        index, thread = self._opened(), self._thread
        if not self._turn.value or not self._writer.is_connected or is_due(index) or thread is None:
            return False
        plan = index.plan(changes)
        if not plan.log and not plan.documents and not plan.trims:
            return False
        self._turn.acquire_nowait()
        thread.hand(
            partial(self._writer.write, plan, index if plan.marks else None),
            partial(self._ended, index, plan, hold_time(), done),
        )
        return True

    def _ended(
        self,
        index: Index,
        plan: Plan,
        let_time_pass: Callable[[], None],
        done: Callable[[Exception | None], None],
        result: Result[None],
    ) -> None:
        let_time_pass()
        self._turn.release()
        try:
            result.unwrap()
            self._applied(index, plan)
        except BrokenConnection as exc:
            self._counts[1] += 1
            self._fail(exc.__cause__ or exc)  # whoever commits next, or closes, makes the connection anew
            done(as_store_error(exc.__cause__ or exc, str(exc)))
        except Exception as exc:  # whatever it is, who waits must hear of it
            self._counts[1] += 1
            done(exc)
        else:
            done(None)

    async def _commit(self, changes: Sequence[Change]) -> None:
        index = self._opened()
        if not self._writer.is_connected:
            await self._reconnect(index)
        if is_due(index):
            await self._tidy(index)
        plan = index.plan(changes)
        if not plan.log and not plan.documents and not plan.trims:
            await trio.lowlevel.checkpoint()
            return
        await self._write(index, self._writer.write, plan, index if plan.marks else None)
        self._applied(index, plan)

    def _applied(self, index: Index, plan: Plan) -> None:
        index.apply(plan)
        self._counts[0] += 1
        self._failures = 0

    async def _write(self, index: Index, work: Callable[..., T], *arguments: object) -> T:
        """Run one transaction; after an error that does not pass, the connection is made anew."""
        try:
            return await self._in_writer(work, *arguments)
        except StoreError:
            self._counts[1] += 1
            raise
        except BrokenConnection as exc:
            self._counts[1] += 1
            cause = exc.__cause__ or exc
            self._fail(cause)
            if not self._gave_up:
                await self._reconnect(index, cause)
            raise as_store_error(cause, str(exc)) from cause

    def _fail(self, cause: BaseException) -> None:
        self._failures += not is_full(cause)
        if self._failures > MAX_FAILURES:
            self._gave_up = f"the store gave up after {self._failures} errors in a row, the last was: {cause}"

    async def _reconnect(self, index: Index, cause: BaseException | None = None) -> None:
        self._counts[2] += 1
        async with self._reading, self._checking:  # a reader's connection would keep the old view of the file alive
            try:
                await self._in_writer(self._start_over, index, cause)
            except (*DISK_ERRORS, StoreError) as exc:
                self._fail(exc)
                raise as_store_error(exc, "opening the store again") from exc

    def _start_over(self, index: Index, cause: BaseException | None) -> None:
        self._reader.close()
        self._checker.close()
        self._writer.reopen(index, cause)

    async def _tidy(self, index: Index) -> None:
        moved = await self._write(index, self._writer.tidy, index)
        for key, place in moved:
            index.place(key, place)
            index.last_document = max(index.last_document, place[0])

    # Reading.

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, oldest first, each checked. Raises `QuarantinedError`, `StoreError`.

        If cancelled: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        self._opened()
        return await self._read(self._reader, self._reading, stream, after, limit)

    async def _read(
        self, reader: Reader, limiter: trio.CapacityLimiter, name: str, after: int, limit: int | None
    ) -> list[Record]:
        index = self._opened()
        index.check("stream", name)
        stream, found = index.streams.get(name), list[Record]()
        if stream is None:
            return found
        after = max(after, stream.base, 0)
        left = stream.last - after if limit is None else limit
        while left > 0 and (lsns := stream.rows(after, min(left, PAGE))):
            try:
                page = await self._in_thread(limiter, reader.records, stream.id, after, lsns)
            except Unreadable as exc:
                raise index.note(Damage("stream", name, str(exc))) from exc
            found += page
            left -= len(page)
            after = page[-1].sequence
        return found

    async def last(self, stream: str) -> int:
        """The newest record's sequence. Raises `QuarantinedError`. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        index = self._opened()
        index.check("stream", stream)
        known = index.streams.get(stream)
        return known.last if known else 0

    async def get(self, key: str) -> Document | None:
        """One document, checked. Raises `QuarantinedError`, `StoreError`. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        self._opened().check("document", key)
        found = await self._documents(self._reader, self._reading, [key])
        self._opened().check("document", key)
        return found[0] if found else None

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        """Documents under a prefix in key order; damaged ones are left out. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        found: list[Document] = []
        while limit is None or len(found) < limit:
            page = PAGE if limit is None else min(PAGE, limit - len(found))
            keys = self._opened().keys(prefix, after, page)
            if not keys:
                break
            found += await self._documents(self._reader, self._reading, keys)
            after = keys[-1]
        return found

    async def _documents(self, reader: Reader, limiter: trio.CapacityLimiter, keys: Sequence[str]) -> list[Document]:
        """The documents of these keys that are there and whole, in that order."""
        index = self._opened()
        places = {key: index.documents[key] for key in keys if key in index.documents}
        found: dict[str, Document] = {}
        while places:
            rows = await self._rows_of(reader, limiter, [lsn for lsn, _ in places.values()])
            for key, (lsn, version) in places.items():
                row = rows.get(lsn)
                if row is not None and (row.key, row.version) == (key, version):
                    found[key] = row
            # What is not there may have been written anew, or swept to another row, while it was being read.
            wrong = {key: place for key, place in places.items() if key not in found}
            places = {key: now for key, was in wrong.items() if (now := index.documents.get(key)) and now != was}
            for key, was in wrong.items():
                if index.documents.get(key) == was:
                    index.place(key, None)
                    index.note(Damage("document", key, "its row is missing or its checksum is wrong"))
        return [found[key] for key in keys if key in found]

    async def _rows_of(
        self, reader: Reader, limiter: trio.CapacityLimiter, lsns: list[int]
    ) -> dict[int, Document | None]:
        try:
            return await self._in_thread(limiter, reader.documents, lsns)
        except Unreadable:
            if len(lsns) == 1:
                return {}
        half = len(lsns) // 2  # the damaged page takes as few with it as possible
        first = await self._rows_of(reader, limiter, lsns[:half])
        return first | await self._rows_of(reader, limiter, lsns[half:])

    # Checking and keeping.

    async def damaged(self) -> list[Damage]:
        """What is known to be unreadable. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return list(self._opened().damage.values())

    def damaged_nowait(self) -> list[Damage]:
        """The same, at once; nothing of a store that is not open."""
        return [] if self._index is None else list(self._index.damage.values())

    async def streams(self, prefix: str = "") -> list[str]:
        """The names of all streams under a prefix, in order, damaged ones too. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return sorted(name for name in self._opened().streams if name.startswith(prefix))

    async def verify(self) -> Verification:
        """Read everything and compare every checksum; takes seconds per million records, others go on meanwhile.

        If cancelled: what was found damaged is remembered.
        """
        index, records, documents = self._opened(), 0, 0
        said = await self._in_thread(self._checking, self._checker.check_pages)
        if said:
            index.note(Damage("file", "pages", said))
        for name in list(index.streams):
            records += await self._verify_stream(name)
        after = ""
        while keys := index.keys("", after, PAGE):
            documents += len(await self._documents(self._checker, self._checking, keys))
            after = keys[-1]
        return Verification(records, documents, tuple(index.damage.values()))

    async def _verify_stream(self, name: str) -> int:
        after = 0
        try:
            while page := await self._read(self._checker, self._checking, name, after, PAGE):
                after = page[-1].sequence
        except QuarantinedError:
            return 0
        return after

    async def backup(self, path: str | Path) -> None:
        """Write a copy of the store as of now to a new file, while the hub goes on. Raises `StoreError`.

        If cancelled: the copy is still completed.
        """
        self._opened()
        await self._in_thread(self._checking, self._checker.copy_to, Path(path))

    def statistics(self) -> DiskStatistics:
        """Counts. Raises `StoreError` where it is not open."""
        index = self._opened()
        commits, failures, reconnects = self._counts
        return DiskStatistics(
            total_commits=commits,
            total_failures=failures,
            total_reconnects=reconnects,
            current_streams=len(index.streams),
            current_documents=len(index.documents),
            current_rows=index.last_log,
            current_damaged=len(index.damage),
        )
