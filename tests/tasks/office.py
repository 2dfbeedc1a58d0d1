"""A hub with a worker and a boss, both in the hands of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from agorio.actors.agents.agent_client import AgentClient
from agorio.actors.agents.hub_client import HubClient
from agorio.actors.agents.session import Session
from agorio.actors.sessions.identity import ObservedStat, Passport
from agorio.hub.audit import AuditRecord
from agorio.hub.hub import Hub
from agorio.hub.stores.protocol import KnowledgeStore
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.events import AUDIT_KIND_TASK_TERMINATED, TASK_EVENTS
from agorio.transports.local import LocalLink


@attrs.define
class Office:
    """An open hub and what lives on it."""

    hub: Hub
    hc: HubClient
    worker: AgentClient
    boss: AgentClient

    async def session(self, **options: Any) -> Session:
        """A conversation between the two."""
        return await self.boss.open("conversation", "worker", **options)

    async def ends(self) -> list[AuditRecord]:
        """The audited ends of tasks."""
        return [r for r in await self.hub.audit_log.read_all() if r["kind"] == AUDIT_KIND_TASK_TERMINATED]

    async def said(self, session_id: str) -> list[Envelope]:
        """The task events of a session."""
        return [e for e in await self.hub.read_wal(session_id) if e.event_type in TASK_EVENTS]

    async def told(self, session_id: str) -> list[str]:
        """Their short names."""
        return [e.event_type.removeprefix("ag2.task.") for e in await self.said(session_id)]

    async def observed(self, capability: str) -> ObservedStat:
        """The worker's track record."""
        return (await self.hub.get_resume(self.worker.agent_id)).observed[capability]


@asynccontextmanager
async def open_office(store: KnowledgeStore, **options: Any) -> AsyncIterator[Office]:
    """Open a hub on the store and register, or take up, the two agents."""
    async with Hub.open(store, **options) as hub:
        hc = HubClient(LocalLink(hub), hub=hub)

        async def leave(envelope: Envelope) -> None:
            """Whatever comes is left to the test."""

        worker = await hc.register(None, Passport("worker"), handler=leave, attach=True)
        boss = await hc.register(None, Passport("boss"), handler=leave, attach=True)
        yield Office(hub, hc, worker, boss)
