"""All sessions at work: judged here, committed by the log writer, delivered when durable.

The order of one session is the order in which its steps were submitted. Each commit carries the envelopes, the audit
records and the documents that belong together, so a crash leaves all of them or none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from ..actors.sessions.adapters.registry import AdapterRegistry
from ..actors.sessions.handoff import resolve_target
from ..actors.sessions.judging import Close, Command, Depart, Invite, Post, Step, step
from ..actors.sessions.lifecycle import begin, recipients
from ..actors.sessions.metadata import SessionSetup
from ..mailbox.clock import Clock
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, ConflictError, StoreError
from ..mailbox.events import (
    AUDIT_KIND_SESSION_CLOSED,
    AUDIT_KIND_SESSION_CREATED,
    AUDIT_KIND_SESSION_EXPIRED,
    EV_HANDOFF,
    EV_PACKET,
    EV_SESSION_EXPIRED,
    TASK_EVENTS,
)
from .audit import AuditLog, AuditRecord
from .delivery import Delivery
from .desk import is_counted
from .directory import Directory, Entry
from .dormant import Dormant, bookmark_of, outline_of
from .governance import Governance, Grant
from .log_writer import LogWriter
from .records import StoredSession, to_bytes
from .session import Answer, SessionCell, Work
from .session_log import SessionLog
from .session_table import SessionTable
from .snapshots import Snapshots
from .stores.protocol import Change, NowaitStore, Put
from .unknown_types import UnknownTypes

if TYPE_CHECKING:
    from .tasks import TaskTable, TaskWork

ROUTED = frozenset({EV_HANDOFF, EV_PACKET})


class Sessions(SessionTable):
    """The sessions of one hub."""

    tasks: TaskTable
    due_of: Callable[[str], float | None]

    def __init__(
        self,
        *,
        writer: LogWriter,
        audit: AuditLog,
        clock: Clock,
        mint: Callable[[], str],
        directory: Directory,
        governance: Governance,
        adapters: AdapterRegistry,
        on_envelope: Callable[[SessionCell, Envelope], None],
    ) -> None:
        super().__init__(writer.store, directory, adapters, Snapshots(writer.store, writer, mint))
        self._writer = writer
        self._audit = audit
        self.clock = clock
        self._mint = mint
        self._governance = governance
        self._on_envelope = on_envelope
        self.delivery = Delivery(directory, self, writer, clock)
        self.unknown_types = UnknownTypes(self)
        self.on_taken_up = self.unknown_types.hold
        self._is_nowait = isinstance(writer.store, NowaitStore)
        self.total_accepted = 0
        self._delivering = False
        self._later: deque[Callable[[], None]] = deque()

    # Commands.

    def create(self, setup: SessionSetup, creator: Entry, invitees: list[Entry]) -> SessionCell:
        """Open a session and invite. Raises what refuses it; nothing has changed then."""
        adapter = self.adapters.get(setup.manifest.type, setup.manifest.version)
        adapter.validate_create(setup)
        self._governance.check_open(setup, creator, invitees)
        live = begin(setup, adapter)
        cell = SessionCell(live, live, adapter, SessionLog())
        result = step(live, adapter, Invite(), self.clock.time(), self._mint)
        record = self._audit.record(
            AUDIT_KIND_SESSION_CREATED,
            session_id=setup.session_id,
            type=setup.manifest.type,
            version=setup.manifest.version,
            creator_id=setup.creator_id,
            participants=setup.participants,
        )
        key, append = setup.session_id, cell.append_of(result)
        stored = Put(append.stream, to_bytes(StoredSession(setup)), 0)  # the document has the stream's name
        grant = Grant(bucket=self._governance.take_token(creator))  # last: nothing that may raise comes after it
        self._cells[key] = cell
        self.enrol(cell)

        def done(error: AgorioError | None) -> None:
            cell.failure = error

        outline = Put(f"open/{key}", outline_of(setup).to_bytes())
        self._commit(cell, Work(result, append, grant, (stored, outline), (record,), done))
        if cell.failure is not None:
            raise cell.failure
        return cell

    def post(self, cell: SessionCell, envelope: Envelope, sender: Entry, answer: Answer) -> None:
        """Judge a member's envelope; `answer` is called when it is durable. Raises its refusal, or `MustWait`."""
        first = cell.first_sequence(envelope)
        if first is not None:
            self._answer_duplicate(cell, envelope, first, answer)
            return
        if envelope.event_type in ROUTED:
            envelope = self._resolved(envelope)
        post = Post(envelope) if envelope.event_type not in TASK_EVENTS else self.tasks.admit(cell, envelope, sender)
        result = step(cell.tail, cell.adapter, post, self.clock.time(), self._mint)
        if not result.envelopes:
            answer(envelope, None, True)
            return
        stamped, append = result.envelopes[0], cell.append_of(result)
        grant = None  # taken last: nothing that may still raise comes between it and the commit
        if is_counted(stamped):
            grant = self._admit(cell, stamped, sender)
        if stamped.idempotency_key is not None:
            cell.log.remember(stamped)

        def done(error: AgorioError | None) -> None:
            if error is not None and stamped.idempotency_key is not None:
                cell.log.forget(stamped.sender_id, stamped.idempotency_key)
            self._answer_all(cell, stamped, error, answer)

        self._commit(cell, Work(result, append, grant, done=done))

    def _resolved(self, envelope: Envelope) -> Envelope:
        """A handoff may name its target; the log holds ids."""
        data = resolve_target(envelope.event_type, envelope.event_data, lambda who: self._directory.entry(who).agent_id)
        return attrs.evolve(envelope, event_data=data)

    def _admit(self, cell: SessionCell, stamped: Envelope, sender: Entry) -> Grant:
        get = self._directory.get
        entries = [entry for who in recipients(cell.setup, stamped) if (entry := get(who)) is not None]
        return self._governance.check_send(stamped, sender, entries, counted=True)

    def _answer_all(self, cell: SessionCell, stamped: Envelope, error: AgorioError | None, answer: Answer) -> None:
        retries = cell.waiting.pop((stamped.sender_id, stamped.idempotency_key or ""), []) if cell.waiting else []
        answer(None if error else stamped, error, False)
        for retry in retries:
            retry(None if error else stamped, error, True)

    def _answer_duplicate(self, cell: SessionCell, envelope: Envelope, first: int, answer: Answer) -> None:
        """A retry returns the first result: from the log, or when the first is durable."""
        if first > cell.live.sequence:
            waiting = cell.waiting = cell.waiting if cell.waiting is not None else {}
            waiting.setdefault((envelope.sender_id, envelope.idempotency_key or ""), []).append(answer)
            return
        self.delivery.answer_from_log(cell, first, answer)

    def command(
        self,
        cell: SessionCell,
        command: Command,
        done: Callable[[AgorioError | None], None] | None = None,
        audits: tuple[AuditRecord, ...] = (),
        changes: tuple[Change, ...] = (),
    ) -> None:
        """The hub's own step: close, expire, skip, note, depart. Raises its refusal.

        Audits and changes come in the same commit.
        """
        result = step(cell.tail, cell.adapter, command, self.clock.time(), self._mint)
        if result.envelopes:
            self._commit(cell, Work(result, cell.append_of(result), None, changes, audits, done))
        elif done is not None:
            done(None)

    def close(
        self,
        cell: SessionCell,
        reason: str,
        *,
        by: str = "",
        expired: bool = False,
        done: Callable[[AgorioError | None], None] | None = None,
    ) -> None:
        """End a session; ending an ended one does nothing."""
        self.command(cell, Close(reason, by, expired), done)

    def depart(self, cell: SessionCell, agent_id: str) -> None:
        """A member was unregistered."""
        self.command(cell, Depart(agent_id))

    # Commit.

    def _commit(self, cell: SessionCell, work: Work) -> None:
        before, result, epoch = cell.tail, work.step, cell.epoch
        changes: tuple[Change, ...] = (work.append, *work.changes)
        audits = work.audits
        if result.live.terminal and not before.terminal:
            changes, audits = self._ending(cell, result, changes, audits)
        tasks = None
        if result.live.tasks is not before.tasks:
            tasks = self.tasks.of_step(before.tasks, result)
            changes, audits = (*changes, *tasks.changes), (*tasks.audits, *audits)
        if audits:
            changes = (*changes, self._audit.change(*audits))
        cell.tail = result.live

        def done(error: AgorioError | None) -> None:
            if error is None:
                self._committed(cell, work, audits, tasks, ended=result.live.terminal and not before.terminal)
            else:
                error = self._failed(cell, work, error, epoch)
                if tasks is not None:
                    self.tasks.settle(tasks, error)
            if work.done is not None:
                work.done(error)
            while self._later and not self._delivering:  # last: what reacts builds on all that this commit has led to
                self._later.popleft()()

        self._writer.submit(changes, done)

    def _ending(
        self, cell: SessionCell, result: Step, changes: tuple[Change, ...], audits: tuple[object, ...]
    ) -> tuple[tuple[Change, ...], tuple[object, ...]]:
        last = result.envelopes[-1]
        expired = last.event_type == EV_SESSION_EXPIRED
        kind = AUDIT_KIND_SESSION_EXPIRED if expired else AUDIT_KIND_SESSION_CLOSED
        record = self._audit.record(
            kind,
            session_id=cell.session_id,
            type=cell.setup.manifest.type,
            reason=last.event_data.get("reason"),
            by=last.event_data.get("by"),
        )
        stored = StoredSession(cell.setup, str(result.live.state))
        put = Put(f"session/{cell.session_id}", to_bytes(stored))
        return (*changes, put), (*audits, record)

    def _committed(
        self, cell: SessionCell, work: Work, audits: tuple[object, ...], tasks: TaskWork | None, *, ended: bool
    ) -> None:
        cell.live = work.step.live
        if cell.tail.sequence == cell.live.sequence:
            cell.tail = cell.live
        self.total_accepted += len(work.step.envelopes)
        if audits:
            self._audit.committed(*audits)  # type: ignore[arg-type]  # made by AuditLog.record
        if ended:
            self.no_longer_open(cell)
            self.unknown_types.release(cell)
        self._deliver(cell, work, tasks)
        cell.handshake_over()
        if ended:
            self.snapshots.write_all([cell])
            self.delivery.retire_if_settled(cell)
        if cell.session_id in self._cells:
            self.snapshots.note(cell)
            if not self._is_nowait:  # where opening costs no reading, bookmarks are written on closing only
                self.keep_bookmark(cell)

    async def leave(self) -> None:
        """The hub is closing: leave what spares the next one folding. If cancelled: the next one folds more."""
        cells = self.cells()
        self.snapshots.write_all(cells)
        for cell in cells:
            self.keep_bookmark(cell)
        await trio.lowlevel.checkpoint()

    def keep_bookmark(self, held: SessionCell | Dormant) -> None:
        """Write soon where the session stands; an older bookmark costs a fold at the next opening, nothing else."""
        session_id = held.session_id
        self._writer.put_lazily(f"cursor/{session_id}", lambda: self._bookmark(session_id))

    def _bookmark(self, session_id: str) -> bytes | None:
        """As it is when it is written; None removes that of a session which has gone meanwhile."""
        held = self.held(session_id)
        return None if held is None else self.bookmark(held)

    def bookmark(self, held: SessionCell | Dormant) -> bytes:
        """Where a session stands."""
        if isinstance(held, Dormant):
            return held.bookmark(self.delivery.mail(held), self._mint()).to_bytes()
        due, mail = self.due_of(held.session_id), self.delivery.mail(held)
        return bookmark_of(held.live, held.log, due, self._mint(), mail).to_bytes()

    def _deliver(self, cell: SessionCell, work: Work, tasks: TaskWork | None) -> None:
        is_outermost, self._delivering = not self._delivering, True
        try:
            if tasks is not None:
                self.tasks.settle(tasks, None)  # first: what a failed delivery leads to may end them
            for envelope in work.step.envelopes:
                self.delivery.deliver(cell, envelope, work.grant)
                self._on_envelope(cell, envelope)
        finally:
            self._delivering = not is_outermost

    def soon(self, react: Callable[[], None]) -> None:
        """React to a delivery that failed: now, or when every delivery of the step in hand is made."""
        if self._delivering:
            self._later.append(react)
        else:
            react()

    def _failed(self, cell: SessionCell, work: Work, error: AgorioError, epoch: int) -> AgorioError:
        """Nothing happened. What was judged on top of it fails at the store's fence, for no fault of its own."""
        if epoch == cell.epoch:
            cell.epoch += 1
            cell.tail = cell.live
        elif isinstance(error, ConflictError):
            error = StoreError("the store refused what this was to follow, so nothing of it was written; send it again")
        if work.grant is not None:
            work.grant.give_back()
        if not cell.live.sequence:
            self.forget(cell)
            if cell.opened is not None:
                cell.opened.set()
        return error
