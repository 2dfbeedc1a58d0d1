"""A hub with one client for a test, and helpers that wait for what it does without sleeping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
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
from ..transports.local import LocalLink
from .assertions import assert_lines, audit_lines, transcript_lines
from .invariants import check_invariants


class TestNetwork:
    """An open hub, one client on it, and short ways to what tests do."""

    __test__ = False  # pytest would take the class for a test

    def __init__(self, hub: Hub, client: HubClient) -> None:
        self.hub = hub
        self.client = client

    # Who takes part.

    async def add(
        self, agent: Any, *, name: str | None = None, rule: Rule | None = None, **options: Any
    ) -> AgentClient:
        """Register an agent under its own name or another. If cancelled: it is registered wholly or not at all."""
        label = str(name or getattr(agent, "name", None) or getattr(agent, "__name__", "agent"))
        return await self.client.register(agent, Passport(label), Resume(), rule=rule, **options)

    async def person(self, name: str, **options: Any) -> AgentClient:
        """Register a member that the test itself speaks for. If cancelled: registered wholly or not at all."""
        return await self.client.register(None, Passport(name), Resume(), attach_plugin=False, **options)

    # Waiting.

    async def settle(self) -> None:
        """Wait until nothing runs and nothing is under way. Under an autojump clock no time passes.

        If cancelled: nothing has changed.
        """
        await trio.testing.wait_all_tasks_blocked(0.0)

    async def until(self, condition: Callable[[], Any], *, timeout: float = 60.0, every: float = 0.01) -> None:
        """Wait until `condition()` is true, looking whenever the network has come to rest or `every` seconds passed.

        Raises `TimeoutError` naming the condition. If cancelled: nothing has changed.
        """
        with trio.move_on_after(timeout):
            while not condition():
                await trio.sleep(every)
            return
        raise TimeoutError(f"{getattr(condition, '__name__', condition)!r} did not become true within {timeout:g} s")

    async def closed(self, session_id: str, *, timeout: float = 60.0) -> str | None:
        """Wait until a session has ended; why it did. Raises `TimeoutError`. If cancelled: nothing has changed."""
        with trio.move_on_after(timeout):
            while not (metadata := await self.hub.get_session(session_id)).is_terminal():
                await trio.sleep(0.01)
            return metadata.close_reason
        raise TimeoutError(f"session {session_id} is {metadata.state} after {timeout:g} s")

    # Looking back.

    async def log(self, session_id: str) -> list[Envelope]:
        """The session's envelopes. If cancelled: nothing has changed."""
        return await self.hub.read_wal(session_id)

    async def transcript(self, session_id: str, *, events: bool = True) -> list[str]:
        """The session as lines `name: text`, its bookkeeping as `* event`. If cancelled: nothing has changed."""
        return transcript_lines(await self.log(session_id), self._names(), events=events)

    async def assert_transcript(self, session_id: str, expected: Sequence[str], *, events: bool = False) -> None:
        """Raise `AssertionError` with the difference unless the session reads like this; `...` stands for any lines.

        If cancelled: nothing has changed.
        """
        await self.settle()
        assert_lines(await self.transcript(session_id, events=events), expected, f"the transcript of {session_id}")

    async def audit_kinds(self) -> list[str]:
        """The kinds of every audit record, in order. If cancelled: nothing has changed."""
        return audit_lines(await self.hub.audit_log.read_all())

    async def assert_audit(self, *kinds: str) -> None:
        """Raise `AssertionError` with the difference unless the audit log is this; `...` stands for any records.

        If cancelled: nothing has changed.
        """
        await self.settle()
        assert_lines(await self.audit_kinds(), kinds, "the audit log")

    async def audited(self, kind: str, **fields: Any) -> AuditRecord:
        """The newest audit record of a kind whose fields are these. Raises `AssertionError` where there is none.

        If cancelled: nothing has changed.
        """
        await self.settle()
        records = [record for record in await self.hub.audit_log.read_all() if record["kind"] == kind]
        for record in reversed(records):
            if _has(record, fields):
                return record
        found = "\n".join(f"  {dict(record)}" for record in records) or "  none"
        raise AssertionError(f"no audit record of kind {kind!r} with {fields}; of that kind there are:\n{found}")

    async def check_invariants(self, *only: str, is_settled: bool = False) -> tuple[str, ...]:
        """Hold the hub to its invariants; the names that were checked. Raises `InvariantBroken`.

        If cancelled: nothing has changed.
        """
        return await check_invariants(self.hub, only=only, is_settled=is_settled)

    def _names(self) -> dict[str, str]:
        return {info.agent_id: info.name for info in self.hub.agents()}


def _has(record: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    return all(record.get(key) == value for key, value in fields.items())


@asynccontextmanager
async def open_test_hub(store: KnowledgeStore | None = None, **options: Any) -> AsyncIterator[TestNetwork]:
    """A hub on a memory store with one client; options are `Hub.open`'s. Run the test under trio's autojump clock.

    If cancelled: the hub drains and closes.
    """
    async with Hub.open(store if store is not None else MemoryKnowledgeStore(), **options) as hub:
        client = HubClient(LocalLink(hub), hub=hub)
        yield TestNetwork(hub, client)
