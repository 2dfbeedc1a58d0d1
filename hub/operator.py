"""What the operator does at a hub: changes that no agent may make in its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..actors.sessions import operations as ops
from ..actors.sessions.identity import Resume
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..actors.sessions.typed import checked

if TYPE_CHECKING:
    from .services import Services


class Operated:
    """The part of a hub that the operator acts through."""

    def _open_services(self) -> Services:
        raise NotImplementedError

    async def close_session(self, session_id: str, reason: str = "closed_by_operator") -> SessionMetadata:
        """Close a session. Raises `NotFoundError`. If cancelled: it still closes."""
        services = self._open_services()
        await trio.lowlevel.checkpoint()
        return await services.close_session(session_id, reason)

    async def set_rule(self, agent_id: str, rule: Rule) -> Rule:
        """Replace an agent's rule, loosening included. If cancelled: done wholly or not at all."""
        return await self._open_services().registry.set_rule(checked(ops.SetRule(agent_id, rule)), operator=True)

    async def set_resume(self, agent_id: str, resume: Resume) -> Resume:
        """Replace an agent's claims. If cancelled: done wholly or not at all."""
        return await self._open_services().registry.set_resume(checked(ops.SetResume(agent_id, resume)))

    async def set_skill(self, agent_id: str, skill_md: str | None) -> None:
        """Replace or remove an agent's skill. If cancelled: done wholly or not at all."""
        await self._open_services().registry.set_skill(checked(ops.SetSkill(agent_id, skill_md)))

    async def unregister(self, agent_id: str) -> None:
        """Strike an agent off. Raises `NotFoundError`. If cancelled: done wholly or not at all."""
        await self._open_services().registry.unregister(agent_id)
