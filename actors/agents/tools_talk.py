"""The tools `say` and `delegate`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from ...mailbox.errors import TurnError
from .delegation import delegate
from .replying import reply_audience
from .session import Session
from .tools_scope import Scope
from .turn_context import Said, Turn


class Talk(Scope):
    """Saying something to the members of a session, and asking one agent apart."""

    __slots__ = ()

    async def say(
        self,
        content: Annotated[str, Meta(description="What to say.")],
        audience: Annotated[
            list[str] | None, Meta(description="Names of the members it is for; leave out to address everybody.")
        ] = None,
        session_id: Annotated[str | None, Meta(description="Another session; by default the current one.")] = None,
    ) -> dict[str, Any]:
        """Say something in a session. In the current one it is your reply: do not repeat it in your final text.

        Where speakers take turns it is sent at the end of your turn, as your whole reply.

        If cancelled: it may have been said.
        """
        metadata = await self.session(session_id)
        turn = self.turn
        if turn is None or turn.is_over or metadata.session_id != turn.envelope.session_id:
            sent = await Session(self.client, metadata).send(content, audience=audience)
            return {"envelope_id": sent.envelope_id, "posted": True}
        if metadata.expected_next is not None:
            return _hold(turn, content, audience)
        sent = await Session(self.client, metadata).send(
            content,
            audience=reply_audience(turn) if audience is None else audience,
            causation_id=turn.envelope.envelope_id,
            idempotency_key=f"say:{self.client.agent_id}:{turn.envelope.envelope_id}:{len(turn.said)}",
        )
        turn.said = (*turn.said, Said(content))
        return {"envelope_id": sent.envelope_id, "posted": True}

    async def delegate(
        self,
        target: Annotated[str, Meta(description="Name of the agent to ask; the tool `peers` finds one.")],
        prompt: Annotated[str, Meta(description="The whole question; the other agent sees nothing else.")],
        capability: Annotated[
            str | None, Meta(description="The capability that is asked for; the reply then counts for it.")
        ] = None,
        timeout: Annotated[float | None, Meta(description="Seconds to wait for the reply.")] = 300.0,  # noqa: ASYNC109
    ) -> str:
        """Ask another agent one question and wait for its reply. Several calls may run at once.

        If cancelled: the question is withdrawn.
        """
        reply = await delegate(self.client, target, prompt, capability=capability, timeout=timeout)
        metadata = await self.client.hub_client.session_setup(reply.session_id)
        return self.client.hub_client.adapter(metadata.manifest).render(reply)


def _hold(turn: Turn, content: str, audience: list[str] | None) -> dict[str, Any]:
    """One turn is one envelope: keep the text until the turn is over, together with what was held before."""
    wanted = None if audience is None else tuple(audience)
    if turn.said and turn.said[0].audience != wanted:
        raise TurnError("where speakers take turns a turn is one message; you have addressed it to others already")
    turn.said = (*turn.said, Said(content, wanted, is_posted=False))
    return {"envelope_id": None, "posted": False, "note": "it is sent when your turn ends"}
