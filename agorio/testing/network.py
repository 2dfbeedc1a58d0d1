"""A hub with one client for a test, and helpers that wait for what it does without sleeping."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import trio
import trio.testing

from ..actors.agents.agent_client import AgentClient
from ..actors.agents.hub_client import HubClient
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.rule import Rule
from ..hub.audit import AuditRecord
from ..hub.hub import Hub
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import KnowledgeStore
from ..mailbox.envelope import Envelope
from ..mailbox.errors import AgorioError
from ..transports.local import LocalLink
from .agents import ScriptedAgent
from .assertions import assert_audit, assert_transcript, find_audit, read_transcript
from .invariants import check_invariants
from .waiting import under_way, wait_all_idle, wait_until

DAY = 86_400.0
SESSIONS_SHOWN = 3
LINES_SHOWN = 20


class TestNetwork:
    """An open hub, one client on it, and short ways to what tests do."""

    __test__ = False  # pytest would take the class for a test

    def __init__(self, hub: Hub, client: HubClient) -> None:
        self.hub = hub
        self.client = client
        self._agents: list[Any] = []

    # Who takes part.

    async def add(
        self,
        agent: Any,
        *,
        name: str | None = None,
        resume: Resume | None = None,
        rule: Rule | None = None,
        **options: Any,
    ) -> AgentClient:
        """Register an agent under its own name or another. If cancelled: it is registered wholly or not at all."""
        label = str(name or getattr(agent, "name", None) or getattr(agent, "__name__", "agent"))
        self._agents.append(agent)
        return await self.client.register(agent, Passport(label), resume or Resume(), rule=rule, **options)

    async def person(self, name: str, *, rule: Rule | None = None, answers: bool = True, **options: Any) -> AgentClient:
        """Register a member that the test itself speaks for.

        It accepts invitations and takes what it is sent; `wait_for_session_event` shows it. With `answers=False` it
        does neither: invitations stay open, and its mail waits. If cancelled: registered wholly or not at all.
        """
        if answers:
            options.setdefault("handler", _take)
        else:
            options["attach_plugin"] = False
        return await self.client.register(None, Passport(name), Resume(), rule=rule, **options)

    # Waiting.

    async def settle(self) -> None:
        """Wait until every task waits for something. No time passes: who sleeps goes on sleeping.

        If cancelled: nothing has changed.
        """
        await trio.testing.wait_all_tasks_blocked(0.0)

    async def idle(self, *, timeout: float = 600.0) -> None:
        """Wait until nothing is under way, slow turns and retries included. Raises `TimeoutError` saying what is.

        If cancelled: nothing has changed.
        """
        await wait_all_idle(self.hub, timeout=timeout)

    async def until(self, condition: Callable[[], Any], *, timeout: float = 60.0, what: str = "") -> Any:
        """Wait until `condition()`, async or not, is true; what it returned. Raises `TimeoutError` showing it.

        If cancelled: nothing has changed.
        """
        return await wait_until(condition, timeout=timeout, what=what)

    async def closed(self, session_id: str, *, timeout: float = 60.0) -> str | None:
        """Wait until a session has ended; why it did. Raises `TimeoutError`. If cancelled: nothing has changed."""
        try:
            await wait_until(partial(self._is_over, session_id), timeout=timeout)
        except TimeoutError:
            state = (await self.hub.get_session(session_id)).state
            raise TimeoutError(f"session {session_id} is still {state} after {timeout:g} s") from None
        return (await self.hub.get_session(session_id)).close_reason

    async def _is_over(self, session_id: str) -> bool:
        return (await self.hub.get_session(session_id)).is_terminal()

    # Looking back.

    async def log(self, session_id: str) -> list[Envelope]:
        """The session's envelopes. If cancelled: nothing has changed."""
        return await self.hub.read_wal(session_id)

    async def transcript(self, session_id: str, *, events: bool = False) -> list[str]:
        """The session as lines `name: text`, with `events` its bookkeeping too. If cancelled: nothing has changed."""
        return await read_transcript(self.hub, session_id, events=events)

    async def assert_transcript(self, session_id: str, *expected: Any, events: bool = False) -> None:
        """Wait until nothing is under way; raise `AssertionError` with the difference unless the session reads so.

        Lines are `name: text`, given one by one or as a list; `...` stands for any. If cancelled: nothing has changed.
        """
        await self.idle()
        await assert_transcript(self.hub, session_id, _lines(expected), events=events)

    async def audit_kinds(self) -> list[str]:
        """The kinds of every audit record, in order. If cancelled: nothing has changed."""
        return [str(record["kind"]) for record in await self.hub.audit_log.read_all()]

    async def assert_audit(self, *expected: Any) -> None:
        """Wait until nothing is under way; raise `AssertionError` with the difference unless the audit log is this.

        Each line is a kind, or a mapping of a record's fields; `...` stands for any. If cancelled: nothing has changed.
        """
        await self.idle()
        await assert_audit(self.hub, _lines(expected))

    async def audited(self, kind: str, **fields: Any) -> AuditRecord:
        """The newest audit record of a kind whose fields are these. Raises `AssertionError` where there is none.

        If cancelled: nothing has changed.
        """
        await self.idle()
        return await find_audit(self.hub, kind, **fields)

    async def check_invariants(self, *only: str, is_settled: bool = False) -> tuple[str, ...]:
        """Hold the hub to its invariants; the names that were checked. Raises `InvariantBroken`.

        If cancelled: nothing has changed.
        """
        return await check_invariants(self.hub, only=only, is_settled=is_settled)

    def assert_scripts_kept(self) -> None:
        """Raise `ScriptExhausted` if a scripted agent was asked for more than it has to say."""
        for agent in self._agents:
            if isinstance(agent, ScriptedAgent) and agent.exhausted is not None:
                raise agent.exhausted

    # What a failure shows.

    async def account(self) -> str:
        """The newest sessions, what is under way and which scripts ran out, as text.

        If cancelled: nothing has changed.
        """
        try:
            lines = await self._sessions()
        except AgorioError as error:
            lines = [f"the sessions cannot be read: {error}"]
        lines += [f"under way: {line}" for line in under_way(self.hub)]
        lines += [f"script: {agent.exhausted}" for agent in self._agents if getattr(agent, "exhausted", None)]
        return "\n".join(lines)

    async def _sessions(self) -> list[str]:
        lines = []
        for metadata in reversed(await self.hub.list_sessions(limit=SESSIONS_SHOWN)):
            why = f", {metadata.close_reason}" if metadata.close_reason else ""
            lines.append(f"session {metadata.session_id} ({metadata.manifest.type}, {metadata.state}{why}):")
            said = await self.transcript(metadata.session_id, events=True)
            hidden = len(said) - LINES_SHOWN
            said = [f"... ({hidden} lines)", *said[-LINES_SHOWN:]] if hidden > 0 else said
            lines += ["    " + line.replace("\n", "\n      ") for line in said]
        return lines


async def _take(envelope: Envelope) -> None:
    """Take an envelope without doing anything about it. If cancelled: it is delivered again."""
    await trio.lowlevel.checkpoint()


def _lines(expected: tuple[Any, ...]) -> list[Any]:
    """Lines that came one by one, or as one list."""
    return list(expected[0]) if len(expected) == 1 and isinstance(expected[0], list | tuple) else list(expected)


@asynccontextmanager
async def open_test_hub(
    store: KnowledgeStore | None = None, *, give_up_after: float | None = DAY, **options: Any
) -> AsyncIterator[TestNetwork]:
    """A hub on a memory store with one client; `options` are `Hub.open`'s. Run the test under trio's autojump clock.

    What the block raises comes out as it is, after the hub has closed, with a note of what was said. A block that is
    not over after `give_up_after` seconds of trio's clock waits for something that does not come: `TimeoutError`. A
    scripted agent that was asked for more than its lines raises `ScriptExhausted` here.
    If cancelled: the hub drains and closes.
    """
    patience = trio.CancelScope()
    end = _End(patience)
    with patience, end.beside_the_hub():
        async with Hub.open(store if store is not None else MemoryKnowledgeStore(), **options) as hub:
            network = TestNetwork(hub, HubClient(LocalLink(hub), hub=hub))
            patience.relative_deadline = math.inf if give_up_after is None else give_up_after
            async with end.noting(network):
                yield network
    if patience.cancelled_caught:
        end.failure = TimeoutError(
            f"the test is not over after {give_up_after:g} s on trio's clock: it waits for what does not come, "
            f"or needs open_test_hub(give_up_after=...)"
        )
    end.check(network)


class _End:
    """How the block of a test has ended."""

    def __init__(self, patience: trio.CancelScope) -> None:
        self.failure: Exception | None = None
        self._patience = patience
        self._account = ""

    @contextmanager
    def beside_the_hub(self) -> Iterator[None]:
        """Where the hub fails too, both are told."""
        try:
            yield
        except Exception as crash:
            if self.failure is None:
                raise
            raise ExceptionGroup("the test has failed, and so has the hub", [self.failure, crash]) from None

    @asynccontextmanager
    async def noting(self, network: TestNetwork) -> AsyncIterator[None]:
        """Keep what the block raises for `check`, which raises it without the groups of the hub's nurseries around."""
        try:
            yield
        except Exception as exc:
            self.failure = exc
            self._account = await network.account()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                self._account = await network.account() if self._patience.cancel_called else ""
            raise

    def check(self, network: TestNetwork) -> None:
        """Raise what there is to raise."""
        if self.failure is None:
            network.assert_scripts_kept()
        else:
            if self._account:
                self.failure.add_note(f"What the hub has seen:\n{self._account}")
            raise self.failure
