"""The loop breaker: agents that answer each other by themselves come to an end.

What counts is how many turns of a session in a row were default handlers' replies, to each other or to the hub's
notices. Anything that a person, a program or a custom handler says begins the count anew, so a dialogue that somebody
drives may go on for ever. A session with a limit of its own (`max_turns`, `max_rounds`) ends by that.

The count is kept in memory only: after a restart of the hub it begins anew, which costs one more such row of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..actors.sessions.metadata import SessionSetup
from ..mailbox.envelope import Envelope
from ..mailbox.events import AUDIT_KIND_LOOP_BROKEN, TURN_EVENTS
from .audit import AuditLog
from .directory import Directory
from .session import SessionCell

SKIPPED: Final = "loop"
# The default handler's idempotency keys: what it sends at the end of a turn, and what its tool `say` sends within one.
_BY_ITSELF: Final = ("reply:", "say:")
_LIMITS: Final = ("max_turns", "max_rounds")


class LoopBreaker:
    """Counts automatic turns and says when there were enough."""

    def __init__(self, directory: Directory, audit: AuditLog, skip: Callable[[SessionCell, str, str], object]) -> None:
        self._directory = directory
        self._audit = audit
        self._skip = skip

    def count(self, cell: SessionCell, envelope: Envelope) -> None:
        """Count a turn that is in the log now."""
        if envelope.event_type in TURN_EVENTS:
            cell.automatic_turns = cell.automatic_turns + 1 if is_automatic(envelope) else 0

    def allows(self, cell: SessionCell, agent_id: str) -> bool:
        """Whether the agent may answer by itself once more; where it may not, its turn is skipped and audited."""
        entry = self._directory.get(agent_id)
        cap = entry.rule.limits.automatic_turns if entry is not None else 0
        if not cap or cell.automatic_turns < cap or has_limit(cell.setup):
            return True
        self._audit.write(
            AUDIT_KIND_LOOP_BROKEN,
            session_id=cell.session_id,
            agent_id=agent_id,
            name=entry.name if entry is not None else None,
            turns=cell.automatic_turns,
            limit="limits.automatic_turns",
        )
        self._skip(cell, agent_id, SKIPPED)
        return False


def is_automatic(envelope: Envelope) -> bool:
    """Whether a default handler said it."""
    return envelope.causation_id is not None and (envelope.idempotency_key or "").startswith(_BY_ITSELF)


def has_limit(setup: SessionSetup) -> bool:
    """Whether the session's own knobs say after how many turns it ends."""
    graph = setup.knobs.get("graph")
    limits = (setup.knobs, graph) if isinstance(graph, Mapping) else (setup.knobs,)
    return any(knobs.get(name) is not None for knobs in limits for name in _LIMITS)
