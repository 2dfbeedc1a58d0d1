"""A reading connection of its own, so that no reader waits for a commit. All of it blocks: a worker thread runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .disk_errors import DISK_ERRORS, as_store_error, is_damage, is_passing
from .disk_file import create_private, sync_file, sync_folder
from .disk_integrity import document_checksum, record_checksum
from .disk_schema import Connect, Connection, prepare
from .protocol import Document, Record

PAGE = 1024
_RECORDS = "SELECT lsn,stream,seq,crc,body FROM log WHERE lsn IN (SELECT value FROM json_each(?)) ORDER BY lsn"
_DOCUMENTS = "SELECT lsn,key,version,crc,body FROM document WHERE lsn IN (SELECT value FROM json_each(?)) ORDER BY lsn"


class Unreadable(Exception):
    """Rows are missing, altered, or on a damaged page; the message says which."""


class Reader:
    """Reads rows by their numbers and checks them."""

    def __init__(self, path: Path, connect: Connect) -> None:
        self._path = path
        self._connect = connect
        self._connection: Connection | None = None

    def close(self) -> None:
        """Let the connection go; the next reading makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _rows(self, sql: str, lsns: Sequence[int]) -> list[tuple[Any, ...]]:
        try:
            if self._connection is None:
                self._connection = self._connect(str(self._path))
                prepare(self._connection, durable=True, read_only=True)
            return self._connection.execute(sql, (f"[{','.join(map(str, lsns))}]",)).fetchall()
        except DISK_ERRORS as exc:
            if is_damage(exc):
                raise Unreadable(f"its page is damaged ({exc})") from exc
            if not is_passing(exc):
                self.close()
            raise as_store_error(exc, "reading the store") from exc

    def records(self, stream: int, after: int, lsns: Sequence[int]) -> list[Record]:
        """The records after a sequence, in order. Unless that is 0, the first row is the one that they continue.

        Raises `Unreadable` naming the record, `StoreError`.
        """
        rows = self._rows(_RECORDS, lsns)
        if len(rows) != len(lsns):
            raise Unreadable(f"{len(lsns) - len(rows)} of the records from {after or 1} on are missing")
        checksum, found = 0, list[Record]()
        for sequence, (lsn, (at, number, claimed, sealed, body)) in enumerate(zip(lsns, rows, strict=True), after or 1):
            if (at, number, claimed) != (lsn, stream, sequence) or type(body) is not bytes:
                raise Unreadable(f"record {sequence} is not in its place")
            if sequence > after:
                checksum = record_checksum(stream, sequence, body, checksum)
                if checksum != sealed:
                    raise Unreadable(f"the checksum of record {sequence} is wrong")
                found.append(Record(sequence, body))
            checksum = sealed
        return found

    def documents(self, lsns: Sequence[int]) -> dict[int, Document | None]:
        """The documents in these rows; None for one whose checksum is wrong. Raises `Unreadable`, `StoreError`."""
        found: dict[int, Document | None] = {}
        for lsn, key, version, checksum, body in self._rows(_DOCUMENTS, lsns):
            typed = type(key) is str and type(version) is int and type(body) is bytes
            good = typed and document_checksum(key, version, body) == checksum
            found[lsn] = Document(key, version, body) if good else None
        return found

    def check_pages(self) -> str:
        """SQLite's own check of its pages; empty when they are right. Raises `StoreError`."""
        try:
            self._rows(_RECORDS, ())
            assert self._connection is not None
            said = [str(row[0]) for row in self._connection.execute("PRAGMA quick_check(1)")]
        except Unreadable as exc:
            return str(exc)
        except DISK_ERRORS as exc:
            if is_damage(exc):
                return str(exc)
            raise as_store_error(exc, "checking the store") from exc
        return "" if said == ["ok"] else "; ".join(said)

    def copy_to(self, target: Path) -> None:
        """A copy as of now, while others go on writing. Raises `StoreError`."""
        try:
            create_private(target)
        except OSError as exc:
            raise as_store_error(exc, "the backup") from exc
        try:
            connection = self._connect(str(self._path))
            try:
                connection.execute("VACUUM INTO ?", (str(target),))
            finally:
                connection.close()
            sync_file(target)
            sync_folder(target.parent)
        except DISK_ERRORS as exc:
            target.unlink(missing_ok=True)
            raise as_store_error(exc, f"the backup to {str(target)!r}") from exc
