"""What one peer may ask of this end of a websocket: sizes, counts, rates and deadlines. Pure."""

from __future__ import annotations

import attrs

from ..mailbox.errors import InvalidInput

KIB = 1024
MIB = 1024 * KIB


@attrs.frozen
class Limits:
    """Bounds on connections and on each of them. Sizes are bytes of UTF-8, times are seconds."""

    max_message: int = MIB
    """The largest websocket message that is taken; a larger one ends the connection before it is read."""
    max_outgoing: int = 2 * MIB
    """The largest message that is sent: what was taken, with the stamps that the hub adds."""
    batch: int = 64 * KIB
    """Frames share a message up to this size."""
    max_frames: int = 1024
    """Frames in one message at most."""
    max_fragments: int = 1024
    """Websocket frames that one message may come in; the library itself takes endless empty ones."""
    max_queued: int = 32 * MIB
    """Bytes that wait to be sent; a peer that leaves more unread is disconnected."""
    messages_per_second: float = 5_000.0
    """Websocket frames of every kind; a peer that sends more is read more slowly."""
    bytes_per_second: float = 32.0 * MIB
    """Bytes; likewise."""
    max_connections: int = 4096
    """Open connections of all peers."""
    max_per_peer: int = 1024
    """Open connections from one address."""
    handshake_timeout: float = 5.0
    """From the TCP connection to the end of the websocket handshake, TLS included."""
    hello_timeout: float = 5.0
    """From there to the first frame, which must be `Hello`."""
    idle_timeout: float = 300.0
    """A connection without any identity that says nothing for so long is closed."""
    write_timeout: float = 10.0
    """A peer that does not take a message for so long is disconnected."""
    close_timeout: float = 2.0
    """For the closing handshake."""
    heartbeat: float = 20.0
    """After so much silence the peer is pinged."""
    dead_after: float = 20.0
    """A peer that leaves a ping unanswered for so long is disconnected."""

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(Limits):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInput(f"limits.{field.name}={value!r} must be a positive number", field=field.name)


class Budget:
    """A token bucket that may run into debt: `spend` says how long to wait until it is paid."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._burst = per_second
        self._left = per_second
        self._at = now

    def spend(self, amount: float, now: float) -> float:
        """Take `amount`; the seconds until nothing is owed, 0 for at once."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second) - amount
        self._at = now
        return 0.0 if self._left >= 0 else -self._left / self._per_second
