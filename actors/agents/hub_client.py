"""One program's connection to a hub, and the agents that it registers there.

All its tasks belong to one supervisor group: the link with its pump, and one worker per busy agent. With a hub in the
same process the group runs in the hub's nursery; otherwise the client is a block of its own (`async with`). Closing
drains: turns in hand are finished within their grace while the link still works.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from types import MappingProxyType, TracebackType
from typing import Any, Final

import attrs
import trio

from ...mailbox.errors import AccessDeniedError, AgorioError, InvalidInput, LinkClosed, LinkError, NotFoundError
from ...transports.frames import NotifyFrame
from ...transports.link import Link, LinkClient
from ..runtime.child import Child
from ..runtime.ref import Ref
from ..runtime.supervisor import Supervisor
from ..sessions.adapters.base import SessionAdapter
from ..sessions.adapters.registry import AdapterRegistry, default_adapters
from ..sessions.credentials import Credentials
from ..sessions.identity import Passport, Resume
from ..sessions.metadata import Manifest
from ..sessions.operations import Unregister
from ..sessions.rule import Rule
from .agent_client import AgentClient
from .connection import Connection
from .control import ControlCalls
from .hosting import ClientHost, host_of, start_group, stop_group
from .human import HumanClient, Person
from .inbound import Handler, Inbound
from .inbound_calls import InboundCalls
from .link_actor import LinkActor
from .registration import Registration, prepare, prepare_person, prove
from .remote_ref import RemoteRef
from .resuming_link import LinkChange, ResumingLink, client_of, is_up
from .views import ViewPolicy, ViewRegistry

IDLE: Final = 5.0
_numbers = itertools.count(1)


@attrs.frozen
class HubClientStatistics:
    """What a client holds."""

    current_agents: int
    """Agents registered through it."""
    current_busy: int
    """Of them with workers."""
    current_calls: int
    """Questions to the hub without an answer so far."""
    is_closed: bool
    """Whether the connection has ended."""


class HubClient(ControlCalls):
    """A registration broker: one per process is enough, whatever the number of agents.

    `link` makes the connection (`LocalLink(hub)`, `WsLink(url)`) or is a `LinkClient` itself. `request_timeout` bounds
    control calls; sending and opening take as long as the hub lets them. `grace` is how long turns in hand may go on
    when the client closes. A `WsLink` that is lost is made again, and what was under way goes on; `on_link` is told.
    The constructor does nothing; the first call connects.
    """

    def __init__(
        self,
        link: Link | LinkClient,
        hub: ClientHost | None = None,
        *,
        request_timeout: float = 30.0,
        grace: float = 5.0,
        adapters: AdapterRegistry | None = None,
        on_link: Callable[[LinkChange], None] | None = None,
    ) -> None:
        super().__init__()
        self._client: LinkClient | None = None
        self._on_link = on_link
        self.grace = grace
        self.views = ViewRegistry()
        self.name = f"client-{next(_numbers)}"
        self._link = link
        self._hub = hub if hub is not None else host_of(link)
        self._timeout = request_timeout
        self._adapters = adapters
        self._clients: dict[str, AgentClient] = {}
        self._busy: dict[str, Inbound] = {}
        self._registering = 0
        self._early: dict[str, list[NotifyFrame]] = {}
        self._children = itertools.count(1)
        self._opening = trio.Lock()
        self._connection: Connection | None = None
        self._group: Supervisor | None = None
        self._stack: AsyncExitStack | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<HubClient {self.name} with {len(self._clients)} agents>"

    # Opening and closing.

    async def __aenter__(self) -> HubClient:
        """Connect. If cancelled: not connected."""
        if self._hub is None:
            async with AsyncExitStack() as stack:
                await self._open(stack)
                self._stack = stack.pop_all()
        else:
            await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Close. If cancelled: closed all the same."""
        try:
            await self.close()
        finally:
            swallowed = await self._stack.__aexit__(kind, exc, traceback) if self._stack is not None else None
        return swallowed

    async def connect(self) -> Connection:
        """The connection, opened by the first call of whichever task comes first. If cancelled: not connected."""
        if self._connection is None:
            async with self._opening:
                if self._connection is None:
                    await self._open(None)
        assert self._connection is not None
        self._connection.check()
        return self._connection

    async def _open(self, stack: AsyncExitStack | None) -> None:
        if self._is_closed:
            raise LinkClosed("this client is closed; make another HubClient")
        if self._hub is None and stack is None:
            raise LinkError("over this link a client is a block: `async with HubClient(link) as hc:`")
        self._client = client_of(self._link, self._on_link)
        connection = Connection(
            self._client,
            request_timeout=self._timeout,
            on_notify=self._deliver,
            on_end=self._lose,
            on_tick=self._tick,
            on_request=lambda frame: self.inbound_calls.receive(frame, self._clients),
        )
        self.inbound_calls = InboundCalls(connection)
        await connection.shake_hands(self.name)
        try:
            link = Child("link", lambda: LinkActor(connection, self), restart="temporary", grace=self.grace)
            self._group = await start_group(self.name, link, self._hub, stack)
            self._connection = connection
        finally:
            if self._connection is None:
                await connection.close()

    async def close(self) -> None:
        """Close the connection; turns in hand are finished first. Identities stay registered, mail waits at the hub.

        If cancelled: the turns in hand are cancelled; closed all the same.
        """
        self._is_closed = True
        connection, group = self._connection, self._group
        try:
            if group is not None and connection is not None and not connection.is_ended:
                await stop_group(self.name, group, self._hub)
        finally:
            if connection is not None:
                await connection.close()
        await trio.lowlevel.checkpoint()

    async def shutdown(self) -> None:
        """Unregister every agent, then close. If cancelled: closed all the same."""
        try:
            for agent_id in list(self._clients):
                await self.unregister(agent_id)
        finally:
            await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the hub now; while a lost one is made again there is none."""
        connection, client = self._connection, self._client
        return connection is not None and not connection.is_ended and client is not None and is_up(client)

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    # Agents.

    async def register(
        self,
        agent: Any = None,
        passport: Passport | Mapping[str, Any] | str | None = None,
        resume: Resume | None = None,
        *,
        skill_md: str | None = None,
        rule: Rule | None = None,
        attach_plugin: bool = True,
        attach: bool = False,
        credentials: Credentials | None = None,
        concurrency: int = 1,
        handler: Handler | None = None,
        view: ViewPolicy | str | None = None,
    ) -> AgentClient:
        """Register an agent, or take up its stored identity with `attach=True`.

        Without a passport its own name is taken; a name alone is a passport too. `handler` handles its mail from the
        first delivery on; without one `attach_plugin` says whether the default handler does, or nothing. `concurrency`
        is how many turns it may have in hand at once, never two of one session. `view` is the view through which it
        sees its sessions. `credentials` prove who it is: an `AuthBlock`, or a function that answers the hub's question,
        such as `HmacCredentials(secret)`; without any the passport's are taken.

        If cancelled: not registered, or unregistered again at once; an identity that was taken up is kept.
        """
        registration = prepare(self, agent, passport, attach_plugin, concurrency, handler, view)
        return await self._register(registration, resume, skill_md, rule, credentials, attach)

    async def register_human(
        self,
        passport: Passport | Mapping[str, Any] | str,
        resume: Resume | None = None,
        *,
        rule: Rule | None = None,
        auto_ack_invites: bool = True,
        attach: bool = False,
        skill_md: str | None = None,
        credentials: Credentials | None = None,
    ) -> HumanClient:
        """Register a person, or with `attach=True` take up their stored identity; what they have not read comes again.

        With `auto_ack_invites=False` invitations are messages that the person accepts or declines.

        If cancelled: not registered, or unregistered again at once; an identity that was taken up is kept.
        """
        registration = prepare_person(self, passport, auto_ack_invites)
        client = await self._register(registration, resume, skill_md, rule, credentials, attach)
        assert isinstance(client, Person)
        return HumanClient(client)

    async def _register(
        self,
        registration: Registration,
        resume: Resume | None,
        skill_md: str | None,
        rule: Rule | None,
        credentials: Credentials | None,
        attach: bool,
    ) -> AgentClient:
        connection = await self.connect()
        proof = await prove(connection, registration.passport, credentials)
        operation = registration.operation(resume, skill_md, rule, proof, attach)
        self._registering += 1
        try:
            await connection.request(operation, then=registration.settle)
            client = registration.complete()
            if isinstance(self._client, ResumingLink):
                self._client.remember(client.agent_id, credentials)
            return client
        finally:
            registration.leave()
            self._registering -= 1
            if not self._registering:
                self._early.clear()

    async def unregister(self, agent: str | AgentClient) -> None:
        """Remove an identity from the hub for good: an agent of this client, its id or its name.

        Raises `NotFoundError` where nobody is known as that, `AuthError` where it is another client's.

        If cancelled: it may have been removed.
        """
        agent_id = agent.agent_id if isinstance(agent, AgentClient) else self.own_id(agent)
        connection = await self.connect()
        if agent_id not in self._clients:
            with suppress(AccessDeniedError):  # who has proven no identity here learns nothing about others
                await self.get_agent(agent_id)
        await connection.request(Unregister(agent_id))
        client = self._clients.get(agent_id)
        if client is not None:
            self.forget(client)

    def own_id(self, name_or_id: str) -> str:
        """The id of one of this client's agents by its name; anything else comes back as it is."""
        if name_or_id in self._clients:
            return name_or_id
        return next((who for who, client in self._clients.items() if client.name == name_or_id), name_or_id)

    @property
    def clients(self) -> Mapping[str, AgentClient]:
        """The registered agents by id."""
        return MappingProxyType(self._clients)

    def adopt(self, client: AgentClient) -> None:
        """A registration has succeeded. Runs in the pump, before the agent's first delivery."""
        before = self._clients.get(client.agent_id)
        if before is not None:
            self.forget(before)
        self._clients[client.agent_id] = client
        for frame in self._early.pop(client.agent_id, ()):
            client.deliver(frame)

    def forget(self, client: AgentClient, why: AgorioError | None = None) -> None:
        """The agent is no longer served here; whoever waits in its name is told why."""
        if self._clients.get(client.agent_id) is client:
            del self._clients[client.agent_id]
        self._busy.pop(client.agent_id, None)
        client.lose(why or LinkClosed(f"{client.name} is no longer registered on this client"))

    # For agents and their parts.

    @property
    def connection(self) -> Connection:
        """The connection, once there is one."""
        if self._connection is None:
            raise LinkError("the client is not connected; register an agent first, or `async with` it")
        return self._connection

    def adapter(self, manifest: Manifest) -> SessionAdapter:
        """The rules of a session type; what this client does not know in that version is rendered as plain text."""
        if self._adapters is None:
            self._adapters = default_adapters()
        try:
            return self._adapters.get(manifest.type, manifest.version)
        except NotFoundError:
            return SessionAdapter()

    def start_child(self, child: Child) -> Ref:
        """Start an actor in the client's group. Raises `ActorStopped` where that is stopping."""
        assert self._group is not None, "deliveries come after the group was started"
        return self._group.start_soon(child)

    def child_name(self, label: str) -> str:
        """A name for a child, unique in the group."""
        return f"{label}-{next(self._children)}"

    def note_busy(self, client: Inbound) -> None:
        """The agent has workers; they are looked after until they have been idle for a while."""
        self._busy[client.agent_id] = client
        self.connection.wake()

    def statistics(self) -> HubClientStatistics:
        """What the client holds."""
        connection = self._connection
        return HubClientStatistics(
            current_agents=len(self._clients),
            current_busy=len(self._busy),
            current_calls=0 if connection is None else len(connection.calls),
            is_closed=self._is_closed or (connection is not None and connection.is_ended),
        )

    def ref(self, name: str, *, asker: AgentClient | str | None = None) -> RemoteRef:
        """The address of an agent's actor by name, wherever it runs; `asker` is the registered agent that speaks.

        Raises `InvalidInput` where no agent is registered here that could.
        """
        if asker is None:
            asker = next(iter(self._clients), None)
        if asker is None:
            raise InvalidInput("register an agent on this client first: a ref speaks in an agent's name", field="asker")
        return RemoteRef(self, name, asker if isinstance(asker, str) else asker.agent_id)

    # What the connection tells.

    def _deliver(self, frame: NotifyFrame) -> None:
        """Hand a delivery to its agent. One for an agent that has left stays pending at the hub.

        Mail that waited for an identity may arrive just before the answer to its registration.
        """
        client = self._clients.get(frame.recipient_id)
        if client is not None:
            client.deliver(frame)
        elif self._registering:
            self._early.setdefault(frame.recipient_id, []).append(frame)

    def _lose(self, fault: AgorioError) -> None:
        self._busy.clear()
        for client in self._clients.values():
            client.lose(fault)

    def _tick(self) -> bool:
        """Let workers go that have had nothing to do for a while; whether there are any left."""
        late = trio.current_time() - IDLE
        for client in list(self._busy.values()):
            if client.turns is None or client.turns.idle_since <= late:
                del self._busy[client.agent_id]
                client.rest()
        return bool(self._busy)
