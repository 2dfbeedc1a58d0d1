"""A disk that fails on purpose, between the store and SQLite's real connections."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agorio.hub.stores.disk_schema import Connection, connect

Fault = Callable[[str, int], sqlite3.Error | None]


def io_error(text: str = "disk I/O error", code: int = sqlite3.SQLITE_IOERR) -> sqlite3.OperationalError:
    """The error that SQLite raises when the disk fails."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class Disk:
    """Counts the operations of all its connections and asks `fault` about each, before or after it is carried out."""

    def __init__(self) -> None:
        self.fault: Fault = lambda sql, number: None
        self.is_late = False
        self.max_pages = 0
        self.hold = threading.Event()
        self.hold.set()
        self.held = threading.Event()
        self.total = 0

    def connect(self, path: str) -> Connection:
        connection = connect(path)
        if self.max_pages:
            connection.execute(f"PRAGMA max_page_count={self.max_pages}")
        return DiskConnection(connection, self)

    def fail_at(self, number: int, *, times: int = 1, late: bool = False) -> None:
        """Fail at the operation that is so many from now, and at those after it."""
        first = self.total + number
        self.is_late = late
        self.fault = lambda sql, at: io_error() if first <= at < first + times else None

    def judge(self, sql: str, *, late: bool) -> None:
        if late == self.is_late:
            error = self.fault(sql, self.total)
            if error is not None:
                raise error


class DiskConnection:
    """One connection over such a disk."""

    def __init__(self, inner: Connection, disk: Disk) -> None:
        self._inner = inner
        self._disk = disk

    @property
    def in_transaction(self) -> bool:
        return bool(getattr(self._inner, "in_transaction", True))

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:
        disk = self._disk
        disk.total += 1
        if sql.startswith(("INSERT INTO log", "BEGIN")) and not disk.hold.is_set():
            disk.held.set()
            disk.hold.wait(60)
        disk.judge(sql, late=False)
        cursor = self._inner.execute(sql, parameters)
        try:
            disk.judge(sql, late=True)
        except sqlite3.Error:
            cursor.close()  # as SQLite would; an open one keeps the connection alive
            raise
        return cursor

    def close(self) -> None:
        self._inner.close()
