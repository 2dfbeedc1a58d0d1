"""The hub. It assembles its parts, starts them in order and offers them to the operator; it decides nothing itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Child, Group
from ..actors.runtime.events import ActorCrash, ActorRestart, Event
from ..actors.runtime.opening import open_supervisor
from ..actors.runtime.ref import Ref
from ..actors.runtime.supervisor import Supervisor
from ..actors.runtime.tree import TreeNode
from ..actors.sessions import operations as ops
from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import AdapterRegistry, default_adapters
from ..actors.sessions.expectations import Evaluator
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..actors.sessions.tasks import TaskMetadata
from ..actors.sessions.typed import checked
from ..mailbox.clock import Clock, as_clock
from ..mailbox.envelope import Envelope
from ..mailbox.errors import HubClosedError, InvalidInput, QuarantinedError
from ..mailbox.events import AUDIT_KIND_ACTOR_RESTARTED
from ..transports.link import LinkEndpoint
from .audit import AuditLog
from .auth import AuthRegistry
from .connections import Connection, ConnectionActor
from .dead_letters import DeadLetterRecord
from .directory import AgentInfo
from .door import Door
from .expectations import Reaction
from .extension import Extensible
from .governance import Arbiter
from .inbox import Redelivery
from .listeners import GROUP as LISTENERS
from .opening import ManualExit, Opening
from .operations import Operations
from .recovery import recover
from .registry import Clerk
from .report import Health, HubStatistics, agent_info, health_of, statistics_of
from .services import Services, Settings
from .stores.protocol import KnowledgeStore
from .sweepers import sweep_ttl, sweeper_child

TOP = "hub"


class Hub(Extensible):
    """A network's single source of truth. Open one with `Hub.open`; the constructor does nothing but remember.

    `store` keeps the logs, `auth` proves identities (default: `NoAuth`), `clock` is a callable returning ISO-8601 text
    or an object with `time()` (default: trio's clock), intervals and timeouts are seconds, 0 disables a sweeper.
    """

    def __init__(
        self,
        store: KnowledgeStore,
        *,
        auth: AuthRegistry | None = None,
        clock: Clock | Callable[[], str] | None = None,
        ttl_sweep_interval: float = 30.0,
        expectation_sweep_interval: float = 10.0,
        invite_ack_timeout: float = 30.0,
        redelivery: Redelivery | None = None,
        adapters: Iterable[SessionAdapter] = (),
        arbiter: Arbiter | None = None,
        evaluators: Mapping[str, Evaluator] | None = None,
        reactions: Mapping[str, Reaction] | None = None,
        grace: float = 5.0,
        rng: random.Random | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        _check_intervals(ttl_sweep_interval, expectation_sweep_interval, invite_ack_timeout, grace)
        self._store = store
        self._auth = auth
        self._clock = clock
        self._settings = Settings(
            ttl_sweep_interval, expectation_sweep_interval, invite_ack_timeout, redelivery or Redelivery(), grace
        )
        self._adapters: AdapterRegistry = default_adapters()
        self._more = (tuple(adapters), dict(evaluators or {}), dict(reactions or {}))
        self._arbiter = arbiter or Arbiter()
        self._rng = rng or random.Random()
        self._user_sink = on_event
        self._services: Services | None = None
        self._door: Door | None = None
        self._top: Supervisor | None = None
        self._exit: ManualExit | None = None
        self._closed = False
        self._connections = 0

    # Opening and closing.

    @classmethod
    def open(
        cls,
        store: KnowledgeStore,
        *,
        auth: AuthRegistry | None = None,
        clock: Clock | Callable[[], str] | None = None,
        ttl_sweep_interval: float = 30.0,
        expectation_sweep_interval: float = 10.0,
        invite_ack_timeout: float = 30.0,
        **options: Any,
    ) -> Opening[Hub]:
        """Open a hub: `async with Hub.open(store) as hub`, or `hub = await Hub.open(store)` and `await hub.close()`.

        Further options are those of the constructor. Raises `InvalidInput` at once for what is out of range, and when
        it is entered `StoreError` for a store that cannot be opened. If cancelled: the hub is not open and the store is
        closed.
        """
        hub = cls(
            store,
            auth=auth,
            clock=clock,
            ttl_sweep_interval=ttl_sweep_interval,
            expectation_sweep_interval=expectation_sweep_interval,
            invite_ack_timeout=invite_ack_timeout,
            **options,
        )
        return Opening(hub._running, lambda opened, leave: setattr(opened, "_exit", leave))

    @classmethod
    async def serve(
        cls,
        store: KnowledgeStore,
        *,
        task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED,
        **options: Any,
    ) -> None:
        """Run a hub until it is closed or cancelled: `hub = await nursery.start(Hub.serve, store)`.

        If cancelled: it drains within its grace and closes the store.
        """
        closing = trio.Event()
        async with cls.open(store, **options) as hub:
            hub._on_close = closing.set
            task_status.started(hub)
            await closing.wait()

    _on_close: Callable[[], None] | None = None

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Hub]:
        await self._store.open()
        try:
            self._services = services = Services(
                self._store,
                auth=self._auth or AuthRegistry.default(),
                clock=as_clock(self._clock),
                settings=self._settings,
                adapters=self._adapters,
                arbiter=self._arbiter,
                rng=self._rng,
            )
            self._extend(services)
            await services.audit.open()
            self._door = Door(services, Operations(services).rows())
            async with open_supervisor(
                self._children(services), name=TOP, strategy="rest_for_one", on_event=self._on_event, rng=self._rng
            ) as top:
                self._take_up(services, top)
                await recover(services)
                try:
                    yield self
                finally:
                    self._closed = True  # new work is refused; leaving the supervisor drains in reverse order
        finally:
            self._closed = True
            with trio.CancelScope(shield=True):
                if self._services is not None:
                    await self._services.audit.close()
                    self._services.writer.close()
                await self._store.close()

    def _extend(self, services: Services) -> None:
        """Take in what the options add: evaluators and reactions first, since the session types may name them."""
        adapters, evaluators, reactions = self._more
        for name, evaluator in evaluators.items():
            services.expectations.add_evaluator(name, evaluator)
        for name, reaction in reactions.items():
            services.expectations.add_reaction(name, reaction)
        for adapter in adapters:
            self._adapters.register(adapter)
        for adapter in self._adapters:
            services.expectations.check(adapter.manifest.expectations)

    def _children(self, services: Services) -> list[Child | Group]:
        settings = self._settings
        sweepers = []
        if settings.ttl_sweep_interval:
            sweepers.append(sweeper_child("ttl", self._ttl_tick, settings.ttl_sweep_interval))
        if settings.expectation_sweep_interval:
            sweepers.append(sweeper_child("expectations", self._expectation_tick, settings.expectation_sweep_interval))
        return [
            Child("log-writer", lambda: _Loop(services.writer.run, services.writer.flush), grace=settings.grace),
            Group(LISTENERS, max_restarts=1000),
            Child("sessions", lambda: _Loop(services.sessions.run, services.sessions.leave), grace=settings.grace),
            Child("registry", Clerk, grace=settings.grace, capacity=100_000),
            Group("agents", max_restarts=1000),
            Group("connections", max_restarts=1000),
            Group("clients", max_restarts=1000),
            Group("sweepers", tuple(sweepers)),
        ]

    def _take_up(self, services: Services, top: Supervisor) -> None:
        self._top = top
        services.listeners.group = top.group(LISTENERS)
        services.registry.agents = top.group("agents")
        services.registry.ask = top.ref("registry").ask

    async def close(self) -> None:
        """Refuse new work, drain, flush and close the store; closing again does nothing.

        Only for hubs opened by `await Hub.open(...)` or `nursery.start(Hub.serve, ...)`; a block closes its hub itself.
        If cancelled: the hub drains within its grace all the same.
        """
        if self._exit is not None:
            leave = self._exit
            leave.check()
            self._exit = None
            await leave.leave()
            return
        self._closed = True
        if self._on_close is not None:
            self._on_close()
        await trio.lowlevel.checkpoint()

    def _open_services(self) -> Services:
        if self._services is None or self._closed:
            raise HubClosedError("the hub is closed; open a new one with Hub.open(store)")
        return self._services

    # Links and clients.

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        """Serve this endpoint until it closes. Raises `HubClosedError`."""
        services = self._open_services()
        assert self._top is not None
        assert self._door is not None
        self._connections += 1
        name = f"{endpoint.kind}-{self._connections}"
        connection = Connection(endpoint, name, services.clock.time)
        door = self._door
        self._top.group("connections").start_soon(
            Child(name, lambda: ConnectionActor(connection, door), restart="temporary", grace=1.0)
        )

    def host_client(self, child: Child | Group) -> Any:
        """Run an agents' client in this hub's nursery. Raises `HubClosedError`."""
        self._open_services()
        assert self._top is not None
        return self._top.group("clients").start_soon(child)

    async def stop_client(self, name: str) -> None:
        """Stop a hosted client and wait until it is gone; a closed hub has stopped all. If cancelled: it goes on."""
        clients = self._top.group("clients") if self._top is not None and "clients" in self._top else ()
        if isinstance(clients, Supervisor) and name in clients:
            await clients.stop(name)
        else:
            await trio.lowlevel.checkpoint()

    # What the operator reads.

    async def get_session(self, session_id: str) -> SessionMetadata:
        """A snapshot. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return (await services.sessions.get(session_id)).metadata()

    async def get_resume(self, agent_id: str) -> Resume:
        """The current résumé. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).resume

    async def get_passport(self, agent_id: str) -> Passport:
        """The current passport. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).passport

    get_agent = get_passport

    async def get_rule(self, agent_id: str) -> Rule:
        """The current rule. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).rule

    async def get_skill(self, agent_id: str) -> str | None:
        """The skill as it was set. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).stored.skill_md

    async def read_wal(
        self, session_id: str, *, after: int = 0, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The session's envelopes in order, all or as one participant sees them. Raises `NotFoundError`.

        If cancelled: nothing has changed.
        """
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        with suppress(QuarantinedError):  # what cannot be folded can be looked at all the same
            await services.sessions.get(session_id)
        return await services.reader.read_all(session_id, after, limit, as_agent)

    async def list_sessions(
        self, *, agent_id: str | None = None, state: str | None = None, limit: int = 1000
    ) -> list[SessionMetadata]:
        """Sessions, newest first; `state` may be `open`. If cancelled: nothing has changed."""
        op = checked(ops.ListSessions(agent_id, state, limit))
        return await self._open_services().list_sessions(None if agent_id is None else [agent_id], op.state, op.limit)

    async def get_task(self, task_id: str) -> TaskMetadata:
        """A task, running or ended. Raises `NotFoundError`. If cancelled: nothing has changed."""
        return await self._open_services().task_calls.get(task_id)

    async def list_tasks(
        self,
        *,
        session_id: str | None = None,
        owner_id: str | None = None,
        state: str | None = None,
        capability: str | None = None,
        limit: int = 1000,
    ) -> list[TaskMetadata]:
        """Tasks, newest first; `state` may be `ended`. If cancelled: nothing has changed."""
        wanted = ops.ListTasks("", session_id, owner_id, state, capability, limit)
        return await self._open_services().task_calls.list(wanted, everything=True)

    async def list_agents(
        self,
        *,
        capability: str | None = None,
        query: str | None = None,
        kind: str | None = None,
        sort_by: str = "name",
        limit: int = 1000,
    ) -> list[Passport]:
        """Passports; filter and sort come before the limit. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        op = checked(ops.ListAgents(capability, query, kind, sort_by, limit))
        return [entry.passport for entry in services.search(op)]

    def agents(self) -> list[AgentInfo]:
        """Every agent with its inbox, by name."""
        return sorted((agent_info(entry) for entry in self._open_services().directory), key=lambda info: info.name)

    def dead_letters(self, agent_id: str | None = None) -> Sequence[DeadLetterRecord]:
        """Deliveries that were given up, oldest first."""
        return self._open_services().dead_letters.list(agent_id)

    @property
    def audit_log(self) -> AuditLog:
        """The single trail of governance events."""
        if self._services is None:
            raise HubClosedError("the hub is not open; open it with Hub.open(store)")
        return self._services.audit

    @property
    def _audit_log(self) -> AuditLog:
        return self.audit_log

    @property
    def auth_schemes(self) -> tuple[str, ...]:
        """The schemes by which identities are proven here; the empty one is `NoAuth`."""
        return self._open_services().registry.auth.schemes()

    @property
    def is_closed(self) -> bool:
        """Whether the hub has closed or is closing."""
        return self._closed

    def health(self) -> Health:
        """How the hub is."""
        return health_of(self._open_services(), self._require_top())

    def statistics(self) -> HubStatistics:
        """Counts of what the hub has done and holds."""
        return statistics_of(self._open_services(), self._require_top())

    def tree(self) -> TreeNode:
        """The supervision tree as it is now."""
        self._open_services()
        return self._require_top().tree()

    def ref(self, name: str) -> Ref:
        """The actor of a registered agent. Raises `NotFoundError`."""
        entry = self._open_services().directory.entry(name)
        return self._require_top().group("agents").ref(entry.name)

    def _require_top(self) -> Supervisor:
        assert self._top is not None
        return self._top

    # What the operator does.

    async def close_session(self, session_id: str, reason: str = "closed_by_operator") -> SessionMetadata:
        """Close a session. Raises `NotFoundError`. If cancelled: it still closes."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return await services.close_session(session_id, reason)

    async def set_rule(self, agent_id: str, rule: Rule) -> Rule:
        """Replace an agent's rule, loosening included. If cancelled: done wholly or not at all."""
        return await self._open_services().registry.set_rule(checked(ops.SetRule(agent_id, rule)), operator=True)

    async def set_resume(self, agent_id: str, resume: Resume) -> Resume:
        """Replace an agent's claims. If cancelled: done wholly or not at all."""
        return await self._open_services().registry.set_resume(checked(ops.SetResume(agent_id, resume)))

    async def set_skill(self, agent_id: str, skill_md: str | None) -> None:
        """Replace or remove an agent's skill. If cancelled: done wholly or not at all."""
        await self._open_services().registry.set_skill(checked(ops.SetSkill(agent_id, skill_md)))

    async def unregister(self, agent_id: str) -> None:
        """Strike an agent off. Raises `NotFoundError`. If cancelled: done wholly or not at all."""
        await self._open_services().registry.unregister(agent_id)

    # Sweeps, by hand or by the sweepers.

    async def _ttl_tick(self) -> int:
        """One pass of the TTL sweep; how many sessions it ended. If cancelled: part of it is done."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        if not services.is_recovered:
            return 0
        now = services.clock.time()
        services.tasks.sweep(now)
        ended = await sweep_ttl(services.sessions, now)
        for entry in services.directory:
            if entry.inbox.expiring:
                entry.inbox.expire(now)
        await services.writer.flush()
        await trio.lowlevel.checkpoint()
        return ended

    async def _expectation_tick(self) -> int:
        """One pass of the expectation sweep; how many violations it found. If cancelled: part of it is done."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return await services.expectations.sweep() if services.is_recovered else 0

    # Kernel events.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ActorRestart) and self._services is not None and not self._closed:
            self._services.audit.write(
                AUDIT_KIND_ACTOR_RESTARTED, actor=event.name, incarnation=event.incarnation + 1, delay=event.delay
            )
        if isinstance(event, ActorCrash) and self._services is not None:
            self._services.crashes.append(f"{event.name}: {event.cause!r}")
        if self._user_sink is not None:
            self._user_sink(event)


class _Loop(Actor):
    """Runs an endless async function under supervision."""

    def __init__(self, loop: Callable[[], Awaitable[None]], flush: Callable[[], Awaitable[None]]) -> None:
        self._loop = loop
        self._flush = flush

    async def on_start(self, ctx: Context) -> None:
        """Start the loop. If cancelled: it does not run."""
        ctx.nursery.start_soon(self._loop)

    async def on_stop(self, ctx: Context, why: str) -> None:
        """Finish what is queued. If cancelled: the grace is over."""
        await self._flush()


def _check_intervals(ttl: float, expectation: float, ack: float, grace: float) -> None:
    values = {
        "ttl_sweep_interval": ttl,
        "expectation_sweep_interval": expectation,
        "invite_ack_timeout": ack,
        "grace": grace,
    }
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidInput(f"{name}={value!r} must be a number of seconds, 0 or more", field=name)
