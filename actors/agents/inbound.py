"""What becomes of a delivery on the agents' side. Everything here is synchronous: it runs inside the pump.

* An invitation is answered at once, whatever the agent is doing.
* A session's bookkeeping is acknowledged at once, unless a custom handler wants to see it.
* Everything else waits for a turn; without a handler it waits for somebody who waits for it.
* The end of a session cancels the work that was of use to it only (`until_closed`). The handlers themselves are left to
  finish: a consultation closes with its reply, and whoever is handling that reply must not be cut off by it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, NotFoundError, SessionClosedError
from ...mailbox.events import (
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_ACK,
    LIFECYCLE_EVENTS,
    SESSION_END,
    TASK_EVENTS,
    TURN_NOTICES,
)
from ...transports.frames import AcceptFrame, NotifyFrame, ReceiptFrame
from ..sessions.operations import ReportTurnFailure
from .correlation import Answer, as_error
from .inbound_calls import InboundCall
from .turn_context import Turn, turn_of
from .turns import Turns
from .waiting import Watches

if TYPE_CHECKING:
    from .connection import Connection
    from .hub_client import HubClient

Handler: TypeAlias = Callable[[Envelope], Awaitable[None]]


class Inbound:
    """The receiving half of an `AgentClient`."""

    __slots__ = (
        "_callback",
        "_invites",
        "_scopes",
        "_unanswered",
        "agent_id",
        "concurrency",
        "count_failed",
        "count_handled",
        "has_default_handler",
        "hub_client",
        "is_gone",
        "turns",
        "watches",
    )

    def __init__(
        self, hub_client: HubClient, agent_id: str, handler: Handler | None, default: bool, concurrency: int
    ) -> None:
        self.hub_client = hub_client
        self.agent_id = agent_id
        self.concurrency = concurrency
        self.has_default_handler = handler is None and default
        self.is_gone = False
        self.count_handled = 0
        self.count_failed = 0
        self.turns: Turns | None = None
        self.watches: Watches | None = None
        self._callback = handler
        self._unanswered: dict[str, dict[int, NotifyFrame]] | None = None
        self._invites: dict[str, bool] | None = None
        self._scopes: dict[str, list[tuple[trio.CancelScope, Turn | None]]] | None = None

    @property
    def name(self) -> str:
        """The agent's name on the hub."""
        raise NotImplementedError

    async def handle(self, envelope: Envelope) -> None:
        """Run the handler on one envelope. If cancelled: it is not handled."""
        raise NotImplementedError

    @property
    def connection(self) -> Connection:
        """The connection that the agent is registered on."""
        return self.hub_client.connection

    @property
    def has_handler(self) -> bool:
        """Whether anything handles what arrives."""
        return self.has_default_handler or self._callback is not None

    @property
    def current_unanswered(self) -> int:
        """Deliveries that nobody has taken because there is no handler."""
        return 0 if self._unanswered is None else sum(map(len, self._unanswered.values()))

    # Arrival.

    def deliver(self, frame: NotifyFrame) -> None:
        """Route one delivery."""
        envelope = frame.envelope
        if not self.has_handler:
            self._leave(frame)
        elif self._callback is None and envelope.event_type in TASK_EVENTS:
            self._acknowledge(frame)  # news of a task is for whoever waits for it, and takes no turn
        elif envelope.event_type not in LIFECYCLE_EVENTS:
            self._push(frame)
        else:
            self._note(frame)
        if self.watches is not None:
            watch = self.watches.get(envelope.session_id)
            if watch is not None:
                watch.arrive(envelope)

    def _push(self, frame: NotifyFrame | InboundCall) -> None:
        turns = self.turns
        if turns is None or turns.is_stopped:
            turns = self._begin_turns()
        turns.push(frame)

    def take_call(self, call: InboundCall) -> None:
        """Queue a message that was put to the agent itself."""
        self._push(call)

    def _begin_turns(self) -> Turns:
        self.turns = turns = Turns(self)
        self.hub_client.note_busy(self)
        return turns

    def _note(self, frame: NotifyFrame) -> None:
        """Bookkeeping, for an agent with a handler."""
        kind = frame.envelope.event_type
        if kind == EV_SESSION_INVITE:
            self._invite(frame)
        elif self._callback is not None:
            self._push(frame)
        elif kind in TURN_NOTICES:
            self._push(frame)  # it may be this agent's turn now
        else:
            self._acknowledge(frame)
        if kind in SESSION_END:
            self._end(frame.envelope.session_id)

    def _end(self, session_id: str) -> None:
        """The session is over: cancel what was of use to it only, and drop what the default handler would ignore."""
        self._cancel_scopes(session_id)
        if self._callback is None and self.turns is not None:
            for frame in self.turns.queue.drop(session_id):
                if isinstance(frame, NotifyFrame):
                    self._acknowledge(frame)

    def _cancel_scopes(self, session_id: str) -> None:
        for scope, turn in (self._scopes or {}).get(session_id, ()):
            if turn is None or not turn.closes_session:
                scope.cancel()

    # Invitations.

    def _invite(self, frame: NotifyFrame) -> None:
        if self._callback is None:
            self._accept(frame)
            return
        turns = self.turns
        if turns is None or turns.is_stopped:
            turns = self._begin_turns()
        turns.invite(frame)

    def _accept(self, frame: NotifyFrame) -> None:
        """Accept an invitation from inside the pump; the delivery is acknowledged once the hub has taken the answer."""

        def then(outcome: Answer | Exception) -> None:
            if isinstance(outcome, AcceptFrame):
                self._acknowledge(frame)
                return
            error = as_error(outcome)
            if isinstance(error, SessionClosedError | NotFoundError):
                self._acknowledge(frame)  # it is over already: there is nothing left to answer
            else:
                self.reject_delivery(frame, error, 0)

        self.connection.post_envelope(self.acceptance(frame.envelope), then)

    def acceptance(self, invite: Envelope) -> Envelope:
        """The envelope that accepts an invitation."""
        return Envelope(
            invite.session_id,
            self.agent_id,
            None,
            EV_SESSION_INVITE_ACK,
            causation_id=invite.envelope_id,
        )

    async def answer_invite(self, invite: Envelope) -> None:
        """Run the custom handler on an invitation and accept it where the handler did not answer.

        If cancelled: it may be unanswered, and is delivered again.
        """
        assert self._callback is not None
        if self._invites is None:
            self._invites = {}
        self._invites[invite.session_id] = False
        try:
            await self._callback(invite)
        finally:
            is_answered = self._invites.pop(invite.session_id)
        if not is_answered:
            with suppress(SessionClosedError, NotFoundError):  # it is over already: there is nothing left to answer
                await self.connection.send(self.acceptance(invite))

    def note_answer(self, session_id: str) -> None:
        """The agent itself accepts or rejects an invitation."""
        if self._invites is not None and session_id in self._invites:
            self._invites[session_id] = True

    # Receipts.

    def _acknowledge(self, frame: NotifyFrame) -> None:
        self.connection.post(ReceiptFrame(self.agent_id, frame.envelope.session_id, frame.envelope.sequence))

    def reject_delivery(self, frame: NotifyFrame, error: Exception, incarnation: int) -> None:
        """The delivery failed: report why, and have the hub deliver it again."""
        envelope, kind = frame.envelope, type(error).__name__
        self.count_failed += 1
        self.connection.post_request(
            ReportTurnFailure(self.agent_id, envelope.session_id, envelope.envelope_id, kind, str(error), incarnation)
        )
        reason = f"{kind}: {error}"[:500]
        self.connection.post(ReceiptFrame(self.agent_id, envelope.session_id, envelope.sequence, "nack", reason))

    # Without a handler.

    def _leave(self, frame: NotifyFrame) -> None:
        """Nobody handles it: it stays pending until a wait returns it, the session ends or a handler comes."""
        envelope = frame.envelope
        kind = envelope.event_type
        if kind in LIFECYCLE_EVENTS and kind != EV_SESSION_INVITE:
            self._acknowledge(frame)
        else:
            if self._unanswered is None:
                self._unanswered = {}
            self._unanswered.setdefault(envelope.session_id, {})[envelope.sequence] = frame
        if kind in SESSION_END:
            self._end(envelope.session_id)
            for waiting in (self._unanswered or {}).pop(envelope.session_id, {}).values():
                self._acknowledge(waiting)

    def acknowledge(self, session_id: str, sequence: int) -> None:
        """A wait has returned the event: its delivery, if it is still owed an answer, is handled."""
        frames = self._unanswered.get(session_id) if self._unanswered is not None else None
        frame = frames.pop(sequence, None) if frames is not None else None
        if frame is not None:
            self._acknowledge(frame)
        if frames is not None and not frames and self._unanswered is not None:
            del self._unanswered[session_id]

    def withdraw(self, session_id: str, sequence: int) -> None:
        """The hub has given the delivery up to make room: forget it, unless it is in hand."""
        if self._unanswered is not None:
            self._unanswered.get(session_id, {}).pop(sequence, None)
        if self.turns is not None:
            self.turns.queue.remove(session_id, sequence)
        watch = None if self.watches is None else self.watches.get(session_id)
        if watch is not None:
            watch.withdraw(sequence)

    def deliver_unanswered(self) -> None:
        """A handler has come: hand it what is here, in order."""
        waiting, self._unanswered = self._unanswered or {}, None
        frames = [frame for line in waiting.values() for frame in line.values()]
        for frame in sorted(frames, key=lambda frame: frame.envelope.envelope_id):
            if frame.envelope.event_type == EV_SESSION_INVITE:
                self._invite(frame)
            else:
                self._push(frame)

    # Work that is of use to a session only.

    @contextmanager
    def until_closed(self, session_id: str) -> Iterator[trio.CancelScope]:
        """A scope that is cancelled when the session ends: for work that is of no use afterwards.

        The default handler runs its agent inside one. A turn that closes its own session is not cut off by that.
        """
        if self._scopes is None:
            self._scopes = {}
        with trio.CancelScope() as scope:
            entry = (scope, turn_of(self))
            entries = self._scopes.setdefault(session_id, [])
            entries.append(entry)
            try:
                yield scope
            finally:
                entries.remove(entry)
                if not entries:
                    self._scopes.pop(session_id, None)

    # The end.

    def rest(self) -> None:
        """Nothing has come for a while: let the workers go."""
        if self.turns is not None:
            self.turns.retire()
            self.turns = None

    def lose(self, error: AgorioError) -> None:
        """The connection has ended, or the agent leaves it: wake everybody who waits, start no more turns."""
        self.is_gone = True
        if self.turns is not None:
            self.turns.retire()
        for watch in self.watches or ():
            watch.fail(error)
        self.connection.fail_observations(error, self.agent_id)
