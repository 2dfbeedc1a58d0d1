"""An agent of a simulated network: it keeps coming back, whatever happens to its link and to the hub.

It does what a robust client does: a send is retried under the same idempotency key until it has an answer, a lost link
is opened again after a pause, a hub that does not answer counts as lost.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from ..actors.agents.agent_client import AgentClient
from ..actors.agents.hub_client import HubClient
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.rule import Rule
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AccessDeniedError, AgorioError, HubClosedError, LinkError, NetworkError, StoreError
from ..mailbox.events import EV_TEXT
from ..transports.frames import Frame, HelloFrame
from ..transports.local import LocalLink
from .faulty_link import Direction, FaultyLink
from .faulty_stream import FaultyWire

if TYPE_CHECKING:
    from .world import World

LOST = (LinkError, HubClosedError, StoreError, TimeoutError)
PATIENCE = 5.0
PAUSE = 0.5
PINGS = 3
OTHERS = ("power", "unregistered")  # cuts that follow from something else, which is counted


class AgentFault(Exception):
    """A simulated agent fails in the middle of a turn."""


class SimulatedAgent:
    """Answers what begins with `ask` after a while, is silent about the rest, and fails now and then."""

    def __init__(
        self, name: str, rng: random.Random, fails: Callable[[], bool], overlap: Callable[[str], None]
    ) -> None:
        self.name = name
        self._rng = rng
        self._fails = fails
        self._overlap = overlap
        self._current = 0
        self.slowest = 1.0

    async def ask(self, *messages: Any) -> str:
        """Think, then answer. If cancelled: it has answered nothing."""
        self._current += 1
        try:
            if self._current > 1:
                self._overlap(f"{self.name} is asked {self._current} things at a time")
            await trio.sleep(self._rng.uniform(0, self.slowest))
            if self._fails():
                raise AgentFault(f"{self.name} fails")
            return "understood" if "ask" in str(messages[-1]) else ""
        finally:
            self._current -= 1


class Member:
    """One agent of a world, registered under its name over all reconnections."""

    def __init__(
        self,
        world: World,
        name: str,
        agent: Any = None,
        *,
        rule: Rule | None = None,
        resume: Resume | None = None,
        wire: bool = False,
        **options: Any,
    ) -> None:
        self.world = world
        self.name = name
        self.rule = rule
        self.resume = resume or Resume()
        self.options = options
        self.client: AgentClient | None = None
        self.hub_client: HubClient | None = None
        self.agent_id = ""
        self.left = False
        self._rng = world.chance.of(f"member/{name}")
        self._connections = 0
        self._keys = 0
        self._up = trio.Event()
        self.is_wired = wire
        self.link = self._make_link()
        self.agent = agent if agent is not None else self._simulated()

    def _make_link(self) -> FaultyLink:
        world = self.world
        common: dict[str, Any] = {
            "rng": world.chance.of(f"link/{self.name}"),
            "tap": self._tap,
            "on_fault": self._count,
        }
        if self.is_wired:
            return FaultyWire(world.serve_stream, **common, **world.wire_faults())
        return FaultyLink(LocalLink(world), **common, **world.link_faults())

    def _simulated(self) -> SimulatedAgent:
        world = self.world
        return SimulatedAgent(
            self.name,
            world.chance.of(f"agent/{self.name}"),
            lambda: world.chosen("agent_error"),
            lambda what: world.ledger.problem("one_turn_at_a_time", what),
        )

    def _count(self, kind: str) -> None:
        if kind not in OTHERS:
            self.world.count(kind, self.name)

    def _tap(self, direction: Direction, frame: Frame) -> None:
        if isinstance(frame, HelloFrame):
            self._connections += 1
            if self.is_wired:
                self.world.ledger.reached["wire_connection"] += 1
        self.world.frame(self.name, self._connections, direction, frame)

    # Its life.

    async def live(self) -> None:
        """Connect, serve until the link is lost, and again. If cancelled: disconnected."""
        while not self.left:
            try:
                await self._session_of_life()
            except* AccessDeniedError:
                self.rule = None  # the operator has tightened it since: it comes back with what it has
            except* (*LOST, NetworkError):
                self.world.ledger.reached["reconnect"] += 1
            finally:
                self.client = self.hub_client = None
                if not self.left and self._up.is_set():
                    self._up = trio.Event()
            await trio.sleep(PAUSE * self._rng.uniform(0.5, 1.5))

    async def _session_of_life(self) -> None:
        async with HubClient(self.link, request_timeout=PATIENCE, grace=0.2) as self.hub_client:
            self.client = await self.hub_client.register(
                self.agent,
                Passport(self.name),
                self.resume,
                rule=None if self.agent_id else self.rule,
                attach=True,
                **self.options,
            )
            self.agent_id = self.client.agent_id
            self._up.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._ping, nursery.cancel_scope)
                if self.is_wired:
                    await trio.sleep_forever()  # it makes its connections good by itself, until the ping gives it up
                await self.link.clients[-1].wait_ended()
                nursery.cancel_scope.cancel()

    async def _ping(self, serving: trio.CancelScope) -> None:
        """A link that is half-open shows only by the answers that do not come."""
        assert self.hub_client is not None
        try:
            while True:
                await trio.sleep(PATIENCE)
                await self._answered(self.hub_client)
        except AgorioError:
            serving.cancel()
        except TimeoutError:
            serving.cancel()

    async def _answered(self, hub_client: HubClient) -> None:
        """One question and its answer; whoever makes connections good is given some time for it."""
        for _ in range(PINGS if self.is_wired else 0):
            try:
                await hub_client.list_agents(limit=1)
                return
            except TimeoutError:
                self.world.ledger.reached["unanswered_ping"] += 1
        await hub_client.list_agents(limit=1)

    @property
    def is_up(self) -> bool:
        """Whether it is registered over a link that works as far as it knows."""
        return self.client is not None and self._up.is_set() and not self.client.is_gone

    @property
    def is_connected(self) -> bool:
        """Whether it is up and has a connection at this moment."""
        return self.is_up and self.hub_client is not None and self.hub_client.is_connected

    async def wait_up(self) -> AgentClient:
        """Wait until it is connected.

        Raises `LinkError` once it has left for good. If cancelled: nothing has changed.
        """
        while self.client is None or not self.is_up:
            if self.left:
                raise LinkError(f"{self.name} has left the network")
            await self._up.wait()
            if not self.is_up and not self.left:
                await trio.sleep(PAUSE)
        return self.client

    # What it does.

    async def persist(self, act: Callable[[AgentClient], Awaitable[Any]]) -> Any:
        """Do something until the hub has answered: the result, or the refusal. If cancelled: it may have been done."""
        while not self.left:
            try:
                client = await self.wait_up()
                with trio.fail_after(2 * PATIENCE):
                    return await act(client)
            except (*LOST, trio.TooSlowError):
                await trio.sleep(PAUSE)
            except NetworkError as refusal:
                return refusal
        return None

    async def once(self, act: Callable[[AgentClient], Awaitable[Any]]) -> Any:
        """Do something that cannot be repeated: the result, the refusal, or None where nobody knows.

        If cancelled: it may have been done.
        """
        try:
            client = await self.wait_up()
            with trio.fail_after(4 * PATIENCE):
                return await act(client)
        except (*LOST, trio.TooSlowError):
            return None
        except NetworkError as refusal:
            return refusal

    async def say(self, session_id: str, text: str, **fields: Any) -> Envelope | NetworkError | None:
        """Say something once, however often it has to be sent: the envelope as accepted, or the refusal.

        If cancelled: it may have been accepted.
        """
        self._keys += 1
        key = f"{self.name}-{self._keys}"

        async def act(client: AgentClient) -> Envelope:
            envelope = Envelope(
                session_id,
                client.agent_id,
                fields.get("audience"),
                fields.get("event_type", EV_TEXT),
                {"text": text},
                idempotency_key=key,
                priority=fields.get("priority", 1),
                ttl_seconds=fields.get("ttl_seconds"),
            )
            return await client.send_envelope(envelope)

        outcome: Envelope | NetworkError | None = await self.persist(act)
        return outcome

    async def open(self, type: str, *targets: str, **options: Any) -> str | None:
        """Open a session: its id, or None where it was refused or nobody knows. If cancelled: it may be open."""
        session = await self.once(lambda client: client.open(type, targets, **options))
        return session.session_id if session is not None and not isinstance(session, NetworkError) else None

    async def leave(self) -> None:
        """Unregister for good. If cancelled: it may have been."""
        self.world.ledger.left.add(self.agent_id)
        await self.persist(lambda client: client.unregister())
        self.left = True
        self._up.set()
        self.link.cut_all("unregistered")
