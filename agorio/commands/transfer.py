"""`agorio export` and `agorio import`: a whole store as JSON lines, byte for byte.

A line is a record of a stream or a document. Its bytes stand there as they are where they are JSON on one line, else in
base64. The last line counts the others and holds a checksum over them: a file that was cut or changed is refused before
anything is written. Versions of documents are not carried over: they only count changes, and start anew.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..hub.archive import Archived, is_json_line
from ..hub.archived_store import SESSIONS
from ..hub.audit import STREAM as AUDIT
from ..hub.records import from_bytes
from ..hub.session import stream_of
from ..hub.stores.disk import DiskKnowledgeStore
from ..hub.stores.disk_file import beside, sync_folder
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import Append, Change, Put, Trim
from ..mailbox.errors import AgorioError
from .output import Tick, progress, say
from .running import DONE, WRONG, CommandError, complain, run_async
from .stores import PAGE, documents, open_store

FORMAT = 1
BATCH = 512
BATCH_BYTES = 4 << 20


class Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One line: the head, a record, a document, or the end."""

    agorio_export: int = 0
    stream: str = ""
    document: str = ""
    sequence: int = 0
    json: msgspec.Raw = msgspec.Raw()
    base64: str | None = None
    records: int = -1
    documents: int = -1
    sha256: str = ""


_decode = msgspec.json.Decoder(Line).decode


def run_export(args: argparse.Namespace) -> int:
    """Write a store as JSON lines."""
    return run_async("export", export, args)


def run_import(args: argparse.Namespace) -> int:
    """Make a store from JSON lines."""
    return run_async("import", import_, args)


class Sink:
    """Writes lines and keeps count of them."""

    def __init__(self, file: BinaryIO, tick: Tick) -> None:
        self._file = file
        self._tick = tick
        self._digest = hashlib.sha256()
        self.records = self.documents = 0

    def write(self, line: Line) -> None:
        """One more line."""
        data = msgspec.json.encode(line) + b"\n"
        self._digest.update(data)
        self._file.write(data)
        self._tick(1)

    def end(self) -> None:
        """The last line."""
        self.write(Line(records=self.records, documents=self.documents, sha256=self._digest.hexdigest()))


async def export(args: argparse.Namespace) -> int:
    """Write the store; 1 where a part of it is unreadable and left out. If cancelled: no file is written."""
    async with open_store(args.store) as store:
        total = store.statistics().current_documents + store.statistics().current_rows
        with _new_file(args.file) as file, progress("exporting", total) as tick:
            sink = Sink(file, tick)
            sink.write(Line(agorio_export=FORMAT))
            streams = await _write_documents(store, sink)
            lost = await _write_streams(store, streams, sink)
            sink.end()
        lost += [str(damage) for damage in await store.damaged() if str(damage) not in lost]
        missed = store.statistics().current_streams - len(streams)
    if missed > 0:
        lost.append(f"{missed} streams belong to no session that is readable")
    for one in lost:
        complain("export", f"left out: {one}")
    say(f"{sink.records} records and {sink.documents} documents exported")
    return WRONG if lost else DONE


async def _write_documents(store: DiskKnowledgeStore, sink: Sink) -> list[str]:
    """Write every document; the streams that are there by what the documents tell."""
    streams = [AUDIT] if AUDIT in await _existing([AUDIT], store) else []
    async for document in documents(store, ""):
        sink.write(_carrying(Line(document=document.key), document.body))
        sink.documents += 1
        if document.key.startswith("session/"):
            streams += await _existing([stream_of(document.key.partition("/")[2])], store)
        elif document.key.startswith(SESSIONS):
            streams.append("")  # its log is in the archive; only its number of records is kept here
    return streams


async def _existing(names: list[str], store: DiskKnowledgeStore) -> list[str]:
    found = []
    for name in names:
        try:
            if await store.last(name):
                found.append(name)
        except AgorioError:
            found.append(name)  # it is there and damaged: reading it says so
    return found


async def _write_streams(store: DiskKnowledgeStore, streams: list[str], sink: Sink) -> list[str]:
    """Write every stream up to its end or its damage, which is returned."""
    lost = []
    for stream in filter(None, streams):
        after = 0
        try:
            while page := await store.read(stream, after, PAGE):
                for record in page:
                    sink.write(_carrying(Line(stream=stream, sequence=record.sequence), record.body))
                    sink.records += 1
                after = page[-1].sequence
        except AgorioError as error:
            lost.append(f"{stream} after record {after}: {error}")
    return lost


def _carrying(line: Line, body: bytes) -> Line:
    """The line with the bytes, as they are where they are JSON that fits on a line."""
    if is_json_line(body):
        line.json = msgspec.Raw(body)
    else:
        line.base64 = base64.b64encode(body).decode()
    return line


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new private file that appears under its name when it is complete. Raises `CommandError` where there is one."""
    if path.exists():
        raise CommandError(f"{path}: exists; choose another name")
    draft = beside(path, ".part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


async def import_(args: argparse.Namespace) -> int:
    """Make the store. If cancelled: the store is incomplete and must be removed."""
    if args.store.exists():
        raise CommandError(f"{args.store}: exists; import into a new store")
    if not args.file.is_file():
        raise CommandError(f"{args.file}: there is no such file")
    end = _check(args.file)
    store = DiskKnowledgeStore(args.store)
    await store.open()
    try:
        with progress("importing", end.records + end.documents) as tick:
            async for changes, count in _batches(args.file):
                await store.commit(changes)
                tick(count)
    finally:
        await store.close()
    say(f"{end.records} records and {end.documents} documents imported")
    return DONE


async def load(path: Path) -> MemoryKnowledgeStore:
    """An exported store, in memory. Raises `CommandError`. If cancelled: nothing is left."""
    _check(path)
    store = MemoryKnowledgeStore()
    await store.open()
    async for changes, _ in _batches(path):
        await store.commit(changes)
    return store


def _check(path: Path) -> Line:
    """Read the whole file before anything is written; its last line. Raises `CommandError`."""
    digest, before, records, found = hashlib.sha256(), hashlib.sha256(), 0, 0
    last = Line()
    expected: dict[str, int] = {}
    for number, (data, line) in enumerate(_lines(path), 1):
        if (number == 1) != (line.agorio_export == FORMAT) or last.sha256:
            raise CommandError(f"{path}:{number}: no export of format {FORMAT}")
        before = digest.copy()
        digest.update(data)
        records, found, last = records + bool(line.stream), found + bool(line.document), line
        if line.stream:
            expected[line.stream] = expected.get(line.stream, line.sequence - 1) + 1
            if line.sequence != expected[line.stream]:
                raise CommandError(f"{path}:{number}: record {expected[line.stream]} of {line.stream} is missing")
    if not last.sha256:
        raise CommandError(f"{path}: ends before its last line; it was cut")
    if (last.records, last.documents, last.sha256) != (records, found, before.hexdigest()):
        raise CommandError(f"{path}: was changed after it was exported, its checksum is wrong")
    return last


def _lines(path: Path) -> Iterator[tuple[bytes, Line]]:
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            try:
                yield data, _decode(data)
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                raise CommandError(f"{path}:{number}: {exc}") from exc


async def _batches(path: Path) -> AsyncIterator[tuple[list[Change], int]]:
    """The changes that make the store, in commits of a bounded size."""
    changes: list[Change] = []
    size, begun = 0, set[str]()
    for _, line in _lines(path):
        if line.stream and line.stream not in begun:
            begun.add(line.stream)
            if line.sequence > 1:  # what came before it is in the archive
                yield [Trim(line.stream, line.sequence - 1)], 0
        if line.stream or line.document:
            body = _body(line)
            expected = line.sequence - 1 if line.stream else 0
            changes.append(
                Append(line.stream, (body,), expected) if line.stream else Put(line.document, body, expected)
            )
            size += len(body)
        if line.document.startswith(SESSIONS):
            place = from_bytes(_body(line), Archived)
            changes.append(Trim(stream_of(line.document.removeprefix(SESSIONS)), place.last))
        if len(changes) >= BATCH or size >= BATCH_BYTES:
            yield changes, len(changes)
            changes, size = [], 0
    if changes:
        yield changes, len(changes)


def _body(line: Line) -> bytes:
    return bytes(line.json) if line.base64 is None else base64.b64decode(line.base64, validate=True)
