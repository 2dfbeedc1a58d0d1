"""The state of one connection: which end may send what, and when. Pure; one table, read by both ends.

    connecting --opened--> hello --Welcome--> open --close--> closing

Until `Welcome` a client says `Hello` and nothing else. Whether an identity is bound is no state of the connection: it
decides which operations the door grants, see there.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, TypeAlias

from ..mailbox.errors import BadFrame
from .frames import (
    AcceptFrame,
    ErrorFrame,
    EventFrame,
    Frame,
    HelloFrame,
    NotifyFrame,
    PingFrame,
    PongFrame,
    ReceiptFrame,
    RequestFrame,
    ResponseFrame,
    SendFrame,
    SubscribeFrame,
    UnsubscribeFrame,
    WelcomeFrame,
)

Side: TypeAlias = Literal["client", "hub"]


class State(enum.StrEnum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"
    HELLO = "hello"
    OPEN = "open"
    CLOSING = "closing"


_BEAT = (PingFrame, PongFrame)
_CALLS = (RequestFrame, ResponseFrame, ErrorFrame)

MAY_SEND: Final[dict[tuple[State, Side], frozenset[type]]] = {
    (State.CONNECTING, "client"): frozenset(),
    (State.CONNECTING, "hub"): frozenset(),
    (State.HELLO, "client"): frozenset({HelloFrame, *_BEAT}),
    (State.HELLO, "hub"): frozenset({WelcomeFrame, ErrorFrame, *_BEAT}),
    (State.OPEN, "client"): frozenset({SendFrame, ReceiptFrame, SubscribeFrame, UnsubscribeFrame, *_CALLS, *_BEAT}),
    (State.OPEN, "hub"): frozenset({AcceptFrame, NotifyFrame, EventFrame, *_CALLS, *_BEAT}),
    (State.CLOSING, "client"): frozenset(),
    (State.CLOSING, "hub"): frozenset({ErrorFrame}),
}

# What is not in the table leaves the state as it is.
TRANSITIONS: Final[dict[tuple[State, type | str], State]] = {
    (State.CONNECTING, "opened"): State.HELLO,
    (State.HELLO, WelcomeFrame): State.OPEN,
    (State.CONNECTING, "close"): State.CLOSING,
    (State.HELLO, "close"): State.CLOSING,
    (State.OPEN, "close"): State.CLOSING,
}


def after(state: State, event: type | str) -> State:
    """The state after a frame of this kind, or after `opened` or `close`."""
    return TRANSITIONS.get((state, event), state)


def check(state: State, side: Side, frame: Frame) -> None:
    """Raise `BadFrame` if `side` may not send this frame now."""
    kind = type(frame)
    allowed = MAY_SEND[state, side]
    if kind in allowed:
        return
    if not any(kind in MAY_SEND[one, side] for one in State):
        raise BadFrame(f"a {side} does not send {kind.__name__}")
    names = ", ".join(sorted(one.__name__ for one in allowed)) or "nothing"
    raise BadFrame(f"{kind.__name__} is not legal while the connection is {state}; legal now: {names}")
