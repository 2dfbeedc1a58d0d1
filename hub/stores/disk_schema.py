"""The file: its tables, how a connection to it is set up, and how an older file becomes a newer one.

`log` holds the records of all streams in the order of their commits and has no second index: finding a stream's rows is
the task of the index in memory, which is what keeps a commit an append. `document` is such a log too; superseded
versions are swept off its front. `block` holds blocks of the index, so that opening need not read every row, and second
copies of names.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from ...mailbox.errors import StoreError
from .disk_integrity import block_checksum

VERSION = 1
APPLICATION = 0x41474F52  # "AGOR"
PAGE_SIZE = 4096
WAL_PAGES = 1000
ROWS_PER_INSERT = 128
FORMAT = -6  # the block that repeats the version

_TABLES = """
CREATE TABLE log(lsn INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
                 crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE document(lsn INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, version INTEGER NOT NULL,
                      crc INTEGER NOT NULL, body BLOB);
CREATE TABLE stream(id INTEGER PRIMARY KEY, name TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE block(id INTEGER PRIMARY KEY, last INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
"""

# One entry per version from which a file can be brought forward by one; each runs in a transaction of its own.
_MIGRATIONS: dict[int, Sequence[str]] = {0: [sql for sql in _TABLES.split(";") if sql.strip()]}


class WrongHeader(sqlite3.DatabaseError):
    """The first page is damaged where SQLite cannot notice."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class DamagedLog(sqlite3.DatabaseError):
    """The write-ahead log is damaged where SQLite takes it for cut short."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Connection(Protocol):
    """What is used of a SQLite connection; tests put one in between that fails at a chosen operation."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor: ...

    def close(self) -> None: ...


Connect = Callable[[str], Connection]


def connect(path: str, *, uri: bool = False) -> Connection:
    """A connection in autocommit mode that any one thread at a time may use."""
    statements = 2 * ROWS_PER_INSERT + 64
    connection = sqlite3.connect(
        path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=statements, uri=uri
    )
    connection.text_factory = _text
    return connection


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")  # damaged text then fails its checksum, instead of the whole query


def prepare(connection: Connection, *, durable: bool, read_only: bool = False) -> None:
    """Set a fresh connection up. Raises `StoreError` where the file system cannot do what is needed."""
    execute = connection.execute
    execute(f"PRAGMA page_size={PAGE_SIZE}")
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY", "mmap_size=0"):
        execute(f"PRAGMA {pragma}")
    execute("PRAGMA cache_size=-16384")
    if read_only:
        execute("PRAGMA query_only=ON")
        return
    mode = execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"the file system cannot do write-ahead logging (it offers {mode!r}); use a local disk")
    execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    execute("PRAGMA journal_size_limit=67108864")
    execute("PRAGMA secure_delete=ON")  # a swept-off version must not come back when a damaged file is put together


def checkpoint(connection: Connection) -> None:
    """Bring everything that was committed into the main file, synced, before anything is built on it.

    A file that is read back after a failed fsync may show pages that never reached the disk; this writes them again.
    """
    busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreError("another program reads the store; close it, then open again")


def check_format(connection: Connection) -> None:
    """See to it that the file is ours and of a format that we know, before anything is written to it.

    Raises `StoreError`, and `WrongHeader` where the file's first page disagrees with what the tables say.
    """
    header = [int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    if not tables and header == [0, 0]:
        return
    stored = _stored_format(connection) if "block" in tables else None
    if stored is not None and header != [APPLICATION, stored]:
        raise WrongHeader(f"its header says format {header}, its tables {stored}")
    if header[0] != APPLICATION:
        raise StoreError("the file is another program's SQLite database; choose another path")
    if header[1] > VERSION:
        raise StoreError(f"the store has format {header[1]}, this agorio knows up to {VERSION}; use a newer agorio")


def _stored_format(connection: Connection) -> int | None:
    row = connection.execute("SELECT last,crc,body FROM block WHERE id=?", (FORMAT,)).fetchone()
    if row is None or list(map(type, row)) != [int, int, bytes]:
        return None
    return int(row[0]) if block_checksum(FORMAT, row[0], row[2]) == row[1] else None


def migrate(connection: Connection) -> None:
    """Bring the file to this version."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    while version < VERSION:
        version += 1
        steps: list[tuple[str, Sequence[Any]]] = [(step, ()) for step in _MIGRATIONS[version - 1]]
        mark = FORMAT, version, block_checksum(FORMAT, version, b""), b""
        steps.append(("INSERT OR REPLACE INTO block VALUES(?,?,?,?)", mark))
        steps += [(f"PRAGMA application_id={APPLICATION}", ()), (f"PRAGMA user_version={version}", ())]
        in_one_transaction(connection, steps)


def in_one_transaction(connection: Connection, steps: Iterable[tuple[str, Sequence[Any]]]) -> None:
    """Run the steps, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, parameters in steps:
            connection.execute(sql, parameters)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: Connection) -> None:
    """Leave the transaction, where SQLite has not left it by itself."""
    if getattr(connection, "in_transaction", True):
        connection.execute("ROLLBACK")


def inserts(table: str, columns: str, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Statements that insert rows given as one flat list of values, as few as SQLite takes well."""
    width = columns.count(",") + 1
    step = ROWS_PER_INSERT * width
    for at in range(0, len(values), step):
        part = values[at : at + step]
        yield _insert(table, columns, width, len(part) // width), part


def _insert(table: str, columns: str, width: int, rows: int) -> str:
    known = _STATEMENTS.get((table, rows))
    if known is None:
        row = f"({','.join('?' * width)})"
        known = _STATEMENTS[table, rows] = f"INSERT INTO {table}({columns}) VALUES {','.join([row] * rows)}"
    return known


_STATEMENTS: dict[tuple[str, int], str] = {}
LOG_COLUMNS = "lsn,stream,seq,crc,body"
DOCUMENT_COLUMNS = "lsn,key,version,crc,body"
STREAM_COLUMNS = "id,name,crc"
