"""Tasks at the hub: observed, limited, timed, and remembered in the track record of whoever did them.

A task of a session is a fold of that session's log; its events come here from the very commit that logs them. A task
without a session is told by operations and kept as a document. Either way the end of a task is one commit: the last
event, the task's document, the audit record and the track record, so that none of them is ever there without the rest
or twice. Only running tasks are in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import trio

from ..actors.sessions.judging import Note, Post, Step
from ..actors.sessions.tasks import (
    TTL_EXPIRED,
    TaskMetadata,
    TaskRequest,
    Tasks,
    end_data,
    fold_task,
    fold_tasks,
    judge_task_event,
    read_request,
)
from ..mailbox.clock import Clock, iso, parse_iso
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, AgorioError, InvalidInput
from ..mailbox.events import (
    AUDIT_KIND_TASK_TERMINATED,
    EV_TASK_CANCELLED,
    EV_TASK_EXPIRED,
    EV_TASK_STARTED,
    TASK_ENDS,
    TASK_EVENTS,
)
from .audit import AuditLog, AuditRecord
from .deadlines import Deadlines
from .directory import Directory, Entry, may_talk
from .governance import Governance
from .log_writer import LogWriter
from .records import to_bytes
from .session import SessionCell
from .stores.protocol import Change, Put
from .track_records import Stats, TrackRecords

if TYPE_CHECKING:
    from .sessions import Sessions

SLACK = 1024
OWNER_GONE = "owner_unregistered"
RESUMED = "resumed"

Move = tuple[TaskMetadata | None, TaskMetadata]
Done = Callable[[TaskMetadata | AgorioError], None]


@attrs.define
class RunningTask:
    """One running task in memory."""

    live: TaskMetadata
    """The fold of what is durable."""
    tail: TaskMetadata
    """The fold of what is submitted as well; a task of a session has its tail in the session's."""
    version: int = 0
    """Its newest checkpoint."""
    disturbed: trio.Event = attrs.field(factory=trio.Event)
    """Set when somebody asks to cancel it, or it ends."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    """Set when it ends."""


@attrs.define
class TaskWork:
    """Moves of tasks on their way into one commit."""

    moves: list[Move] = attrs.field(factory=list)
    """Each task before and after."""
    changes: list[Change] = attrs.field(factory=list)
    """What is committed."""
    audits: list[AuditRecord] = attrs.field(factory=list)
    """Records of ends."""
    stats: Stats = attrs.field(factory=dict)
    """Track records as they are committed."""


class TaskTable:
    """The running tasks of one hub."""

    def __init__(
        self,
        *,
        directory: Directory,
        sessions: Sessions,
        writer: LogWriter,
        audit: AuditLog,
        clock: Clock,
        governance: Governance,
        mint: Callable[[], str],
    ) -> None:
        self._directory = directory
        self._sessions = sessions
        self._writer = writer
        self._audit = audit
        self._clock = clock
        self._governance = governance
        self._mint = mint
        self._running: dict[str, RunningTask] = {}
        self._due = Deadlines()
        self.records = TrackRecords(directory, writer, clock)
        self.total_ended = 0

    def __len__(self) -> int:
        return len(self._running)

    def running(self, task_id: str) -> RunningTask | None:
        """A running task."""
        return self._running.get(task_id)

    def all_running(self) -> list[TaskMetadata]:
        """Every running task."""
        return [running.live for running in self._running.values()]

    # Before a session judges a member's task event.

    def admit(self, cell: SessionCell, envelope: Envelope, sender: Entry) -> Post:
        """The command for a member's task event. Raises `AccessDeniedError` where the owner has tasks enough.

        The end of a task is a fact that no rule can refuse; those to whom the owner may not talk are not shown it.
        """
        if envelope.event_type in TASK_ENDS:
            return Post(attrs.evolve(envelope, audience=self._allowed(cell, envelope, sender)))
        if envelope.event_type != EV_TASK_STARTED:
            return Post(envelope)
        self._check_start(sender, read_request(envelope.event_data))
        return Post(envelope, sender.rule.limits.task_ttl_default)

    def _allowed(self, cell: SessionCell, envelope: Envelope, sender: Entry) -> tuple[str, ...] | None:
        members = tuple(who for who in cell.setup.participants if who != sender.agent_id)
        asked = members if envelope.audience is None else envelope.audience
        governance = self._governance
        refusal = governance.refusal(governance.arbiter.authorize_send, envelope, sender.passport, asked)
        shown = () if refusal is not None else tuple(who for who in asked if self._may_see(envelope, sender, who))
        return envelope.audience if shown == asked else shown

    def _may_see(self, envelope: Envelope, sender: Entry, who: str) -> bool:
        recipient = self._directory.get(who)
        if recipient is None or recipient is sender:
            return True
        governance = self._governance
        gate = governance.arbiter.authorize_delivery
        return may_talk(sender, recipient) is None and governance.refusal(gate, envelope, recipient.passport) is None

    def _check_start(self, owner: Entry, request: TaskRequest) -> None:
        cap = owner.rule.limits.max_concurrent_tasks
        predecessor = self._running.get(request.resume_from or "")
        running = owner.open_tasks - (predecessor is not None and predecessor.live.owner_id == owner.agent_id)
        if cap and running >= cap:
            raise AccessDeniedError(
                f"{owner.name!r} has {running} running tasks, as many as limits.max_concurrent_tasks allows; "
                "end one first",
                field="limits.max_concurrent_tasks",
            )
        self.records.check(owner, request.spec.capability)

    # Into the commit of a session, or one of their own.

    def of_step(self, before: Tasks, step: Step) -> TaskWork:
        """What a session's step means for its tasks."""
        moves: list[Move] = []
        for envelope in step.envelopes:
            if envelope.event_type in TASK_EVENTS:
                old = before.get(str(envelope.event_data.get("task_id")))
                new = fold_task(old, envelope)
                before = fold_tasks(before, envelope)
                if new is not None and new is not old:
                    moves.append((old, new))
        return self._begin(moves)

    def _begin(self, moves: list[Move]) -> TaskWork:
        work = TaskWork(moves)
        for old, new in moves:
            owner = self._directory.get(new.owner_id)
            if old is None and owner is not None:
                owner.open_tasks += 1
            if new.is_terminal():
                self._end(work, new, owner)
            elif new.session_id is None:
                work.changes.append(Put(f"task/{new.task_id}", to_bytes(new)))
                if old is None:
                    work.changes.append(Put(f"running/{new.task_id}", b""))
        return work

    def _end(self, work: TaskWork, task: TaskMetadata, owner: Entry | None) -> None:
        work.changes.append(Put(f"task/{task.task_id}", to_bytes(task)))
        if task.session_id is None:
            work.changes.append(Put(f"running/{task.task_id}", None))
        if task.spec.capability is not None and owner is not None:
            work.changes.append(self.records.begin(owner, task, work.stats))
        work.audits.append(
            self._audit.record(
                AUDIT_KIND_TASK_TERMINATED,
                task_id=task.task_id,
                owner_id=task.owner_id,
                session_id=task.session_id,
                title=task.spec.title,
                outcome=str(task.state),
                capability=task.spec.capability,
                reason=task.reason if task.error is None else task.error,
                latency_ms=task.latency_ms,
                resumed_from=task.resumed_from,
            )
        )

    def settle(self, work: TaskWork, error: AgorioError | None) -> None:
        """The commit is over: apply the moves and wake whoever waits for them, or take them back."""
        if error is None:
            self._apply(work)
        else:
            self._take_back(work)

    def _apply(self, work: TaskWork) -> None:
        for old, new in work.moves:
            if old is None:
                self._enter(new)
            running = self._running[new.task_id]
            running.live = new
            if new.is_terminal():
                self._leave(running)
            elif new.cancel_requested_by is not None:
                self._disturb(running)
            if old is None and new.resumed_from is not None:
                self._supersede(new.resumed_from, new.owner_id)
        self.records.settle(work.stats)

    def _take_back(self, work: TaskWork) -> None:
        for old, new in work.moves:
            owner, running = self._directory.get(new.owner_id), self._running.get(new.task_id)
            if old is None and owner is not None:
                owner.open_tasks -= 1
            if running is not None:
                running.tail = running.live
                if running.live.expires_at is not None:
                    self._due.add(parse_iso(running.live.expires_at), new.task_id)
        self.records.take_back(work.stats)

    def _enter(self, task: TaskMetadata) -> None:
        self._running[task.task_id] = RunningTask(task, task)
        if task.expires_at is not None:
            self._due.add(parse_iso(task.expires_at), task.task_id)

    def _leave(self, running: RunningTask) -> None:
        task = running.live
        del self._running[task.task_id]
        if len(self._due) > 2 * len(self._running) + SLACK:
            self._due.keep(self._running)
        self.total_ended += 1
        owner = self._directory.get(task.owner_id)
        if owner is not None:
            owner.open_tasks -= 1
            self.records.enter(owner, task)
        running.disturbed.set()
        running.ended.set()

    def _supersede(self, task_id: str, owner_id: str) -> None:
        """A task that goes on with one still running takes its place."""
        running = self._running.get(task_id)
        if running is not None and running.live.owner_id == owner_id:
            self._sessions.soon(lambda: self.end(task_id, EV_TASK_CANCELLED, RESUMED))

    def _disturb(self, running: RunningTask) -> None:
        """Somebody asks for the end. Where the owner has no connection there is no body to be told."""
        running.disturbed.set()
        owner = self._directory.get(running.live.owner_id)
        if owner is None or owner.inbox.connection is None:
            task = running.live
            self._sessions.soon(lambda: self.end(task.task_id, EV_TASK_CANCELLED, task.cancel_reason))

    # Ends that the hub says.

    def end(self, task_id: str, event_type: str, reason: str | None) -> None:
        """End a task in its owner's name; one that has ended stays as it is."""
        running = self._running.get(task_id)
        if running is None:
            return
        session_id, data = running.live.session_id, end_data(event_type, task_id, reason)
        if session_id is None:
            self._advance(running, self._event(running.live.owner_id, event_type, data), _unheard)
            return
        cell = self._sessions.resident(session_id)
        if cell is not None:
            self._sessions.command(cell, Note(event_type, data, None, task_id))

    def sweep(self, now: float) -> int:
        """End what is past its TTL; how many tasks that were."""
        late = [task_id for task_id in self._due.due(now) if task_id in self._running]
        for task_id in late:
            self.end(task_id, EV_TASK_EXPIRED, TTL_EXPIRED)
        return len(late)

    def owner_gone(self, owner: Entry) -> None:
        """An agent is being unregistered: its tasks end, and its track record goes with it."""
        theirs = [running.live for running in self._running.values() if running.live.owner_id == owner.agent_id]
        for task in theirs:
            self.end(task.task_id, EV_TASK_CANCELLED, OWNER_GONE)
        self.records.forget(owner, [task.spec.capability for task in theirs if task.spec.capability is not None])

    # Tasks without a session.

    def start(self, owner: Entry, request: TaskRequest, done: Done) -> None:
        """Start one. Raises its refusal; `done` gets what became of it."""
        request = read_request(request.to_data())
        self._governance.check_parked(owner)
        self._check_start(owner, request)
        event = self._event(owner.agent_id, EV_TASK_STARTED, request.to_data())
        judged = judge_task_event({}, event, self._clock.time(), self._mint, owner.rule.limits.task_ttl_default)
        task = None if judged is None else fold_task(None, judged)
        assert task is not None, "a start that is not refused is news"
        self._submit((None, task), done)

    def update(self, owner: Entry, running: RunningTask, event_type: str, data: dict[str, Any], done: Done) -> None:
        """Take in the next event of one. Raises its refusal; `done` gets what became of it."""
        task = running.tail
        if running.live.session_id is not None:
            raise InvalidInput(f"task {task.task_id} belongs to session {task.session_id}; say {event_type} there")
        tasks = {} if task.is_terminal() else {task.task_id: task}
        event = self._event(owner.agent_id, event_type, data)
        judged = judge_task_event(tasks, event, self._clock.time(), self._mint, None)
        if judged is None:
            done(running.live)
        else:
            self._advance(running, judged, done)

    def _advance(self, running: RunningTask, event: Envelope, done: Done) -> None:
        before = running.tail
        after = fold_task(before, event)
        if after is not None and after is not before:
            running.tail = after
            self._submit((before, after), done)

    def _event(self, sender_id: str, event_type: str, data: dict[str, Any]) -> Envelope:
        return Envelope("", sender_id, None, event_type, data, created_at=iso(self._clock.time()))

    def _submit(self, move: Move, done: Done) -> None:
        work = self._begin([move])
        if work.audits:
            work.changes.append(self._audit.change(*work.audits))

        def finish(error: AgorioError | None) -> None:
            if error is None:
                self._audit.committed(*work.audits)
            self.settle(work, error)
            done(move[1] if error is None else error)

        self._writer.submit(tuple(work.changes), finish)

    # After a restart.

    def adopt(self, task: TaskMetadata, version: int = 0) -> None:
        """Take up a task that was running when the last hub closed."""
        self._enter(task)
        self._running[task.task_id].version = version
        owner = self._directory.get(task.owner_id)
        if owner is not None:
            owner.open_tasks += 1
        else:
            self.end(task.task_id, EV_TASK_CANCELLED, OWNER_GONE)


def _unheard(outcome: TaskMetadata | AgorioError) -> None:
    """The hub's own end: where it could not be written, the next sweep says it again."""
