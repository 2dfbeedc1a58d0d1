"""The frames: everything that two ends of a link say to each other.

`Send` is answered by `Accept` or `Error`, `Notify` by `Receipt`, `Request` by `Response`, `Ping` by `Pong`. A frame
that belongs to a question carries the question's `request_id`, so answers may come in any order.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ..mailbox.envelope import Envelope
from ..mailbox.frozen import EMPTY, FrozenDict, freeze_payload

PROTOCOL_VERSION = 1
ReceiptStatus = Literal["ack", "nack"]


@attrs.frozen
class HelloFrame:
    """The first frame of a client: which protocol versions it speaks."""

    versions: tuple[int, ...] = (PROTOCOL_VERSION,)
    """Versions it can speak; the hub picks the highest that both know."""
    client: str = ""
    """Free-form name of the client program, for the operator."""


@attrs.frozen
class WelcomeFrame:
    """The hub's answer to `Hello`."""

    endpoint_id: str
    """The hub's name for this connection."""
    hub_time: str
    """The hub's clock, ISO-8601."""
    version: int = PROTOCOL_VERSION
    """The version spoken from here on."""
    limits: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The hub's limits on this connection, such as the largest message."""


@attrs.frozen
class SendFrame:
    """An envelope for the hub to judge."""

    request_id: int
    """Chosen by the client, unique among its open questions."""
    envelope: Envelope
    """What is said; the hub ignores fields that only it may stamp."""


@attrs.frozen
class AcceptFrame:
    """The envelope is judged, durable and on its way."""

    request_id: int
    """The `Send` that it answers."""
    envelope: Envelope
    """The envelope as the hub stamped it."""
    duplicate: bool = False
    """Whether an earlier envelope with the same idempotency key was returned instead."""


@attrs.frozen
class ErrorFrame:
    """A refusal."""

    code: str
    """The stable code of the error class."""
    message: str
    """What is wrong and how to mend it."""
    request_id: int | None = None
    """The question that it answers; None when the connection itself is at fault."""
    details: FrozenDict = attrs.field(default=EMPTY, converter=freeze_payload)
    """The error's own fields."""


@attrs.frozen
class NotifyFrame:
    """A delivery: pending until a `Receipt` comes back."""

    recipient_id: str
    """The agent that it is for."""
    envelope: Envelope
    """What was said."""
    attempt: int = 1
    """1 for the first try; a higher number marks a redelivery."""


@attrs.frozen
class ReceiptFrame:
    """The end of a delivery: handled, or failed and to be tried again."""

    recipient_id: str
    """The agent that handled it."""
    session_id: str
    """The envelope's session."""
    sequence: int
    """The envelope's place in it."""
    status: ReceiptStatus = "ack"
    """`ack` frees the slot, `nack` has it redelivered."""
    reason: str = ""
    """Why it failed."""


@attrs.frozen
class SubscribeFrame:
    """Ask for a session's or a task's events as they happen."""

    subscription_id: int
    """Chosen by the client."""
    session_id: str
    """Whose events."""
    agent_id: str = ""
    """The member in whose name it is read."""
    after: int = 0
    """Replay what came after this sequence first."""
    event_types: tuple[str, ...] | None = None
    """Only these; None is all."""
    task_id: str | None = None
    """Only this task's."""


@attrs.frozen
class UnsubscribeFrame:
    """End a subscription."""

    subscription_id: int
    """The one to end."""


@attrs.frozen
class EventFrame:
    """One event of a subscription, replayed or live."""

    subscription_id: int
    """The subscription."""
    envelope: Envelope
    """The event."""


@attrs.frozen
class RequestFrame:
    """A control call; `op` names a row of the door and `params` is that row's typed record."""

    request_id: int
    """Chosen by the client, unique among its open questions."""
    op: str
    """The operation."""
    params: Any
    """The operation's record."""


@attrs.frozen
class ResponseFrame:
    """The result of a control call; a refusal is an `ErrorFrame`."""

    request_id: int
    """The `Request` that it answers."""
    result: Any = None
    """The operation's result record."""


@attrs.frozen
class PingFrame:
    """Are you there?"""

    nonce: int = 0
    """Echoed by the `Pong`."""


@attrs.frozen
class PongFrame:
    """I am."""

    nonce: int = 0
    """The `Ping`'s."""


Frame = (
    HelloFrame
    | WelcomeFrame
    | SendFrame
    | AcceptFrame
    | ErrorFrame
    | NotifyFrame
    | ReceiptFrame
    | SubscribeFrame
    | UnsubscribeFrame
    | EventFrame
    | RequestFrame
    | ResponseFrame
    | PingFrame
    | PongFrame
)
