"""Expectations at work: when each session is next due, and what happens when it is.

A heap holds one instant per session, never later than its true next firing, and none for a session in which nobody is
waited for. An envelope costs one comparison; the session's activity is folded from the log only when its instant comes,
and only the part that is new since. A firing is noted in the same commit as its audit record and what follows from it,
so that no restart fires it again: a warning is said in the session and so in its log, all others are kept in a document
beside it, and the log says nothing of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs
import msgspec
import trio

from ..actors.sessions.expectations import (
    EVALUATORS,
    Activity,
    Due,
    Evaluator,
    check_expectations,
    fold_activity,
    mark_fired,
    next_due,
    overdue,
    seconds_of,
    start_activity,
    with_fired,
)
from ..actors.sessions.judging import Close, Note
from ..actors.sessions.lifecycle import Live, begin, fold
from ..actors.sessions.metadata import Expectation, SessionState
from ..mailbox.clock import Clock, parse_iso
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, InvalidInput, QuarantinedError
from ..mailbox.events import AUDIT_KIND_EXPECTATION_VIOLATED, EV_EXPECTATION_VIOLATED
from .audit import AuditLog, AuditRecord
from .deadlines import Deadlines
from .directory import Entry
from .log_writer import Done, LogWriter
from .session import SessionCell, stream_of
from .sessions import Sessions
from .stores.protocol import Document, Put

PAGE = 1024
REACTIONS = ("audit", "warn", "hide", "auto_close")
ROLES = ("initiator", "respondent", "participant")
RETRY = 60.0
PREFIX = "fired/"


@attrs.frozen
class Violation:
    """What a reaction of your own is told."""

    session_id: str
    """Where."""
    expectation: Expectation
    """What was violated."""
    violators: tuple[str, ...]
    """Who is being waited for; empty where it is the session as a whole."""
    detail: str
    """In words."""


Reaction: TypeAlias = Callable[[Violation], Awaitable[None] | None]
ViolationHandler: TypeAlias = Reaction


@attrs.define
class Watch:
    """What is kept of one session."""

    at: float
    """Its instant in the heap; infinity where it has none."""
    least: float
    """The shortest of its expectations, in seconds."""
    activity: Activity | None = None
    """The fold so far; None until the instant first comes."""
    live: Live | None = None
    """The session's own fold up to the same point: it knows whose turn it was then."""
    folded: int = 0
    """The sequence up to which both are folded."""


class Expectations:
    """The expectations of all sessions."""

    def __init__(self, sessions: Sessions, audit: AuditLog, writer: LogWriter, clock: Clock) -> None:
        self._sessions = sessions
        self._audit = audit
        self._writer = writer
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._unseen: dict[str, float] = {}  # the instants of those that were never due: most have nothing but that
        self._due = Deadlines()
        self._evaluators: dict[str, Evaluator] = dict(EVALUATORS)
        self._reactions: dict[str, Reaction] = {}
        self._fired: dict[str, dict[str, int]] = {}  # what the documents hold, by session
        self.skip_turn: Callable[..., bool] = lambda cell, agent_id, reason, **along: False
        self.total_violations = 0
        self.total_folds = 0

    # What there is to expect.

    def add_evaluator(self, name: str, evaluator: Evaluator) -> None:
        """Add an expectation. Sessions that asked for it already are looked at anew."""
        _check_new("expectation", name, self._evaluators, evaluator)
        self._evaluators[name] = evaluator
        now = self._clock.time()
        for session_id, watch in self._watches.items():
            self._set(session_id, watch, now)
        for session_id in self._unseen:
            self._unseen[session_id] = now
            self._due.add(now, session_id)

    def add_reaction(self, name: str, reaction: Reaction) -> None:
        """Add what an `on_violation` may say."""
        _check_new("reaction", name, (*REACTIONS, *self._reactions), reaction)
        self._reactions[name] = reaction

    def check(self, expectations: Iterable[Expectation], members: Sequence[str] | None = None) -> None:
        """Refuse what would never fire: unknown names, reactions, parameters and members. Raises `InvalidInput`."""
        check_expectations(expectations, tuple(self._evaluators), (*REACTIONS, *self._reactions), members)

    def prepare(self, expectations: Iterable[Expectation], members: Sequence[Entry]) -> tuple[Expectation, ...]:
        """The expectations of an opening, checked, with ids where `applies_to` has names."""
        ids = {entry.name: entry.agent_id for entry in members}
        prepared = tuple(
            attrs.evolve(one, applies_to=[ids.get(who, who) for who in one.applies_to]) if one.applies_to else one
            for one in expectations
        )
        self.check(prepared, (*ROLES, *ids.values()))
        return prepared

    # When a session is due.

    def observe(self, cell: SessionCell, envelope: Envelope) -> None:
        """A session has moved: it may be due earlier than it was known to be."""
        session_id = envelope.session_id
        if cell.live.terminal:
            self._unseen.pop(session_id, None)
            self._watches.pop(session_id, None)
            self._forget(session_id)
        elif session_id in self._unseen:
            return  # its instant follows from an earlier envelope or moment, and this one is later
        elif (watch := self._watches.get(session_id)) is None:
            self.enrol(cell, self._clock.time())
        elif (at := self._clock.time() + watch.least) < watch.at:
            self._set(session_id, watch, at)

    def enrol(self, cell: SessionCell, now: float) -> None:
        """Watch a session that was opened, or found in the store."""
        if cell.setup.expectations:
            at = self._unseen[cell.session_id] = now + _least(cell.setup.expectations)
            if at < math.inf:
                self._due.add(at, cell.session_id)

    def resume(self, session_id: str, least: float, at: float) -> None:
        """Watch a session that is not folded: nothing of it is due before `at`."""
        watch = self._watches[session_id] = Watch(at, least)
        self._set(session_id, watch, at)

    def due_of(self, session_id: str) -> float | None:
        """The instant before which nothing of a session is due; None where nobody is waited for."""
        watch = self._watches.get(session_id)
        return self._unseen.get(session_id) if watch is None else watch.at

    def _see(self, session_id: str) -> Watch | None:
        """The watch of a session whose instant has come, made where it is the first time."""
        at, cell = self._unseen.pop(session_id, None), self._sessions.resident(session_id)
        if at is not None:  # of one that was let go since, any move may make it due
            least = 0.0 if cell is None else _least(cell.setup.expectations)
            self._watches[session_id] = Watch(at, least)
        return self._watches.get(session_id)

    def _set(self, session_id: str, watch: Watch, at: float) -> None:
        watch.at = at
        if at < math.inf:
            self._due.add(at, session_id)

    # The sweep.

    async def sweep(self) -> int:
        """React to everything that is due; how many violations that were.

        A session that cannot be judged does not keep the others waiting: it is tried again later, and its error is
        raised when the rest is done. If cancelled: the rest is due still.
        """
        now, found = self._clock.time(), 0
        failures: list[Exception] = []
        while (session_id := self._due.take_due(now)) is not None:
            watch = self._see(session_id)
            if watch is None or watch.at > now:
                continue
            try:
                found += await self._sweep_one(session_id, watch, now)
            except trio.Cancelled:
                self._due.add(now, session_id)
                raise
            except Exception as exc:
                exc.add_note(f"in the expectations of session {session_id}")
                failures.append(exc)
                self._set(session_id, watch, now + RETRY)
        if failures:
            raise ExceptionGroup("some sessions' expectations could not be judged", failures)
        return found

    async def _sweep_one(self, session_id: str, watch: Watch, now: float) -> int:
        held = self._sessions.held(session_id)
        if held is None or held.is_terminal:
            del self._watches[session_id]
            return 0
        try:
            cell = await self._sessions.get(session_id)
        except QuarantinedError:  # the session table has reported it
            self._watches.pop(session_id, None)
            return 0
        if session_id in self._sessions.unknown_types:  # who is waited for is for its type to say
            self._set(session_id, watch, now + RETRY)
            return 0
        activity = await self._fold(cell, watch)
        violations = overdue(activity, cell.setup, now, self._evaluators)
        for violation in violations:
            if not cell.tail.terminal:
                await self._react(cell, watch, violation)
        if cell.tail.terminal:
            self._watches.pop(session_id, None)
        else:
            following = next_due(await self._fold(cell, watch), cell.setup, self._evaluators)
            at = math.inf if following is None else following.at
            self._set(session_id, watch, at if at > now else now + RETRY)  # what could not be noted fires again later
            self._sessions.keep_bookmark(cell)
        return len(violations)

    async def _fold(self, cell: SessionCell, watch: Watch) -> Activity:
        """Bring the fold up to what is durable."""
        adapter, setup = cell.adapter, cell.setup
        activity = watch.activity or with_fired(start_activity(setup), self._fired.get(cell.session_id, {}))
        live = watch.live or begin(setup, adapter)
        while watch.folded < cell.live.sequence:
            page = await self._writer.store.read(stream_of(cell.session_id), watch.folded, PAGE)
            for record in page:
                envelope = decode_envelope(record.body)
                live = fold(live, adapter, envelope)
                turn = adapter.expected_next(live.adapter_state) if live.state is SessionState.ACTIVE else None
                activity = fold_activity(activity, envelope, parse_iso(envelope.created_at), turn)
            self.total_folds += len(page)
            watch.live, watch.activity, watch.folded = live, activity, page[-1].sequence
        watch.live, watch.activity = live, activity
        return activity

    # Reactions.

    async def _react(self, cell: SessionCell, watch: Watch, due: Due) -> None:
        """React in the very commit that notes the firing, so that neither is without the other after a crash."""
        expectation = due.expectation
        if watch.activity is None:
            return  # noting the violation before this one has failed: all that are left fire again
        watch.activity = mark_fired(watch.activity, due.key)
        self.total_violations += 1
        again, record = partial(self._fire_again, cell, watch), self._record(cell, due)
        if expectation.on_violation == "warn":
            self._sessions.command(cell, Note(EV_EXPECTATION_VIOLATED, due.data()), again, (record,))
        elif expectation.on_violation == "auto_close":
            self._sessions.command(cell, Close(f"expectation_violated:{expectation.name}"), again, (record,))
        elif await self._note_quietly(cell, watch.activity, due, record, again):
            await self._call_reaction(cell, due)

    def _fire_again(self, cell: SessionCell, watch: Watch, error: AgorioError | None) -> None:
        if error is not None:  # nothing has happened: fold anew
            watch.activity, watch.live, watch.folded = None, None, 0
            self._set(cell.session_id, watch, self._clock.time() + RETRY)

    async def _note_quietly(
        self, cell: SessionCell, activity: Activity, due: Due, record: AuditRecord, again: Done
    ) -> bool:
        """Keep the firing beside the session, whose log says nothing of it, and pass over the turns of who is hidden.

        Whether it is durable. If cancelled: it becomes so all the same.
        """
        session_id, fired = cell.session_id, dict(activity.fired)
        put = Put(_key(session_id), msgspec.json.encode(fired))
        noted, outcome = trio.Event(), [False]

        def done(error: AgorioError | None) -> None:
            if error is None:
                outcome[0] = True
                self._fired[session_id] = fired
            again(error)
            noted.set()

        along: dict[str, Any] = {"done": done, "audits": (record,), "changes": (put,)}
        for who in due.violators if due.expectation.on_violation == "hide" else ():
            if self.skip_turn(cell, who, "silent", **along):
                along = {}
        if along:
            self._write(put, record, done)
        await noted.wait()
        return outcome[0]

    def _write(self, put: Put, record: AuditRecord, done: Done) -> None:
        def written(error: AgorioError | None) -> None:
            if error is None:
                self._audit.committed(record)
            done(error)

        self._writer.submit((put, self._audit.change(record)), written)

    async def _call_reaction(self, cell: SessionCell, due: Due) -> None:
        reaction = self._reactions.get(due.expectation.on_violation)
        if reaction is not None:
            detail = str(due.data()["detail"])
            result = reaction(Violation(cell.session_id, due.expectation, due.violators, detail))
            if inspect.isawaitable(result):
                await result

    def _record(self, cell: SessionCell, due: Due) -> AuditRecord:
        expectation = due.expectation
        return self._audit.record(
            AUDIT_KIND_EXPECTATION_VIOLATED,
            session_id=cell.session_id,
            expectation=expectation.name,
            on_violation=expectation.on_violation,
            params=expectation.params,
            violators=due.violators,
            detail=due.data()["detail"],
            key=due.key,
        )

    # Firings that no log tells of.

    def restore(self, document: Document) -> None:
        """Take up the firings of a session. Raises `QuarantinedError`."""
        try:
            fired = msgspec.json.decode(document.body, type=dict[str, int])
        except msgspec.MsgspecError as exc:
            raise QuarantinedError(f"stored firings are unreadable: {exc}") from exc
        self._fired[document.key.removeprefix(PREFIX)] = fired

    def forget_ended(self) -> None:
        """Let the firings go of sessions that have ended, as after a crash just then."""
        for session_id in list(self._fired):
            held = self._sessions.held(session_id)
            if (held is None and session_id not in self._sessions.quarantined) or (held and held.is_terminal):
                self._forget(session_id)

    def _forget(self, session_id: str) -> None:
        if self._fired.pop(session_id, None) is not None:
            self._writer.put_lazily(_key(session_id), lambda: None)

    def statistics(self) -> dict[str, Any]:
        """What is watched and what was found."""
        return {
            "watched": len(self._watches) + len(self._unseen),
            "waiting": len(self._due),
            "violations": self.total_violations,
            "folds": self.total_folds,
        }


def _key(session_id: str) -> str:
    return PREFIX + session_id


def _least(expectations: Iterable[Expectation]) -> float:
    """The shortest of them, in seconds."""
    return min(map(_seconds, expectations), default=math.inf)


def _seconds(expectation: Expectation) -> float:
    try:
        return seconds_of(expectation)
    except InvalidInput:
        return math.inf  # a stored expectation of a newer hub that this one cannot judge


def _check_new(what: str, name: str, known: Iterable[str], function: object) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"{what} {name!r} needs a name", field="name")
    if name in known:
        raise InvalidInput(f"{what} {name!r} exists already", field="name")
    if not callable(function):
        raise InvalidInput(f"{what} {name!r} needs a function, not a {type(function).__name__}", field=what)
