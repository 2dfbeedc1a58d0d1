"""Snapshots: what a long log folds to, so that after a restart only its end is folded.

A snapshot is never trusted over the log. One that cannot be read, that another version of the session type wrote, or
that stands beyond the log's end counts for nothing, and the whole log is folded. Idempotency keys that the snapshot's
part of the log has used are kept beside it, in documents that are written once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.lifecycle import Live
from ..actors.sessions.metadata import SessionSetup, SessionState
from ..actors.sessions.tasks import TaskMetadata
from ..mailbox.errors import AgorioError, QuarantinedError
from .log_writer import LogWriter
from .records import from_bytes, to_bytes
from .session import SessionCell, stream_of
from .session_log import SessionLog
from .stores.protocol import Change, KnowledgeStore, Put

FORMAT = 1
EVERY = 1000
WORTH = 100  # on closing, a shorter tail is folded faster than its snapshot is written
Keys = list[tuple[str, str, int]]
_log = logging.getLogger("agorio.hub")


@attrs.frozen
class SavedSession:
    """A fold as the store keeps it."""

    format: int
    """`FORMAT`."""
    fingerprint: str
    """Which rules have folded it."""
    sequence: int
    """Up to which envelope."""
    newest_id: str
    """An id above those of all envelopes up to there."""
    state: str
    """As in `Live`, and so the following."""
    joined: tuple[tuple[str, str], ...]
    """Who has accepted, and when."""
    rejected: tuple[str, ...]
    """Who has declined."""
    departed: tuple[str, ...]
    """Who was unregistered."""
    tasks: tuple[TaskMetadata, ...]
    """What is running."""
    last_at: str
    """When the newest envelope was stamped."""
    closed_at: str | None
    """When it ended."""
    close_reason: str | None
    """Why it ended."""
    adapter_state: Any
    """What the session type has saved."""
    key_pages: int
    """How many documents hold the idempotency keys up to here."""


def fingerprint(adapter: SessionAdapter) -> str:
    """Which rules these are: a state that others have folded is not taken up."""
    manifest, kind = adapter.manifest, type(adapter)
    return f"{manifest.type}/{manifest.version}/{kind.__module__}.{kind.__qualname__}/{adapter.state_format}"


def saved_of(live: Live, adapter: SessionAdapter, newest_id: str, key_pages: int) -> SavedSession | None:
    """The snapshot of a state; None where the session type does not save its own."""
    state = adapter.save_state(live.adapter_state)
    if state is None:
        return None
    return SavedSession(
        format=FORMAT,
        fingerprint=fingerprint(adapter),
        sequence=live.sequence,
        newest_id=newest_id,
        state=str(live.state),
        joined=live.joined,
        rejected=live.rejected,
        departed=live.departed,
        tasks=tuple(live.tasks.values()),
        last_at=live.last_at,
        closed_at=live.closed_at,
        close_reason=live.close_reason,
        adapter_state=state,
        key_pages=key_pages,
    )


def live_of(saved: SavedSession, setup: SessionSetup, adapter: SessionAdapter) -> Live:
    """The state that was saved. Raises `QuarantinedError` where these rules cannot take it up."""
    if saved.format != FORMAT or saved.fingerprint != fingerprint(adapter):
        raise QuarantinedError(f"a snapshot by {saved.fingerprint} is of no use to {fingerprint(adapter)}")
    try:
        return Live(
            setup=setup,
            state=SessionState(saved.state),
            sequence=saved.sequence,
            joined=saved.joined,
            rejected=saved.rejected,
            departed=saved.departed,
            adapter_state=adapter.load_state(setup, saved.adapter_state),
            tasks={task.task_id: task for task in saved.tasks},
            last_at=saved.last_at,
            closed_at=saved.closed_at,
            close_reason=saved.close_reason,
        )
    except Exception as exc:
        raise QuarantinedError(f"a stored snapshot of {setup.session_id} is unreadable: {exc!r}") from exc


class Snapshots:
    """Writes and reads the snapshots of one store."""

    def __init__(self, store: KnowledgeStore, writer: LogWriter, mint: Callable[[], str]) -> None:
        self._mint = mint
        self._store = store
        self._writer = writer
        self.total_ignored = 0

    # Writing.

    def note(self, cell: SessionCell) -> None:
        """A session has moved: write a snapshot where its log has grown by a page."""
        if cell.live.sequence - cell.log.saved_at >= EVERY:
            self.write(cell)

    def write(self, cell: SessionCell) -> None:
        """Write a snapshot of what is durable."""
        live, log = cell.live, cell.log
        before, pages = log.saved_at, log.key_pages
        keys = log.keys_between(before, live.sequence)
        saved = saved_of(live, cell.adapter, self._mint(), pages + bool(keys))
        log.saved_at = live.sequence  # the next one is due a page from here, also where this one is refused
        if saved is None:
            return
        changes: list[Change] = [Put(_key(cell.session_id), to_bytes(saved))]
        if keys:
            log.key_pages = pages + 1
            changes.append(Put(_page(cell.session_id, pages), msgspec.json.encode(keys)))

        def done(error: AgorioError | None) -> None:
            if error is not None:  # the keys must come with the next one
                log.saved_at, log.key_pages = before, pages

        self._writer.submit(tuple(changes), done)

    def write_all(self, cells: list[SessionCell]) -> None:
        """The hub is closing: spare the next one what is worth it."""
        for cell in cells:
            if cell.live.sequence - cell.log.saved_at >= WORTH:
                self.write(cell)

    def removal(self, session_id: str, log: SessionLog) -> tuple[Change, ...]:
        """Idempotency keys go with a session that has ended; its snapshot stays, since its log may be read for long."""
        return tuple(Put(_page(session_id, number), None) for number in range(log.key_pages))

    # Reading.

    async def restore(self, setup: SessionSetup, adapter: SessionAdapter, log: SessionLog) -> Live | None:
        """The newest snapshot and its idempotency keys, or None. If cancelled: nothing has changed."""
        session_id = setup.session_id
        try:
            document = await self._store.get(_key(session_id))
            if document is None:
                return None
            saved = from_bytes(document.body, SavedSession)
            live = live_of(saved, setup, adapter)
            if saved.sequence > await self._store.last(stream_of(session_id)):
                raise QuarantinedError(f"the snapshot of {session_id} stands beyond its log")
            keys = [] if live.terminal else await self._keys(session_id, saved.key_pages)
        except QuarantinedError as error:
            self.total_ignored += 1
            _log.warning("%s; the whole log is folded", error)
            return None
        log.restore_keys(keys)
        log.saved_at, log.key_pages, log.newest_id = saved.sequence, saved.key_pages, saved.newest_id
        return live

    async def _keys(self, session_id: str, pages: int) -> Keys:
        keys: Keys = []
        for number in range(pages):
            document = await self._store.get(_page(session_id, number))
            if document is None:
                raise QuarantinedError(f"idempotency keys of {session_id} are missing beside its snapshot")
            try:
                keys += msgspec.json.decode(document.body, type=Keys)
            except msgspec.MsgspecError as exc:
                raise QuarantinedError(f"idempotency keys of {session_id} are unreadable: {exc}") from exc
        return keys


def _key(session_id: str) -> str:
    return f"snapshot/{session_id}"


def _page(session_id: str, number: int) -> str:
    return f"keys/{session_id}/{number:06d}"
