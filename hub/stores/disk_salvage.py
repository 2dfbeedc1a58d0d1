"""Putting a damaged file together anew: every row that is still whole, read from the pages themselves.

A damaged inner page hides every row below it from SQL, and a damaged first page hides all; the rows' own pages are
there all the same. Each row carries its checksum, so what is taken over here is judged when the new file is loaded.
The page format is https://www.sqlite.org/fileformat2.html; only leaf pages of tables are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...mailbox.errors import StoreError
from .disk_file import beside, make_private, sync_file, sync_folder
from .disk_load import rebuilt_step
from .disk_schema import PAGE_SIZE, Connect, Connection, checkpoint, in_one_transaction, migrate, prepare
from .disk_wal import committed, frames

_LEAF = 0x0D
_MAX_LOCAL = PAGE_SIZE - 35
_MIN_LOCAL = (PAGE_SIZE - 12) * 32 // 255 - 23
_NUMBERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_BATCH = 1000

Row = tuple[int, list[Any]]
_SHAPES: dict[str, tuple[type | tuple[type, ...], ...]] = {
    "log": (int, int, int, bytes),
    "document": (str, int, int, (bytes, type(None))),
    "stream": (str, int),
    "block": (int, int, bytes),
}
_COUNTED = ("log", "document")


class _Pages:
    """The pages of a file as its write-ahead log leaves them."""

    def __init__(self, path: Path, wal: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._newer, self.doubtful = committed(frames(wal.read_bytes())) if wal.exists() else ({}, [])
        in_file = os.fstat(self._fd).st_size // PAGE_SIZE
        self.count = max([in_file, *self._newer])

    def read(self, number: int) -> bytes:
        newer = self._newer.get(number)
        return newer if newer is not None else os.pread(self._fd, PAGE_SIZE, (number - 1) * PAGE_SIZE)

    def close(self) -> None:
        os.close(self._fd)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for offset in range(8):
        byte = data[at + offset]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + offset + 1
    return value << 8 | data[at + 8], at + 9


def _payload(pages: _Pages, page: bytes, at: int, size: int) -> bytes:
    """A cell's bytes, gathered from its overflow pages."""
    if size <= _MAX_LOCAL:
        return page[at : at + size]
    local = _MIN_LOCAL + (size - _MIN_LOCAL) % (PAGE_SIZE - 4)
    local = local if local <= _MAX_LOCAL else _MIN_LOCAL
    parts, left = [page[at : at + local]], size - local
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while left > 0 and 0 < following <= pages.count:
        page = pages.read(following)
        parts.append(page[4 : 4 + left])
        left -= PAGE_SIZE - 4
        following = int.from_bytes(page[:4], "big")
    return b"".join(parts)


def _values(payload: bytes) -> list[Any]:
    """The columns of a record."""
    end, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    return values


def _value(payload: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (0, 8, 9):
        return (None if not kind else kind - 8), at
    size = _NUMBERS.get(kind) or (kind - 12) // 2
    data = payload[at : at + size]
    if len(data) != size or kind in (7, 10, 11):
        raise ValueError("no column of ours")
    if kind in _NUMBERS:
        return int.from_bytes(data, "big", signed=True), at + size
    return (data.decode() if kind % 2 else data), at + size


def _rows_of(pages: _Pages, page: bytes, start: int = 0) -> Iterator[tuple[str, Row]]:
    if len(page) < PAGE_SIZE or page[start] != _LEAF:
        return
    for cell in range(int.from_bytes(page[start + 3 : start + 5], "big")):
        pointer = start + 8 + 2 * cell
        try:
            size, at = _varint(page, int.from_bytes(page[pointer : pointer + 2], "big"))
            lsn, at = _varint(page, at)
            lsn -= (1 << 64) if lsn >> 63 else 0
            values = _values(_payload(pages, page, at, size))
        except (ValueError, IndexError):
            continue
        table = _table_of(values)
        if table == "sqlite_sequence":
            lsn = _COUNTED.index(values[0])
        if table is not None:
            yield table, (lsn, values[1:])


def _table_of(values: list[Any]) -> str | None:
    """Which table a row is of: the first column is the row's number, stored as NULL, but for SQLite's own counters."""
    if len(values) == 2 and values[0] in _COUNTED and isinstance(values[1], int):
        return "sqlite_sequence"
    if not values or values[0] is not None:
        return None
    for table, shape in _SHAPES.items():
        if len(shape) == len(values) - 1 and all(map(isinstance, values[1:], shape)):
            return table
    return None


def read_rows(path: Path, wal: Path) -> Iterator[tuple[str, Row]]:
    """Every whole row of the file, with its table, in the order of the pages; those that may be wrong come last."""
    pages = _Pages(path, wal)
    try:
        for number in range(1, pages.count + 1):
            yield from _rows_of(pages, pages.read(number), 100 if number == 1 else 0)
        for page in pages.doubtful:
            yield from _rows_of(pages, page)
    finally:
        pages.close()


def rebuild(path: Path, connect: Connect) -> None:
    """Make a new file of what is whole in a damaged one and put it in its place; the damaged one is kept beside it.

    Killed at any step, it is taken up again by `finish`. Raises `StoreError` where nothing is whole, `OSError`,
    `sqlite3.Error`.
    """
    part = beside(path, "-rebuild-part")
    for suffix in ("", "-wal", "-shm"):
        beside(part, suffix).unlink(missing_ok=True)
    make_private(part)
    connection = connect(str(part))
    try:
        prepare(connection, durable=True)
        migrate(connection)
        _take_over(path, connection)
        checkpoint(connection)
    finally:
        connection.close()
    sync_file(part)
    os.replace(part, beside(path, "-rebuild"))
    sync_folder(path.parent)
    finish(path)


def _take_over(path: Path, connection: Connection) -> None:
    steps: list[tuple[str, list[Any]]] = []
    counters: list[tuple[str, list[Any]]] = []
    total = 0
    for table, (lsn, values) in read_rows(path, beside(path, "-wal")):
        if table == "sqlite_sequence":
            counters.append(("UPDATE sqlite_sequence SET seq=max(seq,?) WHERE name=?", [values[0], _COUNTED[lsn]]))
            continue
        marks = ",".join("?" * (len(values) + 1))
        steps.append((f"INSERT OR IGNORE INTO {table} VALUES({marks})", [lsn, *values]))
        if len(steps) >= _BATCH:
            in_one_transaction(connection, steps)
            total += len(steps)
            steps = []
    if not total + len(steps):
        raise StoreError(f"{str(path)!r} is damaged and nothing in it is readable; restore it from a backup")
    in_one_transaction(connection, [*steps, *counters, rebuilt_step(-1)])


def finish(path: Path) -> None:
    """Take up a rebuilding that was complete but not in place yet; does nothing where there is none."""
    rebuilt = beside(path, "-rebuild")
    if not rebuilt.exists():
        return
    kept = _free_name(path)
    if path.exists():
        os.link(path, kept)
    if beside(path, "-wal").exists():
        # Left in place, it would be applied to the new file, to which it does not belong.
        os.replace(beside(path, "-wal"), beside(kept, "-wal"))
    beside(path, "-shm").unlink(missing_ok=True)
    sync_folder(path.parent)
    os.replace(rebuilt, path)
    sync_folder(path.parent)


def _free_name(path: Path) -> Path:
    number = 1
    while beside(path, f"-damaged-{number}").exists():
        number += 1
    return beside(path, f"-damaged-{number}")
