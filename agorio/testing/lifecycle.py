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
import trio.testing
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, run_state_machine_as_test

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
from .waiting import wait_all_written

NAMES = ("ann", "bob", "cid", "dan")
Payload = tuple[str, Mapping[str, Any]]
SPOKEN: Payload = (EV_TEXT, {"text": "hello"})

picks = st.integers(0, 9)
waits = st.sampled_from([0.5, 10.0, 600.0, 7200.0])


MOST_LOOKS = 10


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
    hub_options: ClassVar[Mapping[str, Any]] = {"ttl_sweep_interval": 600.0, "expectation_sweep_interval": 60.0}
    """Further options of `Hub.open`. Sweepers that look seldom cost little when hours pass."""
    patience = 20_000.0
    """Virtual seconds that one step may take; `waits` takes its own."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TestCase.settings = lifecycle_settings()  # a class's own; assign to it for other settings

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

    async def _close_hub(self) -> None:
        await self.hub_client.close()
        self._leave.set()
        await self._left.wait()

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

    def tell(self, what: str) -> None:
        """Print a line beside the failing program, which says what its steps did."""
        note(f"    # {what}")

    def _picked(self, who: int) -> str:
        return list(self.clients)[who % len(self.clients)]

    def _session(self, pick: int) -> str:
        return self.sessions[-1 - pick % len(self.sessions)]

    def _number(self, session_id: str) -> int:
        return self.sessions.index(session_id) + 1

    def _next_speakers(self, session_id: str) -> list[str]:
        expected: tuple[str, ...] = ()
        for metadata in self.open_sessions():
            if metadata.session_id == session_id:
                expected = metadata.participant_ids if metadata.expected_next is None else metadata.expected_next
        return [name for name, client in self.clients.items() if client.agent_id in expected]

    async def _open(self, members: Sequence[str]) -> None:
        opener = self.clients[members[0]]
        knobs = self.knobs(members)
        answer = await self.attempt(
            lambda: opener.open(self.session_type, members[1:], knobs=knobs, ttl=self.ttl),
        )
        if not isinstance(answer, AgorioError):
            self.sessions.append(answer.session_id)
        self.tell(f"{members[0]} opens a session with {', '.join(members[1:])}: {_outcome(answer)}")

    async def _say(self, name: str, session_id: str, payload: int) -> None:
        event_type, data = self.payloads[payload % len(self.payloads)]
        envelope = Envelope(session_id, "", None, event_type, data)
        answer = await self.attempt(partial(self.clients[name].send_envelope, envelope))
        said = " ".join([event_type.removeprefix("ag2."), str(dict(data))])
        self.tell(f"{name} says in session {self._number(session_id)} {said}: {_outcome(answer)}")

    # The rules.

    @initialize()
    async def everybody_comes(self) -> None:
        """The first ones are there from the beginning, and two of them have a session where two are enough."""
        for name in self.names[:3]:
            await self._register(name, attach=False)
        await self._open(self.names[:2])

    @precondition(lambda self: len(self.clients) < len(self.names))
    @rule(who=picks)
    async def comes(self, who: int) -> None:
        """Somebody registers who is not there."""
        absent = [name for name in self.names if name not in self.clients]
        await self._register(absent[who % len(absent)], attach=False)

    @precondition(lambda self: len(self.clients) > 1)
    @rule(who=picks, size=st.integers(2, 4))
    async def opens(self, who: int, size: int) -> None:
        """Somebody opens a session with some of the others."""
        crew = list(self.clients)
        first = who % len(crew)
        await self._open([*crew[first:], *crew[:first]][:size])

    @precondition(lambda self: self.sessions)
    @rule(session=picks, lines=st.lists(st.tuples(picks, picks), min_size=1, max_size=6))
    async def say(self, session: int, lines: list[tuple[int, int]]) -> None:
        """Some say something, `(who, payload)` one after the other: members or not, in turn or not."""
        for who, payload in lines:
            await self._say(self._picked(who), self._session(session), payload)

    @precondition(lambda self: self.sessions)
    @rule(session=picks, lines=st.lists(st.tuples(picks, picks), min_size=1, max_size=6))
    async def say_in_turn(self, session: int, lines: list[tuple[int, int]]) -> None:
        """Some of those whose turn it is say something, one after the other."""
        for who, payload in lines:
            names = self._next_speakers(self._session(session))
            if names:
                await self._say(names[who % len(names)], self._session(session), payload)

    @precondition(lambda self: self.sessions)
    @rule(who=picks, session=picks)
    async def closes(self, who: int, session: int) -> None:
        """Somebody closes a session."""
        name, session_id = self._picked(who), self._session(session)
        answer = await self.attempt(partial(self.clients[name].close_session, session_id))
        self.tell(f"{name} closes session {self._number(session_id)}: {_outcome(answer)}")

    @rule(who=picks)
    async def will_crash(self, who: int) -> None:
        """Somebody's handler fails at the next delivery."""
        self.failing.add(self._picked(who))
        await trio.lowlevel.checkpoint()

    @precondition(lambda self: len(self.clients) > 2)
    @rule(who=picks)
    async def leaves(self, who: int) -> None:
        """Somebody unregisters."""
        name = self._picked(who)
        self.tell(f"{name} leaves")
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
        await self._close_hub()
        await self._open_hub()
        for name in list(self.clients):
            await self._register(name, attach=True)

    @invariant()
    async def the_hub_keeps_its_promises(self) -> None:
        """What every hub has to hold, whatever its session types."""
        seen = await self._look()
        for broken in (*problems_now(seen), *problems_of_logs(seen)):
            raise broken

    async def _look(self) -> Evidence:
        """One look at logs and tables in which nothing was written meanwhile: a disk is read piece by piece."""
        for _ in range(MOST_LOOKS):
            await wait_all_written(self.hub)
            seen = self.evidence()
            before = (self.hub.statistics().total_accepted, self.hub.statistics().total_audit_records)
            await seen.gather()
            if before == (self.hub.statistics().total_accepted, self.hub.statistics().total_audit_records):
                break
        return seen

    async def shutdown(self) -> None:
        await self._close_hub()


def _outcome(answer: Any) -> str:
    return f"refused, {answer.code}: {answer}" if isinstance(answer, NetworkError) else "done"


def lifecycle_settings(**options: Any) -> settings:
    """Hypothesis' settings for lifecycles: the profile's, without deadlines, and without explaining line by line.

    Explaining traces every line of the hub and takes minutes; the steps are told in words instead.
    """
    phases = tuple(phase for phase in settings().phases if phase is not Phase.explain)
    return settings(deadline=None, phases=phases, suppress_health_check=list(HealthCheck), **options)


def run_lifecycle(machine: type[SessionLifecycle], *, examples: int = 30, steps: int = 15) -> None:
    """Run a lifecycle as part of a test: so many programs of so many steps."""
    profile = lifecycle_settings(max_examples=examples, stateful_step_count=steps)
    run_state_machine_as_test(machine, settings=profile)
