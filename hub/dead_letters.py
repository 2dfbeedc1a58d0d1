"""Dead letters: deliveries that nobody will make any more, kept for the operator to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from ..mailbox.envelope import Envelope

KEPT = 10_000


@attrs.frozen
class DeadLetterRecord:
    """One delivery that was given up."""

    agent_id: str
    """The recipient."""
    envelope: Envelope
    """What it did not handle; it stays in its session's log."""
    reason: str
    """Why: an overflow policy, `ttl_seconds`, `unregistered`, or the last failure."""
    attempts: int
    """How often it was tried."""
    letter: int = 0
    """Its audit record's sequence, by which it can be redelivered; 0 until that is durable."""


class DeadLetters:
    """The newest 10,000; each is in the audit log as well, and none is lost there."""

    def __init__(self) -> None:
        self._kept: deque[list[DeadLetterRecord]] = deque(maxlen=KEPT)
        self.total = 0

    def add(self, agent_id: str, envelope: Envelope, reason: str, attempts: int) -> Callable[[int], None]:
        """Note one; returns how to number it once its audit record is durable."""
        self.total += 1
        kept = [DeadLetterRecord(agent_id, envelope, reason, attempts)]
        self._kept.append(kept)

        def number(letter: int) -> None:
            kept[0] = attrs.evolve(kept[0], letter=letter)

        return number

    def list(self, agent_id: str | None = None) -> tuple[DeadLetterRecord, ...]:
        """Those of one agent or all, oldest first."""
        return tuple(letter for (letter,) in self._kept if agent_id in (None, letter.agent_id))
