"""The desk against a model that keeps plain lists: order, holds, windows, priorities and accounts."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agorio.hub.desk import Delivery, Desk
from agorio.mailbox.envelope import Envelope
from agorio.mailbox.events import EV_SESSION_CLOSED, EV_SESSION_OPENED, EV_TEXT
from agorio.mailbox.priority import Priority

SESSIONS = st.sampled_from(["a", "b", "c"])
WINDOWS = st.sampled_from([None, 0, 1, 2])


@attrs.define
class Line:
    """One session in the model: what is queued and what is out, by sequence."""

    queued: dict[int, Delivery] = attrs.field(factory=dict)
    out: dict[int, Delivery] = attrs.field(factory=dict)
    attempts: dict[int, int] = attrs.field(factory=dict)
    held_until: float = 0.0
    is_free: bool = False
    is_over: bool = False

    @property
    def head(self) -> Delivery | None:
        return self.queued[min(self.queued)] if self.queued else None

    @property
    def counted_out(self) -> int:
        return sum(delivery.counted for delivery in self.out.values())

    @property
    def urgency(self) -> int:
        return max(delivery.envelope.priority for delivery in self.queued.values())

    def forget_hold(self) -> None:
        """A line that something was taken from and that is empty now holds nothing back any more."""
        if not self.queued and not self.out:
            self.held_until = 0.0


class DeskMachine(RuleBasedStateMachine):
    """Every push is judged delivery by delivery; whatever may go out has gone out afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(window=1)
        self.window: int | None = 1
        self.lines: dict[str, Line] = {}
        self.now = 1.0
        self.next = 0
        self.sequences: dict[str, int] = {}

    def line(self, session: str) -> Line:
        return self.lines.setdefault(session, Line())

    @property
    def in_flight(self) -> int:
        return sum(line.counted_out for line in self.lines.values())

    @rule(session=SESSIONS, priority=st.sampled_from(Priority), kind=st.sampled_from("ttttoe"))
    def add(self, session: str, priority: Priority, kind: str) -> None:
        line = self.line(session)
        if line.is_over:
            return
        self.next += 1
        sequence = self.sequences[session] = self.sequences.get(session, 0) + 1
        event = {"t": EV_TEXT, "o": EV_SESSION_OPENED, "e": EV_SESSION_CLOSED}[kind]
        envelope = Envelope(
            session, "x", None, event, envelope_id=f"{self.next:08}", sequence=sequence, priority=priority
        )
        delivery = Delivery(envelope, kind == "t", 0, float(self.next % 5) if kind == "t" else None)
        line.queued[sequence] = delivery
        if kind == "e":
            line.is_free = line.is_over = True
        self.desk.add(delivery)
        self.push()

    @rule(data=st.data(), is_handled=st.booleans(), seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def receipt(self, data: Any, is_handled: bool, seconds: float) -> None:
        out = [(session, sequence) for session, line in self.lines.items() for sequence in line.out]
        if not out:
            return
        session, sequence = data.draw(st.sampled_from(out))
        line = self.lines[session]
        if is_handled:
            assert self.desk.ack(session, sequence) is line.out.pop(sequence)
        else:
            delivery = self.desk.nack(session, sequence, self.now + seconds)
            assert delivery is line.out[sequence]
            line.queued[sequence] = line.out.pop(sequence)
            line.held_until = max(line.held_until, self.now + seconds)
        self.push()

    @rule(session=SESSIONS, sequence=st.integers(-1, 50))
    def stray_receipt(self, session: str, sequence: int) -> None:
        if sequence not in self.line(session).out:
            assert self.desk.ack(session, sequence) is None
            assert self.desk.nack(session, sequence, self.now) is None

    @rule(seconds=st.sampled_from([0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.desk.release_held(self.now)
        self.push()

    @rule(window=WINDOWS)
    def set_window(self, window: int | None) -> None:
        self.window = window
        self.desk.set_window(window)
        self.push()

    @rule(session=SESSIONS)
    def watch(self, session: str) -> None:
        if self.line(session).is_over:
            return  # the hub does not ask for what has ended
        self.line(session).is_free = True
        self.desk.watch(session)
        self.push()

    @rule()
    def lose_the_connection(self) -> None:
        self.desk.lost_connection()
        for line in self.lines.values():
            line.queued.update(line.out)
            line.out.clear()
            line.is_free = any(d.envelope.event_type == EV_SESSION_CLOSED for d in line.queued.values())
        self.push()

    @rule()
    def drop_oldest(self) -> None:
        candidates = [d for line in self.lines.values() for d in line.queued.values() if d.counted]
        for session, line in self.lines.items():
            out = [line.out[sequence] for sequence in sorted(line.out) if line.out[sequence].counted]
            if self.window and session in self.desk._lines and self.desk._lines[session].retried:
                continue  # what is in hand cannot be told from what waits behind it
            candidates += out[1:] if self.window else out
        dropped = self.desk.drop_oldest()
        assert dropped is min(candidates, key=lambda d: d.envelope.envelope_id, default=None)
        if dropped is not None:
            line = self.lines[dropped.envelope.session_id]
            (line.queued if dropped.envelope.sequence in line.queued else line.out).pop(dropped.envelope.sequence)
            line.forget_hold()
        self.push()

    @rule(now=st.integers(0, 5))
    def expire(self, now: int) -> None:
        late = {
            d.envelope.envelope_id
            for line in self.lines.values()
            for d in line.queued.values()
            if d.expires_at is not None and d.expires_at <= now
        }
        assert {d.envelope.envelope_id for d in self.desk.take_expired(now)} == late
        for line in self.lines.values():
            line.queued = {s: d for s, d in line.queued.items() if d.envelope.envelope_id not in late}
            line.forget_hold()
        self.push()

    @precondition(lambda self: self.next > 10)
    @rule()
    def empty(self) -> None:
        everything = [d for line in self.lines.values() for d in (*line.queued.values(), *line.out.values())]
        taken = self.desk.take_all()
        assert taken == sorted(everything, key=lambda d: d.envelope.envelope_id)
        self.lines.clear()

    def push(self) -> None:
        self.desk.release_held(self.now)
        for delivery in self.desk.push(self.now):
            self.judge(delivery)
        self.judge_rest()

    def judge(self, delivery: Delivery) -> None:
        envelope = delivery.envelope
        line = self.lines[envelope.session_id]
        assert line.head is delivery, "within a session in log order"
        assert line.held_until <= self.now, "nothing overtakes a backoff"
        if delivery.counted and not line.is_free and self.window is not None:
            assert self.in_flight < self.window, "the window is kept"
            assert not line.counted_out, "one at a time within a session"
        line.attempts[envelope.sequence] = line.attempts.get(envelope.sequence, 0) + 1
        assert delivery.attempt == line.attempts[envelope.sequence]
        line.out[envelope.sequence] = line.queued.pop(envelope.sequence)

    def judge_rest(self) -> None:
        has_room = self.window is None or self.in_flight < self.window
        for line in self.lines.values():
            head = line.head
            if head is None or line.held_until > self.now:
                continue
            assert not line.is_free, "a free line is pushed wholly"
            assert head.counted, "bookkeeping needs no room"
            if has_room:
                assert self.window is not None
                assert line.counted_out, "where there is room nobody waits"

    @invariant()
    def accounts(self) -> None:
        pending = [d for line in self.lines.values() for d in (*line.queued.values(), *line.out.values())]
        assert len(self.desk) == len(pending)
        assert self.desk.counted() == sum(d.counted for d in pending)
        assert self.desk.in_flight == self.in_flight
        for session in ("a", "b", "c"):
            line = self.lines.get(session, Line())
            assert self.desk.lowest(session) == min((*line.queued, *line.out), default=None)

    @invariant()
    def nothing_is_kept_of_what_is_over(self) -> None:
        kept = self.desk._lines
        for session, line in self.lines.items():
            if line.is_over and not line.queued and not line.out:
                assert session not in kept or kept[session].free is False


TestDesk = DeskMachine.TestCase
TestDesk.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


class PriorityMachine(DeskMachine):
    """With a window of one, each push takes the most urgent session of those that may go."""

    def judge(self, delivery: Delivery) -> None:
        line = self.lines[delivery.envelope.session_id]
        if delivery.counted and not line.is_free and self.window == 1:
            waiting = [
                other
                for other in self.lines.values()
                if other.head is not None
                and other.head.counted
                and not other.is_free
                and not other.counted_out
                and other.held_until <= self.now
            ]
            assert line.urgency == max(other.urgency for other in waiting), "more urgent mail goes first"
        super().judge(delivery)

    drop_oldest = None  # type: ignore[assignment]  # what made a session urgent must not be taken from it here
    expire = None  # type: ignore[assignment]


TestPriority = PriorityMachine.TestCase
TestPriority.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
