"""Opening: the index is read from its blocks, and from the rows that are newer than the last block.

What cannot be right is set aside under the name it belongs to, and everything else is taken in. SQLite's own errors are
left to the caller, who puts the file together anew from its pages.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from .damage import Damage
from .disk_index import Index, Plan, Stream
from .disk_integrity import (
    Run,
    block_checksum,
    document_checksum,
    name_checksum,
    pack_runs,
    record_checksum,
    unpack_runs,
)
from .disk_schema import Connection

CHUNK = 65_536
# Blocks that are no part of the log's index: second copies of what would be lost with a row, and notes.
DOCUMENTS, NAMES, DAMAGE, FLOOR, REBUILT = -1, -2, -3, -4, -5
END = 128
TRIMMED = -1000  # and below: one per trimmed stream, with the newest record that was let go
Step = tuple[str, list[Any]]


class TornEnd(sqlite3.DatabaseError):
    """The end of the log does not hold what the index says; nothing may be appended to that page."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Loader:
    """Reads the index of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.index = Index()
        self._by_number: dict[int, tuple[str, Stream]] = {}
        self._names: dict[int, str] = {}
        self._keys: dict[int, str] = {}
        self._lost: list[int] = []
        self._suspects: dict[int, str] = {}
        self._floor = 1
        self._rebuilt_at = -END
        self._trimmed: dict[int, int] = {}

    def load(self) -> Index:
        """The whole index. Raises `sqlite3.Error` where the file cannot be read."""
        runs = self._load_blocks()
        self._load_names()
        for run in runs:
            self._take_run(run)
        self._load_tail()
        self._settle_trimmed()
        self._check_end()
        self._load_documents()
        self._check_counters()
        self._settle_documents()
        return self.index

    def _rows(self, sql: str, types: tuple[type, ...], *parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Rows of the right types; a flipped bit can make a number a text."""
        for row in self._connection.execute(sql, parameters):
            if all(isinstance(value, kind) for value, kind in zip(row, types, strict=True)):
                yield row
            else:
                self._note("file", f"row {row[0]} of {sql.split(' FROM ')[1].split()[0]}", "it is unreadable")

    def _note(self, kind: str, name: str, detail: str) -> None:
        self.index.note(Damage(kind, name, detail))

    # Blocks.

    def _load_blocks(self) -> list[Run]:
        index, runs = self.index, list[Run]()
        sql = "SELECT id,last,crc,body FROM block ORDER BY id"
        for number, last, checksum, body in self._rows(sql, (int, int, int, bytes)):
            if block_checksum(number, last, body) != checksum:
                self._note("file", f"block {number}", "its checksum is wrong; what it held is read elsewhere")
            elif number < 0:
                self._take_note(number, last, body)
            elif number == index.last_log + 1:
                index.last_log = last
                index.next_block = number if last - number + 1 < CHUNK else last + 1
                runs.extend(unpack_runs(body))
        return runs

    def _take_note(self, number: int, last: int, body: bytes) -> None:
        if number <= TRIMMED:
            self._trimmed[TRIMMED - number] = last
        elif number == DOCUMENTS:
            self._keys = {int(lsn): key for lsn, key in json.loads(body).items()}
        elif number == NAMES:
            self._names = {int(stream): name for stream, name in json.loads(body).items()}
        elif number == DAMAGE:
            for kind, name, detail in json.loads(body):
                self._note(kind, name, detail)
        elif number == FLOOR:
            self._floor = last
        elif number == REBUILT and last >= 0:
            self._rebuilt_at = last
        elif number == REBUILT:
            self.index.is_rebuilt = True
            self._note("file", "pages", "some were damaged; a new file holds what was whole, the old one is kept")

    # Streams.

    def _load_names(self) -> None:
        for number, name, checksum in self._rows("SELECT id,name,crc FROM stream ORDER BY id", (int, str, int)):
            if name_checksum(number, name) == checksum:
                self._stream(number, name)
        for number, name in self._names.items():
            self._stream(number, name)

    def _stream(self, number: int, name: str = "") -> tuple[str, Stream]:
        known = self._by_number.get(number)
        if known is None:
            if not name:
                name = f"#{number}"
                self._note("stream", name, "its name is unreadable")
                self._note("file", f"stream row {number}", "it is unreadable; the stream seems empty")
            known = self._by_number[number] = name, Stream(number)
            self.index.streams[name] = known[1]
            self.index.last_stream = max(self.index.last_stream, number)
        return known

    def _take_run(self, run: Run) -> None:
        name, stream = self._stream(run.stream)
        self._pass_over(stream, run.first)
        if run.first != len(stream.lsns) + 1:
            self._note("stream", name, f"record {len(stream.lsns) + 1} is missing")
        stream.lsns.extend(run.lsns)
        stream.checksum = run.checksum

    def _pass_over(self, stream: Stream, sequence: int) -> None:
        """What lies before a record may be missing where the stream was trimmed up to it, or further."""
        if len(stream.lsns) + 1 < sequence <= self._trimmed.get(stream.id, 0):
            stream.lsns.extend([0] * (sequence - len(stream.lsns) - 1))

    def _settle_trimmed(self) -> None:
        for number, through in self._trimmed.items():
            name, stream = self._stream(number)
            if through > len(stream.lsns):
                self._note("stream", name, f"record {through}, up to which it was trimmed, is missing")
            else:
                stream.trim(through)

    def _load_tail(self) -> None:
        index = self.index
        sql = "SELECT lsn,stream,seq,crc,body FROM log WHERE lsn>? ORDER BY lsn"
        for lsn, number, sequence, checksum, body in self._rows(sql, (int, int, int, int, bytes), index.last_log):
            if lsn != index.last_log + 1:
                self._note("file", f"log rows {index.last_log + 1} to {lsn - 1}", "they are missing")
            index.last_log = lsn
            if not self._take_row(lsn, number, sequence, checksum, body):
                self._note("file", f"log row {lsn}", "it does not continue its stream")

    def _take_row(self, lsn: int, number: int, sequence: int, checksum: int, body: bytes) -> bool:
        known = self._by_number.get(number)
        stream = known[1] if known else Stream(number)
        self._pass_over(stream, sequence)
        if sequence == len(stream.lsns) + 1 and record_checksum(number, sequence, body, stream.checksum) == checksum:
            stream = self._stream(number)[1]
            stream.lsns.append(lsn)
            stream.checksum = checksum
            return True
        if known is not None:
            self._note("stream", known[0], f"record {len(stream.lsns) + 1} is unreadable or missing")
        return False

    def _check_end(self) -> None:
        """See to it that the page that will be written to next is whole: what is appended to a torn one is lost."""
        first = self.index.last_log - END
        if self.index.is_rebuilt or first < self._rebuilt_at:
            return  # what is missing there is known, and the page is new
        found = [row[0] for row in self._connection.execute("SELECT * FROM log WHERE lsn>?", (first,))]
        known = sorted(lsn for run in self.index.runs(first + 1) for lsn in run.lsns)
        if not set(known) <= set(found):
            raise TornEnd(f"{len(set(known) - set(found))} of the last log rows are missing")

    # Documents.

    def _load_documents(self) -> None:
        index = self.index
        index.first_document, index.last_document = self._floor, self._floor - 1
        sql = "SELECT lsn,key,version,crc,body FROM document ORDER BY lsn"
        for lsn, key, version, checksum, body in self._rows(sql, (int, str, int, int, object)):
            self._lose_rows(index.last_document + 1, lsn)
            index.last_document = lsn
            if isinstance(body, bytes | None) and document_checksum(key, version, body) == checksum:
                index.place(key, None if body is None else (lsn, version))
            else:
                self._lost.append(lsn)
                self._suspects[lsn] = key

    def _lose_rows(self, first: int, end: int) -> None:
        # A flipped row number can be astronomically large; what is named is bounded by what could have been there.
        if end > first:
            named = [lsn for lsn in self._keys if first <= lsn < end]
            self._lost.extend(named or range(first, min(end, first + 16)))

    def _settle_documents(self) -> None:
        """Say whose the unreadable rows were, where no newer version has taken their place."""
        for lsn in self._lost:
            key = self._keys.get(lsn)
            if key is None:
                self._note("file", f"document row {lsn}", "it is missing or its checksum is wrong")
                key = self._suspects.get(lsn)
            place = None if key is None else self.index.documents.get(key)
            if key is not None and (place is None or place[0] < lsn):
                self.index.place(key, None)
                self._note("document", key, "its newest version is unreadable")

    # What SQLite itself counted.

    def _check_counters(self) -> None:
        index = self.index
        counters = dict(self._rows("SELECT name,seq FROM sqlite_sequence", (str, int)))
        last = counters.get("log", 0)
        if last > index.last_log:
            self._note("file", f"log rows {index.last_log + 1} to {last}", "they are missing")
        self._lose_rows(index.last_document + 1, counters.get("document", 0) + 1)
        expected = {"log": index.last_log, "document": index.last_document}
        index.recount = [name for name, count in expected.items() if counters.get(name, 0) != count]


def load(connection: Connection) -> Index:
    """The index of a store. Raises `sqlite3.Error` where the file cannot be read."""
    return Loader(connection).load()


def _block(number: int, last: int, body: bytes) -> Step:
    return "INSERT OR REPLACE INTO block VALUES(?,?,?,?)", [number, last, block_checksum(number, last, body), body]


def index_steps(index: Index) -> list[Step]:
    """What writes the index of the rows since the last full block."""
    return [_block(index.next_block, index.last_log, pack_runs(index.runs(index.next_block))), *damage_steps(index)]


def copy_steps(index: Index) -> list[Step]:
    """What keeps second copies of names, so that a lost row can be told by whose it was."""
    keys = {str(place[0]): key for key, place in index.documents.items()}
    names = {str(stream.id): name for name, stream in index.streams.items()}
    copies = {DOCUMENTS: keys, NAMES: names}
    return [_block(number, 0, json.dumps(copy).encode()) for number, copy in copies.items()]


def damage_steps(index: Index) -> list[Step]:
    """What keeps the known damage, so that it stays known when the rows no longer show it."""
    if not index.damage:
        return recount_steps(index, index.recount)
    known = [[damage.kind, damage.name, damage.detail] for damage in index.damage.values()]
    return [_block(DAMAGE, 0, json.dumps(known).encode()), *recount_steps(index, index.recount)]


def recount_steps(index: Index, tables: list[str]) -> list[Step]:
    """What makes SQLite's own counters agree with the rows."""
    last = {"log": index.last_log, "document": index.last_document}
    steps: list[Step] = []
    for name in tables:
        steps.append(("DELETE FROM sqlite_sequence WHERE name=?", [name]))
        steps.append(("INSERT INTO sqlite_sequence(name,seq) VALUES(?,?)", [name, last[name]]))
    return steps


def rebuilt_step(last_log: int) -> Step:
    """What keeps that the file was put together anew, and how far the log went then; -1 until that is known."""
    return _block(REBUILT, last_log, b"")


def trim_steps(index: Index, plan: Plan) -> list[Step]:
    """What lets the rows of a plan go. The index is written with it: what is newer than its last block has no gaps."""
    marks = [_block(TRIMMED - number, through, b"") for number, through in plan.marks]
    rows = f"[{','.join(map(str, plan.dropped))}]"
    gone: Step = ("DELETE FROM log WHERE lsn IN (SELECT value FROM json_each(?))", [rows])
    return [*index_steps(index), gone, *marks]


def adopt_trims(connection: Connection, index: Index) -> None:
    """Take over what was trimmed in a commit that the disk said had failed: it cannot be taken back either."""
    streams = {stream.id: stream for stream in index.streams.values()}
    for number, through in connection.execute("SELECT id,last FROM block WHERE id<=?", (TRIMMED,)).fetchall():
        stream = streams.get(TRIMMED - number)
        if stream is not None and stream.base < through <= stream.last:
            stream.trim(through)


def adopt_sweep(connection: Connection, index: Index) -> None:
    """Take over a sweep that was committed although the disk said that it failed: it alone cannot be taken back."""
    row = connection.execute("SELECT last FROM block WHERE id=?", (FLOOR,)).fetchone()
    if row is None or row[0] <= index.first_document:
        return
    sql = "SELECT lsn,key,version,body FROM document WHERE lsn>? ORDER BY lsn"
    for lsn, key, version, body in connection.execute(sql, (index.last_document,)).fetchall():
        index.place(key, None if body is None else (lsn, version))
        index.last_document = lsn
    index.first_document = row[0]


def floor_step(first: int) -> Step:
    """What keeps where the documents' rows begin."""
    return _block(FLOOR, first, b"")
