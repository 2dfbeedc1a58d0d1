"""The turn in hand: which envelope the current task is handling, and for whom.

It travels in a context variable, so tools and helper tasks of a turn know what they answer without being told.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

import attrs

from ...mailbox.envelope import Envelope
from ..sessions.handoff import ToolResult

if TYPE_CHECKING:
    from .agent_client import AgentClient
    from .inbound import Inbound


@attrs.frozen
class Said:
    """What the tool `say` has said in the turn's own session."""

    text: str
    """The text."""
    audience: tuple[str, ...] | None = None
    """For whom, by name or id; None is whoever the turn's envelope concerned."""
    is_posted: bool = True
    """Whether it is sent; where turns are kept it becomes the turn's one reply, sent at its end."""


class Turn:
    """One delivery in the hands of one agent."""

    __slots__ = ("attempt", "awaits", "calls", "client", "closes_session", "envelope", "is_over", "said")

    def __init__(self, client: Any, envelope: Envelope, attempt: int = 1) -> None:
        self.client: AgentClient = client
        self.envelope = envelope
        self.attempt = attempt
        self.closes_session = False
        self.is_over = False
        self.awaits: set[str] = set()
        self.said: tuple[Said, ...] = ()
        self.calls: list[ToolResult | None] = []


TURN: contextvars.ContextVar[Turn | None] = contextvars.ContextVar("agorio_turn", default=None)


def current_turn() -> Turn | None:
    """The turn that the current task works for; None outside of any, and for a task that has outlived its turn."""
    turn = TURN.get()
    return None if turn is None or turn.is_over else turn


def turn_of(client: Inbound) -> Turn | None:
    """The turn in hand if it is `client`'s own: only then do envelopes of that client answer it."""
    turn = TURN.get()
    return turn if turn is not None and turn.client is client and not turn.is_over else None
