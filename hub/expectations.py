"""Expectations at work: when each session is next due, and what happens when it is.

A heap holds one instant per session, never later than its true next firing. An envelope costs one comparison; the
session's activity is folded from the log only when its instant comes, and only the part that is new since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from ..actors.sessions.expectations import (
    Activity,
    Due,
    check_expectations,
    fold_activity,
    next_due,
    overdue,
    seconds_of,
    start_activity,
)
from ..actors.sessions.lifecycle import Close, Note
from ..actors.sessions.metadata import Expectation
from ..mailbox.clock import Clock, parse_iso
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import InvalidInput
from ..mailbox.events import AUDIT_KIND_EXPECTATION_VIOLATED, EV_EXPECTATION_VIOLATED
from .audit import AuditLog
from .deadlines import Deadlines
from .log_writer import LogWriter
from .session import SessionCell, stream_of
from .sessions import Sessions

PAGE = 1024
REACTIONS = ("audit", "warn", "hide", "auto_close")


@attrs.define
class Watch:
    """What is kept of one session."""

    at: float
    """Its instant in the heap."""
    least: float
    """The shortest of its expectations, in seconds."""
    activity: Activity | None = None
    """The fold so far; None until the instant first comes."""
    folded: int = 0
    """The sequence up to which it is folded."""


class Expectations:
    """The expectations of all sessions."""

    def __init__(self, sessions: Sessions, audit: AuditLog, writer: LogWriter, clock: Clock) -> None:
        self._sessions = sessions
        self._audit = audit
        self._writer = writer
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._due = Deadlines()
        self.skip_turn: Callable[[SessionCell, str, str], None] | None = None
        self.total_violations = 0

    def check(self, expectations: Iterable[Expectation]) -> None:
        """Refuse unknown names. Raises `InvalidInput` listing the known ones."""
        check_expectations(expectations, reactions=REACTIONS)

    def observe(self, cell: SessionCell, envelope: Envelope) -> None:
        """A session has moved: it may be due earlier than it was known to be."""
        session_id = envelope.session_id
        watch = self._watches.get(session_id)
        if watch is not None:
            if cell.live.terminal:
                del self._watches[session_id]
            elif (at := self._clock.time() + watch.least) < watch.at:
                self._set(session_id, watch, at)
        elif not cell.live.terminal and cell.setup.expectations:
            self.enrol(cell, self._clock.time())

    def enrol(self, cell: SessionCell, now: float) -> None:
        """Watch a session that was opened, or found in the store."""
        seconds = [_seconds(one) for one in cell.setup.expectations]
        if seconds:
            watch = self._watches[cell.session_id] = Watch(0.0, min(seconds))
            self._set(cell.session_id, watch, now + watch.least)

    def _set(self, session_id: str, watch: Watch, at: float) -> None:
        watch.at = at
        self._due.add(at, session_id)

    async def sweep(self) -> int:
        """React to everything that is due; how many violations that were. If cancelled: the rest is due still."""
        now = self._clock.time()
        found = 0
        for session_id in self._due.due(now):
            watch, cell = self._watches.get(session_id), self._sessions.resident(session_id)
            if watch is None or watch.at > now:
                continue
            if cell is None or cell.live.terminal:
                del self._watches[session_id]
                continue
            try:
                found += await self._sweep_one(cell, watch, now)
            except BaseException:
                self._due.add(watch.at, session_id)
                raise
        return found

    async def _sweep_one(self, cell: SessionCell, watch: Watch, now: float) -> int:
        activity = await self._fold(cell, watch)
        violations = overdue(activity, cell.setup, now)
        for violation in violations:
            if not cell.tail.terminal:
                self._react(cell, violation)
        self.total_violations += len(violations)
        if cell.tail.terminal:
            self._watches.pop(cell.session_id, None)
            return len(violations)
        following = next_due(await self._fold(cell, watch), cell.setup)
        self._set(cell.session_id, watch, following.at if following is not None else now + watch.least)
        return len(violations)

    async def _fold(self, cell: SessionCell, watch: Watch) -> Activity:
        """Bring the fold up to what is durable."""
        activity = watch.activity or start_activity(cell.setup)
        adapter, state = cell.adapter, None
        while page := await self._writer.store.read(stream_of(cell.session_id), watch.folded, PAGE):
            for record in page:
                envelope = decode_envelope(record.body)
                if record.sequence == cell.live.sequence or envelope.sequence == page[-1].sequence:
                    state = adapter.expected_next(cell.live.adapter_state)
                activity = fold_activity(activity, envelope, parse_iso(envelope.created_at), state)
            watch.folded = page[-1].sequence
        watch.activity = activity
        return activity

    def _react(self, cell: SessionCell, violation: Due) -> None:
        expectation = violation.expectation
        self._audit.write(
            AUDIT_KIND_EXPECTATION_VIOLATED,
            session_id=cell.session_id,
            expectation=expectation.name,
            on_violation=expectation.on_violation,
            params=expectation.params,
            violators=violation.violators,
            detail=violation.data()["detail"],
        )
        # The log remembers every firing, shown to the members only by `warn`, so that a restart does not fire it again.
        audience = None if expectation.on_violation == "warn" else ()
        self._sessions.command(cell, Note(EV_EXPECTATION_VIOLATED, violation.data(), audience))
        if expectation.on_violation == "hide" and self.skip_turn is not None:
            for who in violation.violators:
                self.skip_turn(cell, who, "silent")
        elif expectation.on_violation == "auto_close" and not cell.tail.terminal:
            self._sessions.command(cell, Close(f"expectation_violated:{expectation.name}"))

    def statistics(self) -> dict[str, Any]:
        """What is watched and what was found."""
        return {"watched": len(self._watches), "violations": self.total_violations}


def _seconds(expectation: Expectation) -> float:
    try:
        return seconds_of(expectation)
    except InvalidInput:
        return float("inf")  # a stored expectation of a newer hub that this one cannot judge
