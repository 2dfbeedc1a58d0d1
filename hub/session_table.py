"""The sessions of a hub by id: those in memory, and those that are folded when somebody first touches them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import AdapterRegistry
from ..actors.sessions.adapters.unknown import UnknownAdapter
from ..actors.sessions.lifecycle import Live, begin, fold
from ..actors.sessions.metadata import SessionSetup, SessionState
from ..mailbox.codec import decode_envelope
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, NotFoundError, QuarantinedError
from .deadlines import Deadlines
from .directory import Directory
from .dormant import Dormant, Woken
from .records import StoredSession, from_bytes
from .session import SessionCell, stream_of
from .session_log import SessionLog
from .snapshots import Snapshots
from .stores.protocol import KnowledgeStore

if TYPE_CHECKING:
    from .delivery import Delivery

PAGE = 1024
LATE = 1.0


class SessionTable:
    """Sessions by id."""

    delivery: Delivery
    on_quarantined: Callable[[str, AgorioError], None]
    no_longer_quarantined: Callable[[str], object]
    on_taken_up: Callable[[SessionCell], None]

    def __init__(
        self, store: KnowledgeStore, directory: Directory, adapters: AdapterRegistry, snapshots: Snapshots
    ) -> None:
        self._store = store
        self._directory = directory
        self._cells: dict[str, SessionCell] = {}
        self._dormant: dict[str, Dormant] = {}
        self._wanted: deque[Dormant] = deque()
        self._is_wanted = trio.Event()
        self.adapters = adapters
        self.snapshots = snapshots
        self.deadlines = Deadlines()
        self.quarantined: dict[str, str] = {}
        self.total_folded = 0

    def __len__(self) -> int:
        return len(self._cells) + len(self._dormant)

    def cells(self) -> list[SessionCell]:
        """The sessions in memory: all that have work left and were touched since the hub was opened."""
        return list(self._cells.values())

    def dormant(self) -> list[Dormant]:
        """The sessions that have work left and are not folded."""
        return list(self._dormant.values())

    def everything(self) -> list[SessionCell | Dormant]:
        """The sessions that have work left, folded or not."""
        return [*self._cells.values(), *self._dormant.values()]

    def count_open(self) -> int:
        """How many have not ended."""
        return sum(not held.is_terminal for held in self.everything())

    def resident(self, session_id: str) -> SessionCell | None:
        """The session, where it is in memory."""
        return self._cells.get(session_id)

    def held(self, session_id: str) -> SessionCell | Dormant | None:
        """The session, where it has work left, folded or not."""
        return self._cells.get(session_id) or self._dormant.get(session_id)

    # From the log.

    async def get(self, session_id: str) -> SessionCell:
        """The session, folded from its log where it is not in memory. Raises `NotFoundError`, `QuarantinedError`.

        If cancelled: nothing has changed.
        """
        cell = self._cells.get(session_id)
        if cell is not None:
            return cell
        if session_id in self._dormant:
            return await self._get_woken(session_id)
        if session_id in self.quarantined:
            raise QuarantinedError(f"session {session_id} is set aside: {self.quarantined[session_id]}")
        return await self.load(await self._setup(session_id))

    async def _get_woken(self, session_id: str) -> SessionCell:
        woken = trio.Event()
        found: list[tuple[SessionCell | None, AgorioError | None]] = []

        def take(cell: SessionCell | None, error: AgorioError | None) -> None:
            found.append((cell, error))
            woken.set()

        self.when_awake(session_id, take)
        await woken.wait()
        cell, error = found[0]
        if cell is None:
            raise error or NotFoundError(f"there is no session {session_id!r}", session=session_id)
        return cell

    async def _setup(self, session_id: str) -> SessionSetup:
        document = await self._store.get(f"session/{session_id}")
        if document is None:
            raise NotFoundError(
                f"there is no session {session_id!r}; list_sessions() shows which are", session=session_id
            )
        return from_bytes(document.body, StoredSession).setup

    async def load(self, setup: SessionSetup, log: SessionLog | None = None) -> SessionCell:
        """Fold a session from its newest snapshot and the log after it; `log` holds its cursors.

        One that has nothing left to do is not kept in memory. If cancelled: nothing has changed.
        """
        manifest = setup.manifest
        adapter = self.adapters.find(manifest.type, manifest.version) or UnknownAdapter(manifest)
        log = SessionLog() if log is None else log
        stream = stream_of(setup.session_id)
        live = await self.snapshots.restore(setup, adapter, log) or _begin(setup, adapter)
        while page := await self._store.read(stream, live.sequence, PAGE):
            for record in page:
                envelope = decode_envelope(record.body)
                live = _refold(live, adapter, envelope)
                log.remember(envelope)
                log.newest_id = envelope.envelope_id
            self.total_folded += len(page)
        resident = self._cells.get(setup.session_id)
        return resident if resident is not None else SessionCell(live, live, adapter, log)

    # Waking.

    def rest(self, dormant: Dormant, expires_at: float | None) -> None:
        """Hold a session that was found in the store, without folding it."""
        self._dormant[dormant.session_id] = dormant
        self._enrol(dormant.session_id, dormant.participants, expires_at, is_open=not dormant.is_terminal)

    def lay_down(self, cell: SessionCell, dormant: Dormant) -> None:
        """Let a fold go; the session is folded again when somebody touches it."""
        del self._cells[cell.session_id]
        self._dormant[cell.session_id] = dormant

    def when_awake(self, session_id: str, react: Woken) -> None:
        """Call `react` with the session, at once where it is in memory, else when it is folded; in order of asking."""
        cell, dormant = self._cells.get(session_id), self._dormant.get(session_id)
        if dormant is None:
            react(cell, None)
            return
        dormant.waiting.append(react)
        if len(dormant.waiting) == 1:
            self._wanted.append(dormant)
            self._is_wanted.set()

    async def run(self) -> None:
        """Fold what is asked for, for ever. If cancelled: the next incarnation goes on."""
        self._wanted = deque(dormant for dormant in self._dormant.values() if dormant.waiting)
        async with trio.open_nursery() as nursery:
            while True:
                while self._wanted:
                    nursery.start_soon(self._wake, self._wanted.popleft())
                self._is_wanted = trio.Event()
                await self._is_wanted.wait()

    async def _wake(self, dormant: Dormant) -> None:
        session_id, cell, failure = dormant.session_id, None, None
        try:
            folded = await self.load(await self._setup(session_id), dormant.log)
            if dormant.unread:
                await self.delivery.restore(dormant, dormant.mark.mail.attempts)
        except AgorioError as error:
            failure = error
            if isinstance(error, QuarantinedError):
                self.set_aside(dormant, error)
        else:
            self._cells[session_id] = cell = folded
            self._dormant.pop(session_id, None)
            self.on_taken_up(cell)
        waiting, dormant.waiting = dormant.waiting, []
        for react in waiting:
            react(cell, failure)

    def set_aside(self, dormant: Dormant, error: QuarantinedError) -> None:
        """A session's log turned out to be unreadable: it is reported, and everything else works."""
        self.quarantined[dormant.session_id] = str(error)
        self.delivery.release_unread(dormant)
        self.forget(dormant)
        self.on_quarantined(f"session {dormant.session_id}", error)

    # In memory.

    def adopt(self, cell: SessionCell) -> None:
        """Keep a loaded session in memory: it has work left."""
        self._cells[cell.session_id] = cell
        self.enrol(cell)

    def enrol(self, cell: SessionCell) -> None:
        """Count a session among those of its members, and watch its deadline."""
        setup, at = cell.setup, cell.setup.expires_at
        if setup.ack_deadline is not None and cell.live.state is SessionState.PENDING:
            # Whoever opens it ends it in time; the sweep comes after that, for a store that has refused the end.
            at = min(setup.ack_deadline + LATE, math.inf if at is None else at)
        self._enrol(cell.session_id, setup.participants, at, is_open=not cell.live.terminal)

    def _enrol(self, session_id: str, members: Iterable[str], at: float | None, *, is_open: bool) -> None:
        creator = None
        for agent_id in members:
            entry = self._directory.get(agent_id)
            if creator is None:
                creator = agent_id
                if entry is not None and is_open:
                    entry.open_sessions += 1
            if entry is not None:
                entry.sessions[session_id] = None
        if is_open and at is not None:
            self.deadlines.add(at, session_id)  # one instant per session; the sweep enters the next

    def no_longer_open(self, held: SessionCell | Dormant) -> None:
        """It counts among its creator's open sessions no more."""
        creator = self._directory.get(held.participants[0])
        if creator is not None and creator.open_sessions:
            creator.open_sessions -= 1

    def forget(self, held: SessionCell | Dormant) -> None:
        """Let a session go from memory."""
        known = self._cells.pop(held.session_id, None) or self._dormant.pop(held.session_id, None)
        if known is None:
            return
        for agent_id in held.participants:
            entry = self._directory.get(agent_id)
            if entry is not None:
                entry.sessions.pop(held.session_id, None)
        if not held.is_terminal:
            self.no_longer_open(held)


def _begin(setup: SessionSetup, adapter: SessionAdapter) -> Live:
    try:
        return begin(setup, adapter)
    except Exception as exc:
        raise QuarantinedError(
            f"session type {setup.manifest.type} cannot begin {setup.session_id} again: {exc!r}"
        ) from exc


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
