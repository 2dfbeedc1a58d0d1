"""The deliveries of one session to one agent, as the desk keeps them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, cast

import attrs

from ..mailbox.envelope import Envelope


@attrs.define
class Delivery:
    """One envelope on its way to one recipient."""

    envelope: Envelope
    """What is delivered."""
    counted: bool = True
    """Whether it takes a slot of the inbox."""
    attempt: int = 0
    """How often it was pushed."""
    expires_at: float | None = None
    """When an undelivered envelope becomes a dead letter, seconds since 1970."""
    failed: int = 0
    """The last attempt whose failure was counted."""


# Most deliveries go out as they come, so a line makes its queue when something has to wait. Until then it has this: it
# reads like an empty queue, and nothing can be added to it by mistake.
_EMPTY: Final = cast("deque[Delivery]", ())


@attrs.define
class Line:
    """The deliveries of one session to one agent."""

    queued: deque[Delivery] = _EMPTY
    """Not pushed yet, in order; changed by the methods below only."""
    ranks: dict[int, int] = attrs.field(factory=dict)
    """How many of them have which priority."""
    out: dict[int, Delivery] = attrs.field(factory=dict)
    """Pushed and not acknowledged, by sequence."""
    counted_out: int = 0
    """How many of them are counted."""
    free: bool = False
    """Whether it is pushed without regard to the window."""
    ended: bool = False
    """Whether the session's end has come: the line goes with its last delivery, watched or not."""
    held_until: float = 0.0
    """Nothing goes out before this instant."""
    retried: bool = False
    """Whether something went out again, so that `out` may not be in order."""
    entry: int = 0
    """The number of its entry in the heap; 0 where it has none."""
    entry_priority: int = 0
    """That entry's priority."""

    @property
    def is_watched(self) -> bool:
        """Whether the line stays when it is empty: somebody waits for what may still come."""
        return self.free and not self.ended

    def append(self, delivery: Delivery) -> None:
        """Queue a delivery."""
        if self.queued is _EMPTY:
            self.queued = deque()
        self.queued.append(delivery)
        self._count(delivery, 1)

    def popleft(self) -> Delivery:
        """Take the first one out."""
        delivery = self.queued.popleft()
        self._count(delivery, -1)
        return delivery

    def remove(self, delivery: Delivery) -> None:
        """Take one out of the middle."""
        self.queued.remove(delivery)
        self._count(delivery, -1)

    def refill(self, deliveries: Iterable[Delivery]) -> None:
        """Queue these and no others."""
        self.queued = deque(deliveries)
        self.ranks.clear()
        for delivery in self.queued:
            self._count(delivery, 1)

    def _count(self, delivery: Delivery, change: int) -> None:
        rank = int(delivery.envelope.priority)
        count = self.ranks.get(rank, 0) + change
        if count:
            self.ranks[rank] = count
        else:
            del self.ranks[rank]
