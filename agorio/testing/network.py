"""A hub with one client for a test, and helpers that wait for what it does without sleeping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from ..actors.agents.agent_client import AgentClient
from ..actors.agents.hub_client import HubClient
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.rule import Rule
from ..hub.hub import Hub
from ..hub.stores.memory import MemoryKnowledgeStore
from ..hub.stores.protocol import KnowledgeStore
from ..transports.local import LocalLink


class TestNetwork:
    """An open hub, one client on it, and short ways to what tests do."""

    __test__ = False  # pytest would take the class for a test

    def __init__(self, hub: Hub, client: HubClient) -> None:
        self.hub = hub
        self.client = client

    async def add(
        self, agent: Any, *, name: str | None = None, rule: Rule | None = None, **options: Any
    ) -> AgentClient:
        """Register an agent under its own name or another. If cancelled: it is registered wholly or not at all."""
        label = str(name or getattr(agent, "name", None) or getattr(agent, "__name__", "agent"))
        return await self.client.register(agent, Passport(label), Resume(), rule=rule, **options)

    async def person(self, name: str, **options: Any) -> AgentClient:
        """Register a member that the test itself speaks for. If cancelled: registered wholly or not at all."""
        return await self.client.register(None, Passport(name), Resume(), attach_plugin=False, **options)

    async def settle(self) -> None:
        """Wait until nothing runs and nothing is under way. Under an autojump clock no time passes.

        If cancelled: nothing has changed.
        """
        await trio.testing.wait_all_tasks_blocked(0.0)

    async def until(self, condition: Callable[[], Any], *, timeout: float = 60.0, every: float = 0.01) -> None:  # noqa: ASYNC109 - of virtual time
        """Wait until `condition()` is true, looking whenever the network has come to rest or `every` seconds passed.

        Raises `TimeoutError` naming the condition. If cancelled: nothing has changed.
        """
        with trio.move_on_after(timeout):
            while not condition():  # noqa: ASYNC110 - any condition of the test's own
                await trio.sleep(every)
            return
        raise TimeoutError(f"{getattr(condition, '__name__', condition)!r} did not become true within {timeout:g} s")

    async def transcript(self, session_id: str) -> list[str]:
        """The session as lines `name: text`, bookkeeping as `* event`. If cancelled: nothing has changed."""
        log = await self.hub.read_wal(session_id)
        names = {info.agent_id: info.name for info in self.hub.agents()}
        lines = []
        for envelope in log:
            if envelope.text:
                lines.append(f"{names.get(envelope.sender_id, envelope.sender_id)}: {envelope.text}")
            else:
                lines.append(f"* {envelope.event_type.removeprefix('ag2.')}")
        return lines

    async def audit_kinds(self) -> list[str]:
        """The kinds of every audit record, in order. If cancelled: nothing has changed."""
        return [record["kind"] for record in await self.hub.audit_log.read_all()]


@asynccontextmanager
async def open_test_hub(store: KnowledgeStore | None = None, **options: Any) -> AsyncIterator[TestNetwork]:
    """A hub on a memory store with one client; options are `Hub.open`'s. Run the test under trio's autojump clock.

    If cancelled: the hub drains and closes.
    """
    async with Hub.open(store if store is not None else MemoryKnowledgeStore(), **options) as hub:
        client = HubClient(LocalLink(hub), hub=hub)
        yield TestNetwork(hub, client)
