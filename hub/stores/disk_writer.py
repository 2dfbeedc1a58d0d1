"""The writing connection. Everything here blocks and runs on the store's one worker thread.

A commit is one transaction, of one statement where that suffices: each statement is a hand-over of the interpreter's
lock, and a busy loop is slow to hand it over.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ...mailbox.errors import StoreError
from .damage import Damage
from .disk_errors import DISK_ERRORS, BrokenConnection, as_store_error, is_damage, is_passing
from .disk_file import FileLock, beside, make_private
from .disk_index import Index, Plan
from .disk_load import (
    CHUNK,
    TRIMMED,
    Step,
    adopt_sweep,
    adopt_trims,
    copy_steps,
    damage_steps,
    floor_step,
    index_steps,
    load,
    rebuilt_step,
    recount_steps,
    trim_steps,
)
from .disk_salvage import finish, rebuild
from .disk_schema import (
    DOCUMENT_COLUMNS,
    LOG_COLUMNS,
    STREAM_COLUMNS,
    Connect,
    Connection,
    DamagedLog,
    check_format,
    checkpoint,
    in_one_transaction,
    inserts,
    migrate,
    prepare,
    roll_back,
)
from .disk_wal import frames, is_damaged

SWEEP = 1024
SLACK = 4096
_log = logging.getLogger("agorio.store")


class Writer:
    """Writes plans, and keeps the file in order."""

    def __init__(self, path: Path, *, durable: bool, connect: Connect) -> None:
        self.path = path
        self._durable = durable
        self._connect = connect
        self._connection: Connection | None = None
        self._lock = FileLock(path, is_relaxed=not durable)
        self._clean_at = (0, 0)

    @property
    def is_connected(self) -> bool:
        """Whether the connection works, as far as is known."""
        return self._connection is not None

    # Opening and closing.

    def open(self) -> Index:
        """Take the lock and read the index. Raises `StoreError`."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
            return self._open()
        except DISK_ERRORS as exc:
            self.release()
            raise as_store_error(exc, f"opening the store {str(self.path)!r}") from exc
        except BaseException:
            self.release()
            raise

    def _open(self) -> Index:
        finish(self.path)
        if self._lock.is_used and not (self.path.exists() and self.path.stat().st_size):
            raise StoreError(f"{str(self.path)!r} is empty or gone, but it held something; restore it from a backup")
        make_private(self.path)
        try:
            self._check_log()
            index = self._connect_and_load()
        except DISK_ERRORS as exc:
            if not is_damage(exc):
                raise
            rebuild(self.path, self._connect)
            index = self._connect_and_load()
        self._lock.mark_used()
        self._keep_damage(index)
        self._clean_at = index.last_log, index.last_document
        return index

    def _check_log(self) -> None:
        """Raise `DamagedLog` where SQLite would leave out what was acknowledged."""
        log = beside(self.path, "-wal")
        if not self._lock.was_relaxed and log.exists() and is_damaged(frames(log.read_bytes())):
            raise DamagedLog("its write-ahead log is damaged in the middle")

    def _connect_and_load(self) -> Index:
        connection = self._fresh()
        try:
            migrate(connection)
            checkpoint(connection)
            index = load(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return index

    def _fresh(self) -> Connection:
        connection = self._connect(str(self.path))
        try:
            check_format(connection)
            prepare(connection, durable=self._durable)
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep_damage(self, index: Index) -> None:
        steps = damage_steps(index)
        if index.is_rebuilt:
            steps.append(rebuilt_step(index.last_log))
        if steps:
            for damage in index.damage.values():
                _log.warning("%s: %s", self.path, damage)
            in_one_transaction(self._alive(), steps)
            index.recount = []

    def close(self, index: Index) -> None:
        """Leave a file that opens quickly, and let go. A file that cannot be tidied is closed all the same."""
        try:
            if self._connection is None:
                self._reconnect(index)  # which takes out what a failed commit may have left
            if (index.last_log, index.last_document) != self._clean_at:
                in_one_transaction(self._alive(), [*index_steps(index), *copy_steps(index)])
            checkpoint(self._alive())
        except (*DISK_ERRORS, StoreError) as exc:
            _log.warning("%s was closed without its index being written: %s", self.path, exc)
        finally:
            self.release()

    def release(self) -> None:
        """Close the connection and give the lock back."""
        self.disconnect()
        self._lock.release()

    def disconnect(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except DISK_ERRORS as exc:
            _log.warning("%s: closing a connection failed: %s", self.path, exc)

    # Commits.

    def write(self, plan: Plan, trimmed: Index | None = None) -> None:
        """Make a plan durable. Raises `StoreError` when it may be tried again, else `BrokenConnection`."""
        steps = [
            *([] if trimmed is None else trim_steps(trimmed, plan)),
            *inserts("stream", STREAM_COLUMNS, plan.names),
            *inserts("log", LOG_COLUMNS, plan.log),
            *inserts("document", DOCUMENT_COLUMNS, plan.documents),
        ]
        self._run(steps, "the commit")

    def _run(self, steps: list[Step], doing: str) -> None:
        connection = self._alive()
        try:
            if len(steps) == 1:
                connection.execute(*steps[0])
            else:
                in_one_transaction(connection, steps)
        except DISK_ERRORS as exc:
            raise self._judge(connection, exc, doing) from exc

    def _judge(self, connection: Connection, exc: Exception, doing: str) -> Exception:
        if is_passing(exc):
            try:
                roll_back(connection)
            except DISK_ERRORS as second:
                _log.warning("%s: rolling back failed: %s", self.path, second)
            else:
                return as_store_error(exc, doing)
        self.disconnect()
        return BrokenConnection(doing)

    def _alive(self) -> Connection:
        if self._connection is None:
            raise BrokenConnection("there is no connection")
        return self._connection

    def reopen(self, index: Index, cause: BaseException | None) -> None:
        """Connect anew and take out what was written but never acknowledged. Raises `StoreError`, disk errors."""
        self.disconnect()
        try:
            if cause is not None and is_damage(cause):
                raise cause
            self._reconnect(index)
        except DISK_ERRORS as exc:
            if not is_damage(exc):
                raise
            rebuild(self.path, self._connect)
            index.note(Damage("file", "pages", f"some were damaged ({exc}); a new file holds what was whole"))
            self._reconnect(index, is_new=True)

    def _reconnect(self, index: Index, *, is_new: bool = False) -> None:
        connection = self._fresh()
        try:
            checkpoint(connection)
            adopt_sweep(connection, index)
            adopt_trims(connection, index)
            undo: list[Step] = [
                ("DELETE FROM log WHERE lsn>?", [index.last_log]),
                ("DELETE FROM document WHERE lsn>?", [index.last_document]),
                ("DELETE FROM stream WHERE id>?", [index.last_stream]),
                ("DELETE FROM block WHERE id<?", [TRIMMED - index.last_stream]),
                *recount_steps(index, ["log", "document"]),
            ]
            undo += [rebuilt_step(index.last_log), *damage_steps(index)] if is_new else []
            in_one_transaction(connection, undo)
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    # Keeping order.

    def tidy(self, index: Index) -> list[tuple[str, tuple[int, int]]]:
        """Write a block of the index, sweep superseded documents, where due; which documents have moved."""
        if index.last_log - index.next_block + 1 >= CHUNK:
            self._run(index_steps(index), "writing the index")
            index.next_block = index.last_log + 1
        return self._sweep(index) if needs_sweep(index) else []

    def _sweep(self, index: Index) -> list[tuple[str, tuple[int, int]]]:
        """Copy the live ones among the oldest documents to the end and delete those rows."""
        end = index.first_document + SWEEP
        connection = self._alive()
        try:
            rows = connection.execute("SELECT lsn,key,version,crc,body FROM document WHERE lsn<?", (end,)).fetchall()
        except DISK_ERRORS as exc:
            raise self._judge(connection, exc, "sweeping documents") from exc
        live = [row for row in rows if index.documents.get(row[1], (0, 0))[0] == row[0]]
        values: list[object] = []
        moved: list[tuple[str, tuple[int, int]]] = []
        for place, (_, key, version, checksum, body) in enumerate(live, index.last_document + 1):
            values += (place, key, version, checksum, body)
            moved.append((key, (place, version)))
        steps = [*inserts("document", DOCUMENT_COLUMNS, values), ("DELETE FROM document WHERE lsn<?", [end])]
        self._run([*steps, floor_step(end)], "sweeping documents")
        index.first_document = end
        return moved


def needs_sweep(index: Index) -> bool:
    """Whether most rows of documents are superseded."""
    rows = index.last_document - index.first_document + 1
    return rows > 2 * len(index.documents) + SLACK


def is_due(index: Index) -> bool:
    """Whether `tidy` has something to do."""
    return index.last_log - index.next_block + 1 >= CHUNK or needs_sweep(index)


__all__ = ["Writer", "is_due", "needs_sweep"]
