"""What may happen in a session: `step` judges a command and never acts.

`step(live, adapter, command, now, mint)` returns the state after the command and the envelopes to append, or raises;
the state that came in is untouched either way. Every new state is reached by folding the envelopes that are appended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import attrs

from ...mailbox.clock import iso
from ...mailbox.envelope import Envelope, stamp
from ...mailbox.errors import AgorioError, InvalidInput, NotAMemberError, ProtocolError, SessionClosedError
from ...mailbox.events import (
    EV_SESSION_CLOSED,
    EV_SESSION_EXPIRED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_REJECT,
    EV_SESSION_OPENED,
    EV_TASK_EXPIRED,
    EV_TURN_DUE,
    EV_TURN_SKIPPED,
    HUB_EVENTS,
    INVITE_ANSWERS,
    MAX_EVENT_TYPE_LENGTH,
    RESERVED_PREFIX,
    RESERVED_TYPES,
    TASK_EVENTS,
    TURN_EVENTS,
)
from .adapters.base import SessionAdapter
from .lifecycle import ACTIVE, AUTO_CLOSE, CLOSING, PENDING, TRANSITIONS, Live, fold, recipients
from .metadata import SessionSetup
from .tasks import SESSION_CLOSED, SESSION_EXPIRED, end_data, judge_task_event

Mint = Callable[[], str]


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
    """Whom it is shown to; None is everybody, `()` nobody, as in logs of older hubs."""
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

    def call_up(self, told: Collection[str], speaker: str | None = None) -> None:
        """Tell whoever speaks next that it is their turn, where nothing that has just been said tells them.

        The reason is `begin` (they speak first), `again` (they spoke last) or `unheard` (they were not addressed).
        """
        live = self.live
        expected = None if live.terminal else self.adapter.expected_next(live.adapter_state)
        if expected is not None and len(expected) == 1 and expected[0] not in told:
            reason = "begin" if speaker is None else "again" if speaker == expected[0] else "unheard"
            self.say(EV_TURN_DUE, {"agent_id": expected[0], "reason": reason}, expected)

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
        writer.call_up((setup.creator_id,))  # whoever opens a session knows whether it is their turn


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
        writer.close_if_over()
        if envelope.event_type in TURN_EVENTS:
            writer.call_up(recipients(live.setup, writer.envelopes[0]), envelope.sender_id)
    except AgorioError:
        raise
    except Exception as exc:
        kind = live.setup.manifest.type
        raise ProtocolError(f"session type {kind} cannot take this {envelope.event_type}: {exc!r}") from exc


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
        if not live.rejected:  # a skip is for everybody to see
            writer.call_up((setup.creator_id,))
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
