"""In whose name and in which session a tool acts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput, NotAMemberError
from ..sessions.metadata import SessionMetadata
from .turn_context import Turn

if TYPE_CHECKING:
    from .agent_client import AgentClient

_PAGE: Final = 256


class Scope:
    """The base of the network's tools."""

    __slots__ = ("client", "turn")

    def __init__(self, client: AgentClient, turn: Turn | None) -> None:
        self.client = client
        self.turn = turn

    def session_id(self, given: str | None) -> str:
        """The session that is meant: the one given, else that of the turn in hand."""
        if given is not None:
            return given
        if self.turn is None:
            raise InvalidInput("no turn is in hand, so say which session: pass session_id", field="session_id")
        return self.turn.envelope.session_id

    async def session(self, given: str | None) -> SessionMetadata:
        """The session as it is now. A connection may serve many agents, so the hub's check is repeated for this one."""
        metadata = await self.client.hub_client.get_session(self.session_id(given))
        if all(member.agent_id != self.client.agent_id for member in metadata.participants):
            raise NotAMemberError(
                f"{self.client.name} is not a participant of session {metadata.session_id}",
                session_id=metadata.session_id,
            )
        return metadata

    async def names(self, metadata: SessionMetadata) -> dict[str, str]:
        """Names of the members by id; those who have left are known by their ids."""
        known = await self.client.hub_client.names(metadata.participant_ids)
        return {who: known.get(who, who) for who in metadata.participant_ids}

    async def backwards(self, metadata: SessionMetadata) -> AsyncGenerator[Envelope, None]:
        """What this agent may see of the log, newest first, read page by page."""
        before = metadata.last_sequence + 1
        while before > 1:
            page = await self.client.hub_client.read_before(
                metadata.session_id, before, limit=_PAGE, as_agent=self.client.agent_id
            )
            for envelope in reversed(page):
                yield envelope
            before = page[0].sequence if page else 0


def brief(metadata: SessionMetadata, names: dict[str, str]) -> dict[str, Any]:
    """A session in a line."""
    return {
        "session_id": metadata.session_id,
        "type": metadata.manifest.type,
        "state": str(metadata.state),
        "participants": list(names.values()),
        "intent": metadata.labels.get("intent"),
        "created_at": metadata.created_at,
    }
