"""The archive: compressed files that hold what a hub's store has let go, each complete and checkable by itself.

`sessions/YYYY/MM/ID.jsonl.gz` is one session by the time of its opening, `audit/FIRST-LAST.jsonl.gz` a part of the
audit log. A file is JSON lines: a head, the documents, the records byte for byte, and an end that counts them and holds
a checksum over all lines before it. It appears under its name only when it is durable. Everything here blocks.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import msgspec

from ..mailbox.errors import InvalidInput, QuarantinedError, StoreError
from .stores.disk_file import beside, sync_folder
from .stores.protocol import Record

FORMAT = 1
KEPT = 4


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One line: the head, a document, a record, or the end."""

    agorio_archive: int = 0
    stream: str = ""
    document: str = ""
    sequence: int = 0
    json: msgspec.Raw = msgspec.Raw()
    base64: str | None = None
    records: int = -1
    sha256: str = ""


_decode = msgspec.json.Decoder(Line).decode


@attrs.frozen
class Archived:
    """Where something is now: what the store keeps of it."""

    path: str
    """The file, relative to the archive."""
    first: int
    """The first record."""
    last: int
    """The last record."""
    sha256: str
    """The checksum that the file ends with."""


@attrs.frozen
class Contents:
    """One archived stream."""

    stream: str
    """Its name."""
    records: tuple[Record, ...]
    """Its records in order."""
    documents: Mapping[str, bytes]
    """Documents that belong to it, by key."""
    sha256: str
    """The checksum that the file ends with."""


class Archive:
    """A folder of such files."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self._read: dict[str, Contents] = {}

    def write(
        self, path: str, stream: str, records: Sequence[Record], documents: Mapping[str, bytes] | None = None
    ) -> Archived:
        """Write a file and make it durable; one of that name is replaced. Raises `StoreError`."""
        target = self.directory / path
        self._read.pop(path, None)
        try:
            self._make_folder(target.parent)
            draft = beside(target, ".part")
            digest = _write_new(draft, _lines_of(stream, records, documents or {}))
            draft.replace(target)
            sync_folder(target.parent)
        except OSError as exc:
            raise StoreError(f"the archive file {str(target)!r} cannot be written: {exc}") from exc
        return Archived(path, records[0].sequence, records[-1].sequence, digest)

    def _make_folder(self, folder: Path) -> None:
        """Make a private folder, and its name durable up to one that was there."""
        if not folder.is_dir():
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)

    def read(self, path: str, sha256: str | None = None) -> Contents:
        """What a file holds. Raises `QuarantinedError` where it is damaged or another one, `StoreError`."""
        known = self._read.get(path)
        if known is None:
            known = self._load(path)
            while len(self._read) >= KEPT:
                del self._read[next(iter(self._read))]
            self._read[path] = known
        if sha256 is not None and known.sha256 != sha256:
            raise QuarantinedError(f"the archive file {path} is not the one that the store tells of", path=path)
        return known

    def forget(self) -> None:
        """Read every file anew from now on."""
        self._read.clear()

    def _load(self, path: str) -> Contents:
        target = self.directory / path
        try:
            return _contents(path, target)
        except FileNotFoundError as exc:
            raise StoreError(f"the archive file {str(target)!r} is missing; it was there once") from exc
        except (EOFError, gzip.BadGzipFile, zlib.error, msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            raise QuarantinedError(f"the archive file {path} is damaged: {exc}", path=path) from exc
        except OSError as exc:
            raise StoreError(f"the archive file {str(target)!r} cannot be read: {exc}") from exc

    def has(self, path: str) -> bool:
        """Whether there is a file of that name."""
        return (self.directory / path).is_file()

    def files(self) -> list[str]:
        """Every file, in order of its name."""
        found = self.directory.rglob("*.jsonl.gz") if self.directory.is_dir() else ()
        return sorted(path.relative_to(self.directory).as_posix() for path in found)


def _lines_of(stream: str, records: Sequence[Record], documents: Mapping[str, bytes]) -> Iterator[Line]:
    yield Line(agorio_archive=FORMAT, stream=stream)
    for key, body in documents.items():
        yield carrying(Line(document=key), body)
    for record in records:
        yield carrying(Line(sequence=record.sequence), record.body)


def _write_new(path: Path, lines: Iterator[Line]) -> str:
    """Write a private file, synced; its checksum. The same lines always give the same bytes."""
    digest, records = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(handle, "wb") as file:
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
            for line in lines:
                data = msgspec.json.encode(line) + b"\n"
                digest.update(data)
                packed.write(data)
                records += bool(line.sequence)
            packed.write(msgspec.json.encode(Line(records=records, sha256=digest.hexdigest())) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _contents(path: str, target: Path) -> Contents:
    digest, stream, records, documents = hashlib.sha256(), "", list[Record](), dict[str, bytes]()
    with gzip.open(target, "rb") as file:
        for data in file:
            line = _decode(data)
            if line.sha256:
                if (line.sha256, line.records) != (digest.hexdigest(), len(records)) or file.read(1):
                    raise ValueError("its checksum is wrong")
                return Contents(stream, tuple(records), documents, line.sha256)
            digest.update(data)
            if line.agorio_archive > FORMAT:
                raise InvalidInput(f"{path} has format {line.agorio_archive}; use a newer agorio", field="path")
            if line.agorio_archive:
                stream = line.stream
            elif line.document:
                documents[line.document] = body_of(line)
            elif records and line.sequence != records[-1].sequence + 1:
                raise ValueError(f"record {records[-1].sequence + 1} is missing")
            else:
                records.append(Record(line.sequence, body_of(line)))
    raise EOFError("it was cut")


def carrying(line: Line, body: bytes) -> Line:
    """The line with the bytes, as they are where they are JSON that fits on a line."""
    if is_json_line(body):
        line.json = msgspec.Raw(body)
    else:
        line.base64 = base64.b64encode(body).decode()
    return line


def body_of(line: Line) -> bytes:
    """The bytes that a line carries."""
    return bytes(line.json) if line.base64 is None else base64.b64decode(line.base64, validate=True)


def is_json_line(body: bytes) -> bool:
    """Whether the bytes are JSON and come back from a line of JSON as they are."""
    if not body or body != body.strip() or b"\n" in body or b"\r" in body:
        return False
    try:
        body.decode()
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True
