"""The stand-in for a session type that is not registered: its sessions can be read and ended, nothing is said in them.

A program may lose a session type: an update has dropped it, or `adapters=` was forgotten at this start. The life of
such a session is folded all the same, since it follows from the hub's own events; only what the type itself made of its
log is unknown. So nothing is admitted that the type would have to judge, and no state is saved in its name.
"""

from __future__ import annotations

from typing import Any

from ....mailbox.envelope import Envelope
from ....mailbox.errors import QuarantinedError
from ..metadata import Manifest
from .base import SessionAdapter


class UnknownAdapter(SessionAdapter):
    """Stands in for a session type of which only the manifest is known."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def validate_send(self, state: Any, envelope: Envelope) -> None:
        """Refuse whatever would be said. Raises `QuarantinedError`."""
        raise self.refusal(envelope.session_id)

    def refusal(self, session_id: str) -> QuarantinedError:
        """What is wrong with the session, and what makes it go on."""
        kind, version = self.manifest.type, self.manifest.version
        return QuarantinedError(
            f"session {session_id} is of type {kind!r} version {version}, which is not registered at this hub: it can "
            "be read and closed, and goes on once the type is there; pass it to Hub.open(adapters=[...]) or to "
            "hub.register_adapter(...)",
            session_id=session_id,
            type=kind,
            version=version,
        )
