"""A whole network in one process and in virtual time: a hub that is opened again whenever it goes down, members that
keep coming back, a store and links with faults in them, and somebody who watches from outside.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

from ..actors.runtime.coordinator import Coordinator
from ..actors.runtime.events import ActorCrash, ActorRestart, DeadLetter, Event
from ..hub.hub import Hub
from ..hub.inbox import Redelivery
from ..hub.session import stream_of
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import KnowledgeStore, NowaitStore
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, HubClosedError, StoreError
from ..mailbox.events import AUDIT_KIND_DEAD_LETTER
from ..transports.frames import Frame, NotifyFrame
from ..transports.link import LinkEndpoint
from .chance import Chance, Trace
from .evidence import Evidence, Past
from .faulty_store import FaultyStore
from .faulty_stream import open_server
from .invariants import InvariantBroken, problems_now, problems_of_logs
from .ledger import Ledger, leaves
from .members import AgentFault, Member
from .nemesis import Limits, SimulatedCrash, actor_of, crash, draw_faults

EPOCH = 1_767_225_600.0  # 2026-01-01, so that stamps do not depend on today
SWEEP = 1.0
CLOSING = 10.0  # five groups with a grace of half a second each, and the slowest of stores
MOST_STEPS = 200_000
ALLOWED = (SimulatedCrash, AgentFault, AgorioError, TimeoutError)


class WorldClock:
    """The hub's wall clock: virtual time from a fixed epoch, with the jumps of a clock that somebody sets."""

    def __init__(self) -> None:
        self.offset = EPOCH

    def time(self) -> float:
        """Seconds since 1970."""
        return trio.current_time() + self.offset


class World:
    """What a scenario plays in. `add` members, let them `open` and `say`; everything else happens by itself."""

    def __init__(self, seed: int | str, limits: Limits | None = None, **hub_options: Any) -> None:
        self.seed = seed
        self.limits = limits or Limits()
        self.chance = Chance(seed)
        self.trace = Trace()
        self.ledger = Ledger()
        self.ledger.allowed_crashes = ALLOWED
        self.faults: Counter[str] = Counter()
        self.members: dict[str, Member] = {}
        self.clock = WorldClock()
        self.broken: InvariantBroken | None = None
        self.problems: list[InvariantBroken] = []
        self.scope = trio.CancelScope()
        self.hub: Hub | None = None
        self.nursery: trio.Nursery
        self.total_steps = 0
        self.total_looks = 0
        options = self.chance.of("options")
        self.faults_drawn = draw_faults(options, self.limits.without)
        self.is_calm = False
        self._past = Past()
        self._letters = 0
        self._closing_since = math.inf
        self._stamp: Any = None
        self._countdown = 0
        self.generation = 0
        self._leave = trio.Event()
        self._hub_scope = trio.CancelScope()
        self._hub_options = hub_options
        self._server = open_server(self)
        self.store: KnowledgeStore = self._draw_store(options.random() < 0.15)

    def _draw_store(self, is_plain: bool) -> KnowledgeStore:
        """Now and then a store without a medium: the hub commits to it by another path."""
        if is_plain:
            return MemoryKnowledgeStore()
        return FaultyStore(rng=self.chance.of("store"), on_power_cut=self._lights_out, **self.faults_drawn.store())

    # For scenarios.

    def add(self, name: str, agent: Any = None, **options: Any) -> Member:
        """A member of that name, which connects soon; options are those of `HubClient.register`."""
        member = self.members[name] = Member(self, name, agent, **options)
        self.nursery.start_soon(member.live)
        return member

    def link_faults(self) -> dict[str, Any]:
        """Faults for a member's link."""
        return {} if self.is_calm else self.faults_drawn.link()

    def wire_faults(self) -> dict[str, Any]:
        """Faults for the link of a member on a wire."""
        return {} if self.is_calm else self.faults_drawn.wire()

    def capped(self, count: int, limit: int | None) -> int:
        """A number that the limits may make smaller."""
        return count if limit is None else min(count, limit)

    def chosen(self, kind: str) -> bool:
        """Whether a fault that a part brings on itself happens now."""
        if self.is_calm or kind not in self.faults_drawn.kinds or self.chance.of(kind).random() >= 0.15:
            return False
        self.count(kind, "")
        return True

    # Faults.

    def count(self, kind: str, where: str) -> None:
        """Take note of a fault; after so many as the limits allow there are no more."""
        self.faults[kind] += 1
        self.note("fault", kind, where)
        if self.limits.faults is not None and sum(self.faults.values()) >= self.limits.faults:
            self.calm_links()

    def note(self, *what: Any) -> None:
        """A line of the trace."""
        self.trace.note(trio.current_time(), *what)

    def crash_in(self, steps: int) -> None:
        """Crash the first actor that runs after so many steps of the scheduler."""
        self._countdown = steps

    def step(self, task: trio.lowlevel.Task) -> None:
        """A task is about to run."""
        self.total_steps += 1
        if self.total_steps == MOST_STEPS:
            self.fail(InvariantBroken("everything_settles", f"after {MOST_STEPS} steps there is still something to do"))
        if self._countdown and self.hub is not None and not self.is_calm:
            self._countdown = max(1, self._countdown - 1)
            cell = actor_of(task, self._roots()) if self._countdown == 1 else None
            if cell is not None and crash(cell):
                self._countdown = 0
                self.count("crash", cell.path)

    def _roots(self) -> list[Coordinator]:
        assert self.hub is not None
        clients = [member.hub_client._group for member in self.members.values() if member.hub_client is not None]
        return [self.hub._require_top(), *(group for group in clients if group is not None)]

    def cut_power(self) -> None:
        """The hub's machine loses its power, where its store can stand for one that does."""
        if isinstance(self.store, FaultyStore) and self.hub is not None:
            self.count("power", "hub")
            self.store.cut_power()

    def _lights_out(self) -> None:
        """In one step: no frame crosses any more, nothing is written any more, the hub's tasks are cancelled."""
        self._collect()
        self.note("lights out")
        for member in self.members.values():
            member.link.cut_all("power")
        self.hub = None
        self._closing_since = trio.current_time()
        self._hub_scope.cancel()

    def restart_hub(self) -> None:
        """The hub closes as it should, and is opened again."""
        if self.hub is not None:
            self.count("restart", "hub")
            self.close_hub()

    def close_hub(self) -> None:
        """The hub closes as it should; `keep_hub` opens the next one."""
        self._closing_since = trio.current_time()
        self._leave.set()

    def jump(self, seconds: float) -> None:
        """Somebody sets the hub's clock."""
        self.count("clock", f"{seconds:g}")
        self.clock.offset += seconds

    async def fill_store(self, seconds: float) -> None:
        """The medium runs full for a while."""
        store = self.store
        if isinstance(store, FaultyStore):
            self.count("full_store", "store")
            store.capacity = store.used
            await trio.sleep(seconds)
            store.make_room()

    def calm_links(self) -> None:
        """Faults stop here and in the store; half-open links stay so until `calm`."""
        self.is_calm = True
        self._countdown = 0
        for member in self.members.values():
            member.link.odds = dict.fromkeys(member.link.odds, 0.0)
            member.link.stall = 0.0
        if isinstance(self.store, FaultyStore):
            self.store.calm()

    async def calm(self) -> None:
        """No more faults. If cancelled: some half-open links are not healed."""
        self.calm_links()
        for member in self.members.values():
            await member.link.heal()

    def all_faults(self) -> Counter[str]:
        """Faults by kind, those of the store among them."""
        injected = Counter(self.store.injected) if isinstance(self.store, FaultyStore) else Counter[str]()
        for kind in ("power_cut", "full_store"):  # counted here, where they come from
            injected.pop(kind, None)
        return self.faults + injected

    # The hub.

    def accept_link(self, endpoint: LinkEndpoint) -> None:
        """A member connects. Raises `HubClosedError` while there is no hub."""
        if self.hub is None:
            raise HubClosedError("nobody listens: the hub is down")
        self.hub.accept_link(endpoint)

    def serve_stream(self, stream: trio.abc.Stream) -> None:
        """The far end of a member's wire. Raises `ConnectionRefusedError` while there is no hub."""
        if self.hub is None:
            raise ConnectionRefusedError("nobody listens: the hub is down")
        self.nursery.start_soon(self._server.handle, stream)

    async def keep_hub(self) -> None:
        """Open the hub, again whenever it has gone down. If cancelled: it is closed."""
        while True:
            try:
                await self._serve_hub()
            except* Exception as group:
                self._judge_failure(group)
            finally:
                self._collect()
                self.hub = None
                self._judge_closing()
            if isinstance(self.store, FaultyStore) and self.store.is_off:
                self.store = await self.store.power_cut()
                if self.is_calm:
                    self.store.calm()
            await trio.sleep(self.chance.of("nemesis").uniform(0.05, 1.0))

    async def _serve_hub(self) -> None:
        self.generation += 1
        self._past, self._letters = Past(), 0
        self._leave = trio.Event()
        options: dict[str, Any] = {
            "ttl_sweep_interval": SWEEP,
            "expectation_sweep_interval": SWEEP,
            "invite_ack_timeout": 5.0,
            "redelivery": Redelivery(max_attempts=3, backoff=0.1),
            "grace": 0.5,
        }
        with trio.CancelScope() as self._hub_scope:
            async with Hub.open(
                self.store,
                clock=self.clock,
                rng=self.chance.of(f"hub/{self.generation}"),
                on_event=self._event,
                **{**options, **self._hub_options},
            ) as self.hub:
                self.note("hub", self.generation)
                await self._leave.wait()

    def _judge_closing(self) -> None:
        seconds = trio.current_time() - self._closing_since
        if seconds > CLOSING:
            self.fail(InvariantBroken("closing_is_bounded", f"the hub took {seconds:.1f} s to close"))
        self._closing_since = math.inf

    def _judge_failure(self, group: BaseException) -> None:
        self.ledger.reached["hub_failure"] += 1
        self.note("hub failed", *sorted(type(leaf).__name__ for leaf in leaves(group)))
        strange = [leaf for leaf in leaves(group) if not isinstance(leaf, ALLOWED)]
        if strange:
            self.fail(InvariantBroken("no_crash_of_its_own", f"the hub went down over {strange[0]!r}"))

    # Watching.

    def _event(self, event: Event) -> None:
        self.note(type(event).__name__, event.name)
        if isinstance(event, ActorCrash):
            self.note("over", *sorted(type(leaf).__name__ for leaf in leaves(event.cause)))
        if not isinstance(event, ActorRestart | DeadLetter):
            self.ledger.event(event)

    def frame(self, name: str, connection: int, direction: str, frame: Frame) -> None:
        """A frame crosses a member's link."""
        self.note(name, direction, type(frame).__name__, *_facts(frame))
        self.ledger.frame((name, connection), direction, frame)
        if isinstance(frame, NotifyFrame) and not self._is_stored(frame.envelope):
            what = f"{name} is delivered {frame.envelope.sequence} of {frame.envelope.session_id}, which is not stored"
            self.ledger.problem("visible_only_when_durable", what)

    def _is_stored(self, envelope: Envelope) -> bool:
        store = self.store.inner if isinstance(self.store, FaultyStore) else self.store
        assert isinstance(store, NowaitStore), "a world keeps its logs in memory"
        return bool(store.read_nowait(stream_of(envelope.session_id), envelope.sequence - 1, 1))

    def fail(self, broken: InvariantBroken) -> None:
        """Keep the first failure and end the run."""
        if self.broken is None:
            self.broken = broken
        self.problems.append(broken)
        self.note("broken", broken.name, broken.problem)
        self.scope.cancel()

    def look(self) -> None:
        """Everything is at rest for now: hold the hub to what it can be held to at once."""
        self._collect()
        if self.hub is not None and self.broken is None and self._has_moved(self.hub):
            self.total_looks += 1
            for broken in problems_now(Evidence(self.hub, self._past, self.ledger)):
                self.fail(broken)

    def _has_moved(self, hub: Hub) -> bool:
        """Whether anything has crossed a link, crashed or been written since the last look."""
        services = hub._services
        before = self._stamp
        self._stamp = (self.trace.total, services and (services.writer.total_commits, services.writer.total_failures))
        return services is not None and self._stamp != before

    def _collect(self) -> None:
        """Take note of new dead letters before the hub that knows of them is gone."""
        services = self.hub._services if self.hub is not None else None
        if services is not None:
            fresh = services.dead_letters.total - self._letters
            self._letters += fresh
            for letter in services.dead_letters.list()[-fresh:] if fresh else ():
                self.ledger.dead_letter(letter.agent_id, letter.envelope)

    async def check_all(self, before: Evidence | None = None) -> Evidence:
        """Hold a hub that has settled to every invariant, and to what another one was `before` it on the same store.

        If cancelled: not all were checked.
        """
        assert self.hub is not None
        seen = Evidence(self.hub, self._past, self.ledger, is_settled=True, before=before)
        try:
            await seen.gather()
        except StoreError as error:
            self.fail(InvariantBroken("accepted_is_durable", f"the logs cannot be read: {error}"))
            return seen
        for record in seen.audits:
            if record["kind"] == AUDIT_KIND_DEAD_LETTER:
                self.ledger.given_up.add((record["agent_id"], record["session_id"], record["sequence"]))
        for broken in (*problems_now(seen), *problems_of_logs(seen)):
            self.fail(broken)
        return seen

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; False where it did not come true in time. If cancelled: nothing has changed."""
        with trio.move_on_after(seconds):
            while not condition():
                await trio.sleep(0.25)
            return True
        return False

    def at_rest(self) -> bool:
        """Whether everybody is connected and nothing is under way."""
        if self.hub is None or self.hub.is_closed or self.hub._services is None:
            return False
        if not all(member.is_connected for member in self.members.values() if not member.left):
            return False
        services = self.hub._services
        inboxes = [entry.inbox for entry in services.directory]
        waiting = sum(len(inbox.desk) + inbox.unread + inbox.unread_notes for inbox in inboxes)
        return not services.writer.statistics()["queued"] and not waiting


def _facts(frame: Any) -> list[Any]:
    """What tells frames of one kind apart."""
    envelope = getattr(frame, "envelope", frame)
    names = ("request_id", "op", "code", "attempt", "status", "duplicate")
    facts = [getattr(frame, name) for name in names if hasattr(frame, name)]
    return [*facts, getattr(envelope, "session_id", ""), getattr(envelope, "sequence", "")]
