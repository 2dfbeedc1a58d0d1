"""Asking another agent from inside a turn: a consultation of its own, and the wait for its one reply.

The hub is told while a turn waits, so that a circle of agents that wait for each other fails at once (`awaiting`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput, NotFoundError, ProtocolError
from ...mailbox.events import EV_TURN_SKIPPED, TURN_EVENTS
from ..sessions.identity import Passport
from ..sessions.metadata import SessionMetadata
from ..sessions.operations import AwaitOver, AwaitReply, CloseSession
from .turn_context import turn_of

if TYPE_CHECKING:
    from .agent_client import AgentClient
    from .session import Session

CONSULTING: Final = "consulting"
CAPABILITY_LABEL: Final = "capability"
_LISTED: Final = 20
# Language models call tools by the name of a namespace, and peers too.
_PREFIX: Final = "functions."


@asynccontextmanager
async def awaiting(client: AgentClient, session_id: str, after: int | None = None) -> AsyncIterator[None]:
    """A block in which the turn in hand waits for the other member of a session; elsewhere it does nothing.

    Raises `AskCycle` where the wait would close a circle. If cancelled: the turn waits no longer.
    """
    turn = turn_of(client)
    if turn is None or client.concurrency > 1 or session_id in turn.awaits:
        yield
        return
    turn.awaits.add(session_id)
    try:
        await client.connection.request(AwaitReply(client.agent_id, session_id, after))
        yield
    finally:
        turn.awaits.discard(session_id)
        client.connection.post_request(AwaitOver(client.agent_id, session_id))


async def delegate(
    client: AgentClient,
    target: str,
    prompt: str,
    *,
    capability: str | None = None,
    timeout: float | None = 300.0,  # noqa: ASYNC109
) -> Envelope:
    """Consult another agent by name or id and return its reply; works inside a turn, and several at once.

    With a `capability` that the other claims, the reply enters its track record. Raises `NotFoundError` with the peers
    that there are, `AskCycle` where both would wait for each other, `ProtocolError` where it has nothing to say,
    `SessionClosedError` and, after `timeout` seconds, `TimeoutError`; the consultation is closed then.

    If cancelled: the consultation is closed.
    """
    peer = await _find(client, target)
    labels = {} if capability is None else {CAPABILITY_LABEL: capability}
    session = await client.open(CONSULTING, peer.agent_id, labels=labels)
    reason = "delegate_failed"
    try:
        async with awaiting(client, session.session_id):
            asked = await session.send(prompt)
            reply = await _reply(client, session, asked, peer.name, timeout)
        reason = ""
    except TimeoutError:
        reason = "delegate_timeout"
        raise
    finally:
        if reason:  # closing an ended session does nothing
            client.connection.post_request(CloseSession(session.session_id, client.agent_id, reason))
    return reply


async def _find(client: AgentClient, target: str) -> Passport:
    name = target.strip().removeprefix(_PREFIX)
    try:
        peer = await client.hub_client.get_agent(name)
    except NotFoundError as exc:
        others = [peer.name for peer in await client.hub_client.list_agents(limit=_LISTED) if peer.name != client.name]
        raise NotFoundError(
            f"no agent {name!r} is registered; available are: {', '.join(others) or 'none'}", agent=name, peers=others
        ) from exc
    if peer.agent_id == client.agent_id:
        raise InvalidInput(f"{name!r} is yourself; answer, or ask somebody else", field="target")
    return peer


async def _reply(client: AgentClient, session: Session, asked: Envelope, name: str, seconds: float | None) -> Envelope:
    reply = await client.wait_for_session_event(session.session_id, lambda e: is_answer(e, asked), seconds)
    if reply.event_type == EV_TURN_SKIPPED:
        raise no_reply(reply, session.session_id, name)
    return reply


def no_reply(skipped: Envelope, session_id: str, name: str = "the agent") -> ProtocolError:
    """The error for a consultation whose respondent has given up its turn."""
    why = skipped.event_data.get("reason", "silent")
    return ProtocolError(f"{name} gave no reply ({why}); ask somebody else", session_id=session_id, reason=why)


def is_answer(envelope: Envelope, asked: Envelope) -> bool:
    """Whether the envelope answers a consultation's question, or says that nobody will."""
    answers = envelope.event_type in TURN_EVENTS or envelope.event_type == EV_TURN_SKIPPED
    return answers and envelope.sequence > asked.sequence


def capability_of(metadata: SessionMetadata, client: AgentClient) -> str | None:
    """The capability that the asker wants to see, where it is the respondent's own: nobody else gives it a new one."""
    if metadata.manifest.type != CONSULTING or metadata.creator_id == client.agent_id:
        return None
    capability = metadata.labels.get(CAPABILITY_LABEL)
    known = {*client.resume.claimed_capabilities, *client.resume.observed}
    return capability if isinstance(capability, str) and capability in known else None
