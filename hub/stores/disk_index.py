"""Where everything is: the index in memory, and the judging of changes against it. Pure.

`plan` judges a batch and computes every row and checksum of it without changing anything; `apply` takes the plan over
once its rows are durable. Between the two the index shows what is durable, so readers never see more.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from ...mailbox.errors import ConflictError, InvalidInput, QuarantinedError
from .damage import Damage
from .disk_integrity import LSN, Run, document_checksum, name_checksum, record_checksum
from .protocol import Append, Change, Put, Trim


class Stream:
    """One stream: where its records are, and the checksum that the next one continues.

    Of a trimmed stream the last record that was let go stays in the file: the checksum of the next one continues it.
    """

    __slots__ = ("base", "checksum", "id", "lsns")

    def __init__(self, number: int) -> None:
        self.id = number
        self.lsns: array[int] = array(LSN)
        self.checksum = 0
        self.base = 0

    @property
    def first(self) -> int:
        """The record that the first of `lsns` is of."""
        return self.base or 1

    @property
    def last(self) -> int:
        """The newest record."""
        return self.first - 1 + len(self.lsns)

    def rows(self, after: int, limit: int) -> Sequence[int]:
        """The rows of the records after a sequence, at most `limit`, led by the row that they continue."""
        return slice_of(self.lsns, after - (self.first - 1), limit)

    def trim(self, through: int) -> None:
        """Let the oldest go, but for the row that the next one continues."""
        self.lsns = self.lsns[through - self.first :]
        self.base = through


@attrs.define
class Tail:
    """How a stream would stand after a plan."""

    id: int
    """Its number."""
    length: int
    """How many records."""
    checksum: int
    """The last one's."""
    added: list[int] = attrs.field(factory=list)
    """Where the new records will be."""


@attrs.define
class Plan:
    """A judged batch: rows to be written, and what will hold when they are."""

    log: list[Any] = attrs.field(factory=list)
    """Values of new rows of `log`."""
    documents: list[Any] = attrs.field(factory=list)
    """Values of new rows of `document`."""
    names: list[Any] = attrs.field(factory=list)
    """Values of new rows of `stream`."""
    tails: dict[str, Tail] = attrs.field(factory=dict)
    """Streams that grow."""
    places: dict[str, tuple[int, int] | None] = attrs.field(factory=dict)
    """Documents that change: where the new version will be and its number, or None."""
    trims: dict[str, int] = attrs.field(factory=dict)
    """Streams whose oldest records go, and the newest of those."""
    dropped: list[int] = attrs.field(factory=list)
    """Rows of `log` that go."""
    marks: list[tuple[int, int]] = attrs.field(factory=list)
    """What is kept of that: streams' numbers, and the newest record that went."""
    last_log: int = 0
    """The last row of `log` with the plan."""
    last_document: int = 0
    """The last row of `document` with the plan."""


class Index:
    """The index of one store."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.documents: dict[str, tuple[int, int]] = {}
        self.damage: dict[tuple[str, str], Damage] = {}
        self.last_log = 0
        self.last_document = 0
        self.last_stream = 0
        self.first_document = 1
        self.next_block = 1
        self.recount: list[str] = []
        self.is_rebuilt = False
        self._keys: list[str] = []
        self._new_keys: set[str] = set()

    # Damage.

    def note(self, damage: Damage) -> QuarantinedError:
        """Remember it; the error to raise for it."""
        self.damage.setdefault((damage.kind, damage.name), damage)
        return _quarantined(damage)

    def check(self, kind: str, name: str) -> None:
        """Raise `QuarantinedError` where this stream or document is damaged."""
        if self.damage and (damage := self.damage.get((kind, name))) is not None:
            raise _quarantined(damage)

    # Judging.

    def plan(self, changes: Iterable[Change]) -> Plan:
        """The rows of a batch. Raises `ConflictError`, `QuarantinedError`, `InvalidInput`; nothing is changed then."""
        plan = Plan(last_log=self.last_log, last_document=self.last_document)
        for change in changes:
            if isinstance(change, Append):
                self._plan_append(plan, change)
            elif isinstance(change, Trim):
                self._plan_trim(plan, change)
            else:
                self._plan_put(plan, change)
        return plan

    def _plan_append(self, plan: Plan, change: Append) -> None:
        tail = plan.tails.get(change.stream) or self._tail(plan, change.stream)
        if change.expected is not None and change.expected != tail.length:
            raise ConflictError(
                f"stream {change.stream} is at {tail.length}, not at {change.expected}: another writer was first",
                stream=change.stream,
                expected=change.expected,
                actual=tail.length,
            )
        if not change.bodies:
            return
        self._plan_name(plan, change.stream, tail)
        number, length, checksum, lsn = tail.id, tail.length, tail.checksum, plan.last_log
        for body in change.bodies:
            length += 1
            lsn += 1
            checksum = record_checksum(number, length, body, checksum)
            plan.log += (lsn, number, length, checksum, body)
            tail.added.append(lsn)
        tail.length, tail.checksum, plan.last_log = length, checksum, lsn

    def _plan_trim(self, plan: Plan, change: Trim) -> None:
        self.check("stream", change.stream)
        stream = self.streams.get(change.stream)
        if stream is None:
            self._plan_start(plan, change)
            return
        through, done = min(change.through, stream.last), plan.trims.get(change.stream, stream.base)
        if through > done:
            plan.trims[change.stream] = through
            plan.dropped += stream.lsns[max(done, 1) - stream.first : through - stream.first]
            plan.marks.append((stream.id, through))

    def _plan_start(self, plan: Plan, change: Trim) -> None:
        """A stream that begins in the middle, with an empty row for the first one to continue."""
        if change.through < 1 or change.stream in plan.tails:
            return
        tail = Tail(0, change.through - 1, 0)
        self._plan_name(plan, change.stream, tail)
        plan.last_log += 1
        tail.length, tail.checksum = change.through, record_checksum(tail.id, change.through, b"", 0)
        plan.log += (plan.last_log, tail.id, tail.length, tail.checksum, b"")
        tail.added.append(plan.last_log)
        plan.trims[change.stream] = change.through
        plan.marks.append((tail.id, change.through))

    def _tail(self, plan: Plan, name: str) -> Tail:
        self.check("stream", name)
        known = self.streams.get(name)
        if known is None:
            return Tail(0, 0, 0)
        return Tail(known.id, known.last, known.checksum)

    def _plan_name(self, plan: Plan, name: str, tail: Tail) -> None:
        if not tail.id:
            _check_text(name, "stream")
            tail.id = self.last_stream + 1 + len(plan.names) // 3
            plan.names += (tail.id, name, name_checksum(tail.id, name))
        plan.tails[name] = tail

    def _plan_put(self, plan: Plan, change: Put) -> None:
        key = change.key
        place = plan.places[key] if key in plan.places else self._place(key)
        version = place[1] if place else 0
        if change.expected is not None and change.expected != version:
            raise ConflictError(
                f"document {key} is at version {version}, not {change.expected}: it was changed meanwhile",
                key=key,
                expected=change.expected,
                actual=version,
            )
        if change.body is None and not version:
            return
        if not version:
            _check_text(key, "key")
        plan.last_document += 1
        checksum = document_checksum(key, version + 1, change.body)
        plan.documents += (plan.last_document, key, version + 1, checksum, change.body)
        plan.places[key] = None if change.body is None else (plan.last_document, version + 1)

    def _place(self, key: str) -> tuple[int, int] | None:
        self.check("document", key)
        return self.documents.get(key)

    # What is durable.

    def apply(self, plan: Plan) -> None:
        """Take over a plan whose rows are durable."""
        for name, tail in plan.tails.items():
            stream = self.streams.get(name)
            if stream is None:
                stream = self.streams[name] = Stream(tail.id)
                stream.base = plan.trims.get(name, 0)
            stream.lsns.extend(tail.added)
            stream.checksum = tail.checksum
        for name, through in plan.trims.items():
            if through > self.streams[name].base:
                self.streams[name].trim(through)
        for key, place in plan.places.items():
            self.place(key, place)
        self.last_log, self.last_document = plan.last_log, plan.last_document
        self.last_stream += len(plan.names) // 3

    def place(self, key: str, place: tuple[int, int] | None) -> None:
        """A document is there now, or nowhere."""
        if place is None:
            self.documents.pop(key, None)
        else:
            if key not in self.documents:
                self._new_keys.add(key)
            self.documents[key] = place

    def keys(self, prefix: str, after: str, limit: int | None) -> list[str]:
        """Keys under a prefix in order."""
        if self._new_keys:
            kept = [key for key in self._keys if key in self.documents]
            self._keys = sorted(dict.fromkeys([*kept, *sorted(self._new_keys)]))  # two sorted runs: linear
            self._new_keys = set()
        keys = self._keys
        start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
        found: list[str] = []
        for at in range(start, len(keys)):
            if not keys[at].startswith(prefix) or (limit is not None and len(found) >= limit):
                break
            if keys[at] in self.documents:
                found.append(keys[at])
        return found

    def runs(self, first: int) -> list[Run]:
        """Every stream's records from that row of the log on."""
        found = []
        for stream in self.streams.values():
            if stream.lsns and stream.lsns[-1] >= first:
                start = bisect_left(stream.lsns, first)
                found.append(Run(stream.id, start + stream.first, stream.checksum, stream.lsns[start:]))
        return found


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{field}={text!r} is no text that can be stored", field=field) from exc


def _quarantined(damage: Damage) -> QuarantinedError:
    return QuarantinedError(f"{damage}; the rest of the store works", kind=damage.kind, name=damage.name)


def slice_of(lsns: Sequence[int], after: int, limit: int) -> Sequence[int]:
    """The rows of the records after a sequence, at most `limit`, led by the row that they continue."""
    end = min(len(lsns), after + limit)
    return lsns[max(after - 1, 0) : end] if end > after else ()
