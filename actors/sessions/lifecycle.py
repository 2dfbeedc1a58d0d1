"""The life of a session: one table of legal moves, and the fold of its log.

Every state of a session is reached by folding the very envelopes that are in its log, so a restart that folds the log
arrives where the live session was. What may be appended is judged in `judging.py`.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from ...mailbox.clock import iso
from ...mailbox.envelope import Envelope
from ...mailbox.errors import ProtocolError
from ...mailbox.events import (
    EV_EXPECTATION_VIOLATED,
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    EV_SESSION_INVITE_REJECT,
    EV_SESSION_OPENED,
    EV_TURN_DUE,
    EV_TURN_SKIPPED,
    HUB_EVENTS,
    LIFECYCLE_EVENTS,
    TASK_EVENTS,
)
from .adapters.base import SessionAdapter
from .metadata import TERMINAL, Participant, SessionMetadata, SessionSetup, SessionState
from .tasks import Tasks, fold_tasks

PENDING, ACTIVE, CLOSING = SessionState.PENDING, SessionState.ACTIVE, SessionState.CLOSING
CLOSED, EXPIRED = SessionState.CLOSED, SessionState.EXPIRED

CONTENT = "content"
AUTO_CLOSE = "auto_close"

# (state, event) -> state. What is not in the table is refused. CONTENT stands for everything that members say.
TRANSITIONS: dict[tuple[SessionState, str], SessionState] = {
    (PENDING, EV_SESSION_INVITE): PENDING,
    (PENDING, EV_SESSION_INVITE_ACK): PENDING,
    (PENDING, EV_SESSION_INVITE_REJECT): PENDING,
    (PENDING, EV_SESSION_OPENED): ACTIVE,
    (PENDING, EV_EXPECTATION_VIOLATED): PENDING,
    (PENDING, EV_SESSION_CLOSED): CLOSED,
    (PENDING, EV_SESSION_EXPIRED): EXPIRED,
    (ACTIVE, EV_SESSION_INVITE_ACK): ACTIVE,
    (ACTIVE, EV_SESSION_INVITE_REJECT): ACTIVE,
    (ACTIVE, CONTENT): ACTIVE,
    (ACTIVE, EV_TURN_SKIPPED): ACTIVE,
    (ACTIVE, EV_TURN_DUE): ACTIVE,
    (ACTIVE, EV_EXPECTATION_VIOLATED): ACTIVE,
    (ACTIVE, AUTO_CLOSE): CLOSING,
    (ACTIVE, EV_SESSION_CLOSED): CLOSED,
    (ACTIVE, EV_SESSION_EXPIRED): EXPIRED,
    (CLOSING, EV_SESSION_CLOSED): CLOSED,
}

_NO_TASKS: Tasks = {}


@attrs.frozen
class Live:
    """The fold of a session's log."""

    setup: SessionSetup
    """What was fixed at opening."""
    state: SessionState = PENDING
    """Where it is in its life."""
    sequence: int = 0
    """The newest envelope's sequence."""
    joined: tuple[tuple[str, str], ...] = ()
    """Who has accepted, and when."""
    rejected: tuple[str, ...] = ()
    """Who has declined."""
    departed: tuple[str, ...] = ()
    """Members that were unregistered."""
    adapter_state: Any = None
    """The session type's own fold."""
    tasks: Tasks = _NO_TASKS
    """The running tasks of the session by id; replaced, never changed."""
    last_at: str = ""
    """When the newest envelope was stamped; stamps of one session never decrease."""
    closed_at: str | None = None
    """When it ended."""
    close_reason: str | None = None
    """Why it ended."""

    @property
    def terminal(self) -> bool:
        """Whether the session has ended for good."""
        return self.state is CLOSED or self.state is EXPIRED

    def answered(self, agent_id: str) -> bool:
        """Whether the invitee has accepted or declined."""
        return agent_id in self.rejected or any(agent_id == who for who, _ in self.joined)


def begin(setup: SessionSetup, adapter: SessionAdapter) -> Live:
    """The state before the first envelope. Raises what the adapter refuses the opening with."""
    return Live(setup=setup, adapter_state=adapter.initial_state(setup))


class _Draft(Live):
    """A state under construction; see `mailbox/envelope.py`. `attrs.evolve` would cost 3 µs on every envelope's way."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


def _said(live: Live, adapter_state: Any, envelope: Envelope) -> Live:
    """The state after something was said."""
    new: Any = object.__new__(_Draft)
    new.setup = live.setup
    new.state = live.state
    new.sequence = envelope.sequence
    new.joined = live.joined
    new.rejected = live.rejected
    new.departed = live.departed
    new.adapter_state = adapter_state
    new.tasks = live.tasks
    new.last_at = envelope.created_at
    new.closed_at = live.closed_at
    new.close_reason = live.close_reason
    new.__class__ = Live
    return new  # type: ignore[no-any-return]


def fold(live: Live, adapter: SessionAdapter, envelope: Envelope) -> Live:
    """The state after one logged envelope."""
    event = envelope.event_type
    if live.state is ACTIVE and event not in LIFECYCLE_EVENTS:
        if event in TASK_EVENTS:
            tasks = fold_tasks(live.tasks, envelope)
            return attrs.evolve(live, sequence=envelope.sequence, last_at=envelope.created_at, tasks=tasks)
        return _said(live, adapter.fold(live.adapter_state, envelope), envelope)
    move = TRANSITIONS.get((live.state, event if event in LIFECYCLE_EVENTS else CONTENT))
    if move is None:
        raise ProtocolError(f"{event} is not legal while session {live.setup.session_id} is {live.state}")
    changes: dict[str, Any] = {"sequence": envelope.sequence, "last_at": envelope.created_at, "state": move}
    if event == EV_SESSION_INVITE_ACK:
        changes["joined"] = (*live.joined, (envelope.sender_id, envelope.created_at))
    elif event == EV_SESSION_INVITE_REJECT:
        changes["rejected"] = (*live.rejected, envelope.sender_id)
    elif move in TERMINAL:
        changes["closed_at"] = envelope.created_at
        changes["close_reason"] = envelope.event_data.get("reason")
    elif event == EV_TURN_SKIPPED:
        changes["adapter_state"] = adapter.fold(live.adapter_state, envelope)
        if envelope.event_data.get("reason") == "gone":
            changes["departed"] = (*live.departed, str(envelope.event_data.get("agent_id")))
    return attrs.evolve(live, **changes)


class Membership(Protocol):
    """Whatever knows who takes part."""

    @property
    def participants(self) -> tuple[str, ...]:
        """The members' ids, the creator first."""


def recipients(session: Membership, envelope: Envelope) -> tuple[str, ...]:
    """Who gets the envelope: its audience or everybody, the sender only where the hub spoke in its name."""
    members = session.participants if envelope.audience is None else envelope.audience
    if envelope.event_type in HUB_EVENTS:
        return members
    sender = envelope.sender_id
    return tuple([who for who in members if who != sender])


def snapshot(live: Live, adapter: SessionAdapter | None) -> SessionMetadata:
    """The frozen picture of the session that everybody may hold."""
    setup, created_at = live.setup, iso(live.setup.created_at)
    joined = {**dict(live.joined), setup.creator_id: created_at}
    expected = adapter.expected_next(live.adapter_state) if adapter and live.state is ACTIVE else None
    return SessionMetadata(
        session_id=setup.session_id,
        manifest=setup.manifest,
        creator_id=setup.creator_id,
        participants=tuple(
            Participant(who, setup.role_of(who), order, joined.get(who, ""))
            for order, who in enumerate(setup.participants)
        ),
        state=live.state,
        created_at=created_at,
        expires_at=None if setup.expires_at is None else iso(setup.expires_at),
        closed_at=live.closed_at,
        close_reason=live.close_reason,
        knobs=setup.knobs,
        labels=setup.labels,
        expectations=setup.expectations,
        required_acks=setup.required_acks,
        pending_acks=tuple(who for who in setup.invitees if not live.answered(who)) if not live.terminal else (),
        last_sequence=live.sequence,
        expected_next=expected,
        parent_session_id=setup.parent_session_id,
        depth=setup.depth,
    )
