"""Observers of a session: members that follow its log live, from a sequence on, without being delivered to.

Replayed and live events pass one and the same gate, in log order and without a gap: the subscriber is entered first,
what is committed meanwhile waits behind the replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from ..actors.sessions.judging import check_member
from ..mailbox.envelope import Envelope, visible_to
from ..mailbox.errors import AgorioError, AuthError, ConflictError, LinkClosed
from ..mailbox.events import SESSION_END
from ..transports.frames import EventFrame, SubscribeFrame
from .connections import Connection
from .reader import Reader
from .session import SessionCell

if TYPE_CHECKING:
    from .sessions import Sessions

MAX_PER_CONNECTION = 1024


@attrs.define(eq=False)
class Subscription:
    """One observer."""

    connection: Connection
    """Where it goes."""
    frame: SubscribeFrame
    """What was asked for."""
    sent: int
    """The newest sequence that went out or was passed over."""
    end: Callable[[Subscription], None]
    """Takes it out."""
    replaying: bool = True
    """Whether live events still wait for the replay."""

    def show(self, envelope: Envelope) -> None:
        """Pass one envelope on, if it is new, visible and asked for. Nothing follows the end of a session."""
        if envelope.sequence <= self.sent:
            return
        self.sent = envelope.sequence
        if self.frame.agent_id not in self.connection.bound:
            self.end(self)  # it no longer acts as the member in whose name it looked
            return
        if self._is_wanted(envelope):
            self.connection.send_nowait(EventFrame(self.frame.subscription_id, envelope))
        if envelope.event_type in SESSION_END:
            self.end(self)

    def _is_wanted(self, envelope: Envelope) -> bool:
        frame = self.frame
        if envelope.event_type in SESSION_END:
            return True  # whatever was asked for: nobody is left to wait for what cannot come
        return (
            visible_to(envelope, frame.agent_id)
            and (frame.event_types is None or envelope.event_type in frame.event_types)
            and (frame.task_id is None or envelope.task_id == frame.task_id)
        )


class Subscriptions:
    """The observers of all sessions."""

    def __init__(self, sessions: Sessions, reader: Reader) -> None:
        self._sessions = sessions
        self._reader = reader
        self._by_session: dict[str, list[Subscription]] = {}

    async def subscribe(self, connection: Connection, frame: SubscribeFrame) -> None:
        """Enter an observer and replay. Raises `AuthError`, `NotAMemberError`, with the subscription in its details.

        If cancelled: it is not entered.
        """
        try:
            await self._subscribe(connection, frame)
        except AgorioError as error:
            error.details["subscription_id"] = frame.subscription_id
            raise

    async def _subscribe(self, connection: Connection, frame: SubscribeFrame) -> None:
        if frame.agent_id not in connection.bound:
            raise AuthError(f"this connection does not act as {frame.agent_id!r}")
        if frame.subscription_id in connection.subscriptions or len(connection.subscriptions) >= MAX_PER_CONNECTION:
            raise ConflictError(f"subscription {frame.subscription_id} is taken, or there are too many")
        cell = await self._sessions.get(frame.session_id)
        check_member(cell.live, frame.agent_id)
        if connection.is_closed:
            return
        subscription = Subscription(connection, frame, frame.after, self._remove)
        self._by_session.setdefault(frame.session_id, []).append(subscription)
        connection.subscriptions[frame.subscription_id] = subscription
        try:
            await self._replay(subscription, cell)
        except BaseException:
            self.unsubscribe(connection, frame.subscription_id)
            raise

    async def _replay(self, subscription: Subscription, cell: SessionCell) -> None:
        """Read until the log's end is reached in one step with going live."""
        session_id = subscription.frame.session_id
        while subscription.sent < cell.live.sequence and subscription in self._by_session.get(session_id, ()):
            for envelope in await self._reader.read_all(session_id, subscription.sent, 256):
                subscription.show(envelope)
        subscription.replaying = False

    def unsubscribe(self, connection: Connection, subscription_id: int) -> None:
        """Take an observer out; an unknown one is no matter."""
        subscription = connection.subscriptions.get(subscription_id)
        if subscription is not None:
            self._remove(subscription)

    def _remove(self, subscription: Subscription) -> None:
        session_id, number = subscription.frame.session_id, subscription.frame.subscription_id
        if subscription.connection.subscriptions.get(number) is subscription:
            del subscription.connection.subscriptions[number]
        observers = self._by_session.get(session_id, [])
        if subscription in observers:
            observers.remove(subscription)
        if not observers:
            self._by_session.pop(session_id, None)

    def publish(self, envelope: Envelope) -> None:
        """Show a durable envelope to those who are live; the others will read it from the log."""
        if not self._by_session:
            return
        for subscription in tuple(self._by_session.get(envelope.session_id, ())):
            if subscription.replaying:
                continue
            try:
                subscription.show(envelope)
            except LinkClosed:
                self._remove(subscription)
