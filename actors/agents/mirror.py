"""The point at which a turn's tasks are reported to the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent_client import AgentClient
    from .stream import MemoryStream


class TaskMirror:
    """Attached by the default handler for the length of a turn."""

    __slots__ = ("client", "session_id", "stream")

    def __init__(self, client: AgentClient, session_id: str) -> None:
        self.client = client
        self.session_id = session_id
        self.stream: MemoryStream | None = None

    def attach(self, stream: MemoryStream) -> None:
        """A turn begins."""
        self.stream = stream

    def detach(self) -> None:
        """The turn is over."""
        self.stream = None
