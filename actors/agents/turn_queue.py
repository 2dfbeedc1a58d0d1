"""Which delivery an agent takes in hand next: a pure queue of what has arrived and is not handled.

The hub already sends in this order; the queue keeps it where several deliveries are here at once: never two of one
session in hand, a session's own order kept, the session with the most urgent mail first. An urgent envelope pulls its
session's earlier ones with it, since it must not overtake them.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from ...mailbox.priority import Priority
from ...transports.frames import NotifyFrame
from .inbound_calls import InboundCall

Item: TypeAlias = NotifyFrame | InboundCall


class _Line:
    """The waiting deliveries of one session. `level` is where the session stands in `ready`, -1 for nowhere."""

    __slots__ = ("frames", "in_hand", "level")

    def __init__(self) -> None:
        self.frames: deque[Item] = deque()
        self.in_hand = False
        self.level = -1


class TurnQueue:
    """Deliveries by session. Holds no lock, reads no clock."""

    __slots__ = ("_lines", "_ready", "current_in_hand", "current_waiting")

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._ready: tuple[deque[str], ...] = tuple(deque() for _ in Priority)
        self.current_waiting = 0
        self.current_in_hand = 0

    def push(self, frame: Item) -> None:
        """Add a delivery to its session's line."""
        session_id = frame.envelope.session_id
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = _Line()
        line.frames.append(frame)
        self.current_waiting += 1
        if not line.in_hand and frame.envelope.priority > line.level:
            self._offer(session_id, line, frame.envelope.priority)

    def take(self) -> Item | None:
        """Take the next delivery in hand; None where every waiting session has one in hand already, or none waits."""
        for level in reversed(range(len(self._ready))):
            lane = self._ready[level]
            while lane:
                session_id = lane.popleft()
                line = self._lines.get(session_id)
                if line is not None and line.level == level and line.frames:
                    self._take_in_hand(line)
                    self.current_waiting -= 1
                    return line.frames.popleft()
        return None

    def seize(self, session_id: str) -> bool:
        """Take the session itself in hand, for something that is handled out of turn; False where it is in hand."""
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = _Line()
        if line.in_hand:
            return False
        self._take_in_hand(line)
        return True

    def done(self, session_id: str) -> None:
        """The session's delivery in hand is handled, for better or worse."""
        line = self._lines[session_id]
        line.in_hand = False
        self.current_in_hand -= 1
        if line.frames:
            self._offer(session_id, line, max(frame.envelope.priority for frame in line.frames))
        else:
            del self._lines[session_id]

    def drop(self, session_id: str) -> list[Item]:
        """Take out what waits of a session, in order; what is in hand stays there."""
        line = self._lines.get(session_id)
        if line is None:
            return []
        dropped = list(line.frames)
        self.current_waiting -= len(dropped)
        line.frames.clear()
        if not line.in_hand:
            del self._lines[session_id]
        return dropped

    def remove(self, session_id: str, sequence: int) -> None:
        """Take out one delivery, if it waits here."""
        line = self._lines.get(session_id)
        for frame in () if line is None else tuple(line.frames):
            if line is not None and isinstance(frame, NotifyFrame) and frame.envelope.sequence == sequence:
                line.frames.remove(frame)
                self.current_waiting -= 1
        if line is not None and not line.frames and not line.in_hand:
            del self._lines[session_id]

    def waiting(self) -> tuple[str, ...]:
        """The sessions in which something waits."""
        return tuple(session_id for session_id, line in self._lines.items() if line.frames)

    def has_ready(self) -> bool:
        """Whether `take` may find something."""
        return any(self._ready)

    def _offer(self, session_id: str, line: _Line, level: int) -> None:
        """Put the session at the end of a lane; its place in a lower one becomes stale and is skipped later."""
        line.level = level
        self._ready[level].append(session_id)

    def _take_in_hand(self, line: _Line) -> None:
        line.in_hand = True
        line.level = -1
        self.current_in_hand += 1
