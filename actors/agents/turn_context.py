"""The turn in hand: which envelope the current task is handling, and for whom.

It travels in a context variable, so tools and helper tasks of a turn know what they answer without being told.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from ...mailbox.envelope import Envelope

if TYPE_CHECKING:
    from .agent_client import AgentClient
    from .inbound import Inbound


class Turn:
    """One delivery in the hands of one agent."""

    __slots__ = ("attempt", "client", "closes_session", "envelope")

    def __init__(self, client: Any, envelope: Envelope, attempt: int = 1) -> None:
        self.client: AgentClient = client
        self.envelope = envelope
        self.attempt = attempt
        self.closes_session = False


TURN: contextvars.ContextVar[Turn | None] = contextvars.ContextVar("agorio_turn", default=None)


def current_turn() -> Turn | None:
    """The turn that the current task works for; None outside of any."""
    return TURN.get()


def turn_of(client: Inbound) -> Turn | None:
    """The turn in hand if it is `client`'s own: only then do envelopes of that client answer it."""
    turn = TURN.get()
    return turn if turn is not None and turn.client is client else None
