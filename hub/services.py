"""What a hub is made of: built once, in order, and handed to the door. It assembles and decides nothing of its own."""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import trio

from ..actors.sessions import operations as ops
from ..actors.sessions.adapters.registry import AdapterRegistry
from ..actors.sessions.identity import Passport
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..mailbox.box import Statistics
from ..mailbox.clock import Clock
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, InvalidInput
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER, AUDIT_KIND_QUARANTINED, EV_SESSION_OPENED, SESSION_END
from ..mailbox.ids import IdGenerator
from .audit import AuditLog, AuditRecord
from .auth import AuthRegistry
from .budgets import Budgets
from .dead_letters import DeadLetters
from .directory import Directory, Entry, may_talk
from .dormant import Woken
from .events import EnvelopeAccepted, InboxPressure, SessionOpened, event_of
from .expectations import Expectations
from .governance import Arbiter, Governance
from .handshakes import Handshakes
from .inbox import Inbox, Redelivery
from .listeners import Listeners
from .listing import list_sessions
from .log_writer import LogWriter
from .loops import LoopBreaker
from .operations import check_search, probe, skip_note
from .reader import Reader
from .redeliveries import Redeliveries
from .registry import Registry
from .session import SessionCell
from .sessions import Sessions
from .stores.protocol import KnowledgeStore
from .subscriptions import Subscriptions
from .task_calls import TaskCalls
from .tasks import TaskTable
from .waits import Waits

MAX_REASON = 500
_log = logging.getLogger("agorio.hub")


@attrs.frozen
class Settings:
    """How a hub is run."""

    ttl_sweep_interval: float = 30.0
    """Seconds between TTL sweeps; 0 disables the sweeper."""
    expectation_sweep_interval: float = 10.0
    """Seconds between expectation sweeps; 0 disables the sweeper."""
    invite_ack_timeout: float = 30.0
    """Seconds that invitees have to answer."""
    redelivery: Redelivery = Redelivery()
    """How failed deliveries are retried."""
    grace: float = 5.0
    """Seconds to finish what is in hand when the hub closes."""


class Services:
    """The parts of one hub."""

    def __init__(
        self,
        store: KnowledgeStore,
        *,
        auth: AuthRegistry,
        clock: Clock,
        settings: Settings,
        adapters: AdapterRegistry,
        arbiter: Arbiter,
        rng: random.Random,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.store = store
        self.ids = IdGenerator(now_ns or (lambda: int(clock.time() * 1e9)), rng.getrandbits)
        self.writer = LogWriter(store)
        self.audit = AuditLog(self.writer, clock)
        self.listeners = Listeners()
        self.listeners.grace = settings.grace
        self.audit.watch(self._audited)
        self.directory = Directory()
        self.crashes: deque[str] = deque(maxlen=100)
        self.governance = Governance(clock, arbiter)
        self.governance.failed = self.crashes.append
        auth.use_clock(clock)
        self.reader = Reader(store)
        self.dead_letters = DeadLetters()
        self.sessions = Sessions(
            writer=self.writer,
            audit=self.audit,
            clock=clock,
            mint=self.ids,
            directory=self.directory,
            governance=self.governance,
            adapters=adapters,
            on_envelope=self._announce,
        )
        self.tasks = self.sessions.tasks = TaskTable(
            directory=self.directory,
            sessions=self.sessions,
            writer=self.writer,
            audit=self.audit,
            clock=clock,
            governance=self.governance,
            mint=self.ids,
        )
        self.task_calls = TaskCalls(
            self.tasks, directory=self.directory, sessions=self.sessions, writer=self.writer, audit=self.audit
        )
        self.registry = Registry(
            directory=self.directory,
            sessions=self.sessions,
            writer=self.writer,
            audit=self.audit,
            clock=clock,
            auth=auth,
            governance=self.governance,
            mint=self.ids,
            make_inbox=self._make_inbox,
        )
        self.waits = Waits(self.directory)
        self.budgets = Budgets(self)
        self.loops = LoopBreaker(self.directory, self.audit, self.skip_turn)
        self.redeliveries = Redeliveries(self)
        self.registry.owner_gone = self._owner_gone
        self.registry.rule_changed = self.budgets.judge
        self.expectations = Expectations(self.sessions, self.audit, self.writer, clock)
        self.expectations.skip_turn = self.skip_turn
        self.sessions.due_of = self.expectations.due_of
        self.sessions.on_quarantined = self.set_aside
        self.handshakes = Handshakes(
            directory=self.directory,
            sessions=self.sessions,
            clock=clock,
            mint=self.ids,
            ack_timeout=settings.invite_ack_timeout,
            prepare_expectations=self.expectations.prepare,
        )
        self.subscriptions = Subscriptions(self.sessions, self.reader)
        self.total_pressure = 0
        self.is_recovered = False  # sweepers run from the start, and nothing may end before all of it is there
        self.quarantined: dict[str, str] = {}
        self.sessions.no_longer_quarantined = lambda what: self.quarantined.pop(what, None)

    def _make_inbox(self, passport: Passport, rule: Rule) -> Inbox:
        inbox = Inbox(
            passport.agent_id,
            passport.name,
            rule.inbox,
            self.settings.redelivery,
            dead=self._dead_letter,
            settled=self._settled,
            pressure=partial(self._under_pressure, passport.agent_id, passport.name),
        )
        inbox.tried = self.sessions.delivery.tried
        inbox.refuses = partial(self._refuses, passport.agent_id)
        return inbox

    def _owner_gone(self, entry: Entry) -> None:
        self.tasks.owner_gone(entry)
        self.budgets.gone(entry)

    def _settled(self, agent_id: str, envelope: Envelope) -> None:
        self.sessions.delivery.settled(agent_id, envelope)
        self.redeliveries.settled(agent_id, envelope)

    def _refuses(self, recipient_id: str, envelope: Envelope) -> str | None:
        """Why a delivery that was accepted under earlier rules is not made any more."""
        sender, recipient = self.directory.get(envelope.sender_id), self.directory.get(recipient_id)
        return may_talk(sender, recipient) if sender is not None and recipient is not None else None

    def _dead_letter(self, agent_id: str, envelope: Envelope, reason: str, attempts: int) -> None:
        number = self.dead_letters.add(agent_id, envelope, reason, attempts)
        entry = self.directory.get(agent_id)
        self.audit.write_numbered(
            AUDIT_KIND_DEAD_LETTER,
            number,
            agent_id=agent_id,
            name=entry.name if entry else None,
            session_id=envelope.session_id,
            envelope_id=envelope.envelope_id,
            sequence=envelope.sequence,
            reason=reason,
            attempts=attempts,
        )
        held = self.sessions.held(envelope.session_id)
        if entry is None or held is None or held.is_terminal:
            return
        is_tried = attempts > 0 and reason != "drop_oldest"
        # What the letter belongs to goes on without it; not now, where deliveries of one step are half made.
        self.sessions.soon(lambda: self._go_on_without(entry, envelope.session_id, is_tried))

    def _go_on_without(self, entry: Entry, session_id: str, is_tried: bool) -> None:
        """Skip the turn that the letter was to bring about, unless something else that is pending brings it about."""
        if is_tried or not entry.inbox.desk.has_cue(session_id):
            self.sessions.when_awake(session_id, self._skip_failed(entry.agent_id))

    def _skip_failed(self, agent_id: str) -> Woken:
        def skip(cell: SessionCell | None, error: AgorioError | None) -> None:
            if cell is not None:
                self.skip_turn(cell, agent_id, "failed")

        return skip

    def _under_pressure(self, agent_id: str, name: str, statistics: Statistics) -> None:
        self.total_pressure += 1
        if self.listeners:
            cap = None if math.isinf(statistics.max_capacity) else int(statistics.max_capacity)
            self.listeners.publish(InboxPressure(agent_id, name, statistics.current_used, cap))

    def _audited(self, record: AuditRecord) -> None:
        if self.listeners and (event := event_of(record)) is not None:
            self.listeners.publish(event)

    def _announce(self, cell: SessionCell, envelope: Envelope) -> None:
        self.expectations.observe(cell, envelope)
        self.waits.hear(envelope)
        self.loops.count(cell, envelope)
        self.subscriptions.publish(envelope)
        if envelope.event_type in SESSION_END:
            self.budgets.session_over(envelope.session_id)
        if self.listeners:
            self.listeners.publish(EnvelopeAccepted(envelope))
            if envelope.event_type == EV_SESSION_OPENED:
                self.listeners.publish(SessionOpened(envelope.session_id))

    def set_aside(self, what: str, error: AgorioError) -> None:
        """Something stored is unreadable: it is reported, and everything else works."""
        _log.warning("%s is set aside: %s", what, error)
        self.quarantined[what] = str(error)
        self.audit.write(AUDIT_KIND_QUARANTINED, what=what, detail=str(error))

    # What several operations share.

    def search(self, op: ops.ListAgents) -> list[Entry]:
        """Directory search."""
        op = check_search(op)
        return self.directory.search(
            capability=op.capability, query=op.query, kind=op.kind, sort_by=op.sort_by, limit=op.limit
        )

    async def close_session(self, session_id: str, reason: str, *, by: str = "") -> SessionMetadata:
        """Close and return the last snapshot. If cancelled: it still closes."""
        if not isinstance(reason, str) or len(reason) > MAX_REASON:
            raise InvalidInput(
                f"reason={reason!r:.80} must be a text of at most {MAX_REASON} characters", field="reason"
            )
        cell = await self.sessions.get(session_id)
        if by:
            self.governance.check_close(session_id, self.directory.entry(by))
        closed = trio.Event()
        outcome: list[AgorioError | None] = []

        def done(error: AgorioError | None) -> None:
            outcome.append(error)
            closed.set()

        self.sessions.close(cell, reason, by=by, done=done)
        await closed.wait()
        if outcome[0] is not None:
            raise outcome[0]
        return cell.metadata()

    async def list_sessions(self, members: list[str] | None, state: str | None, limit: int) -> list[SessionMetadata]:
        """Sessions of these members, newest first. If cancelled: nothing has changed."""
        return await list_sessions(self.sessions, self.store, members, state, limit)

    def can_send(self, op: ops.CanSend) -> Any:
        """A bool, or an awaitable of one where the session is not in memory."""
        cell = self.sessions.resident(op.session_id)
        return self._may_send(cell, op) if cell is not None else self._can_send_later(op)

    async def _can_send_later(self, op: ops.CanSend) -> bool:
        return self._may_send(await self.sessions.get(op.session_id), op)

    def _may_send(self, cell: SessionCell, op: ops.CanSend) -> bool:
        """By the rules; and for an answer that nobody but the default handler gives, by the loop breaker."""
        if not self._is_legal(cell, op.agent_id, op.event_type):
            return False
        return op.causation_id is None or self.loops.allows(cell, op.agent_id)

    def _is_legal(self, cell: SessionCell, agent_id: str, event_type: str) -> bool:
        """By the session's rules, and by the access that its members grant each other now."""
        get = self.directory.get
        sender = get(agent_id)
        others = [entry for who in cell.setup.participants if who != agent_id and (entry := get(who)) is not None]
        return probe(cell, agent_id, event_type, self.clock.time()) and (
            sender is None or all(may_talk(sender, other) is None for other in others)
        )

    def skip_turn(self, cell: SessionCell, agent_id: str, reason: str, **along: Any) -> bool:
        """Record that a turn is given up, where it is that agent's turn and the session type can go on without.

        Whether it was; `along` is what `Sessions.command` takes along in the same commit.
        """
        live = cell.tail
        if live.terminal or live.state != "active":
            return False
        expected = cell.adapter.expected_next(live.adapter_state)
        if expected is None or agent_id not in expected:
            return False
        self.sessions.command(cell, skip_note(agent_id, reason), **along)
        return True
