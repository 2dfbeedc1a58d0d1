"""When a link that was lost is tried again. Pure: chance and time are passed in."""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

import attrs

from .link import LinkClient


@attrs.frozen
class Reconnect:
    """Exponentially growing delays with full jitter, so that many clients of one hub do not come back at once."""

    initial: float = 0.1
    """Seconds, at most, before the second attempt; the first follows at once, within as much jitter."""
    factor: float = 2.0
    """What each failure multiplies it by."""
    max_delay: float = 10.0
    """Seconds at most."""
    give_up_after: float = 300.0
    """Seconds without a connection after which the client gives up."""

    def delay(self, attempt: int, chance: float) -> float:
        """Seconds before attempt number `attempt`, which counts from 0; `chance` is drawn from 0 to 1."""
        return min(self.max_delay, self.initial * self.factor ** min(attempt, 64)) * chance


RECONNECT: Final = Reconnect()


@runtime_checkable
class ReconnectingLink(Protocol):
    """A link whose connections may be lost and made again."""

    reconnect: Reconnect | None

    def client(self) -> LinkClient:
        """A fresh, unopened agents' end."""
