"""The life of a session: one table of legal moves, a fold of its log, and `step`, which judges and never acts.

`step(live, adapter, command, now, mint)` returns the state after the command and the envelopes to append, or raises;
the
state that came in is untouched either way. Every new state is reached by folding the very envelopes that are appended,
so a restart that folds the log arrives where the live session was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ...mailbox.clock import iso
from ...mailbox.envelope import Envelope, stamp, visible_to
from ...mailbox.errors import AgorioError, InvalidInput, NotAMemberError, ProtocolError, SessionClosedError
from ...mailbox.events import (
    EV_EXPECTATION_VIOLATED,
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    EV_SESSION_INVITE_REJECT,
    EV_SESSION_OPENED,
    EV_TASK_EXPIRED,
    EV_TURN_PASSED,
    EV_TURN_SKIPPED,
    HUB_EVENTS,
    INVITE_ANSWERS,
    LIFECYCLE_EVENTS,
    MAX_EVENT_TYPE_LENGTH,
    RESERVED_PREFIX,
    RESERVED_TYPES,
    TASK_EVENTS,
)
from .adapters.base import SessionAdapter
from .metadata import TERMINAL, Participant, SessionMetadata, SessionSetup, SessionState
from .tasks import SESSION_CLOSED, SESSION_EXPIRED, Tasks, end_data, fold_tasks, judge_task_event

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
    (ACTIVE, EV_TURN_PASSED): ACTIVE,
    (ACTIVE, EV_EXPECTATION_VIOLATED): ACTIVE,
    (ACTIVE, AUTO_CLOSE): CLOSING,
    (ACTIVE, EV_SESSION_CLOSED): CLOSED,
    (ACTIVE, EV_SESSION_EXPIRED): EXPIRED,
    (CLOSING, EV_SESSION_CLOSED): CLOSED,
}

Mint = Callable[[], str]
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


@attrs.frozen
class Post:
    """A member says something."""

    envelope: Envelope
    """What; stamps in it are ignored."""
    task_ttl: str | float | None = None
    """How long a task that it starts may take where it does not say."""


@attrs.frozen
class Invite:
    """The hub opens the session: one invitation to each invitee, or at once active without any."""


@attrs.frozen
class Close:
    """End it."""

    reason: str = "explicit_close"
    """Why."""
    by: str = ""
    """The member that closes it; empty is the hub."""
    expired: bool = False
    """Whether its time ran out."""


@attrs.frozen
class Note:
    """The hub says something of its own to the members: a skipped turn, a violated expectation, the end of a task."""

    event_type: str
    """`EV_TURN_SKIPPED`, `EV_EXPECTATION_VIOLATED`, `EV_TASK_EXPIRED` or `EV_TASK_CANCELLED`."""
    event_data: dict[str, Any]
    """The payload."""
    audience: tuple[str, ...] | None = None
    """Whom it is shown to; None is everybody, `()` nobody: it is in the log only."""
    task_id: str | None = None
    """The running task that it ends, in its owner's name."""


@attrs.frozen
class Depart:
    """A member was unregistered: its turns are skipped, and a session with nobody left to talk to closes."""

    agent_id: str
    """Who has gone."""


Command = Post | Invite | Close | Note | Depart


@attrs.frozen
class Step:
    """What a command leads to."""

    live: Live
    """The state after it."""
    envelopes: tuple[Envelope, ...]
    """To append, in order."""


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


def step(live: Live, adapter: SessionAdapter, command: Command, now: float, mint: Mint) -> Step:
    """Judge a command. Raises a `ProtocolError` that says why it is refused; nothing has changed then."""
    writer = _Writer(live, adapter, now, mint)
    if type(command) is Post:
        _post(writer, command)
    elif type(command) is Invite:
        _invite(writer)
    elif type(command) is Close:
        _close(writer, command)
    elif type(command) is Depart:
        _depart(writer, command.agent_id)
    else:
        assert isinstance(command, Note)
        _note(writer, command)
    return Step(writer.live, tuple(writer.envelopes))


class _Writer:
    """Collects the envelopes of one step, folding each as it is written."""

    __slots__ = ("adapter", "created_at", "envelopes", "live", "mint", "now")

    def __init__(self, live: Live, adapter: SessionAdapter, now: float, mint: Mint) -> None:
        self.live = live
        self.adapter = adapter
        self.now = now
        self.mint = mint
        stamp = iso(now)
        self.created_at = stamp if stamp > live.last_at else live.last_at
        self.envelopes: list[Envelope] = []

    def write(self, envelope: Envelope, audience: tuple[str, ...] | None, depth: int) -> None:
        stamped = stamp(
            envelope,
            envelope_id=self.mint(),
            sequence=self.live.sequence + 1,
            created_at=self.created_at,
            depth=depth,
            audience=audience,
        )
        self.live = fold(self.live, self.adapter, stamped)
        self.envelopes.append(stamped)

    def say(self, event_type: str, data: dict[str, Any], audience: tuple[str, ...] | None = None) -> None:
        setup = self.live.setup
        envelope = Envelope(setup.session_id, setup.creator_id, audience, event_type, data)
        self.write(envelope, audience, setup.depth)

    def end_task(self, task_id: str, event_type: str, data: dict[str, Any]) -> None:
        """Say in the owner's name that its task has ended."""
        owner = self.live.tasks[task_id].owner_id
        envelope = Envelope(self.live.setup.session_id, owner, None, event_type, data, task_id=task_id)
        self.write(envelope, None, self.live.setup.depth)

    def end_tasks(self, reason: str) -> None:
        """The session is about to end, and its tasks with it."""
        for task_id in self.live.tasks:
            self.end_task(task_id, EV_TASK_EXPIRED, end_data(EV_TASK_EXPIRED, task_id, reason))

    def close_if_over(self) -> None:
        live = self.live
        reason = None if live.terminal else self.adapter.auto_close_reason(live.adapter_state)
        if reason is not None:
            summary = self.adapter.summary(self.live.adapter_state)
            self.end_tasks(SESSION_CLOSED)
            self.live = attrs.evolve(self.live, state=TRANSITIONS[self.live.state, AUTO_CLOSE])
            data = {"reason": reason, "session_id": self.live.setup.session_id}
            self.say(EV_SESSION_CLOSED, {**data, "summary": summary} if summary else data)


def _invite(writer: _Writer) -> None:
    setup = writer.live.setup
    data = {
        "type": setup.manifest.type,
        "version": setup.manifest.version,
        "creator_id": setup.creator_id,
        "participants": list(setup.participants),
        "knobs": setup.knobs,
        "labels": setup.labels,
    }
    if setup.labels.get("intent") is not None:
        data["intent"] = setup.labels["intent"]
    for invitee in setup.invitees:
        writer.say(EV_SESSION_INVITE, data, (invitee,))
    if not setup.invitees:
        writer.say(EV_SESSION_OPENED, {})


def _note(writer: _Writer, note: Note) -> None:
    live = writer.live
    if live.terminal:
        return
    if note.task_id is not None:
        if note.task_id in live.tasks:
            writer.end_task(note.task_id, note.event_type, note.event_data)
        return
    writer.say(note.event_type, note.event_data, note.audience)
    writer.close_if_over()


def _post(writer: _Writer, post: Post) -> None:
    live, envelope = writer.live, post.envelope
    check_member(live, envelope.sender_id)
    if envelope.event_type in INVITE_ANSWERS:
        _answer(writer, envelope)
        return
    check_open(live, writer.now)
    audience = judge(live, writer.adapter, envelope)
    if envelope.event_type in TASK_EVENTS:
        event = judge_task_event(live.tasks, envelope, writer.now, writer.mint, post.task_ttl)
        if event is None:
            return
        envelope = event
    depth = live.setup.depth
    try:
        writer.write(envelope, audience, depth if depth > envelope.depth else envelope.depth)
        if audience is not None:
            _pass_turn(writer, live)
        writer.close_if_over()
    except AgorioError:
        raise
    except Exception as exc:
        kind = live.setup.manifest.type
        raise ProtocolError(f"session type {kind} cannot take this {envelope.event_type}: {exc!r}") from exc


def _pass_turn(writer: _Writer, before: Live) -> None:
    """Something was said in private. Whoever is to speak next and has not heard it is told that it is their turn."""
    adapter, live, said = writer.adapter, writer.live, writer.envelopes[-1]
    expected = adapter.expected_next(live.adapter_state)
    if not expected or expected == adapter.expected_next(before.adapter_state):
        return
    unaware = tuple([who for who in expected if not visible_to(said, who)])
    if unaware and adapter.auto_close_reason(live.adapter_state) is None:
        writer.say(EV_TURN_PASSED, {"agent_id": said.sender_id}, unaware)


def check_member(live: Live, agent_id: str) -> None:
    """Raise `NotAMemberError` unless the agent takes part."""
    if agent_id not in live.setup.participants:
        raise NotAMemberError(
            f"{agent_id} is not a participant of session {live.setup.session_id}", session_id=live.setup.session_id
        )


def check_open(live: Live, now: float) -> None:
    """Raise `SessionClosedError` where the session has ended or its time is up, swept or not."""
    setup = live.setup
    if live.terminal or live.state is CLOSING:
        raise SessionClosedError(
            f"session {setup.session_id} is {live.state} ({live.close_reason}); open a new one",
            session_id=setup.session_id,
            reason=live.close_reason,
        )
    if setup.expires_at is not None and now >= setup.expires_at:
        raise SessionClosedError(
            f"session {setup.session_id} passed its TTL at {iso(setup.expires_at)}; open a new one with a longer ttl",
            session_id=setup.session_id,
            reason="ttl_expired",
        )


def judge(live: Live, adapter: SessionAdapter, envelope: Envelope) -> tuple[str, ...] | None:
    """The audience of a content envelope, or the error that refuses it: by state, name, audience, session type."""
    setup, event = live.setup, envelope.event_type
    if live.state is not ACTIVE:
        raise ProtocolError(
            f"session {setup.session_id} is {live.state}; wait until its invitations are answered",
            session_id=setup.session_id,
        )
    _check_event_type(event)
    audience = _check_audience(setup, envelope)
    if event not in TASK_EVENTS:
        try:
            adapter.validate_send(live.adapter_state, envelope)
        except AgorioError:
            raise
        except Exception as exc:
            raise ProtocolError(f"session type {setup.manifest.type} cannot judge this {event}: {exc!r}") from exc
    return audience


def _check_event_type(event: object) -> None:
    if type(event) is str and event in RESERVED_TYPES:
        return
    if not isinstance(event, str) or not event or len(event) > MAX_EVENT_TYPE_LENGTH or not event.isprintable():
        raise InvalidInput(f"event_type {event!r} must be a printable text of 1 to {MAX_EVENT_TYPE_LENGTH} characters")
    if event in HUB_EVENTS:
        raise ProtocolError(f"{event} is said by the hub only")
    if event.startswith(RESERVED_PREFIX):
        raise ProtocolError(f"{event} is unknown; names of your own must not start with {RESERVED_PREFIX!r}")


def _check_audience(setup: SessionSetup, envelope: Envelope) -> tuple[str, ...] | None:
    audience = envelope.audience
    if audience is None:
        return None
    strangers = [who for who in audience if who not in setup.participants]
    if strangers:
        raise NotAMemberError(
            f"audience names {', '.join(map(repr, strangers))}, not in session {setup.session_id}",
            session_id=setup.session_id,
            strangers=strangers,
        )
    return audience


def _answer(writer: _Writer, envelope: Envelope) -> None:
    live, setup = writer.live, writer.live.setup
    if envelope.sender_id == setup.creator_id:
        raise ProtocolError(f"{envelope.sender_id} opened session {setup.session_id} and was not invited to it")
    if live.answered(envelope.sender_id):
        return  # answering twice is no news; a redelivered invitation must not fail the turn that acknowledges it
    check_open(live, writer.now)
    writer.write(envelope, (), setup.depth)
    if writer.live.state is PENDING:
        _settle_handshake(writer)
    elif envelope.event_type == EV_SESSION_INVITE_REJECT:
        _decline(writer, envelope.sender_id)


def _settle_handshake(writer: _Writer) -> None:
    live, setup = writer.live, writer.live.setup
    needed = setup.quorum
    if len(live.joined) >= needed:
        writer.say(EV_SESSION_OPENED, {})
        for who in live.rejected:
            _decline(writer, who)
    elif len(setup.invitees) - len(live.rejected) < needed:
        writer.say(EV_SESSION_CLOSED, {"reason": "invite_rejected", "session_id": setup.session_id})


def _decline(writer: _Writer, agent_id: str) -> None:
    """The session goes on without turns for one that has declined."""
    if not writer.live.terminal:
        writer.say(EV_TURN_SKIPPED, {"agent_id": agent_id, "reason": "declined"})
        writer.close_if_over()


def _close(writer: _Writer, command: Close) -> None:
    if command.by:
        check_member(writer.live, command.by)
    if not writer.live.terminal:
        event = EV_SESSION_EXPIRED if command.expired else EV_SESSION_CLOSED
        writer.end_tasks(SESSION_EXPIRED if command.expired else SESSION_CLOSED)
        data = {"reason": command.reason, "session_id": writer.live.setup.session_id}
        writer.say(event, {**data, "by": command.by} if command.by else data)


def _depart(writer: _Writer, agent_id: str) -> None:
    live, setup = writer.live, writer.live.setup
    if live.terminal or agent_id in live.departed:
        return
    if live.state is PENDING:
        writer.say(EV_SESSION_CLOSED, {"reason": "participant_gone", "session_id": setup.session_id})
        return
    writer.say(EV_TURN_SKIPPED, {"agent_id": agent_id, "reason": "gone"})
    left = [who for who in setup.participants if who not in writer.live.departed]
    if len(left) < min(2, len(setup.participants)) and not writer.live.terminal:
        writer.end_tasks(SESSION_CLOSED)
        writer.say(EV_SESSION_CLOSED, {"reason": "participant_gone", "session_id": setup.session_id})
    else:
        writer.close_if_over()


def recipients(setup: SessionSetup, envelope: Envelope) -> tuple[str, ...]:
    """Who gets the envelope: its audience or everybody, the sender only where the hub spoke in its name."""
    members = setup.participants if envelope.audience is None else envelope.audience
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
