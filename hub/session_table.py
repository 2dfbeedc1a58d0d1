"""The sessions in memory: all that have work left; how one gets there from its log, and how it goes."""

from __future__ import annotations

import math

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import AdapterRegistry
from ..actors.sessions.lifecycle import Live, begin, fold
from ..actors.sessions.metadata import SessionSetup, SessionState
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import NotFoundError, QuarantinedError
from .deadlines import Deadlines
from .directory import Directory
from .records import StoredSession, from_bytes
from .session import SessionCell, stream_of
from .session_log import SessionLog
from .stores.protocol import KnowledgeStore

PAGE = 1024
LATE = 1.0


class SessionTable:
    """Sessions by id."""

    def __init__(self, store: KnowledgeStore, directory: Directory, adapters: AdapterRegistry) -> None:
        self._store = store
        self._directory = directory
        self._cells: dict[str, SessionCell] = {}
        self.adapters = adapters
        self.deadlines = Deadlines()
        self.quarantined: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> object:
        return iter(list(self._cells.values()))

    def cells(self) -> list[SessionCell]:
        """The sessions in memory: all that have work left."""
        return list(self._cells.values())

    def resident(self, session_id: str) -> SessionCell | None:
        """The session, where it is in memory."""
        return self._cells.get(session_id)

    async def get(self, session_id: str) -> SessionCell:
        """The session, folded from its log where it is not in memory. Raises `NotFoundError`, `QuarantinedError`.

        If cancelled: nothing has changed.
        """
        cell = self._cells.get(session_id)
        if cell is not None:
            return cell
        if session_id in self.quarantined:
            raise QuarantinedError(f"session {session_id} is set aside: {self.quarantined[session_id]}")
        document = await self._store.get(f"session/{session_id}")
        if document is None:
            raise NotFoundError(
                f"there is no session {session_id!r}; list_sessions() shows which are", session=session_id
            )
        return await self.load(from_bytes(document.body, StoredSession).setup)

    async def load(self, setup: SessionSetup) -> SessionCell:
        """Fold a session from its log. One that has nothing left to do is not kept in memory.

        If cancelled: nothing has changed.
        """
        adapter = self.adapters.get(setup.manifest.type, setup.manifest.version)
        live, log, after = begin(setup, adapter), SessionLog(), 0
        stream = stream_of(setup.session_id)
        while page := await self._store.read(stream, after, PAGE):
            for record in page:
                envelope = decode_envelope(record.body)
                live = _refold(live, adapter, envelope)
                log.remember(envelope)
                log.newest_id = envelope.envelope_id
            after = page[-1].sequence
        cursors = await self._store.get(f"cursor/{setup.session_id}")
        if cursors is not None:
            log.load(cursors.body)
        resident = self._cells.get(setup.session_id)
        return resident if resident is not None else SessionCell(live, live, adapter, log)

    def adopt(self, cell: SessionCell) -> None:
        """Keep a loaded session in memory: it has work left."""
        self._cells[cell.session_id] = cell
        self._enrol(cell)

    def _enrol(self, cell: SessionCell) -> None:
        setup = cell.setup
        for agent_id in setup.participants:
            entry = self._directory.get(agent_id)
            if entry is not None:
                entry.sessions[cell.session_id] = None
        if cell.live.terminal:
            return
        creator = self._directory.get(setup.creator_id)
        if creator is not None:
            creator.open_sessions += 1
        at = setup.expires_at
        if setup.ack_deadline is not None and cell.live.state is SessionState.PENDING:
            # Whoever opens it ends it in time; the sweep comes after that, for a store that has refused the end.
            at = min(setup.ack_deadline + LATE, math.inf if at is None else at)
        if at is not None:
            self.deadlines.add(at, cell.session_id)  # one instant per session; the sweep enters the next

    def no_longer_open(self, cell: SessionCell) -> None:
        """It counts among its creator's open sessions no more."""
        creator = self._directory.get(cell.setup.creator_id)
        if creator is not None and creator.open_sessions:
            creator.open_sessions -= 1

    def forget(self, cell: SessionCell) -> None:
        """Let a session go from memory."""
        if self._cells.pop(cell.session_id, None) is None:
            return
        for agent_id in cell.setup.participants:
            entry = self._directory.get(agent_id)
            if entry is not None:
                entry.sessions.pop(cell.session_id, None)
        if not cell.live.terminal:
            self.no_longer_open(cell)


def _refold(live: Live, adapter: SessionAdapter, envelope: Envelope) -> Live:
    """Fold what was logged, perhaps by other rules. Raises `QuarantinedError` where these cannot."""
    try:
        return fold(live, adapter, envelope)
    except Exception as exc:
        setup = live.setup
        raise QuarantinedError(
            f"session type {setup.manifest.type} cannot fold envelope {envelope.sequence} of {setup.session_id}: "
            f"{exc!r}"
        ) from exc
