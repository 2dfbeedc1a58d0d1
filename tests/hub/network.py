"""A hub with its links as the hub's tests use it. Tests know a link by its kind only, never by how it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.hub_client import HubClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.adapters.registry import default_adapters
from agorio.actors.sessions.identity import Passport, Resume
from agorio.actors.sessions.lifecycle import begin, fold, snapshot
from agorio.actors.sessions.metadata import SessionMetadata
from agorio.actors.sessions.operations import Operation, Register, Registered
from agorio.hub.hub import Hub
from agorio.hub.records import StoredSession, from_bytes
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.mailbox.codec import decode_envelope
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.errors import error_from_wire
from agorio.mailbox.events import AUDIT_KIND_DENIED
from agorio.transports.frames import (
    AcceptFrame,
    ErrorFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    WelcomeFrame,
)
from agorio.transports.link import Link, LinkClient
from agorio.transports.local import LocalLink

MakeLink = Callable[[Hub], AbstractAsyncContextManager[Link]]
PAUSE = 0.5


@asynccontextmanager
async def local_link(hub: Hub) -> AsyncIterator[Link]:
    """The link within one process."""
    yield LocalLink(hub)


class Network:
    """An open hub, a link to it and a client on that."""

    def __init__(self, hub: Hub, store: KnowledgeStore, link: Link, is_local: bool, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.store = store
        self.link = link
        self._is_local = is_local
        self._stack = stack
        self.adapters = default_adapters()
        self.hc: HubClient = HubClient(link, hub=hub)

    async def client(self, **options: Any) -> HubClient:
        """Another connected client; it is closed with the network."""
        hc = HubClient(self.link, hub=self.hub if self._is_local else None, **options)
        return await self._stack.enter_async_context(hc)

    async def agent(self, name: str, agent: Any = None, *, hc: HubClient | None = None, **options: Any) -> AgentClient:
        """Register an agent; without one it is silent and leaves everything to the test."""
        chosen = hc if hc is not None else self.hc
        if agent is None and "handler" not in options:
            options.setdefault("attach_plugin", False)
        return await chosen.register(agent, Passport(name), Resume(), **options)

    async def wire(self) -> Wire:
        """A bare link, spoken to by frames."""
        wire = Wire(self.link.client())
        await wire.open()
        nursery = await self._stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(wire.read)
        self._stack.push_async_callback(wire.link.close)
        return wire

    async def log(self, session_id: str) -> list[Envelope]:
        """The whole log."""
        return await self.hub.read_wal(session_id)

    async def texts(self, session_id: str) -> list[str]:
        """What was said, in order."""
        return [envelope.text for envelope in await self.log(session_id) if envelope.text]

    async def audit(self, *kinds: str) -> list[Any]:
        """The audit records, of these kinds or all."""
        return [record for record in await self.hub.audit_log.read_all() if not kinds or record.kind in kinds]

    async def picture(self) -> dict[str, Any]:
        """Everything that a refusal must leave as it was: what is stored, and what is pending."""
        await self.hub.audit_log.read_all()  # flushes
        documents = {doc.key: (doc.version, doc.body) for doc in await self.store.scan("")}
        streams = {key: await self.store.read(key) for key in documents if key.startswith("session/")}
        audit = [dict(record) for record in await self.audit() if record.kind != AUDIT_KIND_DENIED]
        statistics = self.hub.statistics()
        return {
            "documents": documents,
            "streams": streams,
            "audit": audit,
            "agents": self.hub.agents(),
            "letters": self.hub.dead_letters(),
            "sessions": statistics.current_sessions,
            "unsettled": statistics.current_unsettled,
        }

    async def check(self) -> None:
        """The invariants of a hub at rest."""
        await self.hub.audit_log.read_all()
        for document in await self.store.scan("session/"):
            setup = from_bytes(document.body, StoredSession).setup
            assert await self._folded(setup) == await self.hub.get_session(setup.session_id)
        for entry in self.hub._open_services().directory:
            assert entry.inbox.pending == entry.inbox.desk.counted(), f"a slot of {entry.name} is held by nothing"
        for info in self.hub.agents():
            assert info.max_pending is None or info.pending <= info.max_pending
        assert self.hub.statistics().current_pending == sum(info.pending for info in self.hub.agents())

    async def _folded(self, setup: Any) -> SessionMetadata:
        adapter = self.adapters.get(setup.manifest.type, setup.manifest.version)
        live = begin(setup, adapter)
        for number, record in enumerate(await self.store.read(f"session/{setup.session_id}"), 1):
            envelope = decode_envelope(record.body)
            assert envelope.sequence == record.sequence == number
            live = fold(live, adapter, envelope)
        return snapshot(live, adapter)

    def pending(self, agent: AgentClient | str) -> int:
        """Deliveries that hold a slot of the agent's inbox."""
        wanted = agent if isinstance(agent, str) else agent.name
        return next(info.pending for info in self.hub.agents() if info.name == wanted)


@attrs.define(eq=False)
class Wire:
    """One end of a link in the hands of a test."""

    link: LinkClient
    frames: list[Frame] = attrs.field(factory=list)
    is_over: bool = False
    _requests: int = 0

    async def open(self) -> None:
        await self.link.open()
        await self.link.send_frame(HelloFrame())

    async def read(self) -> None:
        async for frame in self.link.frames():
            self.frames.append(frame)
        self.is_over = True

    async def post(self, frame: Frame) -> None:
        await self.link.send_frame(frame)

    async def call(self, frame: Any) -> Any:
        """Put a question and return its answer; a refusal is raised."""
        await self.post(frame)
        for _ in range(1000):
            for answer in self.frames:
                if (
                    isinstance(answer, AcceptFrame | ResponseFrame | ErrorFrame)
                    and answer.request_id == frame.request_id
                ):
                    if isinstance(answer, ErrorFrame):
                        raise error_from_wire(answer.code, answer.message, dict(answer.details))
                    return answer.result if isinstance(answer, ResponseFrame) else answer
            await trio.sleep(0.01)
        raise TimeoutError(f"no answer to {frame!r}")

    def number(self) -> int:
        self._requests += 1
        return self._requests

    async def request(self, operation: Operation) -> Any:
        return await self.call(RequestFrame(self.number(), operation.op, operation))

    async def send(self, envelope: Envelope) -> AcceptFrame:
        accepted: AcceptFrame = await self.call(SendFrame(self.number(), envelope))
        return accepted

    async def register(self, name: str, **options: Any) -> Registered:
        registered: Registered = await self.request(Register(Passport(name), **options))
        return registered

    async def accept(self, registered: Registered) -> None:
        """Accept every invitation that has arrived and acknowledge it."""
        await trio.sleep(PAUSE)
        for frame in self.notified(registered):
            if frame.envelope.event_type == "ag2.session.invite":
                await self.ack(frame)
                answer = Envelope(frame.envelope.session_id, registered.agent_id, None, "ag2.session.invite.ack")
                await self.send(answer)

    async def ack(self, frame: NotifyFrame, status: Any = "ack", reason: str = "") -> None:
        envelope = frame.envelope
        await self.post(ReceiptFrame(frame.recipient_id, envelope.session_id, envelope.sequence, status, reason))

    def notified(self, registered: Registered | None = None, *, texts: bool = False) -> list[NotifyFrame]:
        """The deliveries that have arrived, of one agent or all."""
        return [
            frame
            for frame in self.frames
            if isinstance(frame, NotifyFrame)
            and (registered is None or frame.recipient_id == registered.agent_id)
            and (not texts or frame.envelope.text)
        ]

    @property
    def welcome(self) -> WelcomeFrame | None:
        return next((frame for frame in self.frames if isinstance(frame, WelcomeFrame)), None)


async def settle(seconds: float = PAUSE) -> None:
    """Let everything that is under way come to rest. Virtual time passes, no real time does."""
    await trio.sleep(seconds)


async def converse(creator: AgentClient, *others: AgentClient, **options: Any) -> Session:
    """An open conversation; members without a handler accept their invitations here."""
    options.setdefault("type", "conversation")
    opened: list[Session] = []

    async def open_it() -> None:
        opened.append(await creator.open(target=[other.agent_id for other in others], **options))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        for other in others:
            if not other.has_handler:
                nursery.start_soon(accept_next, other)
    return opened[0]


async def accept_next(member: AgentClient, *, is_welcome: bool = True) -> None:
    """Answer the newest invitation of an agent without a handler."""
    for _ in range(1000):
        await trio.sleep(0.01)
        for metadata in await member.hub_client.list_sessions(agent_id=member.agent_id, state="pending"):
            if member.agent_id in metadata.pending_acks:
                kind = "ag2.session.invite.ack" if is_welcome else "ag2.session.invite.reject"
                await member.send_envelope(Envelope(metadata.session_id, member.agent_id, None, kind))
                return
    raise TimeoutError(f"{member.name} was not invited")


@asynccontextmanager
async def open_on(make_link: MakeLink, is_local: bool, store: KnowledgeStore, **options: Any) -> AsyncIterator[Network]:
    """Open a hub on a store and a link to it."""
    async with Hub.open(store, **options) as hub, make_link(hub) as link, AsyncExitStack() as stack:
        network = Network(hub, store, link, is_local, stack)
        if not is_local:
            network.hc = await network.client()
        yield network
