"""What a hub is made of: built once, in order, and handed to the door. It assembles and decides nothing of its own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from ..actors.sessions import operations as ops
from ..actors.sessions.adapters.registry import AdapterRegistry
from ..actors.sessions.identity import Passport
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..mailbox.box import Statistics
from ..mailbox.clock import Clock
from ..mailbox.envelope import Envelope
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER
from ..mailbox.ids import IdGenerator
from .audit import AuditLog
from .auth import AuthRegistry
from .dead_letters import DeadLetters
from .expectations import Expectations
from .directory import Directory, Entry
from .governance import Arbiter, Governance, allow
from .handshakes import Handshakes
from .inbox import Inbox, Redelivery
from .listing import list_sessions
from .log_writer import LogWriter
from .operations import check_search, probe, skip_note
from .reader import Reader
from .registry import Registry
from .session import SessionCell
from .sessions import Sessions
from .stores.protocol import KnowledgeStore
from .subscriptions import Subscriptions


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
        self.directory = Directory()
        self.governance = Governance(clock, arbiter)
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
        self.expectations = Expectations(self.sessions, self.audit, self.writer, clock)
        self.expectations.skip_turn = self.skip_turn
        self.handshakes = Handshakes(
            directory=self.directory,
            sessions=self.sessions,
            clock=clock,
            mint=self.ids,
            ack_timeout=settings.invite_ack_timeout,
            check_expectations=self.expectations.check,
        )
        self.subscriptions = Subscriptions(self.sessions, self.reader)
        self.crashes: deque[str] = deque(maxlen=100)
        self.watchers: list[Callable[[Envelope], None]] = []
        self.pressured: list[str] = []
        self.quarantined: dict[str, str] = {}

    def _make_inbox(self, passport: Passport, rule: Rule) -> Inbox:
        return Inbox(
            passport.agent_id,
            passport.name,
            rule.inbox,
            self.settings.redelivery,
            dead=self._dead_letter,
            settled=self.sessions.delivery.settled,
            pressure=self._under_pressure,
        )

    def _dead_letter(self, agent_id: str, envelope: Envelope, reason: str, attempts: int) -> None:
        self.dead_letters.add(agent_id, envelope, reason, attempts)
        entry = self.directory.get(agent_id)
        self.audit.write(
            AUDIT_KIND_DEAD_LETTER,
            agent_id=agent_id,
            name=entry.name if entry else None,
            session_id=envelope.session_id,
            envelope_id=envelope.envelope_id,
            sequence=envelope.sequence,
            reason=reason,
            attempts=attempts,
        )
        if attempts and entry is not None:
            cell = self.sessions.resident(envelope.session_id)
            if cell is not None:
                self.skip_turn(cell, agent_id, "failed")

    def _under_pressure(self, statistics: Statistics) -> None:
        self.pressured.append(f"{statistics.current_used} of {statistics.max_capacity}")

    def _announce(self, cell: SessionCell, envelope: Envelope) -> None:
        self.expectations.observe(cell, envelope)
        self.subscriptions.publish(envelope)
        for watcher in self.watchers:
            watcher(envelope)

    # What several operations share.

    def search(self, op: ops.ListAgents) -> list[Entry]:
        """Directory search."""
        op = check_search(op)
        return self.directory.search(
            capability=op.capability, query=op.query, kind=op.kind, sort_by=op.sort_by, limit=op.limit
        )

    async def close_session(self, session_id: str, reason: str, *, by: str = "") -> SessionMetadata:
        """Close and return the last snapshot. If cancelled: it still closes."""
        cell = await self.sessions.get(session_id)
        if by:
            allow(self.governance.arbiter.authorize_close(session_id, self.directory.entry(by).passport))
        self.sessions.close(cell, reason, by=by)
        await self.writer.flush()
        return cell.metadata()

    async def list_sessions(self, members: list[str] | None, state: str | None, limit: int) -> list[SessionMetadata]:
        """Sessions of these members, newest first. If cancelled: nothing has changed."""
        return await list_sessions(self.sessions, self.store, members, state, limit)

    def can_send(self, session_id: str, agent_id: str, event_type: str) -> Any:
        """A bool, or an awaitable of one where the session is not in memory."""
        cell = self.sessions.resident(session_id)
        if cell is not None:
            return probe(cell, agent_id, event_type, self.clock.time())
        return self._can_send_later(session_id, agent_id, event_type)

    async def _can_send_later(self, session_id: str, agent_id: str, event_type: str) -> bool:
        return probe(await self.sessions.get(session_id), agent_id, event_type, self.clock.time())

    def skip_turn(self, cell: SessionCell, agent_id: str, reason: str) -> None:
        """Record that a turn is given up, where it is that agent's turn and the session type can go on without."""
        live = cell.tail
        if live.terminal or live.state != "active":
            return
        expected = cell.adapter.expected_next(live.adapter_state)
        if expected is not None and agent_id in expected:
            self.sessions.command(cell, skip_note(agent_id, reason))

