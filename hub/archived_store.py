"""A store whose oldest part is in an archive: whoever reads sees no difference, but for the time that it takes.

Sessions that were archived answer to `get` and `read` as before; `scan` no longer lists them. The audit log reads as
one. What is asked of the store itself costs nothing more, except where a reading comes to an end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from ..mailbox.errors import QuarantinedError
from .archive import Archive, Archived, Contents
from .records import from_bytes
from .stores.damage import CheckedStore, Damage, Verification
from .stores.disk_pace import no_time_passes
from .stores.protocol import Change, Document, KnowledgeStore, Record

T = TypeVar("T")
SESSION = "session/"
SESSIONS = "archived/"
AUDIT = "audit"
AUDITS = "archived-audit/"
PAGE = 1024


class ArchivedStore:
    """Reads on where the store ends; everything else is the store's own."""

    def __init__(self, inner: KnowledgeStore, archive: Archive) -> None:
        self.inner = inner
        self.archive = archive
        self.durable = inner.durable
        self._limiter = trio.CapacityLimiter(1)

    async def open(self) -> None:
        """Open the store. If cancelled: not open."""
        await self.inner.open()

    async def close(self) -> None:
        """Close the store. If cancelled: closed all the same."""
        await self.inner.close()

    async def commit(self, changes: Sequence[Change]) -> None:
        """As the store does. If cancelled: as the store says."""
        await self.inner.commit(changes)

    async def last(self, stream: str) -> int:
        """As the store does. If cancelled: nothing has changed."""
        return await self.inner.last(stream)

    async def scan(self, prefix: str, after: str = "", limit: int | None = None) -> list[Document]:
        """As the store does. If cancelled: nothing has changed."""
        return await self.inner.scan(prefix, after, limit)

    async def get(self, key: str) -> Document | None:
        """One document, of an archived session too. If cancelled: nothing has changed."""
        document = await self.inner.get(key)
        if document is not None or not key.startswith(SESSION):
            return document
        found = await self._session(key.removeprefix(SESSION))
        return None if found is None or key not in found.documents else Document(key, 1, found.documents[key])

    async def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Record]:
        """Records after a sequence, archived ones too. If cancelled: nothing has changed."""
        after = max(after, 0)
        records = await self.inner.read(stream, after, limit)
        if limit == 0 or (records and records[0].sequence == after + 1):
            return records
        if not records and await self.inner.last(stream) <= after:
            return records
        archived = await self._archived(stream, after, limit)
        left = None if limit is None else limit - len(archived)
        if not archived or left == 0:
            return archived or records
        return archived + await self.inner.read(stream, archived[-1].sequence, left)

    async def _archived(self, stream: str, after: int, limit: int | None) -> list[Record]:
        """The archived records after a sequence, without gaps."""
        found: list[Record] = []
        while limit is None or len(found) < limit:
            contents = await self._part(stream, after)
            if contents is None:
                break
            part = [record for record in contents.records if record.sequence > after]
            found += part
            after = contents.records[-1].sequence
        return found[:limit]

    async def _part(self, stream: str, after: int) -> Contents | None:
        """The file that holds the record that follows, if there is one."""
        if stream.startswith(SESSION):
            contents = await self._session(stream.removeprefix(SESSION))
            return contents if contents is not None and contents.records[-1].sequence > after else None
        if stream != AUDIT:
            return None
        for document in await self.inner.scan(AUDITS):
            place = from_bytes(document.body, Archived)
            if place.first <= after + 1 <= place.last:
                return await self.contents(place, stream)
        return None

    async def _session(self, session_id: str) -> Contents | None:
        document = await self.inner.get(SESSIONS + session_id)
        if document is None:
            return None
        return await self.contents(from_bytes(document.body, Archived), SESSION + session_id)

    async def contents(self, place: Archived, stream: str) -> Contents:
        """What a file holds. Raises `QuarantinedError`, `StoreError`. If cancelled: nothing has changed."""
        found = await self.in_thread(self.archive.read, place.path, place.sha256)
        if found.stream != stream:
            raise QuarantinedError(f"the archive file {place.path} is of {found.stream}, not of {stream}")
        return found

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Work on the archive, off the event loop. If cancelled: it is finished first."""
        with no_time_passes():
            return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)


class CheckedArchivedStore(ArchivedStore):
    """The same over a store that can tell damaged bytes from good ones."""

    inner: CheckedStore  # type: ignore[assignment]  # both protocols, which Python cannot say

    async def damaged(self) -> list[Damage]:
        """As the store does. If cancelled: nothing has changed."""
        return await self.inner.damaged()

    async def verify(self) -> Verification:
        """As the store does. If cancelled: what was found is remembered."""
        return await self.inner.verify()


def with_archive(store: KnowledgeStore, archive: Archive) -> ArchivedStore:
    """The store, reading on in the archive."""
    return (CheckedArchivedStore if isinstance(store, CheckedStore) else ArchivedStore)(store, archive)
