"""The loop breaker: agents that answer each other by themselves come to an end.

What counts is the chain of causes: how many default handlers' replies lead from what a person, a program or a custom
handler said to the envelope that is to be answered. A hundred questions that wait at one agent get a hundred answers,
each the first of its chain, and a dialogue that somebody drives may go on for ever. A notice of the hub's, such as that
a turn was skipped, goes on with the chain of what was said last. A session with a limit of its own (`max_turns`,
`max_rounds`) ends by that.

The chains are kept in memory only: after a restart of the hub they begin anew, which costs one more such row of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ..actors.sessions.metadata import SessionSetup
from ..mailbox.envelope import Envelope
from ..mailbox.events import AUDIT_KIND_LOOP_BROKEN, TURN_EVENTS, TURN_NOTICES
from .audit import AuditLog
from .directory import Directory
from .session import NO_CHAINS, SessionCell

SKIPPED: Final = "loop"
KEPT: Final = 1024  # newest automatic turns of a session whose places in their chains are known
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
            links = self._links(cell, envelope.causation_id) + 1 if is_automatic(envelope) else 0
        elif envelope.event_type in TURN_NOTICES:
            links = cell.chains[1]
        else:
            return
        kept = {} if cell.chains is NO_CHAINS else cell.chains[0]
        if links:
            kept[envelope.envelope_id] = links
            if len(kept) > KEPT:
                del kept[next(iter(kept))]
        cell.chains = (kept, links) if kept else NO_CHAINS

    def _links(self, cell: SessionCell, envelope_id: str | None) -> int:
        return cell.chains[0].get(envelope_id or "", 0)

    def allows(self, cell: SessionCell, agent_id: str, causation_id: str) -> bool:
        """Whether the agent may answer an envelope by itself; where it may not, its turn is skipped and audited."""
        entry = self._directory.get(agent_id)
        cap = entry.rule.limits.automatic_turns if entry is not None else 0
        links = self._links(cell, causation_id)
        if not cap or links < cap or has_limit(cell.setup):
            return True
        self._audit.write(
            AUDIT_KIND_LOOP_BROKEN,
            session_id=cell.session_id,
            agent_id=agent_id,
            name=entry.name if entry is not None else None,
            turns=links,
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
