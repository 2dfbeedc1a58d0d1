"""`MemoryKnowledgeStore`: the store protocol over dicts.

It outlives the hubs that are opened on it, not the process.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ...mailbox.errors import ConflictError, StoreError
from .protocol import Append, Change, Document, Put, Record, Trim


class MemoryKnowledgeStore:
    """Keeps everything in this process. A second hub may be opened on it once the first has closed."""

    durable = False

    def __init__(self) -> None:
        self._streams: dict[str, list[bytes]] = {}
        self._documents: dict[str, Document] = {}
        self._trimmed: dict[str, int] = {}
        self._users = 0

    async def open(self) -> None:
        """Make ready. Raises `StoreError` while another hub has it open. If cancelled: not open."""
        await trio.lowlevel.checkpoint()
        if self._users:
            raise StoreError("this store is open in another hub; close that hub first")
        self._users += 1

    async def close(self) -> None:
        """Let go; what is stored stays for the next hub. If cancelled: closed all the same."""
        self._users = 0
        await trio.lowlevel.cancel_shielded_checkpoint()

    def commit_nowait(self, changes: Sequence[Change]) -> None:
        """Make all changes or none. Raises `ConflictError`."""
        if len(changes) > 1:
            self._check_all(changes)
        for change in changes:
            if type(change) is Append:
                self._append(change)
            elif type(change) is Trim:
                self._trim(change)
            else:
                self._put(change)  # type: ignore[arg-type]

    def _check_all(self, changes: Sequence[Change]) -> None:
        lengths: dict[str, int] = {}
        versions: dict[str, int] = {}
        for change in changes:
            if isinstance(change, Append):
                length = lengths.get(change.stream, -1)
                length = self._length(change.stream) if length < 0 else length
                _fence(change, length)
                lengths[change.stream] = length + len(change.bodies)
            elif isinstance(change, Put):
                version = versions.get(change.key, self._version(change.key))
                _swap(change, version)
                versions[change.key] = 0 if change.body is None else version + 1

    def _version(self, key: str) -> int:
        document = self._documents.get(key)
        return document.version if document else 0

    def _length(self, name: str) -> int:
        return self._trimmed.get(name, 0) + len(self._streams.get(name, ()))

    def _trim(self, change: Trim) -> None:
        base, stream = self._trimmed.get(change.stream, 0), self._streams.setdefault(change.stream, [])
        through = min(change.through, base + len(stream)) if base or stream else change.through
        if through > base:
            del stream[: through - base]
            self._trimmed[change.stream] = through

    def _append(self, change: Append) -> None:
        stream = self._streams.get(change.stream)
        if stream is None:
            _fence(change, 0)
            self._streams[change.stream] = [_exact(body) for body in change.bodies]
        else:
            _fence(change, self._length(change.stream))
            stream.extend([_exact(body) for body in change.bodies])

    def _put(self, change: Put) -> None:
        version = self._version(change.key)
        _swap(change, version)
        if change.body is None:
            self._documents.pop(change.key, None)
        else:
            self._documents[change.key] = Document(change.key, version + 1, _exact(change.body))

    async def commit(self, changes: Sequence[Change]) -> None:
        """Make all changes or none. Raises `ConflictError`. If cancelled: nothing has happened."""
        await trio.lowlevel.checkpoint()
        self.commit_nowait(changes)

    def read_nowait(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, oldest first."""
        bodies, base = self._streams.get(stream, ()), self._trimmed.get(stream, 0) if self._trimmed else 0
        first = max(after - base, 0)
        end = len(bodies) if limit is None else min(len(bodies), first + limit)
        return [Record(base + index + 1, bodies[index]) for index in range(first, end)]

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, oldest first. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return self.read_nowait(stream, after, limit)

    async def last(self, stream: str) -> int:
        """The newest record's sequence. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return self._length(stream)

    async def streams(self, prefix: str = "") -> list[str]:
        """The names of all streams under a prefix, in order. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return sorted(name for name, bodies in self._streams.items() if bodies and name.startswith(prefix))

    async def get(self, key: str) -> Document | None:
        """One document. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        return self._documents.get(key)

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        """Documents under a prefix in key order. If cancelled: nothing has changed."""
        await trio.lowlevel.checkpoint()
        keys = sorted(key for key in self._documents if key.startswith(prefix) and key > after)
        return [self._documents[key] for key in (keys if limit is None else keys[:limit])]


def _exact(body: bytes) -> bytes:
    """A copy without the spare room that an encoder leaves behind a record, up to a quarter of it."""
    return bytes(memoryview(body))


def _fence(change: Append, length: int) -> None:
    if change.expected is not None and change.expected != length:
        raise ConflictError(
            f"stream {change.stream} is at {length}, not at {change.expected}: another writer was first",
            stream=change.stream,
            expected=change.expected,
            actual=length,
        )


def _swap(change: Put, version: int) -> None:
    if change.expected is not None and change.expected != version:
        raise ConflictError(
            f"document {change.key} is at version {version}, not {change.expected}: it was changed meanwhile",
            key=change.key,
            expected=change.expected,
            actual=version,
        )
