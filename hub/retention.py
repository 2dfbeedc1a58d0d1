"""Retention: what has ended and is settled goes to the archive after a while, and so does the oldest of the audit log.

A file is durable before the commit that lets its content go from the store, and that commit notes where it is. A crash
in between leaves both; the next sweep writes the same file again, or finds it, and finishes. Nothing is ever only gone.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from ..mailbox.clock import iso, parse_duration, parse_iso
from ..mailbox.codec import decode_envelope
from ..mailbox.errors import AgorioError, InvalidInput, StoreError
from ..mailbox.events import AUDIT_KIND_ARCHIVED
from .archive import Archived
from .archived_store import AUDIT, AUDITS, SESSION, SESSIONS, ArchivedStore
from .budgets import SESSIONS as SPENT
from .records import StoredSession, from_bytes, to_bytes
from .stores.protocol import Change, Document, Put, Record, Trim

if TYPE_CHECKING:
    from .services import Services

PAGE = 1024
MAX_SEGMENT = 50_000
DERIVED = ("cursor/", "snapshot/")  # what the log tells as well
_log = logging.getLogger("agorio.hub")


@attrs.frozen
class Retention:
    """How long a hub's store keeps what is over. `Hub.open(store, retention=Retention("archive", ...))`."""

    directory: str | Path
    """The folder of the archive; it is read from, whatever the rest says, and is as precious as the store."""
    archive_after: str | float | None = None
    """Sessions that ended so long ago are archived; None keeps them in the store."""
    audit_keep: int | None = None
    """The store keeps about so many audit records, up to a tenth more; older ones are archived. None keeps all."""
    interval: float = 3600.0
    """Seconds between sweeps; 0 leaves them to `hub._retention_tick()`."""

    @property
    def seconds(self) -> float | None:
        """`archive_after` in seconds."""
        return parse_duration(self.archive_after, "retention.archive_after")


def check_retention(retention: Retention) -> Retention:
    """The policy, if it is in range; raises `InvalidInput` that names the field."""
    keep, interval = retention.audit_keep, retention.interval
    _ = retention.seconds
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 1):
        raise InvalidInput(f"retention.audit_keep={keep!r} must be a whole number of at least 1", field="audit_keep")
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not interval >= 0:
        raise InvalidInput(f"retention.interval={interval!r} must be a number of seconds, 0 or more", field="interval")
    return retention


class Archivist:
    """Sweeps one hub's store."""

    def __init__(self, services: Services, store: ArchivedStore, policy: Retention) -> None:
        self._services = services
        self._store = store
        self._policy = policy
        self._turn = trio.Lock()
        self.total_sessions = 0
        self.total_audit_records = 0

    async def sweep(self, now: float) -> int:
        """One pass; how many sessions and audit records were archived. If cancelled: part of it is done."""
        async with self._turn:
            sessions = records = 0
            if (seconds := self._policy.seconds) is not None:
                sessions = await self._sweep_sessions(now - seconds)
            if self._policy.audit_keep is not None:
                records = await self._sweep_audit(self._policy.audit_keep)
            self.total_sessions += sessions
            self.total_audit_records += records
            if sessions or records:
                self._services.audit.write(AUDIT_KIND_ARCHIVED, sessions=sessions, audit_records=records)
            return sessions + records

    # Sessions.

    async def _sweep_sessions(self, before: float) -> int:
        after, done = "", 0
        while page := await self._store.scan(SESSION, after, PAGE):
            after = page[-1].key
            for document in page:
                try:
                    done += await self._look_at(document, before)
                except AgorioError as error:
                    if type(error) is StoreError:
                        raise  # the disk fails, which the supervisor reports; the next sweep goes on from here
                    _log.warning("%s is not archived: %s", document.key, error)
        return done

    async def _look_at(self, document: Document, before: float) -> bool:
        """Archive a session if it is time. One that somebody has yet to handle something of is left."""
        stored = from_bytes(document.body, StoredSession)
        session_id = stored.setup.session_id
        if stored.state == "open" or stored.setup.created_at > before:
            return False
        is_busy = self._services.sessions.resident(session_id) is not None
        if is_busy or await self._store.get(f"open/{session_id}") is not None:
            return False
        path = session_path(session_id, stored.setup.created_at)
        records = await self._records(document.key, 0, await self._store.last(document.key))
        if not records:
            return await self._finish(document, path)
        if records[0].sequence != 1:
            raise StoreError(f"the log of session {session_id} begins with record {records[0].sequence}")
        if parse_iso(decode_envelope(records[-1].body).created_at) > before:
            return False
        spent = await self._store.scan(f"{SPENT}{session_id}/")
        documents = {document.key: document.body, **{one.key: one.body for one in spent}}
        place = await self._store.in_thread(self._store.archive.write, path, document.key, records, documents)
        await self._let_go(document, place)
        return True

    async def _finish(self, document: Document, path: str) -> bool:
        """The log went and the document stayed, which only a failing disk can do: the file must be there."""
        found = await self._store.in_thread(self._store.archive.read, path)
        if not found.records or found.records[-1].sequence != await self._store.last(document.key):
            raise StoreError(f"the archive file {path} does not hold the whole of {document.key}")
        await self._let_go(document, Archived(path, 1, found.records[-1].sequence, found.sha256))
        return True

    async def _records(self, stream: str, after: int, through: int) -> list[Record]:
        """What the store itself holds of a stream."""
        found: list[Record] = []
        while after < through and (page := await self._store.inner.read(stream, after, min(PAGE, through - after))):
            found += page
            after = page[-1].sequence
        return found

    async def _let_go(self, document: Document, place: Archived) -> None:
        session_id = document.key.removeprefix(SESSION)
        extra = [f"{prefix}{session_id}" for prefix in DERIVED]
        for prefix in (SPENT, "keys/"):
            extra += [one.key for one in await self._store.scan(f"{prefix}{session_id}/")]
        changes: list[Change] = [Put(key, None) for key in extra]
        await self._services.writer.write(
            Trim(document.key, place.last),
            Put(document.key, None, document.version),
            Put(SESSIONS + session_id, to_bytes(place)),
            *changes,
        )

    # The audit log.

    async def _sweep_audit(self, keep: int) -> int:
        await self._services.writer.flush()
        last, done = await self._store.last(AUDIT), 0
        oldest = await self._store.inner.read(AUDIT, 0, 1)
        first = oldest[0].sequence if oldest else last + 1
        through = last - keep
        if through - first + 1 < max(1, keep // 10):
            return 0  # a file per record would be no bound either
        while first <= through:
            end = min(through, first + MAX_SEGMENT - 1)
            records = await self._records(AUDIT, first - 1, end)
            path = audit_path(first, end)
            place = await self._store.in_thread(self._store.archive.write, path, AUDIT, records)
            await self._services.writer.write(Put(f"{AUDITS}{first:020d}", to_bytes(place)), Trim(AUDIT, end))
            done += len(records)
            first = end + 1
        return done


def session_path(session_id: str, created_at: float) -> str:
    """The file of a session, by the time of its opening."""
    year, month = iso(created_at)[:7].split("-")
    return f"sessions/{year}/{month}/{session_id}.jsonl.gz"


def audit_path(first: int, last: int) -> str:
    """The file of a part of the audit log."""
    return f"audit/{first:012d}-{last:012d}.jsonl.gz"
