"""Control calls about actors: messages to registered agents by name, and the withdrawal of a call or a delivery."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from .operations_base import Operation


@attrs.frozen
class ActorCall(Operation):
    """From the hub to the agents' side: put a message to the agent itself. Result: its reply, or None for a tell."""

    op: ClassVar[str] = "actor_call"
    agent_id: str
    """The agent."""
    message: Any
    """A JSON value."""


@attrs.frozen
class ActorAsk(Operation):
    """Ask the actor of a registered agent. Result: its reply."""

    op: ClassVar[str] = "actor_ask"
    agent_id: str
    """Who asks."""
    name: str
    """The name of the agent that is asked."""
    message: Any
    """A JSON value."""
    timeout: float | None = None
    """Seconds that the asker will wait; None is no limit."""


@attrs.frozen
class ActorSend(Operation):
    """Tell the actor of a registered agent something. Result: None."""

    op: ClassVar[str] = "actor_send"
    agent_id: str
    """Who tells."""
    name: str
    """The name of the agent that is told."""
    message: Any
    """A JSON value."""
    wait: bool = True
    """Wait for a free slot; otherwise a full mailbox refuses."""


@attrs.frozen
class ActorStoppedWait(Operation):
    """Wait until the actor of an agent has stopped for good. Result: why it did."""

    op: ClassVar[str] = "actor_stopped"
    agent_id: str
    """Who waits."""
    name: str
    """The agent's name."""


@attrs.frozen
class CancelRequest(Operation):
    """The caller of another request has given up: stop working on it. Result: None."""

    op: ClassVar[str] = "cancel_request"
    request_id: int
    """That request."""


@attrs.frozen
class IdentityLost(Operation):
    """From the hub to the agents' side: this connection does not act as the agent any more. Not answered."""

    op: ClassVar[str] = "identity_lost"
    agent_id: str
    """The agent."""
    code: str
    """The stable code of the error that says why: `superseded` where another connection has taken it up."""
    message: str
    """That error's message."""


@attrs.frozen
class Withdraw(Operation):
    """From the hub to the agents' side: a delivery is a dead letter now, so forget it unless it is in hand.

    It is put with `request_id` 0 and gets no answer.
    """

    op: ClassVar[str] = "withdraw"
    agent_id: str
    """Whose it was."""
    session_id: str
    """The envelope's session."""
    sequence: int
    """Its place there."""
