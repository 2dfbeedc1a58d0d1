"""What an agent does with an envelope unless told otherwise, in parts that may be used or replaced one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AccessDeniedError, InboxFull, InvalidInput, RateLimited, SessionClosedError
from ...mailbox.events import EV_SESSION_INVITE, EV_TURN_DUE, EV_TURN_SKIPPED, TURN_EVENTS, TURN_NOTICES
from ..sessions.budget import reported
from ..sessions.metadata import SessionMetadata
from ..sessions.operations import FindByCausation, SkipTurn
from .delegation import capability_of
from .mirror import TaskMirror
from .replying import final_words
from .routing import Utterance
from .session import Session
from .stream import MemoryStream, Message
from .tools import Toolbox, network_tools
from .turn_context import Turn, turn_of
from .views import Scene, ViewPolicy, count_said

if TYPE_CHECKING:
    from .agent_client import AgentClient

SESSION_DEP: Final = "ag2.network.session"
AGENT_CLIENT_DEP: Final = "ag2.network.agent_client"
HUB_DEP: Final = "ag2.network.hub"
ENVELOPE_DEP: Final = "ag2.network.envelope"

_TRIES: Final = 8
_SLACK: Final = 16
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 30.0


async def default_handler(envelope: Envelope | AgentClient, client: AgentClient | Envelope) -> None:
    """Accept an invitation; where it is the agent's turn, ask the agent and send what it replies.

    A turn that was delivered before and answered is not run again. A silent agent gives up its turn, so that nobody
    waits for it. When the session ends the agent is cancelled, since its reply could not be sent any more. The two may
    be given in either order, since the handler's parts take the client first.

    If cancelled: the agent is, and nothing is sent.
    """
    if isinstance(client, Envelope):
        envelope, client = client, envelope
    if isinstance(client, Envelope) or not isinstance(envelope, Envelope):
        raise InvalidInput("default_handler takes one envelope and one agent client")
    if envelope.event_type == EV_SESSION_INVITE:
        await client.send_envelope(client.acceptance(envelope))
    elif envelope.event_type in TURN_EVENTS or _is_called_up(envelope, client):
        with client.until_closed(envelope.session_id):
            await _take_turn(envelope, client)


def _is_called_up(envelope: Envelope, client: AgentClient) -> bool:
    """It is this agent's turn; or somebody else's was skipped, and it may be this agent's, as `can_send` will say."""
    is_own = envelope.event_data.get("agent_id") == client.agent_id
    return is_own if envelope.event_type == EV_TURN_DUE else envelope.event_type == EV_TURN_SKIPPED and not is_own


async def _take_turn(envelope: Envelope, client: AgentClient) -> None:
    hub_client = client.hub_client
    if client.asker is None or await _is_answered(envelope, client):
        return
    try:
        if not await hub_client.can_send(envelope.session_id, client.agent_id, answers=envelope):
            return
        metadata = await hub_client.session_setup(envelope.session_id)
        if envelope.event_type in TURN_NOTICES and not await _is_expected(envelope, client):
            return
        await _reply(envelope, client, Session(client, metadata))
    except SessionClosedError as error:
        if not await _is_over(error, envelope, client):
            raise  # another session of the agent's own making: that is a failure of its turn


async def _is_over(error: SessionClosedError, envelope: Envelope, client: AgentClient) -> bool:
    """Whether the error tells of the end of the turn's own session; one that does not say of which is looked up."""
    ended = error.details.get("session_id")
    if ended is None:
        return (await client.hub_client.get_session(envelope.session_id)).is_terminal()
    return bool(ended == envelope.session_id)


async def _is_answered(envelope: Envelope, client: AgentClient) -> bool:
    """Whether an earlier attempt at this turn got as far as its reply."""
    turn = turn_of(client)
    if turn is None or turn.attempt < 2:
        return False
    found = await client.connection.request(FindByCausation(envelope.session_id, client.agent_id, envelope.envelope_id))
    return found is not None and found.event_type in TURN_EVENTS


async def _is_expected(envelope: Envelope, client: AgentClient) -> bool:
    """Whether it is this agent's turn by name, and not merely nobody's."""
    metadata = await client.hub_client.get_session(envelope.session_id)
    return metadata.expected_next is not None and client.agent_id in metadata.expected_next


async def _reply(envelope: Envelope, client: AgentClient, session: Session) -> None:
    stream, text = await _project(envelope, client, session.metadata)
    turn = turn_of(client) or Turn(client, envelope)
    reply = await _ask(client, session, turn, envelope, stream, text) if text else None
    # Before the reply: what was spent counts, whatever becomes of what it bought.
    if (usage := getattr(reply, "usage", None)) is not None and reported(usage) is not None:
        await client.report_usage(usage)
    adapter = client.hub_client.adapter(session.metadata.manifest)
    utterance, audience = final_words(turn, reply, session.metadata, adapter)
    if utterance is not None:
        await _send(client, session, envelope, utterance, audience)
    elif not turn.said:
        await client.connection.request(SkipTurn(client.agent_id, session.session_id))


async def _project(envelope: Envelope, client: AgentClient, metadata: SessionMetadata) -> tuple[MemoryStream, str]:
    """The log before the envelope and the envelope itself, both seen through the agent's view."""
    view = await resolve_view_policy(client, metadata)
    adapter = client.hub_client.adapter(metadata.manifest)
    names = await client.hub_client.names(metadata.participant_ids)
    scene = Scene(client.agent_id, metadata, adapter.render, names)
    log, scene = await _read_for(view, client, envelope, scene)
    history = view.project(log, scene)
    if envelope.event_type == EV_TURN_SKIPPED and history and history[-1].role != "user":
        return MemoryStream(history), ""  # nobody has said anything since its own last word: nothing is to be answered
    if envelope.event_type in TURN_NOTICES:
        stream, text = _split_last(history)
        begins = envelope.event_type == EV_TURN_DUE and envelope.event_data.get("reason") == "begin"
        return stream, text or (_opening_words(metadata) if begins else "")
    current = [message.text for message in view.project([envelope], scene) if message.envelope_id]
    return MemoryStream(history), "\n".join(current)


async def _read_for(
    view: ViewPolicy, client: AgentClient, envelope: Envelope, scene: Scene
) -> tuple[list[Envelope], Scene]:
    """The tail that the view needs, and how much lies before it.

    Bookkeeping takes places in the log without being shown: where it fills the tail, more is read.
    """
    if view.window is None:
        return await read_wal_until(client, envelope), scene
    tail = view.window + _SLACK
    while True:
        log = await read_wal_until(client, envelope, tail=tail)
        if len(log) < tail:
            return log, scene
        if count_said(log, scene) >= view.window:
            return log, attrs.evolve(scene, unread=log[0].sequence - 1)
        tail *= 4


def _opening_words(metadata: SessionMetadata) -> str:
    """What an agent is asked that speaks first."""
    return metadata.intent if isinstance(metadata.intent, str) and metadata.intent else "It is your turn to begin."


def _split_last(history: list[Message]) -> tuple[MemoryStream, str]:
    """An agent that is called up answers the last thing that somebody else has said."""
    for index in reversed(range(len(history))):
        if history[index].role == "user":
            return MemoryStream([*history[:index], *history[index + 1 :]]), history[index].text
    return MemoryStream(history), ""


async def _ask(
    client: AgentClient, session: Session, turn: Turn, envelope: Envelope, stream: MemoryStream, text: str
) -> Any:
    """Ask the agent; where the question names a capability of its own, the answer is a task of its track record."""
    asker, capability = client.asker, capability_of(session.metadata, client)
    assert asker is not None
    mirror = TaskMirror(client, session.session_id)
    mirror.attach(stream)
    try:
        dependencies = stamp_dependencies(client, session, envelope)
        tools = network_tools(client, turn=turn) if asker.takes("tools") else Toolbox()
        asked = partial(asker.call, text, stream=stream, dependencies=dependencies, tools=tools)
        return await asked() if capability is None else await _as_task(client, session, capability, asked)
    finally:
        mirror.detach()
        if mirror.is_busy:
            await mirror.flush()


async def _as_task(client: AgentClient, session: Session, capability: str, ask: Callable[[], Awaitable[Any]]) -> Any:
    reply = None
    async with AsyncExitStack() as stack:
        # An agent that has tasks enough answers all the same; it just is not counted.
        with suppress(AccessDeniedError, RateLimited):
            await stack.enter_async_context(
                client.task(capability, capability=capability, session_id=session.session_id)
            )
        reply = await ask()
    return reply


async def _send(
    client: AgentClient, session: Session, envelope: Envelope, utterance: Utterance, audience: tuple[str, ...] | None
) -> None:
    """Send the reply once, whatever is retried. A full inbox or an empty bucket costs a pause, not a second turn."""
    pause = _FIRST_PAUSE
    for tries_left in reversed(range(_TRIES)):
        try:
            await session.send(
                utterance.event_data,
                audience=audience,
                event_type=utterance.event_type,
                causation_id=envelope.envelope_id,
                idempotency_key=f"reply:{client.agent_id}:{envelope.envelope_id}",
            )
            return
        except (RateLimited, InboxFull) as refusal:
            if not tries_left:
                raise
            wanted = refusal.retry_after if isinstance(refusal, RateLimited) else 0.0
        await trio.sleep(max(wanted, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)


async def read_wal_until(client: AgentClient, envelope: Envelope, *, tail: int | None = None) -> list[Envelope]:
    """The log up to but excluding the envelope, as the agent may see it; with `tail` only the newest so many.

    If cancelled: nothing has changed.
    """
    return await client.hub_client.read_before(
        envelope.session_id, envelope.sequence, limit=tail, as_agent=client.agent_id
    )


async def resolve_view_policy(client: AgentClient, metadata: SessionMetadata) -> ViewPolicy:
    """The view through which the agent sees the session.

    In this order: what `client.set_view` set for the session, the agent's own, the session's label `view` where this
    client has one of that name, the session type's.

    If cancelled: nothing has changed.
    """
    await trio.lowlevel.checkpoint()
    views = client.hub_client.views
    view = client.view_of(metadata.session_id)
    if view is None:
        label = metadata.labels.get("view")
        view = label if isinstance(label, str) and label in views else metadata.manifest.default_view_policy
    return views.get(view, metadata) if isinstance(view, str) else view


def stamp_dependencies(client: AgentClient, session: Session, envelope: Envelope | None = None) -> dict[str, Any]:
    """What a turn's agent and its tools find under `SESSION_DEP`, `AGENT_CLIENT_DEP`, `HUB_DEP` and `ENVELOPE_DEP`."""
    if session.client is not client:
        raise InvalidInput("the session handle belongs to another agent; use `await client.session(session_id)`")
    turn = turn_of(client)
    in_hand = envelope if envelope is not None else (turn.envelope if turn is not None else None)
    return {
        SESSION_DEP: session,
        AGENT_CLIENT_DEP: client,
        HUB_DEP: client.hub_client,
        ENVELOPE_DEP: in_hand,
    }
