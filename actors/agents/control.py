"""What a client does in the name of one of its own agents without having its `AgentClient` at hand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from ...mailbox.errors import NotAMemberError, NotFoundError
from ..sessions.identity import Resume
from ..sessions.metadata import SessionMetadata
from ..sessions.rule import Rule
from ..sessions.tasks import TaskMetadata
from .directory import DirectoryCalls
from .session import Session, Who, ids_of

if TYPE_CHECKING:
    from .agent_client import AgentClient


class ControlCalls(DirectoryCalls):
    """The half of a `HubClient` that acts for its agents, each given by name, id or client."""

    @property
    def clients(self) -> Mapping[str, AgentClient]:
        """The registered agents by id."""
        raise NotImplementedError

    def client_of(self, agent: Who) -> AgentClient:
        """The agent's client here. Raises `NotFoundError` where it is not one of this client's agents."""
        name_or_id = ids_of(agent)[0]
        found = self.clients.get(self.own_id(name_or_id))
        if found is None:
            raise NotFoundError(f"{name_or_id!r} is not registered on this client", agent=name_or_id)
        return found

    async def set_resume(self, agent: Who, resume: Resume, *, expected_version: int | None = None) -> Resume:
        """`AgentClient.set_resume`. If cancelled: it may have been replaced."""
        return await self.client_of(agent).set_resume(resume, expected_version=expected_version)

    async def set_skill(self, agent: Who, skill_md: str | None) -> None:
        """`AgentClient.set_skill`. If cancelled: it may have been replaced."""
        await self.client_of(agent).set_skill(skill_md)

    async def set_rule(self, agent: Who, rule: Rule) -> Rule:
        """`AgentClient.set_rule`: an agent may tighten its rule. If cancelled: it may have been replaced."""
        return await self.client_of(agent).set_rule(rule)

    async def close_session(
        self, session: Session | str, reason: str = "explicit_close", *, agent: Who | None = None
    ) -> SessionMetadata:
        """Close a session in the name of `agent`, else of the first member that is an agent of this client.

        Raises `NotAMemberError` where none is. If cancelled: it may have been closed.
        """
        session_id = session if isinstance(session, str) else session.session_id
        if agent is not None:
            return await self.client_of(agent).close_session(session_id, reason)
        members = (await self.session_setup(session_id)).participant_ids
        member = next((self.clients[who] for who in members if who in self.clients), None)
        if member is None:
            raise NotAMemberError(f"no agent of this client is in session {session_id}", session_id=session_id)
        return await member.close_session(session_id, reason)

    async def get_task(self, task_id: str, *, agent: Who | None = None) -> TaskMetadata:
        """A task that `agent`, or any agent of this client, may see. Raises `NotFoundError` for all others.

        If cancelled: nothing has changed.
        """
        for client in self._acting(agent):
            with suppress(NotFoundError):
                return await client.get_task(task_id)
        raise NotFoundError(f"there is no task {task_id} that an agent of this client may see", task_id=task_id)

    async def list_tasks(
        self,
        *,
        agent: Who | None = None,
        session_id: str | None = None,
        owner_id: str | None = None,
        state: str | None = None,
        capability: str | None = None,
        limit: int = 50,
    ) -> tuple[TaskMetadata, ...]:
        """Tasks that `agent`, or any agent of this client, may see, newest first. One call to the hub for each agent.

        If cancelled: nothing has changed.
        """
        found: dict[str, TaskMetadata] = {}
        for client in self._acting(agent):
            seen = await client.list_tasks(
                session_id=session_id, owner_id=owner_id, state=state, capability=capability, limit=limit
            )
            found.update({task.task_id: task for task in seen})
        newest = sorted(found.values(), key=lambda task: task.task_id, reverse=True)  # ids sort by time
        return tuple(newest[:limit])

    def _acting(self, agent: Who | None) -> list[AgentClient]:
        return list(self.clients.values()) if agent is None else [self.client_of(agent)]
