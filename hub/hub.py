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
from ..actors.runtime.faults import unwrapped
from ..actors.runtime.opening import open_supervisor
from ..actors.runtime.supervisor import Supervisor
from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.adapters.registry import AdapterRegistry, default_adapters
from ..actors.sessions.expectations import Evaluator
from ..actors.sessions.graph_codec import GraphRegistry
from ..mailbox.clock import Clock, as_clock
from ..mailbox.errors import HubClosedError, InvalidInput
from ..mailbox.events import AUDIT_KIND_ACTOR_RESTARTED
from ..transports.link import LinkEndpoint
from .archive import Archive
from .archived_store import ArchivedStore, with_archive
from .audit import AuditLog
from .auth import AuthRegistry
from .connections import Connection, ConnectionActor
from .door import Door
from .expectations import Reaction
from .extension import Extensible
from .governance import Arbiter
from .inbox import Redelivery
from .listeners import GROUP as LISTENERS
from .opening import ManualExit, Opening, is_below
from .operations import Operations
from .operator import Operated
from .reading import Readable
from .recovery import recover
from .registry import Clerk
from .retention import Archivist, Retention, check_retention
from .services import Services, Settings
from .stores.protocol import KnowledgeStore
from .sweepers import sweep_ttl, sweeper_child

TOP = "hub"


class Hub(Readable, Operated, Extensible):
    """A network's single source of truth. Open one with `Hub.open`; the constructor does nothing but remember.

    `store` keeps the logs, `auth` proves identities (default: `NoAuth`), `clock` is a callable returning ISO-8601 text
    or an object with `time()` (default: trio's clock), intervals and timeouts are seconds, 0 disables a sweeper.
    `adapters` are session types, instead of the built-in one where type and version are the same; `graphs` knows the
    conditions and targets of your own that the built-in `workflow` may name.
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
        graphs: GraphRegistry | None = None,
        arbiter: Arbiter | None = None,
        evaluators: Mapping[str, Evaluator] | None = None,
        reactions: Mapping[str, Reaction] | None = None,
        grace: float = 5.0,
        retention: Retention | None = None,
        rng: random.Random | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        _check_intervals(ttl_sweep_interval, expectation_sweep_interval, invite_ack_timeout, grace)
        self._retention = None if retention is None else check_retention(retention)
        self._store = store if retention is None else with_archive(store, Archive(retention.directory))
        self._auth = auth
        self._clock = clock
        self._settings = Settings(
            ttl_sweep_interval, expectation_sweep_interval, invite_ack_timeout, redelivery or Redelivery(), grace
        )
        self._adapters: AdapterRegistry = default_adapters(graphs, adapters)
        self._more = (dict(evaluators or {}), dict(reactions or {}))
        self._arbiter = arbiter or Arbiter()
        self._rng = rng or random.Random()
        self._user_sink = on_event
        self._services: Services | None = None
        self._door: Door | None = None
        self._top: Supervisor | None = None
        self._exit: ManualExit | None = None
        self._task: trio.lowlevel.Task | None = None
        self._closing = trio.Event()
        self._over = trio.Event()
        self._closed = False
        self._connections = 0
        self._archivist: Archivist | None = None

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
        await cls(store, **options)._live(task_status=task_status)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[Hub]:
        with unwrapped():
            async with trio.open_nursery() as nursery:
                await nursery.start(self._live)
                try:
                    yield self
                finally:
                    self._closing.set()

    async def _live(self, *, task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED) -> None:
        """The hub's whole life in a task of its own, so that whoever closes it can wait for its end."""
        self._task = trio.lowlevel.current_task()
        try:
            await self._store.open()
            try:
                await self._work(task_status)
            finally:
                with trio.CancelScope(shield=True):
                    await self._let_go()
        finally:
            self._closed = True
            self._over.set()

    async def _work(self, task_status: trio.TaskStatus[Hub]) -> None:
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
        if isinstance(self._store, ArchivedStore) and self._retention is not None:
            self._archivist = Archivist(services, self._store, self._retention)
        await services.audit.open()
        self._door = Door(services, Operations(services).rows())
        async with open_supervisor(
            self._children(services), name=TOP, strategy="rest_for_one", on_event=self._on_event, rng=self._rng
        ) as top:
            self._take_up(services, top)
            await recover(services)
            try:
                task_status.started(self)
                await self._closing.wait()
            finally:
                self._closed = True  # new work is refused; leaving the supervisor drains in reverse order

    async def _let_go(self) -> None:
        self._closed = True
        if self._services is not None:
            await self._services.audit.close()
            self._services.writer.close()
        await self._store.close()

    def _extend(self, services: Services) -> None:
        """Take in what the options add: evaluators and reactions first, since the session types may name them."""
        evaluators, reactions = self._more
        for name, evaluator in evaluators.items():
            services.expectations.add_evaluator(name, evaluator)
        for name, reaction in reactions.items():
            services.expectations.add_reaction(name, reaction)
        for adapter in self._adapters:
            services.expectations.check(adapter.manifest.expectations)

    def _children(self, services: Services) -> list[Child | Group]:
        settings = self._settings
        sweepers = []
        if settings.ttl_sweep_interval:
            sweepers.append(sweeper_child("ttl", self._ttl_tick, settings.ttl_sweep_interval))
        if settings.expectation_sweep_interval:
            sweepers.append(sweeper_child("expectations", self._expectation_tick, settings.expectation_sweep_interval))
        if self._retention is not None and self._retention.interval:
            sweepers.append(sweeper_child("retention", self._retention_tick, self._retention.interval))
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
        """Refuse new work, drain, flush and close the store; who calls it again waits for the same end.

        After `await Hub.open(...)` only the task that opened it may close it. One of the hub's own turns, listeners or
        sweepers may call it as well, and is not made to wait for itself: there it only begins.
        If cancelled: the hub drains within its grace all the same.
        """
        if self._exit is not None:
            leave = self._exit
            leave.check()
            self._exit = None
            await leave.leave()
            return
        self._closed = True
        self._closing.set()
        await trio.lowlevel.checkpoint()
        if self._task is not None and not is_below(trio.lowlevel.current_task(), self._task):
            await self._over.wait()

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

    async def _retention_tick(self) -> int:
        """One pass of the retention sweep; how much it archived. If cancelled: part of it is done."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return 0 if self._archivist is None else await self._archivist.sweep(services.clock.time())

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
