"""What was seen from outside of the hub: the frames that crossed, the actors that came and went.

The hub's own tables say what it believes; the ledger holds what it has promised to others. It outlives the hub, so that
a promise made before a power cut is held against what comes after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

import attrs

from ..actors.runtime.events import ActorCrash, ActorUp, Escalated, Event
from ..mailbox.envelope import Envelope
from ..mailbox.errors import error_from_wire
from ..transports.frames import AcceptFrame, ErrorFrame, Frame, NotifyFrame, ReceiptFrame, SendFrame

Key = tuple[str, str, str]
"""Sender, session and idempotency key."""
# Of an envelope these say nothing: an earlier attempt to send it may have been accepted.
UNDECIDED = frozenset({"hub_closed", "store_error", "link_closed", "network_error", "auth_failed"})


@attrs.define
class Line:
    """What one agent has been delivered of one session."""

    seen: dict[int, int] = attrs.field(factory=dict)
    """How often, by sequence, in the order of first delivery."""
    handled: set[int] = attrs.field(factory=set)
    """What it has acknowledged."""
    highest: int = 0
    """The newest sequence that was delivered."""


class Ledger:
    """Promises and deliveries of one network, over all its hubs."""

    def __init__(self) -> None:
        self.accepted: dict[tuple[str, int], Envelope] = {}
        self.keys: dict[Key, tuple[int, str]] = {}
        self.refused: dict[Key, str] = {}
        self.lines: dict[tuple[str, str], Line] = {}
        self.given_up: set[tuple[str, str, int]] = set()
        self.left: set[str] = set()
        self.problems: list[tuple[str, str]] = []
        self.reached: Counter[str] = Counter()
        self.allowed_crashes: tuple[type[BaseException], ...] = ()
        self._asked: dict[tuple[Hashable, int], Envelope] = {}

    def problem(self, invariant: str, what: str) -> None:
        """Something that was seen breaks an invariant."""
        self.problems.append((invariant, what))

    # Frames, as they pass a client's end.

    def frame(self, link: Hashable, direction: str, frame: Frame) -> None:
        """Take down one frame of the link of that number."""
        if isinstance(frame, NotifyFrame):
            self._notified(frame)
        elif isinstance(frame, AcceptFrame):
            self._accepted(link, frame)
        elif isinstance(frame, SendFrame):
            self._asked[link, frame.request_id] = frame.envelope
            if (key := key_of(frame.envelope)) is not None:
                self.refused.pop(key, None)  # it is tried again, and may be accepted now
        elif isinstance(frame, ErrorFrame) and direction == "in":
            self._refused(link, frame)
        elif isinstance(frame, ReceiptFrame):
            self._receipt(frame)

    def _notified(self, frame: NotifyFrame) -> None:
        envelope = frame.envelope
        line = self.lines.setdefault((frame.recipient_id, envelope.session_id), Line())
        if frame.attempt > 1:
            self.reached["redelivery"] += 1
        place = (frame.recipient_id, envelope.session_id, envelope.sequence)
        # What was given up may come all the same, where a power cut has undone the giving up.
        if envelope.sequence not in line.seen and envelope.sequence < line.highest and place not in self.given_up:
            what = f"{frame.recipient_id} got {envelope.sequence} of {envelope.session_id} after {line.highest}"
            self.problem("delivered_once_in_order_or_dead_lettered", what)
        line.seen[envelope.sequence] = line.seen.get(envelope.sequence, 0) + 1
        line.highest = max(line.highest, envelope.sequence)

    def _receipt(self, frame: ReceiptFrame) -> None:
        line = self.lines.setdefault((frame.recipient_id, frame.session_id), Line())
        self.reached[f"receipt_{frame.status}"] += 1
        if frame.status == "ack":
            line.handled.add(frame.sequence)

    def _accepted(self, link: Hashable, frame: AcceptFrame) -> None:
        envelope = frame.envelope
        self._asked.pop((link, frame.request_id), None)
        self.accepted[envelope.session_id, envelope.sequence] = envelope
        self.reached["duplicate" if frame.duplicate else "accepted"] += 1
        key = key_of(envelope)
        if key is None:
            return
        place = (envelope.sequence, envelope.envelope_id)
        first = self.keys.setdefault(key, place)
        if first != place:
            self.problem("idempotency_key_once", f"{key} was answered with {first} and with {place}")

    def _refused(self, link: Hashable, frame: ErrorFrame) -> None:
        envelope = self._asked.pop((link, frame.request_id or 0), None)
        self.reached[f"refused_{frame.code}"] += 1
        key = None if envelope is None else key_of(envelope)
        if key is not None and frame.code not in UNDECIDED:
            self.refused[key] = str(error_from_wire(frame.code, frame.message))

    # Actors.

    def event(self, event: Event) -> None:
        """Take down one event of a kernel."""
        if isinstance(event, ActorUp) and event.incarnation > 1:
            self.reached["restart"] += 1
        elif isinstance(event, ActorCrash):
            self._judge_crash(event)
        elif isinstance(event, Escalated):
            self.reached["escalation"] += 1

    def _judge_crash(self, event: ActorCrash) -> None:
        strange = [cause for cause in leaves(event.cause) if not isinstance(cause, self.allowed_crashes)]
        self.reached["crash"] += 1
        if strange and self.allowed_crashes:
            self.problem("no_crash_of_its_own", f"{event.name} crashed over {strange[0]!r}")

    # Facts that others observe.

    def dead_letter(self, agent_id: str, envelope: Envelope) -> None:
        """A delivery was given up."""
        if (agent_id, envelope.session_id, envelope.sequence) not in self.given_up:
            self.reached["dead_letter"] += 1
        self.given_up.add((agent_id, envelope.session_id, envelope.sequence))

    def statistics(self) -> dict[str, Any]:
        """How much was seen."""
        return {"accepted": len(self.accepted), "refused": len(self.refused), "lines": len(self.lines)}


def key_of(envelope: Envelope) -> Key | None:
    """Under which key a retry would find the envelope; None where it has none."""
    if envelope.idempotency_key is None:
        return None
    return envelope.sender_id, envelope.session_id, envelope.idempotency_key


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside an error that may be a group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
