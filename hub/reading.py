"""What the operator reads of a hub: snapshots and logs, without the limits that hold for agents."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ..actors.runtime.ref import Ref
from ..actors.runtime.supervisor import Supervisor
from ..actors.runtime.tree import TreeNode
from ..actors.sessions import operations as ops
from ..actors.sessions.identity import Passport, Resume
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..actors.sessions.tasks import TaskMetadata
from ..actors.sessions.typed import checked
from ..mailbox.envelope import Envelope
from ..mailbox.errors import QuarantinedError
from .dead_letters import DeadLetterRecord
from .directory import AgentInfo
from .report import Health, HubStatistics, agent_info, health_of, statistics_of

if TYPE_CHECKING:
    from .services import Services


class Readable:
    """The part of a hub that only tells."""

    def _open_services(self) -> Services:
        raise NotImplementedError

    def _require_top(self) -> Supervisor:
        raise NotImplementedError

    async def get_session(self, session_id: str) -> SessionMetadata:
        """A snapshot. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return (await services.sessions.get(session_id)).metadata()

    async def get_resume(self, agent_id: str) -> Resume:
        """The current résumé. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).resume

    async def get_passport(self, agent_id: str) -> Passport:
        """The current passport. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).passport

    get_agent = get_passport

    async def get_rule(self, agent_id: str) -> Rule:
        """The current rule. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).rule

    async def get_skill(self, agent_id: str) -> str | None:
        """The skill as it was set. Raises `NotFoundError`. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return services.directory.entry(agent_id).stored.skill_md

    async def read_wal(
        self, session_id: str, *, after: int = 0, limit: int | None = None, as_agent: str | None = None
    ) -> list[Envelope]:
        """The session's envelopes in order, all or as one participant sees them. Raises `NotFoundError`.

        If cancelled: nothing has changed.
        """
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        with suppress(QuarantinedError):  # what cannot be folded can be looked at all the same
            await services.sessions.get(session_id)
        return await services.reader.read_all(session_id, after, limit, as_agent)

    async def list_sessions(
        self, *, agent_id: str | None = None, state: str | None = None, limit: int = 1000
    ) -> list[SessionMetadata]:
        """Sessions, newest first; `state` may be `open`. If cancelled: nothing has changed."""
        op = checked(ops.ListSessions(agent_id, state, limit))
        return await self._open_services().list_sessions(None if agent_id is None else [agent_id], op.state, op.limit)

    async def get_task(self, task_id: str) -> TaskMetadata:
        """A task, running or ended. Raises `NotFoundError`. If cancelled: nothing has changed."""
        return await self._open_services().task_calls.get(task_id)

    async def list_tasks(
        self,
        *,
        session_id: str | None = None,
        owner_id: str | None = None,
        state: str | None = None,
        capability: str | None = None,
        limit: int = 1000,
    ) -> list[TaskMetadata]:
        """Tasks, newest first; `state` may be `ended`. If cancelled: nothing has changed."""
        wanted = ops.ListTasks("", session_id, owner_id, state, capability, limit)
        return await self._open_services().task_calls.list(wanted, everything=True)

    async def list_agents(
        self,
        *,
        capability: str | None = None,
        query: str | None = None,
        kind: str | None = None,
        sort_by: str = "name",
        limit: int = 1000,
    ) -> list[Passport]:
        """Passports; filter and sort come before the limit. If cancelled: nothing has changed."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        op = checked(ops.ListAgents(capability, query, kind, sort_by, limit))
        return [entry.passport for entry in services.search(op)]

    def agents(self) -> list[AgentInfo]:
        """Every agent with its inbox, by name."""
        return sorted((agent_info(entry) for entry in self._open_services().directory), key=lambda info: info.name)

    def dead_letters(self, agent_id: str | None = None) -> Sequence[DeadLetterRecord]:
        """Deliveries that were given up, oldest first."""
        return self._open_services().dead_letters.list(agent_id)

    @property
    def auth_schemes(self) -> tuple[str, ...]:
        """The schemes by which identities are proven here; the empty one is `NoAuth`."""
        return self._open_services().registry.auth.schemes()

    def health(self) -> Health:
        """How the hub is."""
        return health_of(self._open_services(), self._require_top())

    def statistics(self) -> HubStatistics:
        """Counts of what the hub has done and holds."""
        return statistics_of(self._open_services(), self._require_top())

    def tree(self) -> TreeNode:
        """The supervision tree as it is now."""
        self._open_services()
        return self._require_top().tree()

    def ref(self, name: str) -> Ref:
        """The actor of a registered agent. Raises `NotFoundError`."""
        entry = self._open_services().directory.entry(name)
        return self._require_top().group("agents").ref(entry.name)
