"""Opening: the index is read from its blocks, and from the rows that are newer than the last block.

What cannot be right is set aside under the name it belongs to and everything else is taken in; `SQLite`'s own errors are
left to the caller, who puts the file together anew from its pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .damage import Damage
from .disk_index import Index, Stream
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
DOCUMENTS = -1  # the block that names every document's row, for telling whose bytes were lost
_LOST = "%d of its records are missing"


class Loader:
    """Reads the index of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.index = Index()
        self._by_number: dict[int, tuple[str, Stream]] = {}
        self._former: dict[int, str] = {}
        self._lost_documents: list[int] = []
        self._bad_names: dict[str, int] = {}

    def load(self) -> Index:
        """The whole index. Raises `sqlite3.Error` where the file cannot be read."""
        self._load_damage()
        self._load_names()
        indexed = self._load_chunks()
        self._load_tail(indexed)
        self._load_documents()
        self._check_sequences()
        return self.index

    def _rows(self, sql: str, *parameters: Any) -> Iterable[tuple[Any, ...]]:
        return self._connection.execute(sql, parameters)

    def _note(self, kind: str, name: str, detail: str) -> None:
        self.index.note(Damage(kind, name, detail))

    def _load_damage(self) -> None:
        for (value,) in self._rows("SELECT value FROM meta WHERE name='damage'"):
            for kind, name, detail in json.loads(value):
                self._note(kind, name, detail)

    def _load_names(self) -> None:
        for number, name, checksum in self._rows("SELECT id,name,crc FROM stream ORDER BY id"):
            self.index.last_stream = max(self.index.last_stream, number)
            if name_checksum(number, name) != checksum:
                name = f"#{number}"
                self._note("stream", name, "its name is unreadable")
            self._stream(number, name)

    def _stream(self, number: int, name: str = "") -> tuple[str, Stream]:
        known = self._by_number.get(number)
        if known is None:
            if not name:
                name = f"#{number}"
                self._note("stream", name, "its name is missing")
            known = self._by_number[number] = name, Stream(number)
            self.index.streams[name] = known[1]
            self.index.last_stream = max(self.index.last_stream, number)
        return known

    # The index's blocks.

    def _load_chunks(self) -> int:
        last = 0
        for first, until, checksum, block in self._rows("SELECT first,last,crc,body FROM chunk ORDER BY first"):
            if block_checksum(first, until, block) != checksum:
                continue
            if first == DOCUMENTS:
                self._former = {int(lsn): key for lsn, key in json.loads(block).items()}
            elif first == last + 1:
                last = until
                for run in unpack_runs(block):
                    self._take_run(run)
        self.index.last_log = last
        return last

    def _take_run(self, run: Run) -> None:
        name, stream = self._stream(run.stream)
        if run.first != len(stream.lsns) + 1:
            self._note("stream", name, f"record {len(stream.lsns) + 1} is missing")
        stream.lsns.extend(run.lsns)
        stream.checksum = run.checksum

    # The rows after them.

    def _load_tail(self, indexed: int) -> None:
        index, expected = self.index, indexed + 1
        for lsn, number, sequence, checksum, body in self._rows(
            "SELECT lsn,stream,seq,crc,body FROM log WHERE lsn>? ORDER BY lsn", indexed
        ):
            if lsn != expected:
                self._note("file", f"log rows {expected} to {lsn - 1}", "they are missing")
            expected = lsn + 1
            if not self._take_row(lsn, number, sequence, checksum, body):
                self._note("file", f"log row {lsn}", "its checksum is wrong")
        index.last_log = expected - 1

    def _take_row(self, lsn: int, number: int, sequence: int, checksum: int, body: bytes) -> bool:
        known = self._by_number.get(number)
        name, stream = known or ("", Stream(number))
        if sequence == len(stream.lsns) + 1 and record_checksum(number, sequence, body, stream.checksum) == checksum:
            if known is None:
                name, stream = self._stream(number)
            stream.lsns.append(lsn)
            stream.checksum = checksum
            return True
        if known is not None:
            self._note("stream", name, f"record {len(stream.lsns) + 1} is unreadable or missing")
        return False

    # Documents.

    def _load_documents(self) -> None:
        index, expected = self.index, 0
        for lsn, key, version, checksum, body in self._rows(
            "SELECT lsn,key,version,crc,body FROM document ORDER BY lsn"
        ):
            if expected and lsn != expected:
                self._lost_documents.extend(range(expected, min(lsn, expected + CHUNK)))
            index.first_document = index.first_document if expected else lsn
            expected = lsn + 1
            if document_checksum(key, version, body) == checksum:
                index.place(key, None if body is None else (lsn, version))
            else:
                self._lost_documents.append(lsn)
                self._bad_names[key] = lsn
        index.last_document = max(expected - 1, 0)

    def _settle_documents(self) -> None:
        """Say whose the unreadable rows were, where no newer version has taken their place."""
        for lsn in self._lost_documents:
            key = self._former.get(lsn)
            if key is None:
                self._note("file", f"document row {lsn}", "it is missing or its checksum is wrong")
                continue
            self._lose(key, lsn)
        for key, lsn in self._bad_names.items():
            if lsn not in self._former:
                self._lose(key, lsn)

    def _lose(self, key: str, lsn: int) -> None:
        place = self.index.documents.get(key)
        if place is None or place[0] < lsn:
            self.index.place(key, None)
            self._note("document", key, "its newest version is unreadable")

    # What SQLite itself counted.

    def _check_sequences(self) -> None:
        counted = dict(self._rows("SELECT name,seq FROM sqlite_sequence"))  # type: ignore[arg-type]  # two columns
        index = self.index
        last = int(counted.get("log", 0))
        if last > index.last_log:
            self._note("file", f"log rows {index.last_log + 1} to {last}", "they are missing")
        index.last_log = max(last, index.last_log)
        last = int(counted.get("document", 0))
        if last > index.last_document:
            self._lost_documents.extend(range(index.last_document + 1, min(last, index.last_document + CHUNK) + 1))
        index.last_document = max(last, index.last_document)
        self._settle_documents()


def load(connection: Connection) -> Index:
    """The index of a store. Raises `sqlite3.Error` where the file cannot be read."""
    return Loader(connection).load()


def chunk_steps(index: Index, first: int) -> list[tuple[str, list[Any]]]:
    """What writes the index from that row on as one block."""
    block = pack_runs(index.runs(first))
    row = [first, index.last_log, block_checksum(first, index.last_log, block), block]
    return [("INSERT OR REPLACE INTO chunk VALUES(?,?,?,?)", row), *damage_steps(index)]


def document_steps(index: Index) -> list[tuple[str, list[Any]]]:
    """What notes which row is which document's."""
    block = json.dumps({str(place[0]): key for key, place in index.documents.items()}).encode()
    checksum = block_checksum(DOCUMENTS, index.last_document, block)
    return [("INSERT OR REPLACE INTO chunk VALUES(?,?,?,?)", [DOCUMENTS, index.last_document, checksum, block])]


def damage_steps(index: Index) -> list[tuple[str, list[Any]]]:
    """What keeps the known damage, so that it stays known when the index no longer shows it."""
    if not index.damage:
        return []
    value = json.dumps([[damage.kind, damage.name, damage.detail] for damage in index.damage.values()])
    return [("INSERT OR REPLACE INTO meta VALUES('damage',?)", [value])]


def next_chunk(connection: Connection) -> int:
    """The first row of the block to be written next: a full one is followed, one that is not full is replaced."""
    row = connection.execute("SELECT first,last FROM chunk WHERE first>0 ORDER BY first DESC LIMIT 1").fetchone()
    if row is None:
        return 1
    return int(row[0]) if row[1] - row[0] + 1 < CHUNK else int(row[1]) + 1


__all__ = ["CHUNK", "chunk_steps", "damage_steps", "document_steps", "load", "next_chunk"]
