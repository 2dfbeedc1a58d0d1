"""The audit log: one ordered record of every governance event, written in the same commit as the event itself.

Each record carries the chain's value at a point that was durable when it was written (`audit_chain`), so a record that
was changed, removed or moved afterwards is found by `verify`. Readers come by sequence: the log is its own buffer, so
one that follows it live and falls behind costs the hub nothing and misses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, overload

import attrs
import msgspec
import trio

from ..actors.runtime.supervisor import Supervisor
from ..mailbox.clock import Clock, iso
from ..mailbox.codec import encode_exactly
from ..mailbox.errors import AgorioError, HubClosedError, InvalidInput, StoreError
from ..mailbox.frozen import FrozenDict, freeze
from .audit_chain import AuditAnchor, AuditVerdict, Chain, anchor_from_bytes, anchor_to_bytes
from .audit_following import AuditSubscription, AuditTail, Note, start_calling
from .log_writer import LogWriter
from .stores.protocol import Append, Put
from .stores.protocol import Record as Stored

STREAM = "audit"
ANCHOR_KEY = "audit-anchor"
ANCHOR_EVERY = 1024
PAGE = 1024
CHAIN = "chain"
_PEOPLE = ("agent_id", "creator_id", "owner_id", "by")
_CROWDS = ("participants", "violators")
_log = logging.getLogger("agorio.hub")


class AuditRecord(FrozenDict):
    """One record: a frozen dict with `at`, `kind` and the kind's own fields, which are attributes as well."""

    __slots__ = ("_body",)
    _body: bytes

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"an audit record of kind {self.get('kind')!r} has no field {name!r}") from None


@attrs.frozen
class Filter:
    """Which records a reader wants."""

    kinds: frozenset[str] | None = None
    """Only these kinds; None is all."""
    agent_id: str | None = None
    """Only those that concern this agent."""
    session_id: str | None = None
    """Only those of this session."""

    def fits(self, record: AuditRecord) -> bool:
        """Whether the reader wants it."""
        if self.kinds is not None and record.get("kind") not in self.kinds:
            return False
        if self.session_id is not None and record.get("session_id") != self.session_id:
            return False
        return self.agent_id is None or _concerns(record, self.agent_id)


class AuditLog:
    """Appends in order, reads back in pages, follows live."""

    def __init__(self, writer: LogWriter, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._watchers: list[Callable[[AuditRecord], None]] = []
        self._chain = Chain()
        self._anchored = 0
        self._news: trio.Event | None = None
        self._is_open = self._is_closed = False
        self.problems: tuple[str, ...] = ()
        self.unreadable: dict[int, str] = {}
        self.total_records = 0
        self.total_lost = 0
        self.group: Supervisor | None = None
        self._callbacks = 0

    # Opening and closing.

    async def open(self) -> None:
        """Take up the chain: what follows the last anchor is read and checked.

        Raises `StoreError` where the store fails; damage in the log is reported and does not keep the hub from opening.
        If cancelled: it is not taken up.
        """
        try:
            document = await self._writer.store.get(ANCHOR_KEY)
            anchor = anchor_from_bytes(document.body) if document is not None else AuditAnchor()
            if anchor.sequence > await self._writer.store.last(STREAM):
                self.problems = (f"the log ends before its anchor at {anchor.sequence}",)
                anchor = AuditAnchor()
            self._chain = chain = Chain(anchor)
            await self._feed(chain)
            self._anchored = anchor.sequence
        except AgorioError as error:
            if type(error) is StoreError:
                raise  # a chain that is begun anew over it would look like a forgery for ever
            self.problems = (*self.problems, f"the audit log cannot be read: {error}")
            chain = Chain()
        self._is_open = True
        self.problems = (*self.problems, *chain.problems)
        for problem in self.problems:
            _log.warning("audit: %s", problem)

    async def _feed(self, chain: Chain) -> None:
        while page := await self._writer.store.read(STREAM, chain.anchor.sequence, PAGE):
            for stored in page:
                chain.add(stored.body, _link_of(stored.body))

    async def close(self) -> None:
        """End those who follow, and keep the anchor. If cancelled: the next opening reads a little more."""
        self._is_closed = True
        self._ring()
        if not self._is_open:
            return
        try:
            await self._writer.store.commit([Put(ANCHOR_KEY, anchor_to_bytes(self.anchor))])
        except AgorioError as error:
            _log.warning("audit: the anchor could not be written: %s", error)
        _log.info("audit: %d records, anchor %s", self.anchor.sequence, self.anchor.head)

    @property
    def anchor(self) -> AuditAnchor:
        """The newest durable record's sequence and the chain's value there; kept elsewhere it proves the whole log."""
        return self._chain.anchor

    # Writing.

    def record(self, kind: str, **fields: Any) -> AuditRecord:
        """A record stamped now. It is in the log once its `change` is committed."""
        return AuditRecord({"at": iso(self._clock.time()), "kind": kind, **freeze(fields, "audit")})

    def change(self, *records: AuditRecord) -> Append:
        """The change that appends the records, to be committed together with what they tell of."""
        link = [self._chain.anchor.sequence, self._chain.anchor.head]
        for record in records:
            record._body = encode_exactly({**record, CHAIN: link})
        return Append(STREAM, tuple(record._body for record in records))

    def committed(self, *records: AuditRecord) -> None:
        """Take records that are durable now into the chain, in the order of the log, and tell of them."""
        self.chained(*records)
        self.announce(*records)

    def announce(self, *records: AuditRecord) -> None:
        """Tell the watchers of records that are in the chain."""
        for record in records:
            for watcher in tuple(self._watchers):
                watcher(record)

    def chained(self, *records: AuditRecord) -> None:
        """Take records into the chain in the step in which they became durable: the log's order is the chain's."""
        self.total_records += len(records)
        for record in records:
            self._chain.extend(record._body)
        if self._news is not None:
            self._ring()
        if self.anchor.sequence >= self._anchored + ANCHOR_EVERY:
            self._anchored = self.anchor.sequence
            self._writer.put_lazily(ANCHOR_KEY, lambda: anchor_to_bytes(self.anchor))

    def write(self, kind: str, **fields: Any) -> None:
        """Append a record on its own; it is durable soon after."""
        self.write_numbered(kind, lambda sequence: None, **fields)

    def write_numbered(self, kind: str, then: Callable[[int], None], /, **fields: Any) -> None:
        """Like `write`; `then` is told the record's sequence once it is durable."""
        record = self.record(kind, **fields)

        def done(error: Exception | None) -> None:
            if error is None:
                self.chained(record)
                then(self.anchor.sequence)
                self.announce(record)
            else:
                self.total_lost += 1
                _log.error("audit: a record of kind %s could not be written: %s", kind, error)

        self._writer.submit((self.change(record),), done)

    def watch(self, watcher: Callable[[AuditRecord], None]) -> Callable[[], None]:
        """Call a synchronous, quick `watcher` with every record from now on; returns how to stop."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher) if watcher in self._watchers else None

    # Reading.

    async def _flush(self) -> None:
        self._check_open()
        await self._writer.flush()

    def _check_open(self) -> None:
        if self._is_closed:
            raise HubClosedError("the hub is closed; open a new one with Hub.open(store)")

    async def read_all(self) -> list[AuditRecord]:
        """Every readable record, oldest first. Raises `HubClosedError`. If cancelled: nothing has changed."""
        await self._flush()
        records: list[AuditRecord] = []
        after, before = 0, -1
        while after > before:
            before = after
            page, after = await self._scan(after, PAGE, Filter())
            records.extend(record for _, record in page)
        return records

    async def read(
        self,
        *,
        after: int = 0,
        limit: int = PAGE,
        kind: str | Collection[str] | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> list[tuple[int, AuditRecord]]:
        """One page of `(sequence, record)` after a sequence, filtered before it is cut.

        If cancelled: nothing has changed.
        """
        self._check_open()
        if after < 0 or limit < 0:
            raise InvalidInput(f"after={after} and limit={limit} must not be negative", field="after")
        page, _ = await self._scan(after, limit, _filter(kind, agent_id, session_id))
        return page

    async def get(self, sequence: int) -> AuditRecord | None:
        """One record; None where there is none, or none that can be read. If cancelled: nothing has changed."""
        self._check_open()
        page, _ = await self._scan(sequence - 1, 1, Filter()) if sequence > 0 else ([], 0)
        return page[0][1] if page and page[0][0] == sequence else None

    async def _scan(self, after: int, limit: int, wanted: Filter) -> tuple[list[tuple[int, AuditRecord]], int]:
        """Up to `limit` records that fit, and the sequence after which to read on."""
        found: list[tuple[int, AuditRecord]] = []
        while len(found) < limit:
            page = await self._writer.store.read(STREAM, after, PAGE)
            if not page:
                break
            for stored in page:
                after = stored.sequence
                record = self._decode(stored)
                if record is not None and wanted.fits(record):
                    found.append((stored.sequence, record))
                    if len(found) == limit:
                        break
        return found, after

    def _decode(self, stored: Stored) -> AuditRecord | None:
        """The record, or None for one that is torn or foreign: it is reported, and the rest is read all the same."""
        try:
            return _decoded(stored.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, AgorioError) as exc:
            if stored.sequence not in self.unreadable and len(self.unreadable) < PAGE:
                self.unreadable[stored.sequence] = str(exc)
                _log.warning("audit: record %d is unreadable: %s", stored.sequence, exc)
            return None

    async def tail(self, count: int = 20, *, n: int | None = None, limit: int | None = None) -> list[AuditRecord]:
        """The newest records, oldest of them first; `n` and `limit` are `count`. If cancelled: nothing has changed."""
        count = next((given for given in (n, limit) if given is not None), count)
        await self._flush()
        last = await self._writer.store.last(STREAM)
        return [record for _, record in await self.read(after=max(0, last - max(0, count)), limit=count)]

    @overload
    def subscribe(
        self,
        callback: None = None,
        *,
        after: int | None = None,
        kind: str | Collection[str] | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> AuditTail: ...

    @overload
    def subscribe(
        self,
        callback: Note,
        *,
        after: int | None = None,
        kind: str | Collection[str] | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> AuditSubscription: ...

    def subscribe(
        self,
        callback: Note | None = None,
        *,
        after: int | None = None,
        kind: str | Collection[str] | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> AuditTail | AuditSubscription:
        """The records from now on, or after a sequence, as they become durable, until the hub closes.

        `async for record in hub.audit_log.subscribe(kind="denied")`, or as a block: `async with ... as records`. With a
        `callback(record)`, async or quick, that is called with each instead; the result's `cancel()` ends it. Raises
        `HubClosedError`.
        """
        self._check_open()
        start = self.anchor.sequence if after is None else after
        tail = AuditTail(self, start, _filter(kind, agent_id, session_id))
        if callback is None:
            return tail
        assert self.group is not None, "the log belongs to an open hub"
        self._callbacks += 1
        return start_calling(self.group, tail, callback, self._callbacks)

    follow = subscribe

    async def next_page(self, after: int, wanted: Filter) -> tuple[list[tuple[int, AuditRecord]], int]:
        """The next records that fit, waiting for them; an empty page once the log has closed.

        If cancelled: nothing has changed.
        """
        while True:
            if after < self.anchor.sequence:
                page, after = await self._scan(after, PAGE, wanted)
                if page:
                    return page, after
            elif self._is_closed:
                return [], after
            else:
                if self._news is None:
                    self._news = trio.Event()
                await self._news.wait()

    def _ring(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.set()

    async def verify(self, anchor: AuditAnchor | None = None) -> AuditVerdict:
        """Read the whole log and check the chain, also against an anchor of earlier. If cancelled: nothing is known."""
        await self._flush()
        chain = Chain(expected=anchor)
        await self._feed(chain)
        return chain.verdict()


def _decoded(body: bytes) -> AuditRecord:
    fields = msgspec.json.decode(body, type=dict[str, Any])
    fields.pop(CHAIN, None)
    return AuditRecord(freeze(fields, "audit"))


def decode_record(body: bytes) -> AuditRecord | None:
    """The record that was stored as `body`; None for one that is torn or foreign."""
    try:
        return _decoded(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, AgorioError):
        return None


def _filter(kind: str | Collection[str] | None, agent_id: str | None, session_id: str | None) -> Filter:
    kinds = frozenset([kind]) if isinstance(kind, str) else None if kind is None else frozenset(kind)
    return Filter(kinds, agent_id, session_id)


def _concerns(record: AuditRecord, agent_id: str) -> bool:
    return any(record.get(field) == agent_id for field in _PEOPLE) or any(
        agent_id in (record.get(field) or ()) for field in _CROWDS
    )


def _link_of(body: bytes) -> Any:
    """What the record says of the chain before it; None for one that cannot be read."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any]).get(CHAIN)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
