"""The hub. It assembles its parts, starts them in order and offers them to the operator; it decides nothing itself."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from ..actors.runtime.actor import Actor, Context
from ..actors.runtime.child import Child, Group
from ..actors.runtime.events import ActorCrash, ActorRestart, Event
from ..actors.runtime.opening import open_supervisor
from ..actors.runtime.supervisor import Supervisor
from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import AdapterRegistry, default_adapters
from ..actors.sessions.expectations import Evaluator
from ..mailbox.clock import Clock, as_clock
from ..mailbox.errors import HubClosedError, InvalidInput
from ..mailbox.events import AUDIT_KIND_ACTOR_RESTARTED
from ..transports.link import LinkEndpoint
from .audit import AuditLog
from .auth import AuthRegistry
from .connections import Connection, ConnectionActor
from .door import Door
from .expectations import Reaction
from .extension import Extensible
from .governance import Arbiter
from .inbox import Redelivery
from .listeners import GROUP as LISTENERS
from .opening import ManualExit, Opening
from .operations import Operations
from .operator import Operated
from .reading import Readable
from .recovery import recover
from .registry import Clerk
from .services import Services, Settings
from .stores.protocol import KnowledgeStore
from .sweepers import sweep_ttl, sweeper_child

TOP = "hub"


class Hub(Readable, Operated, Extensible):
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
        self._is_recovered = False  # until then nobody sweeps: a session that moves while it is read is read twice
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
                self._is_recovered = True
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
        services.listeners.group = services.audit.group = top.group(LISTENERS)
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

    # What its parts share.

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
    def is_closed(self) -> bool:
        """Whether the hub has closed or is closing."""
        return self._closed

    def _require_top(self) -> Supervisor:
        assert self._top is not None
        return self._top

    # Sweeps, by hand or by the sweepers.

    async def _ttl_tick(self) -> int:
        """One pass of the TTL sweep; how many sessions it ended. If cancelled: part of it is done."""
        services = self._open_services()
        if not self._is_recovered:
            await trio.lowlevel.checkpoint()
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
        return await services.expectations.sweep() if self._is_recovered else 0

    # Kernel events.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ActorRestart) and self._services is not None and not self._closed:
            self._services.audit.write(
                AUDIT_KIND_ACTOR_RESTARTED, actor=event.name, incarnation=event.incarnation + 1, delay=event.delay
            )
            group, _, name = event.name.removeprefix(f"{TOP}/").partition("/")
            if group == "agents":
                self._services.budgets.restarted(name)
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
