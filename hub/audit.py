"""The audit log: one ordered record of every governance event, written in the same commit as the event itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..mailbox.clock import Clock, iso
from ..mailbox.frozen import FrozenDict, freeze
from .log_writer import LogWriter
from .stores.protocol import Append

STREAM = "audit"
PAGE = 1024


class AuditRecord(FrozenDict):
    """One record: a frozen dict with `at`, `kind` and the kind's own fields, which are attributes as well."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"an audit record of kind {self.get('kind')!r} has no field {name!r}") from None


class AuditLog:
    """Appends in order, reads back in pages."""

    def __init__(self, writer: LogWriter, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._watchers: list[Callable[[AuditRecord], None]] = []
        self.total_records = 0
        self.total_lost = 0

    def record(self, kind: str, **fields: Any) -> AuditRecord:
        """A record stamped now. It is in the log once its `change` is committed."""
        return AuditRecord({"at": iso(self._clock.time()), "kind": kind, **freeze(fields, "audit")})

    def change(self, *records: AuditRecord) -> Append:
        """The change that appends the records, to be committed together with what they tell of."""
        return Append(STREAM, tuple(msgspec.json.encode(record) for record in records))

    def committed(self, *records: AuditRecord) -> None:
        """Tell the watchers of records that are durable now."""
        self.total_records += len(records)
        for record in records:
            for watcher in self._watchers:
                watcher(record)

    def write(self, kind: str, **fields: Any) -> None:
        """Append a record on its own; it is durable soon after."""
        record = self.record(kind, **fields)

        def done(error: Exception | None) -> None:
            if error is None:
                self.committed(record)
            else:
                self.total_lost += 1

        self._writer.submit((self.change(record),), done)

    def watch(self, watcher: Callable[[AuditRecord], None]) -> Callable[[], None]:
        """Call a synchronous, quick `watcher` with every record from now on; returns how to stop."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    async def read_all(self) -> list[AuditRecord]:
        """Every record, oldest first. If cancelled: nothing has changed."""
        await self._writer.flush()
        records: list[AuditRecord] = []
        after = 0
        while page := await self.read(after=after, limit=PAGE):
            records.extend(record for _, record in page)
            after = page[-1][0]
        return records

    async def read(self, *, after: int = 0, limit: int = PAGE, kind: str | None = None) -> list[tuple[int, AuditRecord]]:
        """One page of `(sequence, record)` after a sequence, all kinds or one. If cancelled: nothing has changed."""
        found: list[tuple[int, AuditRecord]] = []
        while len(found) < limit and (page := await self._writer.store.read(STREAM, after, PAGE)):
            for sequence, body in page:
                record = AuditRecord(freeze(msgspec.json.decode(body), "audit"))
                if (kind is None or record["kind"] == kind) and len(found) < limit:
                    found.append((sequence, record))
            after = page[-1].sequence
        return found

    async def tail(self, count: int = 20) -> list[AuditRecord]:
        """The newest records, oldest of them first. If cancelled: nothing has changed."""
        await self._writer.flush()
        last = await self._writer.store.last(STREAM)
        return [record for _, record in await self.read(after=max(0, last - count), limit=count)]
