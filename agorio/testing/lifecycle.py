"""`SessionLifecycle`: a Hypothesis state machine over whole sessions, to subclass with adapters, rules and agents.

Hypothesis draws programs of steps: agents come and go, sessions are opened, spoken in and closed, handlers crash, the
hub restarts on its store, time passes. After every step the hub is held to its invariants and to those that you add. A
failing program is made as short as it gets and printed as code.

    class Quiz(SessionLifecycle):
        adapters = (QuizAdapter(),)
        session_type = "quiz"

        @invariant()
        def somebody_is_next(self):
            for metadata in self.open_sessions():
                assert metadata.expected_next != ()

    TestQuiz = Quiz.TestCase
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from ..actors.agents.agent_client import AgentClient
from ..actors.agents.hub_client import HubClient
from ..actors.sessions.adapters.base import SessionAdapter
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..hub.hub import Hub
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError, NetworkError
from ..mailbox.events import EV_TEXT
from ..transports.local import LocalLink
from .evidence import Evidence, Past
from .invariants import problems_now, problems_of_logs
from .state_machine import TrioStateMachine, initialize, invariant, rule

NAMES = ("ann", "bob", "cid", "dan")
Payload = tuple[str, Mapping[str, Any]]
SPOKEN: Payload = (EV_TEXT, {"text": "hello"})

picks = st.integers(0, 9)
waits = st.sampled_from([0.5, 10.0, 600.0, 7200.0])


class HandlerCrash(Exception):
    """An agent's handler fails, as a rule has ordered."""


class SessionLifecycle(TrioStateMachine):
    """Subclass it; `Subclass.TestCase` is the test, or `run_lifecycle(Subclass)` inside one of your own."""

    adapters: ClassVar[Sequence[SessionAdapter]] = ()
    """Session types beside the built-in ones."""
    session_type: ClassVar[str] = "conversation"
    """What `open` opens."""
    names: ClassVar[Sequence[str]] = NAMES
    """Who may come."""
    payloads: ClassVar[Sequence[Payload]] = (SPOKEN,)
    """What members may say: event types with their data."""
    ttl: ClassVar[str | float | None] = None
    """The TTL of sessions; None is the session type's."""
    hub_options: ClassVar[Mapping[str, Any]] = {}
    """Further options of `Hub.open`."""
    patience = 20_000.0
    """Virtual seconds that one step may take; `waits` takes its own."""

    # What subclasses may override.

    def knobs(self, members: Sequence[str]) -> dict[str, Any]:
        """The knobs of a session of these members, by name."""
        return {}

    def rule_of(self, name: str) -> Rule | None:
        """The rule that an agent registers with."""
        return None

    def make_store(self) -> KnowledgeStore:
        """The store, one per example; it stays over restarts of the hub."""
        return MemoryKnowledgeStore()

    async def heard(self, name: str, envelope: Envelope) -> None:
        """An agent gets an envelope. What it raises is a crash of its handler. If cancelled: delivered again."""
        await trio.lowlevel.checkpoint()

    # What subclasses may look at.

    def open_sessions(self) -> list[SessionMetadata]:
        """Snapshots of the sessions in memory that have not ended."""
        cells = self.evidence().cells()
        return [cell.metadata() for cell in cells if not cell.live.terminal]

    def evidence(self) -> Evidence:
        """What invariants are judged by."""
        return Evidence(self.hub, self.past)

    # The network of one example.

    async def setup(self) -> None:
        self.store = self.make_store()
        self.clients: dict[str, AgentClient] = {}
        self.sessions: list[str] = []
        self.refusals: list[NetworkError] = []
        self.deliveries: list[tuple[str, Envelope]] = []
        self.failing: set[str] = set()
        await self._open_hub()

    async def _open_hub(self) -> None:
        self.past = Past()
        self._leave, self._left = trio.Event(), trio.Event()
        self.hub = await self.nursery.start(self._serve)
        self.hub_client = HubClient(LocalLink(self.hub), hub=self.hub)

    async def _serve(self, task_status: trio.TaskStatus[Hub]) -> None:
        adapters = [*self.adapters]
        async with Hub.open(self.store, adapters=adapters, **self.hub_options) as hub:
            task_status.started(hub)
            await self._leave.wait()
        self._left.set()

    async def _register(self, name: str, *, attach: bool) -> None:
        rule = None if attach else self.rule_of(name)
        handler = partial(self._handle, name)
        self.clients[name] = await self.hub_client.register(
            None, Passport(name), Resume(), rule=rule, handler=handler, attach=attach
        )

    async def _handle(self, name: str, envelope: Envelope) -> None:
        self.deliveries.append((name, envelope))
        if name in self.failing:
            self.failing.discard(name)
            raise HandlerCrash(name)
        await self.heard(name, envelope)

    async def attempt(self, act: Callable[[], Any]) -> Any:
        """Do something that a hub may refuse: the result, or the refusal, which is kept. If cancelled: unknown."""
        try:
            return await act()
        except NetworkError as refusal:
            self.refusals.append(refusal)
            return refusal

    def _picked(self, pick: int) -> str | None:
        return list(self.clients)[pick % len(self.clients)] if self.clients else None

    def _session(self, pick: int) -> str | None:
        return self.sessions[-1 - pick % len(self.sessions)] if self.sessions else None

    # The rules.

    @initialize()
    async def everybody_comes(self) -> None:
        """The first ones are there from the beginning."""
        for name in self.names[:3]:
            await self._register(name, attach=False)

    @rule(pick=picks)
    async def comes(self, pick: int) -> None:
        """Somebody registers who is not there."""
        absent = [name for name in self.names if name not in self.clients]
        if absent:
            await self._register(absent[pick % len(absent)], attach=False)

    @rule(pick=picks, size=st.integers(2, 4))
    async def opens(self, pick: int, size: int) -> None:
        """Somebody opens a session with some of the others."""
        crew = list(self.clients)
        if len(crew) < 2:
            return
        first = pick % len(crew)
        members = [*crew[first:], *crew[:first]][:size]
        opener = self.clients[members[0]]
        outcome = await self.attempt(
            partial(opener.open, self.session_type, members[1:], knobs=self.knobs(members), ttl=self.ttl)
        )
        if not isinstance(outcome, AgorioError):
            self.sessions.append(outcome.session_id)

    @rule(pick=picks, session=picks, payload=picks)
    async def says(self, pick: int, session: int, payload: int) -> None:
        """Somebody says something, member or not, in turn or not."""
        name, session_id = self._picked(pick), self._session(session)
        if name is not None and session_id is not None:
            event_type, data = self.payloads[payload % len(self.payloads)]
            client = self.clients[name]
            await self.attempt(lambda: client.send_envelope(Envelope(session_id, "", None, event_type, data)))

    @rule(session=picks, payload=picks)
    async def says_in_turn(self, session: int, payload: int) -> None:
        """Whoever's turn it is says something."""
        session_id = self._session(session)
        metadata = next((one for one in self.open_sessions() if one.session_id == session_id), None)
        for name, client in self.clients.items():
            if metadata is not None and client.agent_id in (metadata.expected_next or ()):
                await self.says(list(self.clients).index(name), session, payload)
                return

    @rule(pick=picks, session=picks)
    async def closes(self, pick: int, session: int) -> None:
        """Somebody closes a session."""
        name, session_id = self._picked(pick), self._session(session)
        if name is not None and session_id is not None:
            await self.attempt(partial(self.clients[name].close_session, session_id))

    @rule(pick=picks)
    async def will_crash(self, pick: int) -> None:
        """Somebody's handler fails at the next delivery."""
        name = self._picked(pick)
        if name is not None:
            self.failing.add(name)
        await trio.lowlevel.checkpoint()

    @rule(pick=picks)
    async def leaves(self, pick: int) -> None:
        """Somebody unregisters."""
        name = self._picked(pick)
        if name is not None and len(self.clients) > 2:
            await self.hub_client.unregister(self.clients.pop(name))

    @rule(seconds=waits)
    async def waits(self, seconds: float) -> None:
        """Time passes."""
        await trio.sleep(seconds)

    @rule()
    async def sweeps(self) -> None:
        """The sweepers look now."""
        await self.hub._ttl_tick()
        await self.hub._expectation_tick()

    @rule()
    async def restarts(self) -> None:
        """The hub closes and opens again on its store; everybody comes back."""
        await self.hub_client.close()
        self._leave.set()
        await self._left.wait()
        await self._open_hub()
        for name in list(self.clients):
            await self._register(name, attach=True)

    @invariant()
    async def the_hub_keeps_its_promises(self) -> None:
        """What every hub has to hold, whatever its session types."""
        await trio.testing.wait_all_tasks_blocked()
        seen = await self.evidence().gather()
        for broken in (*problems_now(seen), *problems_of_logs(seen)):
            raise broken

    async def shutdown(self) -> None:
        await self.hub_client.close()
        self._leave.set()
        await self._left.wait()


def run_lifecycle(machine: type[SessionLifecycle], *, examples: int = 30, steps: int = 15) -> None:
    """Run a lifecycle as part of a test: so many programs of so many steps."""
    profile = settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    run_state_machine_as_test(machine, settings=profile)
