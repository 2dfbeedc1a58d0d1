"""Reading logs back, page by page, as somebody who may see only part of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ..actors.sessions.operations import ReadWal
from ..actors.sessions.typed import checked
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope, visible_to
from ..mailbox.errors import InvalidInput, NotFoundError
from .session import stream_of
from .stores.protocol import KnowledgeStore, NowaitStore, Record

PAGE = 512
MAX_PAGE = 4096
# A page must fit into one message of every link; the reader reads on after its last envelope.
PAGE_BYTES = 512 * 1024


class Reader:
    """Reads session logs from a store."""

    def __init__(self, store: KnowledgeStore) -> None:
        self._store = store
        self._nowait = store if isinstance(store, NowaitStore) else None

    def read(self, op: ReadWal, readers: tuple[str, ...], last: int) -> Any:
        """One page of a log that ends at `last`: at once from a store that needs no I/O, else an awaitable."""
        _check(op)
        if self._nowait is None:
            return self.read_later(op, readers, last)
        page, stream = _Page(op, readers, last), stream_of(op.session_id)
        while (span := page.next_span()) is not None:
            page.add(self._nowait.read_nowait(stream, *span))
        return page.result()

    async def read_later(self, op: ReadWal, readers: tuple[str, ...], last: int) -> tuple[Envelope, ...]:
        """One page. If cancelled: nothing has changed."""
        _check(op)
        page, stream = _Page(op, readers, last), stream_of(op.session_id)
        while (span := page.next_span()) is not None:
            page.add(await self._store.read(stream, *span))
        return page.result()

    async def each(self, session_id: str, after: int = 0) -> AsyncIterator[Envelope]:
        """Every envelope in log order. If cancelled: nothing has changed."""
        while records := await self._store.read(stream_of(session_id), after, PAGE):
            for record in records:
                yield decode_envelope(record.body)
            after = records[-1].sequence

    async def one(self, session_id: str, sequence: int) -> Envelope:
        """One envelope. Raises `NotFoundError`. If cancelled: nothing has changed."""
        records = await self._store.read(stream_of(session_id), sequence - 1, 1)
        if not records:
            raise NotFoundError(f"session {session_id} has no envelope {sequence}", session=session_id)
        return decode_envelope(records[0].body)

    async def read_all(
        self, session_id: str, after: int = 0, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The operator's reading. If cancelled: nothing has changed."""
        _check(checked(ReadWal(session_id, as_agent, after, None, limit)))
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
    """Collects what a reader may see of one page, from the front, or from the end where the tail is asked for."""

    __slots__ = ("_bytes", "_found", "_from", "_limit", "_readers", "_tail", "_to")

    def __init__(self, op: ReadWal, readers: tuple[str, ...], last: int) -> None:
        self._readers = readers
        self._tail = op.tail
        self._limit = MAX_PAGE if op.limit is None else min(op.limit, MAX_PAGE)
        self._from = op.after
        self._to = last if op.before is None else min(last, op.before - 1)
        self._found: list[Envelope] = []
        self._bytes = PAGE_BYTES

    def next_span(self) -> tuple[int, int] | None:
        """The `(after, limit)` to read next; None where the page is full or the log is read."""
        wanted = self._limit - len(self._found)
        left = self._to - self._from
        if wanted <= 0 or left <= 0:
            return None
        count = min(left, max(wanted, 16), PAGE)
        if self._tail:
            self._to -= count
            return self._to, count
        self._from += count
        return self._from - count, count

    def add(self, records: list[Record]) -> None:
        """Take in records, as many as the page has room for; the first always."""
        seen: list[Envelope] = []
        for record in reversed(records) if self._tail else records:
            envelope = decode_envelope(record.body)
            if any(visible_to(envelope, reader) for reader in self._readers):
                self._bytes -= len(record.body)
                if self._bytes < 0 and (seen or self._found):
                    self._limit = len(self._found) + len(seen)
                    break
                seen.append(envelope)
        self._found = [*reversed(seen), *self._found] if self._tail else [*self._found, *seen]

    def result(self) -> tuple[Envelope, ...]:
        """The page in log order."""
        if self._tail:
            return tuple(self._found[max(0, len(self._found) - self._limit) :])
        return tuple(self._found[: self._limit])


def _check(op: ReadWal) -> None:
    if op.after < 0 or (op.limit is not None and op.limit < 0):
        raise InvalidInput(f"after={op.after} and limit={op.limit} must not be negative", field="after")
