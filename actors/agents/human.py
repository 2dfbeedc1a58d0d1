"""A person on the network: mail is pushed to callbacks or pulled one by one, and nothing is lost when nobody reads.

What arrives stays pending at the hub until it was read here, so the inbox counts exactly what the person has not seen:
after a lost connection it comes again, and a full one refuses the sender by the person's own rule.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio

from ...mailbox.envelope import Envelope
from ...mailbox.errors import AgorioError, InvalidInput
from ...mailbox.events import (
    EV_EXPECTATION_VIOLATED,
    EV_SESSION_INVITE,
    EV_SESSION_INVITE_REJECT,
    LIFECYCLE_EVENTS,
    SESSION_END,
)
from ...transports.frames import NotifyFrame
from ..sessions.identity import Passport, Resume
from ..sessions.metadata import SessionMetadata
from ..sessions.operations import SetWindow
from ..sessions.rule import Rule
from .agent_client import AgentClient
from .calling import as_handler
from .correlation import again
from .session import Session, Who
from .waiting import Predicate, check_predicate, matches

Callback = Callable[[Envelope], Awaitable[None] | None]
Handler = Callable[[Envelope], Awaitable[None]]


def is_for_people(envelope: Envelope) -> bool:
    """What a person is shown: what is said, invitations, warnings and the ends of sessions; no other bookkeeping."""
    kind = envelope.event_type
    shown = kind in SESSION_END or kind in (EV_SESSION_INVITE, EV_EXPECTATION_VIOLATED)
    return shown or kind not in LIFECYCLE_EVENTS


class Person(AgentClient):
    """The receiving half of a `HumanClient`."""

    __slots__ = ("arrived", "auto_ack_invites", "callbacks", "fault", "mail")

    def __init__(self, *args: Any, auto_ack_invites: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self.auto_ack_invites = auto_ack_invites
        self.callbacks: tuple[Handler, ...] = ()
        self.mail: dict[tuple[str, int], NotifyFrame] = {}
        self.arrived = trio.lowlevel.ParkingLot()
        self.fault: AgorioError | None = None

    def deliver(self, frame: NotifyFrame) -> None:
        """Put a delivery before the person; what is not for people is acknowledged."""
        envelope = frame.envelope
        if envelope.event_type == EV_SESSION_INVITE and self.auto_ack_invites:
            self._accept(frame)
        elif not is_for_people(envelope):
            self._acknowledge(frame)
        elif self.callbacks:
            self._push(frame)
        else:
            self.mail[envelope.session_id, envelope.sequence] = frame
            self.arrived.unpark_all()
        if envelope.event_type in SESSION_END:
            self._cancel_scopes(envelope.session_id)
        watch = None if self.watches is None else self.watches.get(envelope.session_id)
        if watch is not None:
            watch.arrive(envelope)

    def acknowledge(self, session_id: str, sequence: int) -> None:
        """A wait has returned the event: the person has seen it."""
        frame = self.mail.pop((session_id, sequence), None)
        if frame is not None:
            self._acknowledge(frame)

    def withdraw(self, session_id: str, sequence: int) -> None:
        """The hub has given the message up to make room for newer ones."""
        self.mail.pop((session_id, sequence), None)
        super().withdraw(session_id, sequence)

    def take(self, predicate: Predicate) -> Envelope | None:
        """The oldest message that matches; from here on it is read."""
        for key, frame in self.mail.items():
            if matches(predicate, frame.envelope):
                del self.mail[key]
                self._acknowledge(frame)
                return frame.envelope
        return None

    def set_callbacks(self, callbacks: tuple[Handler, ...]) -> None:
        """Change who is called; the first callback gets what lies here unread, the last one leaves what it has not."""
        had_callbacks = bool(self.callbacks)
        self.callbacks = callbacks
        if bool(callbacks) != had_callbacks and not self.is_gone:
            # Called one at a time, a person takes turns; what is pulled lies here, and the hub may take it back.
            self.connection.post_request(SetWindow(self.agent_id, self.concurrency if callbacks else None))
        if callbacks:
            waiting, self.mail = self.mail, {}
            for frame in waiting.values():
                self._push(frame)
        else:
            self._take_back()

    def _take_back(self) -> None:
        """Nobody is called any more: what the turns have not handled is unread again."""
        if self.turns is None:
            return
        queue = self.turns.queue
        for session_id in queue.waiting():
            for item in queue.drop(session_id):
                if isinstance(item, NotifyFrame):
                    self.mail[session_id, item.envelope.sequence] = item
                else:
                    self._push(item)
        self.arrived.unpark_all()

    async def handle(self, envelope: Envelope) -> None:
        """Hand a message to every callback. If cancelled: it is delivered again."""
        for callback in self.callbacks:
            await callback(envelope)

    def lose(self, error: AgorioError) -> None:
        """The connection has ended: wake everybody who reads."""
        super().lose(error)
        self.fault = error
        self.mail.clear()
        self.arrived.unpark_all()


class Messages:
    """The unread messages of a person, each read as it is returned. No generator: a loop may leave it anywhere."""

    __slots__ = ("_human",)

    def __init__(self, human: HumanClient) -> None:
        self._human = human

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Envelope:
        """The next one. If cancelled: every message is still unread."""
        try:
            return await self._human.next()
        except AgorioError as exc:
            if self._human.client.fault is None:
                raise
            raise StopAsyncIteration from exc


class HumanClient:
    """A registered person. Made by `HubClient.register_human`."""

    __slots__ = ("client",)

    def __init__(self, client: Person) -> None:
        self.client = client

    def __repr__(self) -> str:
        return f"<HumanClient {self.name} {self.agent_id}>"

    @property
    def agent_id(self) -> str:
        """The hub's id for the person."""
        return self.client.agent_id

    @property
    def name(self) -> str:
        """The person's name on the hub."""
        return self.client.name

    @property
    def passport(self) -> Passport:
        """As the hub has stamped it."""
        return self.client.passport

    @property
    def resume(self) -> Resume:
        """As stored at registration."""
        return self.client.resume

    @property
    def rule(self) -> Rule:
        """As stored at registration."""
        return self.client.rule

    @property
    def unread(self) -> int:
        """Messages that have arrived here and were not read."""
        return len(self.client.mail)

    # Reading.

    async def next(
        self,
        predicate: Predicate | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Envelope:
        """The oldest unread message that matches; waits for one. What does not match stays unread.

        Besides what is said these are the ends of sessions, warnings, and invitations where they are not accepted
        automatically. Raises `TimeoutError`, and `LinkClosed` or `HubClosedError` once the connection has ended.

        If cancelled: every message is still unread.
        """
        check_predicate(predicate)
        with trio.move_on_after(math.inf if timeout is None else timeout):
            return await self._next(predicate or is_for_people)
        raise TimeoutError(f"no message for {self.name} within {timeout:g} s")

    async def _next(self, predicate: Predicate) -> Envelope:
        await trio.lowlevel.checkpoint()
        client = self.client
        if client.callbacks:
            raise InvalidInput("messages go to the callbacks of on_message; remove those to read with next()")
        while (envelope := client.take(predicate)) is None:
            if client.fault is not None:
                raise again(client.fault)
            await client.arrived.park()
        return envelope

    def messages(self) -> Messages:
        """`async for envelope in human.messages()`: all from the oldest unread on, until the connection ends."""
        return Messages(self)

    def on_message(self, callback: Callback) -> Callable[[], None]:
        """Have `callback(envelope)`, async or not, called with each message, one at a time; returns how to stop.

        A message is read when every callback has returned; where one raises, it comes again.
        """
        handler = as_handler(callback)
        self.client.set_callbacks((*self.client.callbacks, handler))
        return lambda: self.client.set_callbacks(tuple(one for one in self.client.callbacks if one is not handler))

    def on_envelope(self, callback: Callback | None) -> None:
        """`AgentClient.on_envelope`: this callback in place of all others; None takes them away, and mail is pulled."""
        self.client.set_callbacks(() if callback is None else (as_handler(callback),))

    async def wait_for_session_event(
        self,
        session_id: str,
        predicate: Predicate | None = None,
        timeout: float | None = 300.0,  # noqa: ASYNC109
    ) -> Envelope:
        """`AgentClient.wait_for_session_event`; what it returns is read. If cancelled: every event is still there."""
        return await self.client.wait_for_session_event(session_id, predicate, timeout)

    next_envelope = next
    envelopes = messages

    # Invitations.

    async def accept(self, invite: Envelope) -> None:
        """Accept an invitation. If cancelled: it may have been accepted."""
        await self.client.send_envelope(self.client.acceptance(invite))

    async def decline(self, invite: Envelope, reason: str = "") -> None:
        """Decline an invitation. If cancelled: it may have been declined."""
        data = {"session_id": invite.session_id, "reason": reason}
        await self.client.send_envelope(
            Envelope(
                invite.session_id,
                self.agent_id,
                None,
                EV_SESSION_INVITE_REJECT,
                data,
                causation_id=invite.envelope_id,
            )
        )

    # Speaking.

    async def open(self, type: str = "conversation", target: Who | Iterable[Who] = (), **options: Any) -> Session:
        """`AgentClient.open`. If cancelled: the hub stops opening it."""
        return await self.client.open(type, target, **options)

    async def session(self, session_id: str) -> Session:
        """A handle on a session that the person is in. If cancelled: nothing has changed."""
        return await self.client.session(session_id)

    async def say(
        self,
        session: Session | str,
        content: str,
        *,
        audience: Who | Iterable[Who] | None = None,
        answers: Envelope | None = None,
    ) -> Envelope:
        """Say something in a session, given as a handle or an id; `answers` names the message that it answers.

        If cancelled: it may have been said.
        """
        handle = session if isinstance(session, Session) else await self.session(session)
        cause = None if answers is None else answers.envelope_id
        return await handle.send(content, audience=audience, causation_id=cause)

    send = say

    async def send_envelope(self, envelope: Envelope) -> Envelope:
        """`AgentClient.send_envelope`. If cancelled: the envelope may have been accepted."""
        return await self.client.send_envelope(envelope)

    async def close(self, session: Session | str, reason: str = "human_closed") -> SessionMetadata:
        """Close a session for everybody. If cancelled: it may have been closed."""
        session_id = session.session_id if isinstance(session, Session) else session
        return await self.client.close_session(session_id, reason)

    close_session = close

    # The end.

    async def disconnect(self) -> None:
        """Read no more here; mail waits at the hub for `register_human(..., attach=True)`.

        If cancelled: the hub may still push some, which stays unread.
        """
        await self.client.disconnect()

    async def unregister(self) -> None:
        """Remove the person from the hub. If cancelled: they may have been removed."""
        await self.client.unregister()
