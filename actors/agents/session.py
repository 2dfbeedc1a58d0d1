"""A handle on one session in the name of one agent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ...mailbox.envelope import Envelope
from ...mailbox.errors import InvalidInput, NotFoundError, SessionClosedError
from ...mailbox.events import EV_TEXT, EV_TURN_SKIPPED, SESSION_END, TURN_EVENTS
from ...mailbox.priority import Priority
from ..sessions.metadata import SessionMetadata
from .delegation import CONSULTING, awaiting, is_answer, no_reply
from .waiting import Predicate

if TYPE_CHECKING:
    from .agent_client import AgentClient


class Somebody(Protocol):
    """Whoever has an id on the hub: an `AgentClient`, a `HumanClient`, a `Passport`."""

    @property
    def agent_id(self) -> str:
        """The id."""


Who: TypeAlias = str | Somebody


class Truth(int):
    """True or false, also where it is called: `session.is_terminal` and `session.is_terminal()` say the same."""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return repr(bool(self))


class Session:
    """One session as one of its members uses it. Handles are cheap: they hold the newest snapshot and nothing else."""

    __slots__ = ("client", "metadata")

    def __init__(self, client: AgentClient, metadata: SessionMetadata) -> None:
        self.client = client
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"<Session {self.session_id} {self.metadata.manifest.type} {self.metadata.state}>"

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.metadata.session_id

    @property
    def is_terminal(self) -> Truth:
        """Whether the session had ended when the snapshot was taken; may be called as well."""
        return Truth(self.metadata.is_terminal())

    async def send(
        self,
        content: str | Mapping[str, Any] | None = None,
        *,
        audience: Who | Iterable[Who] | None = None,
        event_type: str = EV_TEXT,
        event_data: Mapping[str, Any] | None = None,
        causation_id: str | None = None,
        priority: Priority | int | str = Priority.NORMAL,
        idempotency_key: str | None = None,
        ttl_seconds: float | None = None,
        task_id: str | None = None,
        trace_id: str | None = None,
    ) -> Envelope:
        """Say something: a text, or a payload as a dict, `event_data` added to it.

        `audience` takes one or several names, ids or clients; without one all are addressed.

        If cancelled: it may have been accepted; send it again with the same `idempotency_key`.
        """
        if content is None and event_data is None:
            raise InvalidInput("there is nothing to send: pass a text, or event_data={...}", field="content")
        payload = {"text": content} if isinstance(content, str) else dict(content or {})
        payload.update(event_data or {})
        return await self.client.send_envelope(
            Envelope(
                self.session_id,
                self.client.agent_id,
                None if audience is None else await self._resolve(audience),
                event_type,
                payload,
                causation_id=causation_id,
                task_id=task_id,
                trace_id=trace_id,
                priority=priority,
                idempotency_key=idempotency_key,
                ttl_seconds=ttl_seconds,
            )
        )

    async def ask(
        self,
        text: str,
        *,
        audience: Who | Iterable[Who] | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> Envelope:
        """Send a text and wait for the next turn that answers it and is addressed to this agent.

        Raises `SessionClosedError` if the session ends without one, `ProtocolError` if a consulted agent has nothing to
        say, `AskCycle` if it waits for this very turn, and `TimeoutError` after `timeout` seconds.

        If cancelled: the question stays asked; `wait` finds the answer.
        """
        if self.metadata.manifest.type == CONSULTING:
            return await self._consult(text, timeout)
        asked = await self.send(text, audience=audience)

        def is_answer(envelope: Envelope) -> bool:
            return (
                envelope.sequence > asked.sequence
                and envelope.event_type in TURN_EVENTS
                and envelope.causation_id in (None, asked.envelope_id)
            )

        async with awaiting(self.client, self.session_id, asked.sequence):
            return await self.wait(is_answer, timeout)

    async def _consult(self, text: str, timeout: float | None) -> Envelope:  # noqa: ASYNC109
        """A question that would close a circle of waiting agents is not even put."""
        async with awaiting(self.client, self.session_id):
            asked = await self.send(text)
            reply = await self.wait(lambda envelope: is_answer(envelope, asked), timeout)
        if reply.event_type == EV_TURN_SKIPPED:
            raise no_reply(reply, self.session_id)
        return reply

    async def wait(
        self,
        predicate: Predicate | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> Envelope:
        """`AgentClient.wait_for_session_event` for this session. If cancelled: every event is still there."""
        return await self.client.wait_for_session_event(self.session_id, predicate, timeout)

    async def wait_closed(self, timeout: float | None = 300.0) -> SessionMetadata:  # noqa: ASYNC109
        """Wait until the session has ended; the snapshot says why. Raises `TimeoutError`.

        If cancelled: nothing has changed.
        """
        with suppress(SessionClosedError):
            await self.wait(lambda envelope: envelope.event_type in SESSION_END, timeout)
        return await self.info()

    async def close(self, reason: str = "explicit_close") -> SessionMetadata:
        """Close the session for everybody. If cancelled: it may have been closed."""
        self.metadata = await self.client.close_session(self.session_id, reason)
        return self.metadata

    async def info(self) -> SessionMetadata:
        """The session as it is now. If cancelled: nothing has changed."""
        self.metadata = await self.client.hub_client.get_session(self.session_id)
        return self.metadata

    async def history(self, *, after: int = 0, limit: int | None = None) -> list[Envelope]:
        """What this agent may see of the log. If cancelled: nothing has changed."""
        return await self.client.hub_client.read_wal(
            self.session_id, after=after, limit=limit, as_agent=self.client.agent_id
        )

    async def _resolve(self, given: Who | Iterable[Who]) -> tuple[str, ...]:
        audience = ids_of(given)
        names = await self.client.hub_client.names(self.metadata.participant_ids)
        return resolve_audience(audience, names)


def ids_of(given: Who | Iterable[Who]) -> tuple[str, ...]:
    """Names or ids for one or several of those who have one; what is neither comes back as it is, to be refused."""
    several: Any = (given,) if isinstance(given, str) or hasattr(given, "agent_id") else given
    return tuple(one if isinstance(one, str) else getattr(one, "agent_id", one) for one in several)


def resolve_audience(audience: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Agent ids for an audience of names or ids; `names` maps the session's member ids to names."""
    ids = {name: agent_id for agent_id, name in names.items()}
    resolved = []
    for who in audience:
        agent_id = who if who in names else ids.get(who)
        if agent_id is None:
            raise NotFoundError(f"{who!r} is not in the session; its members are {', '.join(sorted(ids))}")
        resolved.append(agent_id)
    if not resolved:
        raise InvalidInput("an empty audience reaches nobody; leave it out to address everybody", field="audience")
    return tuple(resolved)
