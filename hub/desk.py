"""The desk behind an agent's inbox: which pending delivery goes out next, and what becomes of one that failed.

Pure: it is told the time and returns what to push, to retry and to give up. Rules it keeps:

* within a session deliveries go out in log order, and one that failed holds back its successors until it is retried;
* across sessions higher priority goes first, and an urgent envelope pulls its session's earlier ones with it;
* at most `window` counted deliveries are out at once, one per session; bookkeeping needs no place in the window, and a
  session that somebody watches, or that has ended, is pushed through.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from ..mailbox.envelope import Envelope
from ..mailbox.events import LIFECYCLE_EVENTS, SESSION_END, TASK_ENDS, TURN_EVENTS
from .desk_line import Delivery, Line

NONE: Final[frozenset[str]] = frozenset()
UNCOUNTED = LIFECYCLE_EVENTS | TASK_ENDS


class Desk:
    """Pending deliveries of one agent."""

    __slots__ = ("_entries", "_express", "_heap", "_held", "_lines", "in_flight", "parked", "window")

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.in_flight = 0
        self.parked: frozenset[str] = NONE
        self._lines: dict[str, Line] = {}
        self._heap: list[tuple[int, int, str]] = []
        self._express: list[str] = []
        self._held: dict[str, float] = {}
        self._entries = 0

    def __len__(self) -> int:
        return sum(len(line.queued) + len(line.out) for line in self._lines.values())

    def counted(self) -> int:
        """Pending deliveries that take a slot."""
        return sum(d.counted for line in self._lines.values() for d in (*line.queued, *line.out.values()))

    def pass_through(self, delivery: Delivery) -> bool:
        """Whether the delivery may go out as it comes; it counts as out then. Nothing may wait that would go first."""
        envelope = delivery.envelope
        if self._heap or self._express or not delivery.counted or envelope.session_id in self._lines:
            return False
        if (self.window is not None and self.in_flight >= self.window) or envelope.session_id in self.parked:
            return False
        line = self._lines[envelope.session_id] = Line()
        line.out[envelope.sequence] = delivery
        line.counted_out = 1
        delivery.attempt += 1
        self.in_flight += 1
        return True

    def add(self, delivery: Delivery) -> None:
        """Put a delivery into its session's line."""
        session_id = delivery.envelope.session_id
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = Line()
        line.append(delivery)
        if delivery.envelope.event_type in SESSION_END:
            line.free = line.ended = True
        if line.free or not delivery.counted:
            self._express.append(session_id)
        elif not line.counted_out or self.window is None:
            self._enter(session_id, line, delivery.envelope.priority)

    def _enter(self, session_id: str, line: Line, priority: int) -> None:
        """Give the line an entry; a more urgent one replaces its entry, which makes the older one stale."""
        if line.entry and line.entry_priority >= priority:
            return
        self._entries += 1
        line.entry, line.entry_priority = self._entries, priority
        heapq.heappush(self._heap, (-priority, self._entries, session_id))

    def _enter_again(self, session_id: str, line: Line) -> None:
        if line.queued:
            if line.free or not line.queued[0].counted:
                self._express.append(session_id)
            self._enter(session_id, line, max(line.ranks))

    @property
    def has_work(self) -> bool:
        """Whether `push` may find something."""
        return bool(self._express or self._heap)

    @property
    def is_holding(self) -> bool:
        """Whether a backoff may be running, so that `push` needs the time."""
        return bool(self._held)

    def push(self, now: float) -> list[Delivery]:
        """What goes out now, in order; they count as out from here on."""
        pushed: list[Delivery] = []
        for session_id in self._express:
            line = self._lines.get(session_id)
            if line is not None and line.held_until <= now and session_id not in self.parked:
                self._push_express(line, pushed)
        self._express.clear()
        while self._heap and (self.window is None or self.in_flight < self.window):
            self._push_next(now, pushed)
        return pushed

    def _push_express(self, line: Line, pushed: list[Delivery]) -> None:
        """Push what needs no place in the window: a free line wholly, else the bookkeeping at its head."""
        while line.queued and (line.free or not line.queued[0].counted):
            self._push_head(line, pushed)
        if not line.queued:
            line.entry = 0  # its entry tells of an urgency that is gone

    def _push_next(self, now: float, pushed: list[Delivery]) -> None:
        _, entry, session_id = heapq.heappop(self._heap)
        line = self._lines.get(session_id)
        if line is None or line.entry != entry:
            return
        line.entry = 0
        if line.held_until > now or not line.queued or session_id in self.parked:
            return
        if line.counted_out and self.window is not None:
            return  # one at a time within a session; its acknowledgement gives the line a new entry
        while line.queued and (self.window is None or not line.counted_out or not line.queued[0].counted):
            self._push_head(line, pushed)

    def _push_head(self, line: Line, pushed: list[Delivery]) -> None:
        delivery = line.popleft()
        delivery.attempt += 1
        line.out[delivery.envelope.sequence] = delivery
        line.counted_out += delivery.counted
        self.in_flight += delivery.counted
        pushed.append(delivery)

    def ack(self, session_id: str, sequence: int) -> Delivery | None:
        """The delivery is handled; None where it is not out."""
        line = self._lines.get(session_id)
        delivery = self._take_out(line, sequence)
        if line is not None and delivery is not None:
            if line.queued:
                self._enter_again(session_id, line)
            elif not line.out:
                self._drop(session_id)
                if line.is_watched:
                    self._lines[session_id] = Line(free=True)
        return delivery

    def _drop(self, session_id: str) -> None:
        """A line is over. An emptied dict keeps its table; there are thousands of idle desks, so it goes too."""
        del self._lines[session_id]
        if not self._lines:
            self._lines.clear()

    def _take_out(self, line: Line | None, sequence: int) -> Delivery | None:
        delivery = line.out.pop(sequence, None) if line is not None else None
        if line is not None and delivery is not None:
            line.counted_out -= delivery.counted
            self.in_flight -= delivery.counted
        return delivery

    def nack(self, session_id: str, sequence: int, retry_at: float) -> Delivery | None:
        """The delivery failed: it goes back to the head of its line, which is held until `retry_at`."""
        line = self._lines.get(session_id)
        delivery = self._take_out(line, sequence)
        if line is not None and delivery is not None:
            self._requeue(line, [delivery])
            self.hold(session_id, retry_at)
        return delivery

    def hold(self, session_id: str, until: float) -> None:
        """Push nothing of this session before `until`; a longer hold of another of its deliveries stays."""
        line = self._lines.get(session_id)
        if line is not None and until > line.held_until:
            line.held_until = until
            self._held[session_id] = until

    def release(self, session_id: str) -> None:
        """Hold this session no longer."""
        self._held.pop(session_id, None)
        line = self._lines.get(session_id)
        if line is not None:
            line.held_until = 0.0
            self._enter_again(session_id, line)

    def remove(self, delivery: Delivery) -> None:
        """Take a queued delivery out."""
        session_id = delivery.envelope.session_id
        line = self._lines[session_id]
        line.remove(delivery)
        if not any(waiting.attempt for waiting in line.queued):
            line.held_until = 0.0
            self._held.pop(session_id, None)
        if line.queued:
            self._enter_again(session_id, line)
        elif not line.out:
            self._emptied(session_id, line)

    def _emptied(self, session_id: str, line: Line) -> None:
        """Nothing of a session is left: nothing is held back either, and only a line that is watched stays."""
        line.held_until = 0.0
        self._held.pop(session_id, None)
        if not line.is_watched:
            del self._lines[session_id]

    def _requeue(self, line: Line, deliveries: list[Delivery]) -> None:
        line.retried = True
        line.refill(sorted((*deliveries, *line.queued), key=lambda d: d.envelope.sequence))

    def watch(self, session_id: str) -> None:
        """Push this session's deliveries from now on, whatever the window."""
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = Line()
        line.free = True
        self._enter_again(session_id, line)

    def forget(self, session_id: str) -> None:
        """Stop watching; the line goes with its last delivery."""
        line = self._lines.get(session_id)
        if line is not None:
            line.free = False
            if not line.queued and not line.out:
                del self._lines[session_id]

    def lost_connection(self) -> None:
        """Everything that is out goes back into its line; the next push marks it as a redelivery."""
        for session_id, line in list(self._lines.items()):
            out = list(line.out.values())
            line.out.clear()
            line.counted_out = 0
            line.free = any(d.envelope.event_type in SESSION_END for d in (*out, *line.queued))
            self._requeue(line, out)
            if line.queued:
                self._enter_again(session_id, line)
            else:
                del self._lines[session_id]
        self.in_flight = 0

    def park(self, session_id: str) -> None:
        """Push nothing of this session until it is resumed."""
        self.parked |= {session_id}

    def resume(self, session_id: str) -> None:
        """Push this session again."""
        self.parked -= {session_id}
        line = self._lines.get(session_id)
        if line is not None:
            self._enter_again(session_id, line)

    def out_of(self, session_id: str, *, sequence: int = 0, envelope_id: str = "") -> Delivery | None:
        """What is out of a session, by sequence or by envelope; None where that is not out."""
        line = self._lines.get(session_id)
        out = line.out.values() if line is not None else ()
        return next((d for d in out if sequence == d.envelope.sequence or envelope_id == d.envelope.envelope_id), None)

    def has(self, session_id: str, sequence: int) -> bool:
        """Whether the delivery is pending."""
        line = self._lines.get(session_id)
        return line is not None and any(d.envelope.sequence == sequence for d in (*line.queued, *line.out.values()))

    def put_back(self, delivery: Delivery) -> None:
        """Queue a delivery at its place among those that wait, though its time was over."""
        session_id = delivery.envelope.session_id
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = Line()
        self._requeue(line, [delivery])
        self._enter_again(session_id, line)

    def set_window(self, window: int | None) -> None:
        """Change how many counted deliveries may be out at once."""
        self.window = window
        if window is None:
            for session_id, line in self._lines.items():
                self._enter_again(session_id, line)  # what waited for one to come back need not any more

    def release_held(self, now: float) -> None:
        """Let the lines go whose backoff is over."""
        for session_id in [key for key, at in self._held.items() if at <= now]:
            self.release(session_id)

    def next_release(self) -> float | None:
        """When the next backoff is over, or None."""
        return min(self._held.values()) if self._held else None

    def drop_oldest(self) -> Delivery | None:
        """Take out the oldest counted delivery that nobody has in hand; None where there is none."""
        oldest = min(self._droppable(), key=lambda delivery: delivery.envelope.envelope_id, default=None)
        if oldest is not None:
            session_id = oldest.envelope.session_id
            line = self._lines[session_id]
            if self._take_out(line, oldest.envelope.sequence) is None:
                line.remove(oldest)
            if line.queued:
                self._enter_again(session_id, line)
            elif not line.out:
                self._emptied(session_id, line)
        return oldest

    def _droppable(self) -> Iterator[Delivery]:
        """What each line could lose first.

        Without turns, which is without a window or with one of nothing, what is out only lies there unread. With turns
        the first that is out of a session is in hand and its successors wait behind it; after a retry nobody knows.
        """
        for line in self._lines.values():
            out = [delivery for delivery in line.out.values() if delivery.counted]
            if self.window:
                out = [] if line.retried else out[1:]
            yield from sorted(out, key=lambda delivery: delivery.envelope.sequence)[:1]
            yield from islice((delivery for delivery in line.queued if delivery.counted), 1)

    def take_expired(self, now: float) -> list[Delivery]:
        """Take out the queued deliveries whose time to live is over."""
        return self.take_queued(lambda delivery: delivery.expires_at is not None and delivery.expires_at <= now)

    def take_queued(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out the queued deliveries that are not wanted any more."""
        taken: list[Delivery] = []
        for session_id, line in list(self._lines.items()):
            kept: list[Delivery] = []
            for delivery in line.queued:
                (taken if unwanted(delivery) else kept).append(delivery)
            if len(kept) < len(line.queued):
                line.refill(kept)
                if kept:
                    self._enter_again(session_id, line)  # what stood behind may need no room
            if not kept and not line.out:
                self._emptied(session_id, line)
        return taken

    def take_all(self) -> list[Delivery]:
        """Empty the desk, oldest first."""
        everything = [d for line in self._lines.values() for d in (*line.out.values(), *line.queued)]
        for table in (self._lines, self._heap, self._express, self._held):
            table.clear()
        self.in_flight = 0
        return sorted(everything, key=lambda d: d.envelope.envelope_id)

    def lowest(self, session_id: str) -> int | None:
        """The lowest sequence of a session that is pending, or None."""
        line = self._lines.get(session_id)
        if line is None or not (line.out or line.queued):
            return None
        queued = line.queued[0].envelope.sequence if line.queued else None
        if not line.out:
            return queued
        # Deliveries go out in order; only a retry goes out behind its successors.
        out = min(line.out) if line.retried else next(iter(line.out))
        return out if queued is None else min(out, queued)

    def pending(self, session_id: str) -> list[Delivery]:
        """The deliveries of a session that are not handled."""
        line = self._lines.get(session_id)
        return [] if line is None else [*line.queued, *line.out.values()]

    def in_hand(self) -> list[str]:
        """The sessions of which something is out that its recipient may be answering now."""
        return [session_id for session_id, line in self._lines.items() if _any_cue(line.out.values())]

    def has_cue(self, session_id: str) -> bool:
        """Whether something is pending in the session that its recipient may be going to answer."""
        line = self._lines.get(session_id)
        return line is not None and _any_cue((*line.queued, *line.out.values()))


def _any_cue(deliveries: Iterable[Delivery]) -> bool:
    return any(delivery.envelope.event_type in TURN_EVENTS for delivery in deliveries)


def is_counted(envelope: Envelope) -> bool:
    """Whether the envelope takes a slot of an inbox; bookkeeping and the ends of tasks always get through."""
    return envelope.event_type not in UNCOUNTED


__all__ = ["UNCOUNTED", "Delivery", "Desk", "Line", "is_counted"]
