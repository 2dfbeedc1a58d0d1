"""What the operator does at a hub: changes that no agent may make in its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..actors.sessions import operations as ops
from ..actors.sessions.identity import Resume
from ..actors.sessions.metadata import SessionMetadata
from ..actors.sessions.rule import Rule
from ..actors.sessions.typed import checked
from ..mailbox.errors import InvalidInput
from .budgets import BudgetReport
from .dead_letters import DeadLetterRecord

if TYPE_CHECKING:
    from .services import Services

MAX_REASON = 500


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

    async def redeliver(self, letter: int | DeadLetterRecord) -> DeadLetterRecord:
        """Put a dead letter back into its recipient's inbox, marked as a redelivery.

        A letter is named by its record's `letter`, which is the sequence of its audit record. Raises `NotFoundError`
        where that is no dead letter or its recipient is gone, `ConflictError` where it was redelivered before, and
        `InboxFull`. If cancelled: it may have been put back.
        """
        number = letter.letter if isinstance(letter, DeadLetterRecord) else letter
        if isinstance(number, bool) or not isinstance(number, int):
            raise InvalidInput(f"letter={number!r:.80} must be the number of a dead letter", field="letter")
        return await self._open_services().redeliveries.redeliver(number)

    # Budgets.

    def budget(self, name_or_id: str, *, session_id: str | None = None) -> BudgetReport:
        """What an agent has used up, in all or in one open session. Raises `NotFoundError`."""
        services = self._open_services()
        return services.budgets.look(services.directory.entry(name_or_id), session_id)

    async def park_agent(self, name_or_id: str, reason: str = "parked by the operator") -> BudgetReport:
        """Hold an agent's mail and refuse what it begins, until `resume_agent`. Raises `NotFoundError`, `StoreError`.

        If cancelled: it may be parked.
        """
        services = self._open_services()
        if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON:
            raise InvalidInput(f"reason={reason!r:.80} must be a text of 1 to {MAX_REASON} characters", field="reason")
        return await services.budgets.park(services.directory.entry(name_or_id), reason)

    async def resume_agent(self, name_or_id: str, *, session_id: str | None = None, reset: bool = True) -> BudgetReport:
        """Deliver a parked agent's mail again; with `session_id` where it is parked in that session only.

        With `reset` a fresh budget begins. Without it what was used goes on counting, and `ConflictError` says where
        that is still too much. One that is not parked is left as it is. If cancelled: it may be resumed.
        """
        services = self._open_services()
        return await services.budgets.resume(services.directory.entry(name_or_id), session_id, reset=reset)
