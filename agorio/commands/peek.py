"""Looking into a store that a hub has open: a second, read-only connection that sees what is committed, and no more.

It holds no lock between two looks and never writes, so the hub does not notice. It reads only what it needs: records of
one stream, newer than the last that it saw, each checked against the one before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs

from ..hub.records import StoredAgent, from_bytes
from ..hub.stores.disk_errors import DISK_ERRORS, as_store_error
from ..hub.stores.disk_integrity import document_checksum, record_checksum
from ..hub.stores.disk_schema import Connection, check_format, prepare
from ..hub.stores.protocol import Record
from ..mailbox.errors import AgorioError, NotFoundError, QuarantinedError
from .running import CommandError

EVERY = 0.2
_LOG = "SELECT lsn,seq,crc,body FROM log WHERE stream=? AND lsn>? ORDER BY lsn"
_DOCUMENTS = "SELECT key,version,crc,body FROM document WHERE key>=? AND key<? ORDER BY lsn"


@attrs.define
class Place:
    """How far a stream was read."""

    lsn: int = 0
    sequence: int = 0
    checksum: int = 0


class Peek:
    """One read-only connection to a store's file. Everything here blocks."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CommandError(f"{path}: {'is no file' if path.exists() else 'there is no such store'}")
        self._path = path
        self._connection = self._connect()
        self._places: dict[str, Place] = {}

    def _connect(self) -> Connection:
        try:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
            check_format(connection)
            prepare(connection, durable=True, read_only=True)
        except DISK_ERRORS as exc:
            raise as_store_error(exc, f"looking into {str(self._path)!r}") from exc
        return connection

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def names(self) -> dict[str, str]:
        """Agents' names by id, as they are now."""
        newest: dict[str, str] = {}
        for key, version, crc, body in self._connection.execute(_DOCUMENTS, ("agent/", "agent0")):
            if body is None:
                newest.pop(key, None)
            elif document_checksum(key, version, body) == crc:
                try:
                    newest[key] = from_bytes(body, StoredAgent).passport.name
                except AgorioError:
                    continue  # `doctor` reports it
        return {key.partition("/")[2]: name for key, name in newest.items()}

    def find_session(self, part: str) -> str:
        """The stream of the one session that has `part` in its id. Raises `NotFoundError`, `CommandError`."""
        rows = self._connection.execute("SELECT name FROM stream WHERE name LIKE 'session/%'")
        found = [name for (name,) in rows if part in name]
        exact = [name for name in found if name == f"session/{part}"]
        if not found:
            raise NotFoundError(f"there is no session {part!r}; `agorio sessions` lists them")
        if len(exact or found) > 1:
            raise CommandError(f"{len(found)} sessions have {part!r} in their ids; give more of it")
        return str((exact or found)[0])

    def news(self, stream: str) -> list[Record]:
        """The records of a stream that were committed since the last look. Raises `QuarantinedError`, `StoreError`."""
        try:
            return list(self._news(stream))
        except DISK_ERRORS as exc:
            raise as_store_error(exc, f"looking into {str(self._path)!r}") from exc

    def _news(self, stream: str) -> Iterator[Record]:
        row = self._connection.execute("SELECT id FROM stream WHERE name=?", (stream,)).fetchone()
        if row is None:
            return
        place = self._places.setdefault(stream, Place())
        for lsn, sequence, crc, body in self._connection.execute(_LOG, (row[0], place.lsn)):
            if not place.lsn and sequence > 1:  # the stream was trimmed: this one is there for the next to continue
                self._places[stream] = place = Place(lsn, sequence, crc)
                continue
            if record_checksum(row[0], sequence, body, place.checksum) != crc:
                raise QuarantinedError(f"the checksum of record {sequence} of {stream} is wrong", name=stream)
            self._places[stream] = place = Place(lsn, sequence, crc)
            yield Record(sequence, body)
