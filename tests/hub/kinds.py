"""Session types that the hub's tests bring along."""

from __future__ import annotations

from typing import Any

from agorio.actors.sessions.adapters.base import SessionAdapter
from agorio.actors.sessions.metadata import Manifest, ParticipantSchema
from agorio.mailbox.envelope import Envelope


class Notebook(SessionAdapter):
    """One agent writes to itself; a line `done` ends it."""

    manifest = Manifest("notebook", participants=ParticipantSchema(1, 1), ttl_default=100)

    def fold(self, state: Any, envelope: Envelope) -> Any:
        return envelope.text == "done"

    def auto_close_reason(self, state: Any) -> str | None:
        return "noted" if state else None
