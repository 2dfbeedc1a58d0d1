"""Reading logs back, page by page, as somebody who may see only part of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..actors.sessions.operations import ReadWal
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope, visible_to
from ..mailbox.errors import InvalidInput
from .session import stream_of
from .stores.protocol import KnowledgeStore, NowaitStore, Record

PAGE = 512
MAX_PAGE = 4096


class Reader:
    """Reads session logs from a store."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store
        self._nowait = store if isinstance(store, NowaitStore) else None

    def read(self, op: ReadWal, readers: tuple[str, ...]) -> Any:
        """One page: at once from a store that needs no I/O, else an awaitable."""
        _check(op)
        if self._nowait is None:
            return self.read_later(op, readers)
        return self._read_nowait(self._nowait, op, readers)

    def _read_nowait(self, store: NowaitStore, op: ReadWal, readers: tuple[str, ...]) -> tuple[Envelope, ...]:
        page = _Page(op, readers)
        after = op.after
        stream = stream_of(op.session_id)
        while not page.full:
            records = store.read_nowait(stream, after, PAGE)
            if not records or not page.add(records):
                break
            after = records[-1].sequence
        return page.result()

    async def read_later(self, op: ReadWal, readers: tuple[str, ...]) -> tuple[Envelope, ...]:
        """One page. If cancelled: nothing has changed."""
        _check(op)
        page = _Page(op, readers)
        after = op.after
        while not page.full:
            records = await self._store.read(stream_of(op.session_id), after, PAGE)
            if not records or not page.add(records):
                break
            after = records[-1].sequence
        return page.result()

    async def each(self, session_id: str, after: int = 0) -> AsyncIterator[Envelope]:
        """Every envelope in log order. If cancelled: nothing has changed."""
        while records := await self._store.read(stream_of(session_id), after, PAGE):
            for record in records:
                yield decode_envelope(record.body)
            after = records[-1].sequence

    async def read_all(
        self, session_id: str, after: int = 0, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The operator's reading. If cancelled: nothing has changed."""
        _check(ReadWal(session_id, None, after, None, limit))
        found: list[Envelope] = []
        while limit is None or len(found) < limit:
            records = await self._store.read(stream_of(session_id), after, PAGE)
            if not records:
                break
            for record in records:
                envelope = decode_envelope(record.body)
                if as_agent is None or visible_to(envelope, as_agent):
                    found.append(envelope)
            after = records[-1].sequence
        return found if limit is None else found[:limit]


class _Page:
    """Collects what a reader may see of one page."""

    __slots__ = ("_before", "_found", "_limit", "_readers", "_tail")

    def __init__(self, op: ReadWal, readers: tuple[str, ...]) -> None:
        self._readers = readers
        self._before = op.before
        self._tail = op.tail
        self._limit = MAX_PAGE if op.limit is None else min(op.limit, MAX_PAGE)
        self._found: list[Envelope] = []

    @property
    def full(self) -> bool:
        return not self._tail and len(self._found) >= self._limit

    def add(self, records: list[Record]) -> bool:
        """Take in records; False once `before` is reached."""
        for record in records:
            if self._before is not None and record.sequence >= self._before:
                return False
            envelope = decode_envelope(record.body)
            if any(visible_to(envelope, reader) for reader in self._readers):
                self._found.append(envelope)
        return True

    def result(self) -> tuple[Envelope, ...]:
        if self._tail:
            return tuple(self._found[max(0, len(self._found) - self._limit) :])
        return tuple(self._found[: self._limit])


def _check(op: ReadWal) -> None:
    if op.after < 0 or (op.limit is not None and op.limit < 0):
        raise InvalidInput(f"after={op.after} and limit={op.limit} must not be negative", field="after")
