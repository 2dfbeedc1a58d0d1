"""What invariants are judged by: a hub's tables as they are, its logs as they were read, a ledger from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.lifecycle import Live, begin, fold
from ..actors.sessions.rule import Rule
from ..hub.audit import AuditRecord
from ..hub.audit_chain import AuditVerdict
from ..hub.connections import Connection
from ..hub.records import StoredSession, from_bytes
from ..hub.session import SessionCell, stream_of
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from .ledger import Ledger

if TYPE_CHECKING:
    from ..actors.runtime.supervisor import Supervisor
    from ..hub.hub import Hub
    from ..hub.services import Services

PAGE = 1024


@attrs.define
class SessionFile:
    """One session as its store has it."""

    stored: StoredSession
    """Its document."""
    adapter: SessionAdapter
    """Its rules."""
    numbers: list[int]
    """The store's number of each record."""
    log: list[Envelope]
    """The records."""
    live: Live | None
    """The hub's fold from before the log was read; None where the session was not in memory."""

    @property
    def session_id(self) -> str:
        """The session."""
        return self.stored.setup.session_id

    def folds(self) -> list[Live]:
        """The state before the first envelope and after each one."""
        states = [begin(self.stored.setup, self.adapter)]
        for envelope in self.log:
            states.append(fold(states[-1], self.adapter, envelope))
        return states


@attrs.define
class Past:
    """What an earlier look at the same hub has seen."""

    cursors: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """The cursor of each (session, agent)."""
    used: dict[str, int] = attrs.field(factory=dict)
    """The used slots of each inbox."""
    opened: dict[str, int] = attrs.field(factory=dict)
    """The open sessions of each agent."""
    ended: dict[str, tuple[Any, ...]] = attrs.field(factory=dict)
    """How each ended session has ended."""
    connections: list[Connection] = attrs.field(factory=list)
    """Connections that have held an identity."""


@attrs.define
class Evidence:
    """One look at one hub."""

    hub: Hub
    """The hub."""
    past: Past = attrs.field(factory=Past)
    """What was seen before."""
    ledger: Ledger | None = None
    """What was seen from outside, if somebody has watched."""
    sessions: list[SessionFile] = attrs.field(factory=list)
    """All sessions; empty where only the tables are looked at."""
    audits: list[AuditRecord] = attrs.field(factory=list)
    """The audit log."""
    verdict: AuditVerdict | None = None
    """What a check of its chain found."""
    is_settled: bool = False
    """Whether faults have stopped and everything under way has had its time."""

    agents: dict[str, tuple[str, Rule]] = attrs.field(factory=dict)
    """Name and rule of every registered agent; empty where only the tables are looked at."""
    tasks: frozenset[str] = frozenset()
    """The running tasks, likewise."""
    before: Evidence | None = None
    """What was found on the same store before its hub was closed, if somebody has looked."""

    @property
    def services(self) -> Services:
        """The hub's parts."""
        services = self.hub._services  # the kit looks where no user may
        assert services is not None, "the hub is open"
        return services

    @property
    def top(self) -> Supervisor:
        """The root of the hub's tree."""
        return self.hub._require_top()

    def cells(self) -> list[SessionCell]:
        """The sessions in memory."""
        return self.services.sessions.cells()

    async def gather(self) -> Evidence:
        """Read the logs as well. If cancelled: nothing has changed."""
        services = self.services
        await services.writer.flush()
        self.audits = await services.audit.read_all()
        self.verdict = await services.audit.verify()
        self.agents = {entry.agent_id: (entry.name, entry.rule) for entry in services.directory}
        self.tasks = frozenset(task.task_id for task in services.tasks.all_running())
        self.sessions = [await self._file(stored) for stored in await self._stored()]
        return self

    async def _stored(self) -> list[StoredSession]:
        found, after = [], ""
        while page := await self.services.store.scan("session/", after, PAGE):
            after = page[-1].key
            found += [from_bytes(document.body, StoredSession) for document in page]
        return found

    async def _file(self, stored: StoredSession) -> SessionFile:
        services, setup = self.services, stored.setup
        cell = services.sessions.resident(setup.session_id)
        file = SessionFile(
            stored,
            services.sessions.adapters.get(setup.manifest.type, setup.manifest.version),
            [],
            [],
            None if cell is None else cell.live,
        )
        stream = stream_of(setup.session_id)
        while page := await services.store.read(stream, file.numbers[-1] if file.numbers else 0, PAGE):
            file.numbers += [record.sequence for record in page]
            file.log += [decode_envelope(record.body) for record in page]
        return file
