"""The JSON shapes of the frames, with the bounds of their fields. An envelope is left as bytes for its own codec."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias, get_args

import msgspec

from ..mailbox.codec import EnvelopeWire
from .frames import PROTOCOL_VERSION, ReceiptStatus

Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=1024)]
Words: TypeAlias = Annotated[str, msgspec.Meta(max_length=65_536)]


class Shape(msgspec.Struct, omit_defaults=True, tag_field="kind"):
    """The base of the frames' JSON shapes."""


class HelloWire(Shape, tag="hello"):
    """The first frame of a client: which protocol versions it speaks."""

    versions: Annotated[tuple[Number, ...], msgspec.Meta(max_length=64)] = (PROTOCOL_VERSION,)
    client: Text = ""


class WelcomeWire(Shape, tag="welcome"):
    """The hub's answer, with the limits that it keeps on this connection."""

    endpoint_id: Text
    hub_time: Text
    version: Number = PROTOCOL_VERSION
    limits: dict[str, Any] = {}


class SendWire(Shape, tag="send"):
    """An envelope for the hub to judge; answered by `accept` or `error`."""

    request_id: Number
    envelope: msgspec.Raw


class AcceptWire(Shape, tag="accept"):
    """The envelope is judged, durable and on its way; here it is as the hub stamped it."""

    request_id: Number
    envelope: msgspec.Raw
    duplicate: bool = False


class ErrorWire(Shape, tag="error"):
    """A refusal; without `request_id` it is about the connection."""

    code: Text
    message: Words
    request_id: Number | None = None
    details: dict[str, Any] = {}


class NotifyWire(Shape, tag="notify"):
    """A delivery: pending until a `receipt` comes back."""

    recipient_id: Text
    envelope: msgspec.Raw
    attempt: Number = 1


class ReceiptWire(Shape, tag="receipt"):
    """The end of a delivery: handled (`ack`), or failed and to be tried again (`nack`)."""

    recipient_id: Text
    session_id: Text
    sequence: Number
    status: ReceiptStatus = "ack"
    reason: Words = ""


class SubscribeWire(Shape, tag="subscribe"):
    """Ask for a session's or a task's events as they happen."""

    subscription_id: Number
    session_id: Text
    agent_id: Text = ""
    after: Number = 0
    event_types: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] | None = None
    task_id: Text | None = None


class UnsubscribeWire(Shape, tag="unsubscribe"):
    """End a subscription."""

    subscription_id: Number


class EventWire(Shape, tag="event"):
    """One event of a subscription, replayed or live."""

    subscription_id: Number
    envelope: msgspec.Raw


class RequestWire(Shape, tag="request"):
    """A control call; `params` is the operation's record."""

    request_id: Number
    op: Text
    params: dict[str, Any] = {}


class ResponseWire(Shape, tag="response"):
    """The result of a control call; `type` names its record, with `[]` where it is an array of them."""

    request_id: Number
    result: msgspec.Raw
    type: Text = ""


class PingWire(Shape, tag="ping"):
    """Are you there?"""

    nonce: Number = 0


class PongWire(Shape, tag="pong"):
    """I am."""

    nonce: Number = 0


AnyWire: TypeAlias = (
    HelloWire
    | WelcomeWire
    | SendWire
    | AcceptWire
    | ErrorWire
    | NotifyWire
    | ReceiptWire
    | SubscribeWire
    | UnsubscribeWire
    | EventWire
    | RequestWire
    | ResponseWire
    | PingWire
    | PongWire
)


FRAME_SHAPES: Final[tuple[Any, ...]] = get_args(AnyWire)


class WholeSend(SendWire, tag="send"):
    """A frame read together with its envelope, in one pass. What cannot be read so is left to the shapes above."""

    envelope: EnvelopeWire  # type: ignore[assignment]


class WholeAccept(AcceptWire, tag="accept"):
    """See `WholeSend`."""

    envelope: EnvelopeWire  # type: ignore[assignment]


class WholeNotify(NotifyWire, tag="notify"):
    """See `WholeSend`."""

    envelope: EnvelopeWire  # type: ignore[assignment]


class WholeEvent(EventWire, tag="event"):
    """See `WholeSend`."""

    envelope: EnvelopeWire  # type: ignore[assignment]


WholeWire: TypeAlias = (
    HelloWire
    | WelcomeWire
    | WholeSend
    | WholeAccept
    | ErrorWire
    | WholeNotify
    | ReceiptWire
    | SubscribeWire
    | UnsubscribeWire
    | WholeEvent
    | RequestWire
    | ResponseWire
    | PingWire
    | PongWire
)
