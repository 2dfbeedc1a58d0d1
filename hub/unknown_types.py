"""Sessions whose type this hub does not know: they are held as they are, and go on once the type is registered.

Their mail keeps its slots and is not delivered, since a recipient could not answer it and would be done with it. It
goes out when the type is registered, and with the closing notice where the session ends before that.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..actors.sessions.adapters.unknown import UnknownAdapter
from .dormant import Dormant, Outline, bookmark_of
from .session import SessionCell

if TYPE_CHECKING:
    from .inbox import Inbox
    from .sessions import Sessions


class UnknownTypes:
    """The open sessions of one hub for whose types something stands in."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._held: dict[str, SessionCell] = {}

    def __contains__(self, session_id: object) -> bool:
        return session_id in self._held

    def is_foreign(self, outline: Outline) -> bool:
        """Whether the type is known to be unknown; an outline of an older hub does not say."""
        return outline.type is not None and self._sessions.adapters.find(*outline.type) is None

    def hold(self, cell: SessionCell) -> None:
        """Report a session that was taken up, and hold its mail, where its type is unknown and it has not ended."""
        if not isinstance(cell.adapter, UnknownAdapter) or cell.live.terminal:
            return
        self._held[cell.session_id] = cell
        for inbox in self._inboxes(cell):
            inbox.desk.hold(cell.session_id, math.inf)
        self._sessions.on_quarantined(f"session {cell.session_id}", cell.adapter.refusal(cell.session_id))

    def release(self, cell: SessionCell) -> None:
        """Let the mail of a session go that has ended, or whose type is there now."""
        if self._held.pop(cell.session_id, None) is not None:
            self._sessions.no_longer_quarantined(f"session {cell.session_id}")
            for inbox in self._inboxes(cell):
                inbox.desk.release(cell.session_id)

    def retry(self) -> None:
        """A session type was registered: what waited for it is folded anew, when somebody touches it."""
        for session_id, cell in list(self._held.items()):
            manifest, live = cell.setup.manifest, cell.live
            if cell.tail is not live or self._sessions.adapters.find(manifest.type, manifest.version) is None:
                continue
            self.release(cell)
            due, mail = self._sessions.due_of(session_id), self._sessions.delivery.mail(cell)
            mark = bookmark_of(live, cell.log, due, self._sessions._mint(), mail)
            self._sessions.lay_down(cell, Dormant(session_id, cell.participants, mark, cell.log))
            for inbox in self._inboxes(cell):
                inbox.pump()

    def _inboxes(self, cell: SessionCell) -> list[Inbox]:
        get = self._sessions._directory.get
        return [entry.inbox for who in cell.participants if (entry := get(who)) is not None]
